//! The ordered outbox: changes of views on their way to SurrealDB. It coalesces them over the
//! throttle, writes one batch at a time and repeats it until it is stored. It stores nothing itself:
//! after a crash, replay and reconciling compute the same edges again.
//!
//! - Changes are absolute and kept net: one per edge, the newest wins. So a batch whose outcome is
//!   unknown is merged with what came since and written again.
//! - Nothing is dropped but the changes of a view that another SSP owns or that is given up.
//! - `committed` never moves back, and every edge up to it is stored.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use revenant_log::{LogId, Seq};
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::edge::{EdgeBatch, EdgeSink, EdgeWrite, SinkError, ViewChange, ViewWrite};

/// First wait after a failed write; doubled up to [`BACKOFF_MOST`].
const BACKOFF_LEAST: Duration = Duration::from_millis(50);

/// Longest wait between two attempts, and between two attempts for a refused view.
const BACKOFF_MOST: Duration = Duration::from_secs(5);

/// A write that takes longer is taken for lost and repeated.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A view under this SSP's ownership.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    /// Key of its `_00_query` row.
    pub(crate) view: String,
    /// The ownership's epoch.
    pub(crate) epoch: u64,
    /// Its edge table.
    pub(crate) table: String,
}

/// Why the edges that someone waits for will not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Another SSP owns the view.
    Fenced,
    /// The view was given up, or the session ended.
    Released,
}

type Waiter = oneshot::Sender<Result<(), Dropped>>;

/// The outbox; clones share it.
#[derive(Clone)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    ssp_id: String,
    log_id: LogId,
    edges_most: usize,
    state: Mutex<State>,
    /// There may be something to write.
    wake: Notify,
    /// There may be room again.
    room: Notify,
    /// Held during an attempt to write, and by whoever must not run beside one.
    writing: Arc<tokio::sync::Mutex<()>>,
    committed: watch::Sender<Seq>,
    counters: Mutex<Counters>,
}

/// What the outbox did so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// Batches stored.
    pub(crate) batches: u64,
    /// Edge changes stored.
    pub(crate) edges: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    /// The last failure, until a batch is stored.
    pub(crate) trouble: Option<String>,
}

#[derive(Default)]
struct State {
    views: HashMap<String, Pending>,
    /// Every change up to and with it was pushed.
    seq: Seq,
    /// Edge changes that wait or are being written.
    edges: usize,
    /// Nobody writes any more.
    ended: bool,
}

struct Pending {
    owned: Owned,
    edges: BTreeMap<String, (usize, EdgeWrite)>,
    row_count: u64,
    /// Something is to be written, if only the row count.
    dirty: bool,
    /// Changes of it are being written.
    writing: bool,
    /// SurrealDB refused the view's last write: it is written alone, and not before then.
    refused: Option<Instant>,
    waiters: Vec<Waiter>,
}

/// What one attempt writes.
struct Taken {
    batch: EdgeBatch,
    depths: HashMap<String, usize>,
    waiters: Vec<(String, Waiter)>,
}

