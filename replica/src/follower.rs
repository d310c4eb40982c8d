//! The loop that applies durable records as they come, and checkpoints now and then. Blocking: it runs
//! on a thread of its own, and capture never waits for it.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
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
/// told every seq that is reached. Who sets `stop` is heard within [`NAP`].
///
/// # Errors
/// [`Error::Trimmed`] if the log no longer has what the replica needs, [`Error::Ahead`] if it never had what
/// the replica holds; any other error of either.
pub fn follow(
    replica: &Replica,
    log: &Arc<dyn EventLog>,
    pace: Pace,
    stop: &AtomicBool,
    mut applied: impl FnMut(Seq),
) -> Result<(), Error> {
    let last = log.durable_seq();
    if replica.applied_seq() > last {
        return Err(Error::Ahead { applied: replica.applied_seq(), last });
    }
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
        if let Some(last) = pending.iter().rposition(|record| record.ends_transaction) {
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
            wait_past(log, next.prev());
        }
    }
}

/// Longest sleep while the log is idle.
const NAP: Duration = Duration::from_millis(100);

/// Sleeps until the log has more than `seq`, at most for [`NAP`].
fn wait_past(log: &Arc<dyn EventLog>, seq: Seq) {
    let mut durable = log.watch();
    let mut past = pin!(durable.wait_past(seq));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    // A closed log has no more to come, but it can still be read, and `stop` is what ends the loop.
    if !matches!(past.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))) {
        std::thread::park_timeout(NAP);
    }
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
