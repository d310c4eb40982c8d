//! One workload at one size: opened, changed, checked, measured.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::rig::{Rig, view_name};
use crate::workload::{Kind, Workload};

/// Views that are compared with the naive evaluation, where rows are few and where they are many.
const SAMPLE: u64 = 64;
const SAMPLE_OF_MANY: u64 = 6;
/// From how many rows and views on they are many: the naive evaluation looks at every row for every view.
const MANY: u64 = 500_000;
/// Changes that are measured, and before them those that are not.
const CHANGES: u64 = 20_000;
const WARM: u64 = 2_000;
/// Most edges that all changes of a run write.
const WRITES_MOST: u64 = 4_000_000;
/// W7: changes between a view that comes and one that goes.
const CHURN_EVERY: u64 = 20;

/// Times in nanoseconds.
#[derive(Default)]
pub(crate) struct Times(Vec<u64>);

impl Times {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Microseconds that this share of a thousand does not exceed.
    pub(crate) fn permille(&self, permille: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
        sorted.get(place).map_or(0.0, |nanos| *nanos as f64 / 1e3)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<u64>() as f64 / 1e3 / self.0.len().max(1) as f64
    }
}

pub(crate) fn head() {
    println!(
        "{:<11} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>9} {:>9} {:>9}",
        "workload",
        "views",
        "open us",
        "p50 us",
        "p99 us",
        "mean us",
        "changes/s",
        "edges/chg",
        "Medges/s",
        "compared",
    );
}

/// Opens the workload's views over its rows, but for those of `skip`.
pub(crate) fn opened(workload: &mut Workload, sample: u64) -> (Rig, Times) {
    let mut rig = Rig::default();
    for (table, rows) in workload.rows() {
        rig.load(table, rows.into_iter());
    }
    let mut opens = Times::default();
    let every = (workload.views / sample).max(1);
    for view in 0..workload.views {
        let query = workload.template.query(workload.bind(view));
        opens.push(rig.open(&view_name(view), &query, view % every == 0));
    }
    (rig, opens)
}

/// Runs it and prints a line.
pub(crate) fn run(kind: Kind, views: u64) -> Result<Json, String> {
    let measured = measure(kind, views);
    if let Err(error) = &measured {
        println!("{:<11} {views:>9} NO NUMBER: {error}", kind.name());
    }
    measured
}

fn measure(kind: Kind, views: u64) -> Result<Json, String> {
    let mut workload = Workload::new(kind, views);
    let sample = if views >= MANY { SAMPLE_OF_MANY } else { SAMPLE };
    let (mut rig, opens) = opened(&mut workload, sample);
    let all = matches!(kind, Kind::Hot | Kind::Same);
    let changes = if all { CHANGES.min(WRITES_MOST / views).max(2) } else { CHANGES };
    for _ in 0..WARM.min(changes / 2) {
        rig.apply(vec![workload.change()]);
    }
    let writes = rig.writes;
    let (mut times, mut opened, mut dropped) = <(Times, Times, Times)>::default();
    let mut fresh = views;
    for change in 0..changes {
        if kind == Kind::Churn && change % CHURN_EVERY == 0 {
            let query = workload.template.query(workload.bind(fresh % views));
            let sampled = views < 100 || fresh.is_multiple_of(16);
            opened.push(rig.open(&view_name(fresh), &query, sampled));
            dropped.push(rig.close(&view_name(fresh - views / 2 - 1)));
            fresh += 1;
        }
        times.push(rig.apply(vec![workload.change()]));
    }
    let writes = (rig.writes - writes) as f64;
    let compared = rig.check()?;
    let per_second = 1e6 / times.mean();
    let (p50, p99) = (times.permille(500), times.permille(990));
    println!(
        "{:<11} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>11.0} {:>9.1} {:>9.2} {:>9}",
        kind.name(),
        views,
        opens.mean(),
        p50,
        p99,
        times.mean(),
        per_second,
        writes / changes as f64,
        writes / changes as f64 * per_second / 1e6,
        compared,
    );
    let mut line = json!({
        "workload": kind.name(), "views": views, "open_us": opens.mean(), "p50_us": p50, "p99_us": p99,
        "mean_us": times.mean(), "changes_per_s": per_second, "edges_per_change": writes / changes as f64,
        "edges_per_s": writes / changes as f64 * per_second,
        "edges_compared": compared,
    });
    if kind == Kind::Churn {
        println!(
            "{:<11} {:>9} register p50 {:.2} p99 {:.2} us, drop p50 {:.2} p99 {:.2} us",
            "",
            "",
            opened.permille(500),
            opened.permille(990),
            dropped.permille(500),
            dropped.permille(990)
        );
        line["register_p99_us"] = json!(opened.permille(990));
        line["drop_p99_us"] = json!(dropped.permille(990));
    }
    Ok(line)
}
