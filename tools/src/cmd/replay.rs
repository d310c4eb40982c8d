//! `revenant replay ...`: what the log says the rows are.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};
use indicatif::ProgressBar;
use revenant_log::{Log, LogConfig, LogId, ReadOnlyLog, Seq, Witnesses};
use revenant_replica::{
    Progress, RebuildConfig, Snapshot, TableReport, check_points, rebuild, seq_at, table_reports,
};
use revenant_testdata::history::Reader;
use revenant_testdata::record;
use serde_json::{Value as Json, json};

use super::log::range;
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
    /// Rebuild a log to many seqs and times, and compare each with a model.
    Points(Points),
}

#[derive(clap::Args)]
struct Rebuild {
    /// The log's directory.
    #[arg(long)]
    log: PathBuf,
    /// The new file; it must not exist. An interrupted rebuild of it is gone on with.
    #[arg(long)]
    out: PathBuf,
    /// Rows as of this seq, or of the last transaction that ends before it; or, as @TIME, before the first
    /// transaction that was committed after it.
    #[arg(long, value_name = "SEQ|@TIME")]
    to: Option<To>,
    /// Start from this replica file, which no process may have open, instead of from nothing.
    #[arg(long)]
    from: Option<PathBuf>,
}

/// A point in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Seq(u64),
    /// Microseconds since 1970.
    Time(i64),
}

impl FromStr for To {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.strip_prefix('@') {
            Some(time) => {
                let time_us = range::time(time).ok().flatten();
                let due = "Unix seconds or milliseconds, 2026-01-31, RFC 3339, or -1h";
                time_us.map(Self::Time).ok_or_else(|| anyhow!("@{time} is no time: {due} are due"))
            }
            None => text.parse().map(Self::Seq).map_err(|_| anyhow!("{text:?} is no seq")),
        }
    }
}

#[derive(clap::Args)]
struct Points {
    /// The log's directory. Without it, a log that is made of a history.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The history, as `revenant demo` takes it. Default: a small one that is part of the program.
    #[arg(long, conflicts_with = "log")]
    history: Option<PathBuf>,
    /// So many seqs, and as many times.
    #[arg(long, default_value_t = 25)]
    count: usize,
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
        Command::Points(command) => points(&command).await,
    }
}

fn rebuild_file(as_json: bool, command: Rebuild) -> Result<Exit> {
    if command.out.exists() {
        let out = command.out.display();
        return Ok(Exit::Refused(format!("{out} exists; name a file that does not")));
    }
    let to = match command.to {
        Some(To::Seq(seq)) => Some(Seq(seq)),
        Some(To::Time(time_us)) => {
            Some(seq_at(&command.log, time_us).context("find the time in the log")?)
        }
        None => None,
    };
    let config = RebuildConfig { to, from: command.from };
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let progress = |Progress { seq, to }: Progress| {
        bar.set_length(to.0);
        bar.set_position(seq.0);
    };
    let report = rebuild(&command.log, &command.out, &config, progress);
    bar.finish_and_clear();
    let report = report.context("rebuild the replica")?;
    let tables = tables_of(&command.out)?;
    let mut out = Out::new();
    if as_json {
        let mut json = serde_json::to_value(&report)?;
        json["tables"] = serde_json::to_value(&tables)?;
        out.json(&json)?;
    } else {
        for table in &tables {
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

/// Figures and hashes of the tables in a replica file.
fn tables_of(path: &Path) -> Result<Vec<TableReport>> {
    let snapshot = Snapshot::open(path).context("open the replica")?;
    table_reports(&snapshot).context("hash the tables")
}

async fn points(command: &Points) -> Result<Exit> {
    let dir = tempfile::tempdir().context("make a directory for the rebuilt replicas")?;
    let log_dir = match &command.log {
        Some(log) => log.clone(),
        None => log_of(command.history.as_deref(), dir.path()).await.context("make a log")?,
    };
    let report = check_points(&log_dir, dir.path(), command.count);
    let report = report.context("compare rebuilds with a model")?;
    let mut out = Out::new();
    for wrong in report.wrong.iter().take(SHOWN) {
        out.line(wrong)?;
    }
    let compared = report.seqs.min(report.times);
    let pass = report.wrong.is_empty() && compared >= command.count && report.rows > 0;
    out.json(&json!({
        "show": "replay-points",
        "pass": pass,
        "seqs": report.seqs,
        "times": report.times,
        "records": report.records,
        "rows_compared": report.rows,
        "wrong": report.wrong.len(),
    }))?;
    out.flush()?;
    Ok(if pass { Exit::Done } else { Exit::Found })
}

/// A new log in `dir` of the history in the file, or of the small one.
async fn log_of(history: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    let history = history.map_or_else(|| Ok(Reader::small()), Reader::open)?;
    let transactions = record::transactions(&history.collect::<Result<Vec<_>, _>>()?);
    let dir = dir.join("log");
    let (log, _) = Log::open(LogConfig::new(&dir), Witnesses::none())?;
    for some in transactions.chunks(1_000) {
        log.append(some.to_vec(), None).await?;
    }
    log.close().await?;
    Ok(dir)
}

/// Differences that are listed.
const SHOWN: usize = 20;

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
    let config = RebuildConfig { to: Some(Seq(other.seq)), from: None };
    let rebuilt = rebuild(&command.log, &file, &config, |_| {}).context("rebuild the replica")?;
    let ours = by_name(&tables_of(&file)?);
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

fn of_file(path: &Path, log_id: LogId) -> Result<Side> {
    let snapshot = Snapshot::open(path).with_context(|| format!("open {}", path.display()))?;
    if snapshot.log_id() != log_id {
        anyhow::bail!("{} belongs to log {}", path.display(), snapshot.log_id());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seq_is_told_from_a_time() {
        assert_eq!("7".parse::<To>().unwrap(), To::Seq(7));
        assert_eq!("@1600000000".parse::<To>().unwrap(), To::Time(1_600_000_000_000_000));
        for text in ["", "-1", "x", "@", "@end", "@yesterday", "1:2"] {
            assert!(text.parse::<To>().is_err(), "{text}");
        }
    }
}
