//! The loop that applies durable records as they come, and checkpoints now and then. Blocking: it runs
//! on a thread of its own, and capture never waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use revenant_log::{EventLog, Record, Seq};

use crate::error::Error;
use crate::replica::Replica;

/// Bytes of records read and applied at once.
const BATCH_BYTES: usize = 8 << 20;

/// When a follower makes its rows durable, which bounds what is replayed after a crash.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// At the latest after this long. Default 10 s.
    pub checkpoint_every: Duration,
    /// At the latest after this many bytes of records. Default 64 MiB.
    pub checkpoint_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { checkpoint_every: Duration::from_secs(10), checkpoint_bytes: 64 << 20 }
    }
}

/// Applies what `log` has until `stop` is set; checkpoints once more before it returns. `applied` is
/// told every seq that is reached.
///
/// # Errors
/// [`Error::Trimmed`] if the log no longer has what the replica needs; any other error of either.
pub fn follow(
    replica: &Replica,
    log: &Arc<dyn EventLog>,
    pace: Pace,
    stop: &AtomicBool,
    mut applied: impl FnMut(Seq),
) -> Result<(), Error> {
    let mut pending: Vec<Record> = Vec::new();
    let (mut checkpoint_at, mut unsafe_bytes) = (Instant::now(), 0);
    loop {
        let next = pending.last().map_or(replica.applied_seq(), |last| last.seq).next();
        let batch = log.read(next, BATCH_BYTES).map_err(|error| match error {
            revenant_log::Error::Trimmed { first } => {
                Error::Trimmed { applied: replica.applied_seq(), first }
            }
            other => Error::Log(other),
        })?;
        unsafe_bytes += batch.records.iter().map(bytes::Bytes::len).sum::<usize>();
        let records = batch.decode_records();
        pending.extend(records.map_err(|error| Error::Damaged(error.to_string()))?);
        let whole = pending.iter().rposition(|record| record.ends_transaction);
        if let Some(last) = whole {
            applied(replica.apply(&pending[..=last])?);
            pending.drain(..=last);
        }
        let due = checkpoint_at.elapsed() >= pace.checkpoint_every
            || unsafe_bytes >= pace.checkpoint_bytes;
        let stopping = stop.load(Ordering::Acquire);
        if (due || stopping) && replica.checkpoint_seq() < replica.applied_seq() {
            replica.checkpoint()?;
            (checkpoint_at, unsafe_bytes) = (Instant::now(), 0);
        }
        if stopping {
            return Ok(());
        }
        if batch.is_empty() {
            wait(log, next.prev(), stop);
        }
    }
}

/// Waits until the log has more than `seq`, or a while.
fn wait(log: &Arc<dyn EventLog>, seq: Seq, stop: &AtomicBool) {
    let until = Instant::now() + Duration::from_millis(100);
    while log.durable_seq() <= seq && Instant::now() < until && !stop.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
