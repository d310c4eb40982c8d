//! `Status`: what the service tells the outside about itself; every change of its state goes through
//! here. Reading it never waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use revenant_log::Seq;
use tokio::sync::watch;

/// How far the service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It registers with the scheduler and loads the snapshot.
    Bootstrapping,
    /// It applies what happened since the snapshot and brings its views' edges up to date.
    Replaying,
    /// It accepts registrations.
    Ready,
    /// It cannot work until an operator acts; it keeps trying.
    Failed,
}

impl State {
    /// The word that upstream uses, for `/health` and `/info`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrapping => "bootstrapping",
            Self::Replaying => "replaying",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// The name that upstream uses in sentences.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrapping => "Bootstrapping",
            Self::Replaying => "Replaying",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
        }
    }
}

/// The service's own account of itself.
#[derive(Debug)]
pub(crate) struct Status {
    started: Instant,
    state: watch::Sender<State>,
    applied: watch::Sender<Seq>,
    /// The last seq that the feed had to send when it last had nothing more.
    tail: Mutex<Option<Seq>>,
    connected: AtomicBool,
    reconnects: AtomicU64,
    sessions: AtomicU64,
    trouble: Mutex<Option<String>>,
    waiting_for: Mutex<Option<&'static str>>,
    loading: Mutex<Option<Loading>>,
}

/// How far the load of a snapshot is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loading {
    /// Every row is as of this seq.
    pub(crate) seq: Seq,
    /// Rows loaded.
    pub(crate) rows: u64,
    /// Rows that there are.
    pub(crate) due: u64,
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            state: watch::Sender::new(State::Bootstrapping),
            applied: watch::Sender::new(Seq::ZERO),
            tail: Mutex::default(),
            connected: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            trouble: Mutex::default(),
            waiting_for: Mutex::new(Some("scheduler")),
            loading: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Begins again: nothing that was true of the last registration is true of the next.
    pub(crate) fn begin(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.connected.store(false, Ordering::Relaxed);
        *lock(&self.tail) = None;
        *lock(&self.loading) = None;
        self.applied.send_replace(Seq::ZERO);
        self.enter(State::Bootstrapping);
    }

    pub(crate) fn enter(&self, state: State) {
        let before = self.state.send_replace(state);
        if before != state {
            tracing::info!(from = before.word(), to = state.word(), "state");
        }
        if state == State::Ready {
            *lock(&self.trouble) = None;
        }
    }

    /// Keeps the reason of the last failure for `/health` and `/info`.
    pub(crate) fn report(&self, trouble: impl ToString) {
        *lock(&self.trouble) = Some(trouble.to_string());
    }

    /// Says whom it waits for: the scheduler, the database, or nobody.
    pub(crate) fn waits_for(&self, whom: Option<&'static str>) {
        *lock(&self.waiting_for) = whom;
    }

    pub(crate) fn waiting_for(&self) -> Option<&'static str> {
        *lock(&self.waiting_for)
    }

    /// Says how far the load of the snapshot is; `None` when none is loaded.
    pub(crate) fn loads(&self, loading: Option<Loading>) {
        *lock(&self.loading) = loading;
    }

    pub(crate) fn loading(&self) -> Option<Loading> {
        *lock(&self.loading)
    }

    pub(crate) fn last_trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(crate) fn applied_seq(&self) -> Seq {
        *self.applied.borrow()
    }

    pub(crate) fn set_applied(&self, seq: Seq) {
        self.applied.send_replace(seq);
    }

    /// Where the feed had nothing more to send, the last time it had not.
    pub(crate) fn tail(&self) -> Option<Seq> {
        *lock(&self.tail)
    }

    pub(crate) fn saw_tail(&self, seq: Seq) {
        *lock(&self.tail) = Some(seq);
    }

    pub(crate) fn feed_opened(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    pub(crate) fn feed_broke(&self, reason: impl ToString) {
        self.connected.store(false, Ordering::Relaxed);
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        self.report(reason);
    }

    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    pub(crate) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
