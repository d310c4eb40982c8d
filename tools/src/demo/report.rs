//! What a demo prints: a line of JSON for machines, a short account for people.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::check::Verdict;
use super::kill::Kill;
use super::tamper::Tamper;
use crate::out::{Out, bytes};

/// Everything a demo has to say.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) show: &'static str,
    pub(super) pass: bool,
    /// Changes of files in the history; SurrealDB's feed also tells of commits and authors.
    pub(super) history_changes: u64,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
    pub(super) kills: usize,
    pub(super) killed: Vec<Kill>,
    pub(super) writers: u16,
    pub(super) conflicts: usize,
    pub(super) seed: u64,
    pub(super) tamper: Option<Tamper>,
    pub(super) load_seconds: f64,
    pub(super) transactions_per_second: f64,
    pub(super) arrival_seconds: f64,
    pub(super) check_seconds: f64,
    pub(super) elapsed_seconds: f64,
    pub(super) scheduler_rss_bytes: u64,
    pub(super) ssp_rss_bytes: u64,
    pub(super) dir: String,
}

/// The last line for people who look for one: the figures that decide.
#[derive(Serialize)]
struct Short {
    show: &'static str,
    pass: bool,
    transactions: u64,
    views: u64,
    kills: usize,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    wrong_views: u64,
    replica_diff: u64,
}

impl Report {
    /// Prints it.
    pub(super) fn print(&self, as_json: bool, dir: &Path) -> Result<()> {
        let mut out = Out::new();
        if as_json {
            out.json(self)?;
        } else {
            self.for_people(&mut out, dir)?;
            out.json(&self.short())?;
        }
        out.flush()?;
        Ok(())
    }

    fn short(&self) -> Short {
        let verdict = &self.verdict;
        Short {
            show: self.show,
            pass: self.pass,
            transactions: verdict.transactions,
            views: verdict.views,
            kills: self.kills,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            out_of_order: verdict.out_of_order,
            wrong_views: verdict.wrong_views,
            replica_diff: verdict.replica_diff,
        }
    }

    fn for_people(&self, out: &mut Out, dir: &Path) -> Result<()> {
        let verdict = &self.verdict;
        out.line("")?;
        for kill in &self.killed {
            out.line(format_args!(
                "killed       {} during {}, after {} transactions; {} more until it was back, {} ms later",
                kill.who, kill.during, kill.at, kill.meanwhile, kill.back_after_ms
            ))?;
            out.line(format_args!("             {}", kill.proof))?;
        }
        out.line(format_args!(
            "loaded       {} transactions, {} changes with {} writers: {:.0} transactions/s",
            verdict.transactions, verdict.changes, self.writers, self.transactions_per_second
        ))?;
        out.line(format_args!(
            "log          {} records, {} sealed segments; {} of them were trimmed, and are put back",
            verdict.log_records, verdict.sealed_segments, verdict.trimmed_segments
        ))?;
        out.line(format_args!(
            "views        {} of {} kinds, {} edges: {} incremental, {} run again",
            verdict.views,
            verdict.kinds.len(),
            verdict.edges,
            verdict.incremental,
            verdict.requeried
        ))?;
        out.line(format_args!(
            "memory       scheduler {}, larger SSP {}",
            bytes(self.scheduler_rss_bytes),
            bytes(self.ssp_rss_bytes)
        ))?;
        out.line(format_args!(
            "time         {:.1} s: load {:.1}, arrival {:.1}, check {:.1}",
            self.elapsed_seconds, self.load_seconds, self.arrival_seconds, self.check_seconds
        ))?;
        out.line(format_args!("check        {}", verdict.faults()))?;
        for finding in &verdict.findings {
            out.line(format_args!("  ! {finding}"))?;
        }
        let binary = std::env::current_exe().unwrap_or_else(|_| "revenant".into());
        let (binary, dir) = (binary.display(), dir.display());
        out.line(format_args!("\nnext:  {binary} log ls --dir {dir}/scheduler/log"))?;
        out.line(format_args!("       {binary} log tail --dir {dir}/scheduler/log -n 3"))?;
        out.line(format_args!("       {binary} log verify --dir {dir}/scheduler/log"))?;
        out.line(format_args!(
            "       {binary} replay rebuild --log {dir}/scheduler/log --out rebuilt.redb"
        ))?;
        Ok(())
    }
}

/// Seconds with a fraction.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
