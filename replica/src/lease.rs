//! `Leases`: snapshots that are read over several requests, each kept as long as its reader makes
//! progress. A read transaction that nobody reads any more would keep redb from reusing pages for ever.
//! Knows no clock: the time comes in as an argument.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use revenant_log::Seq;

use crate::snapshot::Snapshot;

/// The right to read a snapshot until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Names it, until the process ends.
    pub id: u64,
    /// The snapshot's rows are as of this seq.
    pub seq: Seq,
    /// When it ends unless a page is read before.
    pub deadline: Instant,
}

/// All leases.
///
/// - An id is given once.
/// - A deadline never moves back.
/// - A lease that ended is not read any more; a page that is being read then is read to its end.
pub struct Leases {
    term: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    last_id: u64,
    held: BTreeMap<u64, (Instant, Arc<Snapshot>)>,
}

impl Leases {
    /// None yet. Each ends when nothing was read for `term`.
    #[must_use]
    pub fn new(term: Duration) -> Self {
        Self { term, inner: Mutex::default() }
    }

    /// How long a lease lasts without progress.
    #[must_use]
    pub fn term(&self) -> Duration {
        self.term
    }

    /// Takes a snapshot into care.
    pub fn grant(&self, snapshot: Snapshot, now: Instant) -> Lease {
        let mut inner = self.inner();
        inner.last_id += 1;
        let lease = Lease { id: inner.last_id, seq: snapshot.seq(), deadline: now + self.term };
        inner.held.insert(lease.id, (lease.deadline, Arc::new(snapshot)));
        lease
    }

    /// The snapshot of the lease `id`, which is renewed by this. `None`: it ended, and its reader has to begin
    /// anew.
    ///
    /// The seq is asked for too: after a restart another lease may have the id, but rows as of the same
    /// seq are the same rows.
    #[must_use]
    pub fn renew(&self, id: u64, seq: Seq, now: Instant) -> Option<Arc<Snapshot>> {
        let mut inner = self.inner();
        let (deadline, snapshot) = inner.held.get_mut(&id)?;
        if *deadline <= now || snapshot.seq() != seq {
            return None;
        }
        *deadline = (*deadline).max(now + self.term);
        Some(Arc::clone(snapshot))
    }

    /// Ends the lease `id`, if it has not ended.
    pub fn end(&self, id: u64) {
        let ended = self.inner().held.remove(&id);
        // A snapshot may take a moment to close, so not while others wait.
        drop(ended);
    }

    /// Ends every lease whose deadline has come, and says which. To be called now and then.
    pub fn expire(&self, now: Instant) -> Vec<Lease> {
        let ended: Vec<_> =
            self.inner().held.extract_if(.., |_, (deadline, _)| *deadline <= now).collect();
        ended.iter().map(|(id, held)| lease(*id, held)).collect()
    }

    /// Those that have not ended, oldest first.
    #[must_use]
    pub fn held(&self) -> Vec<Lease> {
        self.inner().held.iter().map(|(id, held)| lease(*id, held)).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lease(id: u64, (deadline, snapshot): &(Instant, Arc<Snapshot>)) -> Lease {
    Lease { id, seq: snapshot.seq(), deadline: *deadline }
}