impl Outbox {
    /// An empty outbox for edges as of records of `log_id`; `edges_most` bounds what waits.
    pub(crate) fn new(ssp_id: &str, log_id: LogId, seq: Seq, edges_most: usize) -> Self {
        let shared = Shared {
            ssp_id: ssp_id.to_owned(),
            log_id,
            edges_most,
            state: Mutex::new(State { seq, ..State::default() }),
            wake: Notify::new(),
            room: Notify::new(),
            writing: Arc::default(),
            committed: watch::Sender::new(seq),
            counters: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Takes in a view whose edges are to become what `change` says, on top of what is stored.
    /// The receiver hears when that is durable.
    pub(crate) fn open(
        &self,
        owned: Owned,
        change: ViewChange,
    ) -> oneshot::Receiver<Result<(), Dropped>> {
        let (waiter, durable) = oneshot::channel();
        let pending = Pending {
            owned,
            edges: BTreeMap::new(),
            row_count: change.row_count,
            dirty: true,
            writing: false,
            refused: None,
            waiters: vec![waiter],
        };
        let mut state = self.state();
        if state.ended {
            pending.end(Dropped::Released);
            return durable;
        }
        let before = state.views.insert(change.view.clone(), pending);
        if let Some(before) = before {
            state.edges -= before.edges.len();
            before.end(Dropped::Released);
        }
        state.merge(change);
        drop(state);
        self.shared.wake.notify_one();
        durable
    }

    /// Takes in changes, and that every change up to `seq` is now known. Those of a view that is not
    /// open are ignored.
    pub(crate) fn push(&self, seq: Option<Seq>, changes: Vec<ViewChange>) {
        let mut state = self.state();
        for change in changes {
            state.merge(change);
        }
        if let Some(seq) = seq {
            state.seq = state.seq.max(seq);
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Hears when everything that was pushed for an open view is durable; `None` when it is by now.
    pub(crate) fn settled(&self, view: &str) -> Option<oneshot::Receiver<Result<(), Dropped>>> {
        let mut state = self.state();
        let pending = state.views.get_mut(view)?;
        if !pending.dirty && !pending.writing {
            return None;
        }
        let (waiter, durable) = oneshot::channel();
        pending.dirty = true;
        pending.waiters.push(waiter);
        Some(durable)
    }

    /// Gives the view the ownership epoch `epoch`, if it is open.
    pub(crate) fn raise_epoch(&self, view: &str, epoch: u64) {
        if let Some(pending) = self.state().views.get_mut(view) {
            pending.owned.epoch = pending.owned.epoch.max(epoch);
        }
    }

    /// Forgets a view and what waits for it.
    pub(crate) fn forget(&self, view: &str, why: Dropped) {
        let mut state = self.state();
        if let Some(pending) = state.views.remove(view) {
            state.edges -= pending.edges.len();
            pending.end(why);
        }
        drop(state);
        self.shared.room.notify_waiters();
        self.shared.wake.notify_one();
    }

    /// Forgets every view, and takes in none any more.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.edges = 0;
        for (_, pending) in state.views.drain() {
            pending.end(Dropped::Released);
        }
    }

    /// Waits for the attempt that is under way, if any; none begins before the guard is dropped.
    pub(crate) async fn pause(&self) -> OwnedMutexGuard<()> {
        self.shared.writing.clone().lock_owned().await
    }

    /// Waits until less than the bound is pending.
    pub(crate) async fn room(&self) {
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.state().edges < self.shared.edges_most {
                return;
            }
            room.await;
        }
    }

    /// Follows the seq up to which everything is stored.
    pub(crate) fn committed(&self) -> watch::Receiver<Seq> {
        self.shared.committed.subscribe()
    }

    /// What was done so far, and how many edge changes wait.
    pub(crate) fn counters(&self) -> (Counters, usize) {
        let counters = lock(&self.shared.counters).clone();
        (counters, self.state().edges)
    }

    /// Writes what is pushed, at most once per `throttle`, until `stop`; an attempt that is under way
    /// then is finished. Views that turn out to be another SSP's are named in `fenced`.
    pub(crate) async fn run(
        &self,
        sink: &dyn EdgeSink,
        throttle: Duration,
        fenced: &mpsc::UnboundedSender<String>,
        stop: &CancellationToken,
    ) {
        let mut backoff = BACKOFF_LEAST;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wait_due(next) => {}
            }
            next = Instant::now() + throttle;
            if self.flush(sink, fenced).await.is_ok() {
                backoff = BACKOFF_LEAST;
            } else {
                next = next.max(Instant::now() + backoff);
                backoff = (backoff * 2).min(BACKOFF_MOST);
            }
        }
    }

    /// Writes until nothing waits, or `limit` has passed.
    pub(crate) async fn drain(
        &self,
        sink: &dyn EdgeSink,
        fenced: &mpsc::UnboundedSender<String>,
        limit: Duration,
    ) {
        let work = async {
            while matches!(self.due(), Due::Now) {
                if self.flush(sink, fenced).await.is_err() {
                    sleep(BACKOFF_LEAST).await;
                }
            }
        };
        if timeout(limit, work).await.is_err() {
            let waiting = self.state().edges;
            tracing::warn!(waiting, "stopping with unwritten edges; the next start writes them");
        }
    }

