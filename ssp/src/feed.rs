//! The feed: records from the scheduler, checked, cut into whole transactions and handed to the
//! sequencer. A stream that breaks is taken up again after the last whole transaction.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use revenant_log::wire::WireBatch;
use revenant_log::{LogId, Record, Seq};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Error;
use crate::outbox::Outbox;
use crate::scheduler::Scheduler;
use crate::sequencer::Sequencer;
use crate::status::Status;

/// First wait before a broken stream is taken up again; doubled up to [`BACKOFF_MOST`].
const BACKOFF_LEAST: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
const BACKOFF_MOST: Duration = Duration::from_secs(2);

/// A record, and its bytes as the log holds them.
pub(crate) type Received = (Record, Bytes);

/// What has come in: lets through every record once, in order, in whole transactions.
///
/// - What it lets through is contiguous from the seq it was made with.
/// - An incomplete transaction is held; [`Intake::resume_after`] lies before it.
pub(crate) struct Intake {
    log_id: LogId,
    /// Last record of the last whole transaction.
    whole: Seq,
    /// The records after it.
    open: Vec<Received>,
}

impl Intake {
    /// An intake of the records of `log_id` after `after`.
    pub(crate) fn new(log_id: LogId, after: Seq) -> Self {
        Self { log_id, whole: after, open: Vec::new() }
    }

    /// The seq after which a new stream is to begin. Forgets the incomplete transaction.
    pub(crate) fn resume_after(&mut self) -> Seq {
        self.open.clear();
        self.whole
    }

    /// Takes in a batch and returns the records of the transactions that are whole with it. Records
    /// that were taken in before are skipped.
    ///
    /// # Errors
    /// The batch is another log's, is damaged, or leaves a gap; nothing of it is taken in.
    pub(crate) fn admit(&mut self, batch: &WireBatch) -> Result<Vec<Received>, Error> {
        if batch.log_id != self.log_id {
            let reason = format!("a batch of log {} came, not of {}", batch.log_id, self.log_id);
            return Err(Error::Fenced { epoch: 0, reason });
        }
        let due = self.due();
        let records = batch.decode_records().map_err(|error| Error::Feed {
            expected: due.0,
            reason: format!("a record is damaged: {error}"),
        })?;
        let mut expected = due;
        let mut fresh = Vec::with_capacity(records.len());
        for (record, bytes) in records.into_iter().zip(&batch.records) {
            if record.seq < expected {
                continue;
            }
            if record.seq > expected {
                let reason = format!("seq {} came, the ones before it did not", record.seq);
                return Err(Error::Feed { expected: expected.0, reason });
            }
            expected = expected.next();
            fresh.push((record, bytes.clone()));
        }
        self.open.extend(fresh);
        let whole = self.open.iter().rposition(|(record, _)| record.ends_transaction);
        let Some(last) = whole else { return Ok(Vec::new()) };
        let rest = self.open.split_off(last + 1);
        self.whole = self.open[last].0.seq;
        Ok(std::mem::replace(&mut self.open, rest))
    }

    /// The seq that comes next.
    fn due(&self) -> Seq {
        self.open.last().map_or(self.whole, |(record, _)| record.seq).next()
    }
}

/// What the feed is read for.
pub(crate) struct Feed {
    /// Where it comes from.
    pub(crate) scheduler: Scheduler,
    /// The registration's epoch.
    pub(crate) epoch: u64,
    /// Who applies it.
    pub(crate) sequencer: Sequencer,
    /// Whose room it waits for.
    pub(crate) outbox: Outbox,
    /// What is told about it.
    pub(crate) status: Arc<Status>,
    /// Bytes received and not yet applied.
    pub(crate) window_bytes: usize,
}

impl Feed {
    /// Hands everything after `intake`'s seq to the sequencer, for ever.
    ///
    /// Returns when the scheduler ended the registration, or the sequencer is gone.
    pub(crate) async fn run(self, mut intake: Intake) -> Error {
        let window = Arc::new(Semaphore::new(self.window_bytes));
        let mut backoff = BACKOFF_LEAST;
        loop {
            let (before, begun) = (intake.resume_after(), Instant::now());
            let error = match self.follow(&mut intake, &window).await {
                Ok(()) => {
                    Error::Unreachable { url: "the feed".into(), reason: "the stream ended".into() }
                }
                Err(error @ (Error::Fenced { .. } | Error::Scheduler { .. })) => return error,
                Err(error) => error,
            };
            if intake.resume_after() > before || begun.elapsed() >= BACKOFF_MOST {
                backoff = BACKOFF_LEAST;
            }
            self.status.feed_broke(&error);
            tracing::warn!(%error, after = %before, "the feed is taken up again");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MOST);
        }
    }

    async fn follow(&self, intake: &mut Intake, window: &Arc<Semaphore>) -> Result<(), Error> {
        let mut batches = self.scheduler.feed(self.epoch, intake.resume_after()).await?;
        self.status.feed_opened();
        while let Some(batch) = batches.next().await {
            let (batch, bytes) = batch?;
            if batch.is_empty() {
                self.status.saw_tail(batch.prev_seq);
                continue;
            }
            let records = intake.admit(&batch)?;
            drop(batch);
            if records.is_empty() {
                continue;
            }
            self.outbox.room().await;
            let permits = u32::try_from(bytes.min(self.window_bytes)).unwrap_or(u32::MAX);
            let permit = window.clone().acquire_many_owned(permits).await;
            let permit = permit.expect("the window is never closed");
            if self.sequencer.apply(records, permit).await.is_err() {
                return Err(Error::Fenced {
                    epoch: self.epoch,
                    reason: "the session ended".into(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
