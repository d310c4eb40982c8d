//! The checker, a process of its own: it reads SurrealDB, the log's files, what writers were told, and what
//! services answer over HTTP; and judges. It shares no code with what it judges but values, the reader of
//! log files, and table hashes.
//!
//! Map: `database` reads the oracle; `log`, `ssp`, `edges` and `replica` each compare one thing with it.

mod database;
mod edges;
mod log;
mod replica;
mod ssp;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use revenant_log::{ReadOnlyLog, SegmentInfo, SegmentUse};
use serde::{Deserialize, Serialize};

use self::database::Database;
pub(crate) use self::database::highest;
use super::site::Site;
use crate::exit::Exit;
use crate::leash;
use crate::out::Out;

/// Findings of one kind that are told in words; all are counted.
const WORDS: usize = 5;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The demo's directory.
    dir: PathBuf,
}

/// What the checker found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Changes and acknowledged transactions that are not in the log, or were not applied.
    pub(crate) lost: u64,
    /// Changes that are in the log twice, or were never made, and edges that exist twice.
    pub(crate) duplicated: u64,
    /// Gaps in seqs, changes of a row in the wrong order, and SSPs that did not apply what the log holds.
    pub(crate) out_of_order: u64,
    /// Views whose edges are not what SurrealDB answers.
    pub(crate) wrong_views: u64,
    /// Rows and tables of the replica that are not as in SurrealDB.
    pub(crate) replica_diff: u64,
    /// Transactions that writers were told are committed.
    pub(crate) transactions: u64,
    /// Changes of rows that SurrealDB's feed tells of.
    pub(crate) changes: u64,
    /// Records in the log.
    pub(crate) log_records: u64,
    /// Views.
    pub(crate) views: u64,
    /// Edges of all views.
    pub(crate) edges: u64,
    /// Views by kind: all, and of these incremental.
    pub(crate) kinds: BTreeMap<String, (u64, u64)>,
    /// Views maintained record by record.
    pub(crate) incremental: u64,
    /// Views that are run again.
    pub(crate) requeried: u64,
    /// Sealed segments of the log.
    pub(crate) sealed_segments: u64,
    /// Of these, segments that the scheduler has trimmed meanwhile.
    pub(crate) trimmed_segments: u64,
    /// What is wrong, in words; of each kind the first few.
    pub(crate) findings: Vec<String>,
}

/// A figure of the verdict.
#[derive(Clone, Copy)]
enum Fault {
    Lost,
    Duplicated,
    OutOfOrder,
    WrongView,
    ReplicaDiff,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order + self.wrong_views + self.replica_diff == 0
    }

    /// How many faults there are of each kind, in words.
    pub(crate) fn faults(&self) -> String {
        format!(
            "lost {}, duplicated {}, out of order {}, wrong views {}, replica {}",
            self.lost, self.duplicated, self.out_of_order, self.wrong_views, self.replica_diff
        )
    }

    /// Counts a fault, and tells of the first few.
    fn fault(&mut self, fault: Fault, words: impl FnOnce() -> String) {
        let (count, name) = match fault {
            Fault::Lost => (&mut self.lost, "lost"),
            Fault::Duplicated => (&mut self.duplicated, "duplicated"),
            Fault::OutOfOrder => (&mut self.out_of_order, "out of order"),
            Fault::WrongView => (&mut self.wrong_views, "wrong view"),
            Fault::ReplicaDiff => (&mut self.replica_diff, "replica"),
        };
        *count += 1;
        if *count <= WORDS as u64 {
            self.findings.push(format!("{name}: {}", words()));
        }
    }
}

/// Checks, and prints the verdict as a line of JSON.
pub(crate) async fn run(args: Args) -> Result<Exit> {
    let site = Site::read(&args.dir)?;
    let verdict = judge(&site).await?;
    let mut out = Out::new();
    out.json(&verdict)?;
    out.flush()?;
    Ok(if verdict.is_clean() { Exit::Done } else { Exit::Found })
}

/// Checks what [`Site::save`] wrote, in a process of its own.
pub(crate) async fn in_a_process(site: &Site) -> Result<Verdict> {
    let mut checker = std::process::Command::new(std::env::current_exe()?);
    checker.arg("demo-check").arg(&site.dir).stdin(Stdio::null());
    leash::tie(&mut checker);
    let mut checker = tokio::process::Command::from(checker);
    let done = checker.kill_on_drop(true).output().await.context("run the checker")?;
    let words = String::from_utf8_lossy(&done.stderr);
    if !matches!(done.status.code(), Some(0 | 1)) {
        bail!("the checker could not check ({}): {}", done.status, words.trim());
    }
    serde_json::from_slice(&done.stdout).context("understand the checker")
}

/// SurrealDB evaluates a subselect once for every row of the query around it, which takes a while.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(900);

async fn judge(site: &Site) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let db = site.connect().await?.patient(PATIENCE);
    let database = Database::read(&db).await.context("read the database")?;
    let client = site.client()?;
    let log = ReadOnlyLog::open(&site.whole_log_dir()).context("open the log")?;
    let live = ReadOnlyLog::open(&site.log_dir()).context("open the scheduler's log")?;
    let is_sealed = |segment: &&SegmentInfo| segment.state == SegmentUse::Sealed;
    verdict.sealed_segments = log.segments().iter().filter(is_sealed).count() as u64;
    let trimmed = log.segments().iter().filter(|segment| segment.last_seq < live.first_seq());
    verdict.trimmed_segments = trimmed.filter(is_sealed).count() as u64;
    let mut states = Vec::new();
    for ssp in &site.ssps {
        states.push(client.get(&format!("{}/v1/state", ssp.url())).await?);
    }
    let scheduler = client.get(&format!("{}/v1/state", site.scheduler_url())).await?;

    log::check(site, &log, &database, &mut verdict).context("check the log")?;
    ssp::check(&log, &states, &mut verdict).context("check what SSPs applied")?;
    replica::check(&log, &scheduler, &database, &mut verdict).context("check the replica")?;
    edges::check(site, &db, &database, &states, &mut verdict).await.context("check views")?;
    Ok(verdict)
}
