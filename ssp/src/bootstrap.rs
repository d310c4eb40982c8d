//! Bootstrap: the scheduler's snapshot, loaded row by row into a new engine.

use std::time::Duration;

use futures_util::StreamExt;
use revenant_log::wire::SnapshotItem;
use revenant_log::{LogId, Seq};
use tokio::time::Instant;

use crate::engine::{Budget, Engine};
use crate::error::Error;
use crate::scheduler::Scheduler;
use crate::status::{Loading, Status};

/// Between two reports of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// A loaded snapshot.
pub(crate) struct Loaded {
    /// The log it stands in.
    pub(crate) log_id: LogId,
    /// Every row is as of this seq.
    pub(crate) seq: Seq,
    /// The rows.
    pub(crate) engine: Engine,
    /// Their number.
    pub(crate) rows: u64,
}

/// Loads the snapshot that registration `epoch` may read, into an engine that keeps within `budget`.
///
/// # Errors
/// The stream breaks, is not whole, or the scheduler ended the registration. Nothing is kept of it.
pub(crate) async fn load(
    status: &Status,
    scheduler: &Scheduler,
    epoch: u64,
    budget: Budget,
) -> Result<Loaded, Error> {
    let mut items = scheduler.snapshot(epoch).await?;
    let odd = |reason: String| Error::Feed { expected: 0, reason };
    let Some(first) = items.next().await else {
        return Err(odd("the snapshot is empty".into()));
    };
    let SnapshotItem::Begin { log_id, seq, tables, .. } = first? else {
        return Err(odd("the snapshot does not begin at its beginning".into()));
    };
    let due = tables.iter().map(|(_, rows)| rows).sum();
    status.loads(Some(Loading { seq, rows: 0, due }));
    let mut loaded = Loaded { log_id, seq, engine: Engine::new(budget), rows: 0 };
    let mut done: Vec<String> = Vec::new();
    let mut reported = Instant::now();
    while let Some(item) = items.next().await {
        match item? {
            SnapshotItem::Begin { .. } => return Err(odd("the snapshot begins twice".into())),
            SnapshotItem::Rows { table, rows } => {
                loaded.rows += rows.len() as u64;
                loaded.engine.load(&table, rows);
                status.loads(Some(Loading { seq, rows: loaded.rows, due }));
                if done.last() != Some(&table) {
                    done.push(table);
                }
                if reported.elapsed() >= PROGRESS_INTERVAL {
                    reported = Instant::now();
                    report(scheduler, done.len() - 1, tables.len(), loaded.rows).await;
                }
            }
            SnapshotItem::End { rows } if rows == loaded.rows => {
                report(scheduler, tables.len(), tables.len(), loaded.rows).await;
                return Ok(loaded);
            }
            SnapshotItem::Ended { reason } => {
                return Err(odd(format!("the scheduler ended the snapshot: {reason}")));
            }
            SnapshotItem::End { rows } => {
                return Err(odd(format!("the snapshot has {rows} rows, {} came", loaded.rows)));
            }
        }
    }
    Err(odd(format!("the snapshot broke off after {} rows", loaded.rows)))
}

/// Progress is for onlookers: that it could not be told changes nothing.
async fn report(scheduler: &Scheduler, done: usize, total: usize, rows: u64) {
    if let Err(error) = scheduler.progress(done, total, rows).await {
        tracing::debug!(%error, "bootstrap progress was not told");
    }
}