    /// Waits until there is something to write, and at least until `earliest`.
    async fn wait_due(&self, earliest: Instant) {
        loop {
            let wake = self.shared.wake.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            match self.due() {
                Due::Now => break,
                Due::Later(at) => tokio::select! { () = wake => {}, () = sleep_until(at) => {} },
                Due::Nothing => wake.await,
            }
        }
        sleep_until(earliest).await;
    }

    fn due(&self) -> Due {
        let state = self.state();
        let now = Instant::now();
        let mut due = Due::Nothing;
        for pending in state.views.values().filter(|pending| pending.dirty) {
            match pending.refused {
                Some(at) if at > now => due = due.sooner(at),
                _ => return Due::Now,
            }
        }
        let blocked = state.views.values().any(|pending| pending.refused.is_some());
        if !blocked && *self.shared.committed.borrow() < state.seq {
            return Due::Now;
        }
        due
    }

    /// One attempt. An error means that the caller should wait before the next.
    async fn flush(
        &self,
        sink: &dyn EdgeSink,
        fenced: &mpsc::UnboundedSender<String>,
    ) -> Result<(), ()> {
        let _writing = self.shared.writing.lock().await;
        let Some(taken) = self.take() else {
            return Ok(());
        };
        if taken.batch.views.is_empty() {
            self.stored(taken);
            return Ok(());
        }
        let outcome = match timeout(WRITE_TIMEOUT, sink.commit(&taken.batch)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SinkError::Unavailable(format!("no answer in {WRITE_TIMEOUT:?}"))),
        };
        let Err(error) = outcome else {
            self.stored(taken);
            return Ok(());
        };
        self.failed(&error);
        let mut views: Vec<String> =
            taken.batch.views.iter().map(|write| write.view.clone()).collect();
        self.restore(taken);
        match error {
            SinkError::Fenced { view } => {
                tracing::info!(view, "another SSP owns this view; it is dropped here");
                self.forget(&view, Dropped::Fenced);
                // The session may be ending; then nobody needs to hear of it.
                drop(fenced.send(view));
                Ok(())
            }
            SinkError::Refused(reason) => {
                // Which view it is shows once each is written alone.
                tracing::error!(reason, ?views, "SurrealDB refuses edges");
                let again =
                    Instant::now() + if views.len() == 1 { BACKOFF_MOST } else { Duration::ZERO };
                let mut state = self.state();
                for view in views.drain(..) {
                    if let Some(pending) = state.views.get_mut(&view) {
                        pending.refused = Some(again);
                    }
                }
                Ok(())
            }
            SinkError::Unavailable(reason) => {
                tracing::warn!(reason, "edges are written again");
                Err(())
            }
        }
    }

    /// The changes of every view, or of one refused view whose time has come.
    fn take(&self) -> Option<Taken> {
        let mut state = self.state();
        let now = Instant::now();
        let mut names: Vec<String> = state.names(|pending| pending.refused.is_none());
        if names.is_empty() {
            names = state.names(|pending| pending.refused.is_some_and(|at| at <= now));
            names.truncate(1);
        }
        let blocked = state
            .views
            .iter()
            .any(|(name, pending)| pending.refused.is_some() && !names.contains(name));
        if names.is_empty() && blocked {
            return None;
        }
        let seq = if blocked { *self.shared.committed.borrow() } else { state.seq };
        let mut taken = Taken {
            batch: EdgeBatch {
                ssp_id: self.shared.ssp_id.clone(),
                log_id: self.shared.log_id,
                seq,
                views: Vec::with_capacity(names.len()),
            },
            depths: HashMap::new(),
            waiters: Vec::new(),
        };
        for name in names {
            if let Some(pending) = state.views.get_mut(&name) {
                pending.move_into(&mut taken);
            }
        }
        Some(taken)
    }

    fn stored(&self, taken: Taken) {
        let edges: usize = taken.batch.views.iter().map(|write| write.edges.len()).sum();
        let mut state = self.state();
        state.edges -= edges;
        for write in &taken.batch.views {
            if let Some(pending) = state.views.get_mut(&write.view) {
                pending.refused = None;
                pending.writing = false;
            }
        }
        drop(state);
        if !taken.batch.views.is_empty() {
            let mut counters = lock(&self.shared.counters);
            counters.batches += 1;
            counters.edges += edges as u64;
            counters.trouble = None;
        }
        self.shared.committed.send_if_modified(|committed| {
            let moved = *committed < taken.batch.seq;
            *committed = (*committed).max(taken.batch.seq);
            moved
        });
        for (_, waiter) in taken.waiters {
            tell(waiter, Ok(()));
        }
        self.shared.room.notify_waiters();
    }

    /// Puts back what was not stored, under what came since.
    fn restore(&self, mut taken: Taken) {
        let mut state = self.state();
        let state = &mut *state;
        for write in taken.batch.views {
            let Some(pending) = state.views.get_mut(&write.view) else {
                state.edges -= write.edges.len();
                continue;
            };
            pending.dirty = true;
            pending.writing = false;
            for edge in write.edges {
                let id = edge.id().to_owned();
                let depth = taken.depths.remove(&id).unwrap_or(0);
                match pending.edges.entry(id) {
                    Entry::Occupied(_) => state.edges -= 1,
                    Entry::Vacant(place) => {
                        place.insert((depth, edge));
                    }
                }
            }
        }
        for (view, waiter) in taken.waiters {
            match state.views.get_mut(&view) {
                Some(pending) => pending.waiters.push(waiter),
                None => tell(waiter, Err(Dropped::Released)),
            }
        }
    }

    fn failed(&self, error: &SinkError) {
        let mut counters = lock(&self.shared.counters);
        counters.failures += 1;
        counters.trouble = Some(error.to_string());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }
}

