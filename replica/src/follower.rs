//! The loop that applies durable records as they come, and checkpoints now and then. Blocking: it runs
//! on a thread of its own, and capture never waits for it.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Scope, ScopedJoinHandle, Thread};
use std::time::{Duration, Instant};

use revenant_log::{EventLog, Record, Seq, WireBatch};

use crate::error::Error;
use crate::replica::Replica;

/// Bytes of records read and applied at once.
const BATCH_BYTES: usize = 8 << 20;

/// Verifying reads every row. It is followed by a rest of at least this many times as long.
const VERIFY_REST: u32 = 3;

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
/// told every seq that is reached. Who sets `stop` is heard within a tenth of a second.
///
/// Checkpoints are verified on a second thread, one at a time, while the first goes on applying.
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
    std::thread::scope(|scope| {
        let mut keeper = Keeper::new(scope, replica, pace);
        let mut pending: Vec<Record> = Vec::new();
        loop {
            let next = pending.last().map_or(replica.applied_seq(), |last| last.seq).next();
            let batch = read(replica, log, next)?;
            keeper.unsaved_bytes += batch.records.iter().map(bytes::Bytes::len).sum::<usize>();
            let records = batch.decode_records();
            pending.extend(records.map_err(|error| Error::Damaged(error.to_string()))?);
            if let Some(last) = pending.iter().rposition(|record| record.ends_transaction) {
                applied(replica.apply(&pending[..=last])?);
                pending.drain(..=last);
            }
            if stop.load(Ordering::Acquire) {
                return keeper.finish();
            }
            keeper.keep()?;
            if batch.is_empty() {
                wait_past(log, next.prev());
            }
        }
    })
}

fn read(replica: &Replica, log: &Arc<dyn EventLog>, next: Seq) -> Result<WireBatch, Error> {
    log.read(next, BATCH_BYTES).map_err(|error| match error {
        revenant_log::Error::Trimmed { first } => {
            Error::Trimmed { applied: replica.applied_seq(), first }
        }
        other => Error::Log(other),
    })
}

/// Checkpoints when it is time.
struct Keeper<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    replica: &'env Replica,
    pace: Pace,
    saved_at: Instant,
    unsaved_bytes: usize,
    /// Since when, and who.
    verifying: Option<(Instant, ScopedJoinHandle<'scope, Result<Seq, Error>>)>,
    rest_until: Instant,
}

impl<'scope, 'env> Keeper<'scope, 'env> {
    fn new(scope: &'scope Scope<'scope, 'env>, replica: &'env Replica, pace: Pace) -> Self {
        let now = Instant::now();
        let (saved_at, rest_until) = (now, now);
        Self { scope, replica, pace, saved_at, unsaved_bytes: 0, verifying: None, rest_until }
    }

    /// Saves if that is due, and lets it be verified unless that was done just now.
    fn keep(&mut self) -> Result<(), Error> {
        if self.verifying.as_ref().is_some_and(|(_, verifier)| verifier.is_finished()) {
            self.wait_verified()?;
        }
        let due = self.saved_at.elapsed() >= self.pace.checkpoint_every
            || self.unsaved_bytes >= self.pace.checkpoint_bytes;
        if !due || self.replica.checkpoint_seq() == self.replica.applied_seq() {
            return Ok(());
        }
        let saved = self.replica.save()?;
        let now = Instant::now();
        (self.saved_at, self.unsaved_bytes) = (now, 0);
        if self.verifying.is_none() && self.rest_until <= now {
            let replica = self.replica;
            self.verifying = Some((now, self.scope.spawn(move || replica.confirm(&saved))));
        }
        Ok(())
    }

    fn wait_verified(&mut self) -> Result<(), Error> {
        let Some((begun, verifier)) = self.verifying.take() else { return Ok(()) };
        let verified = verifier.join().map_err(|_| Error::Damaged("verifying it failed".into()))?;
        self.rest_until = Instant::now() + begun.elapsed() * VERIFY_REST;
        verified.map(drop)
    }

    /// Checkpoints whatever is not yet.
    fn finish(mut self) -> Result<(), Error> {
        self.wait_verified()?;
        if self.replica.checkpoint_seq() < self.replica.applied_seq() {
            self.replica.checkpoint()?;
        }
        Ok(())
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
