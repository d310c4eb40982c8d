//! Retention: how far the log may be trimmed, and who has to be given up when it grows too long.
//!
//! The log is never trimmed past a cursor that protects it, past the replica's last verified checkpoint,
//! or past what the capture has to recall after a restart.

use std::sync::Arc;
use std::time::Duration;

use revenant_log::{EventLog, Seq};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::capture::micros;
use crate::error::Error;
use crate::journal::Journal;
use crate::registry::{Registry, unix_seconds};
use crate::rows::Rows;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// The capture recalls three windows after a restart, and one more to know that it has them.
const WINDOWS: i64 = 5;

/// What decides how far the log may be trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The durable cursors that protect the log.
    pub cursors: Vec<Seq>,
    /// The replica's last verified checkpoint.
    pub checkpoint_seq: Seq,
    /// The last seq that is older than what is to be kept in any case.
    pub old_seq: Seq,
}

impl Bounds {
    /// The last seq that nobody needs.
    #[must_use]
    pub fn trim_seq(&self) -> Seq {
        let lowest = self.cursors.iter().copied().min().unwrap_or(self.old_seq);
        lowest.min(self.checkpoint_seq).min(self.old_seq)
    }
}

/// Trims the log.
pub struct Retention {
    /// What is trimmed.
    pub log: Arc<dyn EventLog>,
    /// Whose cursors protect it.
    pub registry: Arc<Registry>,
    /// Whose checkpoint protects it.
    pub rows: Arc<Rows>,
    /// What the capture needs.
    pub journal: Arc<Journal>,
    /// How far back the capture reads again.
    pub window: Duration,
    /// Younger records are kept in any case.
    pub keep: Duration,
    /// A log longer than this gives up the SSPs that hold it, bytes.
    pub max_bytes: u64,
}

impl Retention {
    /// Runs until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(EVERY) => {}
            }
            if let Err(error) = self.once().await {
                tracing::error!(%error, "trim the log");
            }
        }
    }

    /// Trims what nobody needs.
    ///
    /// # Errors
    /// The log or the store fails.
    pub async fn once(&self) -> Result<(), Error> {
        let stats = self.log.stats();
        if stats.sealed == 0 {
            return Ok(());
        }
        if stats.bytes > self.max_bytes {
            self.lapse().await?;
        }
        let bounds = Bounds {
            cursors: self.protecting().into_iter().map(|(_, seq)| seq).collect(),
            checkpoint_seq: self.rows.checkpoint_seq(),
            old_seq: self.old_seq()?,
        };
        let trim_seq = bounds.trim_seq();
        if trim_seq < self.log.first_seq() {
            return Ok(());
        }
        let report = self.log.trim(trim_seq.next()).await?;
        if !report.segments.is_empty() {
            tracing::info!(
                segments = report.segments.len(),
                first_seq = report.first_seq,
                "trimmed"
            );
        }
        Ok(())
    }

    /// The cursors that protect the log.
    fn protecting(&self) -> Vec<(String, Seq)> {
        let members = self.registry.members();
        let cursors = self.registry.cursors.all().into_iter();
        cursors
            .filter(|(id, _)| members.get(id).is_none_or(crate::member::Member::protects))
            .map(|(id, cursor)| (id, cursor.acked_seq))
            .collect()
    }

    /// Gives up the SSPs that are behind the replica's checkpoint: they hold the log.
    async fn lapse(&self) -> Result<(), Error> {
        let checkpoint_seq = self.rows.checkpoint_seq();
        let behind = self.protecting().into_iter().filter(|(_, seq)| *seq < checkpoint_seq);
        let Some((ssp_id, acked_seq)) = behind.min_by_key(|(_, seq)| *seq) else { return Ok(()) };
        tracing::warn!(ssp_id, %acked_seq, max_bytes = self.max_bytes,
            "the log is too long: the SSP that is furthest behind has to bootstrap again");
        self.registry.lapse(&[ssp_id]).await
    }

    /// The last seq older than what is to be kept in any case.
    fn old_seq(&self) -> Result<Seq, Error> {
        let now_us = i64::try_from(unix_seconds()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        let mut before_us = now_us.saturating_sub(micros(self.keep));
        if let Some(newest_us) = self.journal.position().newest_us {
            before_us = before_us.min(newest_us.saturating_sub(WINDOWS * micros(self.window)));
        }
        // Commit times grow along the log, but for changes that came a window late at most.
        let (mut low, mut high) = (self.log.first_seq(), self.log.durable_seq().next());
        while low < high {
            let middle = Seq(low.0 + (high.0 - low.0) / 2);
            let records = self.log.read(middle, 1)?.decode_records()?;
            match records.first() {
                Some(record) if record.time_us < before_us => low = middle.next(),
                _ => high = middle,
            }
        }
        Ok(low.prev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_all_bounds_decides() {
        let bounds = |cursors: &[u64], checkpoint, old| Bounds {
            cursors: cursors.iter().map(|seq| Seq(*seq)).collect(),
            checkpoint_seq: Seq(checkpoint),
            old_seq: Seq(old),
        };
        assert_eq!(bounds(&[7, 5, 9], 8, 9).trim_seq(), Seq(5));
        assert_eq!(bounds(&[7, 9], 6, 9).trim_seq(), Seq(6));
        assert_eq!(bounds(&[7, 9], 8, 3).trim_seq(), Seq(3));
        assert_eq!(bounds(&[], 8, 9).trim_seq(), Seq(8));
        assert_eq!(bounds(&[0], 8, 9).trim_seq(), Seq(0));
    }
}