enum Due {
    Nothing,
    Later(Instant),
    Now,
}

impl Due {
    fn sooner(self, at: Instant) -> Self {
        match self {
            Self::Later(before) => Self::Later(before.min(at)),
            _ => Self::Later(at),
        }
    }
}

impl State {
    fn merge(&mut self, change: ViewChange) {
        let Some(pending) = self.views.get_mut(&change.view) else { return };
        pending.dirty |= pending.row_count != change.row_count || !change.edges.is_empty();
        pending.row_count = change.row_count;
        for (depth, write) in change.edges {
            if pending.edges.insert(write.id().to_owned(), (depth, write)).is_none() {
                self.edges += 1;
            }
        }
    }

    fn names(&self, wanted: impl Fn(&Pending) -> bool) -> Vec<String> {
        let dirty = self.views.iter().filter(|(_, pending)| pending.dirty && wanted(pending));
        let mut names: Vec<String> = dirty.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }
}

impl Pending {
    fn move_into(&mut self, taken: &mut Taken) {
        let mut edges: Vec<(usize, EdgeWrite)> =
            std::mem::take(&mut self.edges).into_values().collect();
        // Deletes first, then parents before their children.
        edges.sort_by_key(|(depth, write)| (matches!(write, EdgeWrite::Put(_)), *depth));
        for (depth, write) in &edges {
            taken.depths.insert(write.id().to_owned(), *depth);
        }
        self.dirty = false;
        self.writing = true;
        let view = self.owned.view.clone();
        taken.waiters.extend(self.waiters.drain(..).map(|waiter| (view.clone(), waiter)));
        taken.batch.views.push(ViewWrite {
            view,
            epoch: self.owned.epoch,
            table: self.owned.table.clone(),
            edges: edges.into_iter().map(|(_, write)| write).collect(),
            row_count: self.row_count,
            ready: true,
        });
    }

    fn end(self, why: Dropped) {
        for waiter in self.waiters {
            tell(waiter, Err(why));
        }
    }
}

fn tell(waiter: Waiter, outcome: Result<(), Dropped>) {
    if waiter.send(outcome).is_err() {
        tracing::trace!("nobody waits any more");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
