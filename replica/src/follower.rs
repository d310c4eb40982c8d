//! The loop that applies durable records as they come, and checkpoints now and then. Blocking: it runs
//! on a thread of its own, and capture never waits for it.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{Scope, ScopedJoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use revenant_log::{EventLog, RawRecord, Seq, WireBatch};

use crate::error::Error;
use crate::replica::Replica;
use crate::snapshot::Snapshot;

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

/// Applies what `log` has until `stop` is set, and is durable on return. `applied` is told every seq that is
/// reached. Who sets `stop` is heard within a tenth of a second.
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
        let mut keeper = Keeper::new(scope, replica, stop, pace)?;
        // The start of a transaction whose end is still to come.
        let mut open: Vec<Bytes> = Vec::new();
        loop {
            let next = Seq(replica.applied_seq().next().0 + open.len() as u64);
            let batch = read(replica, log, next)?;
            let idle = batch.is_empty();
            keeper.unsaved_bytes += batch.records.iter().map(Bytes::len).sum::<usize>();
            let records = raw(next, &batch.records)?;
            match records.iter().rposition(|record| record.ends_transaction) {
                Some(last) => {
                    let mut whole = raw(Seq(next.0 - open.len() as u64), &open)?;
                    whole.extend(records.into_iter().take(last + 1));
                    applied(replica.apply(&whole)?);
                    open = batch.records[last + 1..].to_vec();
                }
                None => open.extend(batch.records),
            }
            if stop.load(Ordering::Acquire) {
                return keeper.finish();
            }
            keeper.keep()?;
            if idle {
                wait_past(log, next.prev());
            }
        }
    })
}

/// The records in `bytes`, which start at `next`.
fn raw(next: Seq, bytes: &[Bytes]) -> Result<Vec<RawRecord<'_>>, Error> {
    let records = (next.0..).zip(bytes).map(|(seq, bytes)| RawRecord::read(Seq(seq), bytes));
    records
        .zip(next.0..)
        .map(|(record, seq)| {
            record.map_err(|error| Error::Damaged(format!("record {seq} of the log: {error}")))
        })
        .collect()
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
    stop: &'env AtomicBool,
    pace: Pace,
    saved_at: Instant,
    saved_seq: Seq,
    unsaved_bytes: usize,
    /// Since when, and who.
    verifying: Option<(Instant, ScopedJoinHandle<'scope, Result<bool, Error>>)>,
    rest_until: Instant,
}

impl<'scope, 'env> Keeper<'scope, 'env> {
    /// Begins with what is there, unless it is proven.
    fn new(
        scope: &'scope Scope<'scope, 'env>,
        replica: &'env Replica,
        stop: &'env AtomicBool,
        pace: Pace,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let saved_seq = replica.applied_seq();
        let mut keeper = Self {
            scope,
            replica,
            stop,
            pace,
            saved_at: now,
            saved_seq,
            unsaved_bytes: 0,
            verifying: None,
            rest_until: now,
        };
        if !replica.proven() {
            keeper.verify(replica.save()?);
        }
        Ok(keeper)
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
        let saved = self.save()?;
        if self.verifying.is_none() && self.rest_until <= self.saved_at {
            self.verify(saved);
        }
        Ok(())
    }

    fn save(&mut self) -> Result<Snapshot, Error> {
        let saved = self.replica.save()?;
        (self.saved_at, self.saved_seq, self.unsaved_bytes) = (Instant::now(), saved.seq(), 0);
        Ok(saved)
    }

    fn verify(&mut self, saved: Snapshot) {
        let (replica, stop) = (self.replica, self.stop);
        let verifier = self.scope.spawn(move || replica.confirm_unless(&saved, stop));
        self.verifying = Some((Instant::now(), verifier));
    }

    fn wait_verified(&mut self) -> Result<(), Error> {
        let Some((begun, verifier)) = self.verifying.take() else { return Ok(()) };
        let verified = verifier.join().map_err(|_| Error::Damaged("verifying it failed".into()))?;
        self.rest_until = Instant::now() + begun.elapsed() * VERIFY_REST;
        verified.map(drop)
    }

    /// Saves whatever is not yet. Verifying takes the longer the more rows there are, so it is left to the
    /// next start.
    fn finish(mut self) -> Result<(), Error> {
        self.wait_verified()?;
        if self.saved_seq < self.replica.applied_seq() {
            self.save()?;
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
