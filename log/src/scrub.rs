//! The scrub: sealed segments are read again and verified at a low rate while the log is used, so that rot is found
//! while there is still another copy to mend it from, and not by whoever reads the record next. It changes nothing
//! and stops nothing: what is whole is served on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::nice;
use crate::segment::check::{Check, Flaw};
use crate::segment::handle::Segment;
use crate::shared::Shared;
use crate::verify::Finding;

/// What the scrub did so far and what it found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScrubStats {
    /// The segment that is verified now, or was last.
    pub segment: u64,
    /// The offset in it up to which all is whole.
    pub offset: u64,
    /// Bytes verified since the log was opened.
    pub bytes: u64,
    /// Times that every sealed segment was verified since then.
    pub passes: u64,
    /// What is wrong, at most one finding for a segment: it is not read on behind the first. A finding goes when
    /// its segment is found whole or trimmed.
    pub findings: Vec<Finding>,
}

/// The scrub of a log; runs on a thread of its own.
pub(crate) struct Scrub {
    shared: Arc<Shared>,
    bytes_per_s: u64,
    every: Duration,
    stats: Mutex<ScrubStats>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Scrub {
    /// At `bytes_per_s`, every sealed segment once in `every`.
    pub(crate) fn new(shared: Arc<Shared>, bytes_per_s: u64, every: Duration) -> Self {
        let (stats, stopped, wake) = (Mutex::default(), Mutex::new(false), Condvar::new());
        Self { shared, bytes_per_s, every, stats, stopped, wake }
    }

    pub(crate) fn stats(&self) -> ScrubStats {
        self.lock().clone()
    }

    pub(crate) fn found(&self) -> bool {
        !self.lock().findings.is_empty()
    }

    pub(crate) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }

    /// Goes over the log again and again until it is stopped.
    pub(crate) fn run(&self) {
        nice::let_others_first();
        loop {
            let due = Instant::now() + self.every;
            if !self.pass() || !self.wait(due.saturating_duration_since(Instant::now())) {
                return;
            }
        }
    }

    /// False: stopped.
    fn pass(&self) -> bool {
        let mut next = 0;
        while let Some(segment) = self.sealed(next) {
            next = segment.header.number + 1;
            match self.segment(&segment) {
                Ok(true) => self.tell(&segment, None),
                Ok(false) => return false,
                Err(flaw) => self.tell(&segment, Some(flaw)),
            }
        }
        let kept: Vec<_> = self.shared.segments().iter().map(|one| one.path.clone()).collect();
        let mut stats = self.lock();
        stats.findings.retain(|finding| kept.contains(&finding.path));
        stats.passes += 1;
        true
    }

    /// The first sealed segment from number `from` on.
    fn sealed(&self, from: u64) -> Option<Arc<Segment>> {
        let segments = self.shared.segments().into_iter();
        segments
            .filter(|segment| segment.header.number >= from)
            .find(|segment| segment.with_state(|state| state.sealed))
    }

    /// False: stopped.
    fn segment(&self, segment: &Segment) -> Result<bool, Flaw> {
        let number = segment.header.number;
        let mut check = Check::open(self.shared.storage.as_ref(), &segment.path, number)?;
        loop {
            let bytes = check.step()?;
            if bytes == 0 {
                return Ok(true);
            }
            let mut stats = self.lock();
            (stats.segment, stats.offset) = (number, check.offset());
            stats.bytes += bytes;
            drop(stats);
            let pause =
                Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_s);
            if !self.wait(pause) {
                return Ok(false);
            }
        }
    }

    fn tell(&self, segment: &Segment, flaw: Option<Flaw>) {
        let trimmed = segment.with_state(|state| state.next_seq) <= self.shared.first_seq();
        let mut stats = self.lock();
        let known = stats.findings.iter().position(|finding| finding.path == segment.path);
        let known = known.map(|at| stats.findings.remove(at));
        let Some(Flaw { offset, seq, reason }) = flaw.filter(|_| !trimmed) else { return };
        let path = segment.path.clone();
        if known.is_none() {
            tracing::error!(path = %path.display(), offset, %seq, reason, "a sealed segment is damaged: restore it \
                from a copy while the log is stopped");
        }
        stats.findings.push(Finding { path, offset, seq, reason });
    }

    /// False: stopped meanwhile.
    fn wait(&self, pause: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, ScrubStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
