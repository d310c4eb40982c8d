//! `revenant replay ...`: what the log says the rows are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use revenant_log::{ReadOnlyLog, Seq};
use revenant_replica::{Replica, ReplicaConfig, TableReport, rebuild, table_reports};
use serde_json::{Value as Json, json};

use crate::exit::Exit;
use crate::out::Out;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Build a replica from a log, into a new file.
    Rebuild(Rebuild),
    /// Compare what a log says with a running scheduler's replica, or with a replica file.
    Compare(Compare),
}

#[derive(clap::Args)]
struct Rebuild {
    /// The log's directory.
    #[arg(long)]
    log: PathBuf,
    /// The new file; it must not exist.
    #[arg(long)]
    out: PathBuf,
    /// Rows as of this seq, or of the last transaction that ends before it.
    #[arg(long)]
    to: Option<u64>,
}

#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("against").required(true)))]
struct Compare {
    /// The log's directory.
    #[arg(long)]
    log: PathBuf,
    /// A running scheduler.
    #[arg(long, group = "against")]
    url: Option<String>,
    /// The scheduler's secret.
    #[arg(long, env = "SPKY_AUTH_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// A replica file that no process has open.
    #[arg(long, group = "against")]
    replica: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    match args.command {
        Command::Rebuild(command) => rebuild_file(args.json, command),
        Command::Compare(command) => compare(args.json, command).await,
    }
}

fn rebuild_file(as_json: bool, command: Rebuild) -> Result<Exit> {
    if command.out.exists() {
        let out = command.out.display();
        return Ok(Exit::Refused(format!("{out} exists; name a file that does not")));
    }
    let report = rebuild(&command.log, &command.out, command.to.map(Seq), |_| {});
    let report = report.context("rebuild the replica")?;
    let mut out = Out::new();
    if as_json {
        out.json(&report)?;
    } else {
        for table in &report.tables {
            out.line(format_args!("{:<20} {:>9} rows  {}", table.name, table.rows, table.hash))?;
        }
        out.line(format_args!(
            "{} records, rows as of seq {}, {:.2} s: {}",
            report.records,
            report.seq,
            std::time::Duration::from_micros(report.micros).as_secs_f64(),
            command.out.display()
        ))?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Another side of a comparison.
struct Side {
    seq: u64,
    tables: BTreeMap<String, (u64, String)>,
}

async fn compare(as_json: bool, command: Compare) -> Result<Exit> {
    let other = match (&command.url, &command.replica) {
        (Some(url), _) => of_scheduler(url, command.secret.as_deref()).await?,
        (None, Some(path)) => {
            if !path.exists() {
                return Ok(Exit::Usage(format!("{} does not exist", path.display())));
            }
            let log_id = ReadOnlyLog::open(&command.log).context("open the log")?.id();
            of_file(path, log_id)?
        }
        (None, None) => return Ok(Exit::Usage("--url or --replica is due".into())),
    };
    let dir = tempfile::tempdir().context("make a directory for the rebuilt replica")?;
    let file = dir.path().join("replica.redb");
    let rebuilt = rebuild(&command.log, &file, Some(Seq(other.seq)), |_| {});
    let rebuilt = rebuilt.context("rebuild the replica")?;
    let ours = by_name(&rebuilt.tables);
    let names: std::collections::BTreeSet<_> = ours.keys().chain(other.tables.keys()).collect();
    let mut different = 0;
    let mut lines = Vec::new();
    for name in names {
        let (log, replica) = (ours.get(name), other.tables.get(name));
        different += usize::from(log != replica);
        lines.push(json!({"table": name, "equal": log == replica, "log": log, "replica": replica}));
    }
    let equal = different == 0 && rebuilt.seq == other.seq;
    let mut out = Out::new();
    if as_json {
        out.json(&json!({"equal": equal, "seq": rebuilt.seq, "replica_seq": other.seq,
            "tables": lines, "exit": i32::from(!equal)}))?;
    } else {
        for line in &lines {
            out.line(line)?;
        }
        let word = if equal { "equal" } else { "DIFFERENT" };
        let (log_seq, seq) = (rebuilt.seq, other.seq);
        out.line(format_args!("{word}: log at seq {log_seq}, replica at seq {seq}"))?;
    }
    out.flush()?;
    Ok(if equal { Exit::Done } else { Exit::Found })
}

fn by_name(tables: &[TableReport]) -> BTreeMap<String, (u64, String)> {
    tables.iter().map(|table| (table.name.clone(), (table.rows, table.hash.clone()))).collect()
}

/// A copy is read: opening a replica moves a damaged one aside, and looking must not.
fn of_file(path: &std::path::Path, log_id: revenant_log::LogId) -> Result<Side> {
    let dir = tempfile::tempdir().context("make a directory for a copy")?;
    let copy = dir.path().join("copy.redb");
    std::fs::copy(path, &copy).with_context(|| format!("copy {}", path.display()))?;
    let (replica, report) =
        Replica::open(copy, log_id, &ReplicaConfig::default()).context("open the replica")?;
    if let Some((_, reason)) = report.moved_aside {
        anyhow::bail!("{} cannot be used: {reason}", path.display());
    }
    let snapshot = replica.snapshot()?;
    Ok(Side { seq: snapshot.seq().0, tables: by_name(&table_reports(&snapshot)?) })
}

async fn of_scheduler(url: &str, secret: Option<&str>) -> Result<Side> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client.get(format!("{}/v1/state", url.trim_end_matches('/')));
    if let Some(secret) = secret {
        request = request.bearer_auth(secret);
    }
    let answer = request.send().await.with_context(|| format!("ask {url}"))?;
    let state: Json = answer.error_for_status()?.json().await.context("read the answer")?;
    let replica = &state["replica"];
    let tables = replica["tables"].as_object().context("the answer names no tables")?;
    let figures = |table: &Json| {
        (table["rows"].as_u64().unwrap_or(0), table["hash"].as_str().unwrap_or("").to_owned())
    };
    Ok(Side {
        seq: replica["applied_seq"].as_u64().context("the answer names no seq")?,
        tables: tables
            .iter()
            .map(|(name, table)| (name.clone(), figures(table)))
            .filter(|(_, (rows, _))| *rows > 0)
            .collect(),
    })
}
