//! Re-running: views that the engine cannot maintain are asked of SurrealDB again after a change to a
//! table they refer to, until none was captured between a run's start and its end. So they are exact as
//! soon as changes pause. Views that depend on the time are also re-run on a timer.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use revenant_log::{Record, RecordId, Seq};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::edge::{Edge, ViewChange, edge_id};
use crate::outbox::{Outbox, Owned};
use crate::requery::{Requery, RequeryError, RequeryMember, RequeryText};
use crate::sequencer::{Members, Opened, ViewReport, difference};

/// Runs at the same time.
const RUNS_MOST: usize = 4;

/// Between a change and the run that it calls for: a burst of changes costs one run.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Between two runs of a view, so many times the last run's duration: while changes go on, a view takes
/// one part in so many of a database's time.
const REST: u32 = 10;

/// Longest rest while changes go on.
const REST_MOST: Duration = Duration::from_secs(5);

/// Between two runs of a view that depends on the time.
const TIMER: Duration = Duration::from_secs(10);

/// First wait after a failed run; doubled up to [`BACKOFF_MOST`].
const BACKOFF_LEAST: Duration = Duration::from_millis(200);

/// Longest wait between two attempts.
const BACKOFF_MOST: Duration = Duration::from_secs(30);

/// What records changed, as far as it calls for runs.
pub(crate) struct Touched {
    tables: BTreeSet<Arc<str>>,
    gone: BTreeSet<RecordId>,
}

impl Touched {
    pub(crate) fn of(records: &[Record]) -> Self {
        let gone = records.iter().filter(|record| record.event.body.is_none());
        Self {
            tables: records.iter().map(|record| record.event.table.clone()).collect(),
            gone: gone.map(|record| record.event.record_id()).collect(),
        }
    }
}

/// When a view is to be run again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Triggers {
    /// The tables it refers to; `None` when that cannot be told: then every change counts.
    pub(crate) tables: Option<BTreeSet<String>>,
    /// Whether its result changes by itself.
    pub(crate) timed: bool,
}

/// The views that are re-run; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Rerun {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    views: HashMap<String, View>,
    /// The seq of the last change that was applied.
    seq: Seq,
    /// Views taken in so far.
    opened: u64,
    runs: u64,
    failures: u64,
}

struct View {
    /// Tells it from an earlier view of the same name.
    number: u64,
    text: RequeryText,
    triggers: Triggers,
    reason: String,
    /// By edge id.
    edges: HashMap<String, Edge>,
    /// Records that were deleted since the last run, each with the value of `called` then. SurrealDB may
    /// have dropped their edges with them: one that came back needs its edge anew.
    dropped: HashMap<RecordId, u64>,
    /// Grows with every change that calls for a run.
    called: u64,
    /// The value of `called` that the last finished run answers.
    answered: u64,
    /// When the run that is under way began.
    running: Option<Instant>,
    /// No run before this time.
    earliest: Instant,
    backoff: Duration,
    /// The seq at which the last finished run began.
    seq: Seq,
    last_error: Option<String>,
}

/// A view that is to be re-run.
pub(crate) struct RerunOpening {
    /// Whose it is and where its edges go.
    pub(crate) owned: Owned,
    /// What it asks.
    pub(crate) text: RequeryText,
    /// When it is run again.
    pub(crate) triggers: Triggers,
    /// Why the engine does not maintain it.
    pub(crate) reason: String,
    /// The edges that are stored for it now.
    pub(crate) stored: Vec<Edge>,
    /// Its result, as it has just been asked for.
    pub(crate) members: Vec<RequeryMember>,
}

/// A re-run view, as `/v1/state` shows it.
pub(crate) struct RerunReport {
    pub(crate) view: ViewReport,
    pub(crate) reason: String,
    pub(crate) last_error: Option<String>,
    /// A change calls for a run that is not finished.
    pub(crate) due: bool,
}

impl Rerun {
    /// Takes in a view.
    pub(crate) fn open(&self, outbox: &Outbox, opening: RerunOpening) -> Opened {
        let RerunOpening { owned, text, triggers, reason, stored, members } = opening;
        let name = owned.view.clone();
        let edges = edges_of(&name, members);
        let wanted = edges.values().map(|edge| (0, edge.clone())).collect();
        let row_count = edges.len() as u64;
        let mut state = self.state();
        state.opened += 1;
        let view = View {
            number: state.opened,
            text,
            triggers,
            reason,
            edges,
            dropped: HashMap::new(),
            // Changes while the first run was under way may be missing from it.
            called: 1,
            answered: 0,
            running: None,
            earliest: Instant::now() + DEBOUNCE,
            backoff: BACKOFF_LEAST,
            seq: state.seq,
            last_error: None,
        };
        state.views.insert(name.clone(), view);
        let change = ViewChange { view: name, edges: difference(stored, wanted), row_count };
        let opened = outbox.open(owned, change);
        drop(state);
        self.shared.wake.notify_one();
        opened
    }

    /// Forgets a view; says whether it was here. Its run, if one is under way, changes nothing more.
    pub(crate) fn close(&self, view: &str) -> bool {
        self.state().views.remove(view).is_some()
    }

    /// Hears of records that were applied, up to `seq`.
    pub(crate) fn touch(&self, seq: Seq, Touched { tables, gone }: &Touched) {
        let mut state = self.state();
        state.seq = seq;
        if state.views.is_empty() {
            return;
        }
        let mut called = false;
        for view in state.views.values_mut() {
            let concerned = view
                .triggers
                .tables
                .as_ref()
                .is_none_or(|own| own.iter().any(|table| tables.contains(table.as_str())));
            if concerned {
                view.call();
                let at = view.called;
                let members = view.edges.values().filter(|edge| gone.contains(&edge.record));
                view.dropped.extend(members.map(|edge| (edge.record.clone(), at)));
                called = true;
            }
        }
        drop(state);
        if called {
            self.shared.wake.notify_one();
        }
    }

    /// Every re-run view.
    pub(crate) fn reports(&self) -> Vec<RerunReport> {
        let state = self.state();
        let report = |(id, view): (&String, &View)| RerunReport {
            view: ViewReport {
                id: id.clone(),
                rows: view.edges.len() as u64,
                signature: signature(&view.edges),
                seq: view.seq,
            },
            reason: view.reason.clone(),
            last_error: view.last_error.clone(),
            due: view.running.is_some() || view.called > view.answered,
        };
        state.views.iter().map(report).collect()
    }

    /// The edges of a view, if it is here.
    pub(crate) fn members(&self, view: &str) -> Option<Members> {
        let state = self.state();
        let view = state.views.get(view)?;
        Some(Members { seq: view.seq, edges: view.edges.values().cloned().collect() })
    }

    /// Runs and failed runs so far.
    pub(crate) fn counters(&self) -> (u64, u64) {
        let state = self.state();
        (state.runs, state.failures)
    }

    /// Runs whatever is due, until `stop`.
    pub(crate) async fn run(
        &self,
        requery: &dyn Requery,
        outbox: &Outbox,
        stop: &CancellationToken,
    ) {
        let mut runs = FuturesUnordered::new();
        loop {
            let wake = self.shared.wake.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            while runs.len() < RUNS_MOST {
                let Some((name, mark, text)) = self.begin() else { break };
                runs.push(async move { (name, mark, requery.run(&text).await) });
            }
            let next = self.next_due().filter(|_| runs.len() < RUNS_MOST);
            tokio::select! {
                () = stop.cancelled() => return,
                Some((name, mark, outcome)) = runs.next() => self.finish(outbox, &name, mark, outcome),
                () = wake => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    /// Marks a due view as running.
    fn begin(&self) -> Option<(String, Mark, RequeryText)> {
        let now = Instant::now();
        let mut state = self.state();
        let seq = state.seq;
        let due = state.views.iter_mut().filter(|(_, view)| view.due().is_some_and(|at| at <= now));
        // The one that waits longest goes first.
        let (name, view) = due.min_by_key(|(_, view)| view.earliest)?;
        view.running = Some(now);
        let taken = (
            name.clone(),
            Mark { number: view.number, called: view.called, seq },
            view.text.clone(),
        );
        state.runs += 1;
        Some(taken)
    }

    fn next_due(&self) -> Option<Instant> {
        self.state().views.values().filter_map(View::due).min()
    }

    fn finish(
        &self,
        outbox: &Outbox,
        name: &str,
        mark: Mark,
        outcome: Result<Vec<RequeryMember>, RequeryError>,
    ) {
        let mut state = self.state();
        let State { views, failures, .. } = &mut *state;
        let same = |view: &&mut View| view.number == mark.number;
        let Some(view) = views.get_mut(name).filter(same) else { return };
        let now = Instant::now();
        let took = view.running.take().map_or(Duration::ZERO, |begun| now - begun);
        let members = match outcome {
            Ok(members) => members,
            Err(error) => {
                *failures += 1;
                tracing::warn!(view = name, %error, "a query is run again later");
                view.last_error = Some(error.to_string());
                view.earliest = now + view.backoff;
                view.backoff = (view.backoff * 2).min(BACKOFF_MOST);
                return;
            }
        };
        view.last_error = None;
        view.backoff = BACKOFF_LEAST;
        view.answered = mark.called;
        view.earliest = now + (took * REST).clamp(DEBOUNCE, REST_MOST);
        view.seq = mark.seq;
        let edges = edges_of(name, members);
        let mut before = std::mem::replace(&mut view.edges, edges);
        let came_back = |edge: &Edge| view.dropped.contains_key(&edge.record);
        before.retain(|id, edge| !(came_back(edge) && view.edges.contains_key(id)));
        view.dropped.retain(|_, called| *called > mark.called);
        let before = before.into_values().collect();
        let wanted = view.edges.values().map(|edge| (0, edge.clone())).collect();
        let change = ViewChange {
            view: name.to_owned(),
            edges: difference(before, wanted),
            row_count: view.edges.len() as u64,
        };
        outbox.push(None, vec![change]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was true when a run began.
struct Mark {
    number: u64,
    called: u64,
    seq: Seq,
}

impl View {
    /// When the next run is due, if one is.
    fn due(&self) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        if self.called > self.answered {
            return Some(self.earliest);
        }
        self.triggers.timed.then(|| self.earliest + TIMER)
    }

    fn call(&mut self) {
        if self.called == self.answered {
            self.earliest = self.earliest.max(Instant::now() + DEBOUNCE);
        }
        self.called += 1;
    }
}

fn edges_of(view: &str, members: Vec<RequeryMember>) -> HashMap<String, Edge> {
    let edge = |member: RequeryMember| {
        let id = edge_id(view, None, None, &member.record);
        let RequeryMember { record, version } = member;
        (id.clone(), Edge { id, record, version, parent: None, parent_rel: None })
    };
    members.into_iter().map(edge).collect()
}

/// A sum over the edges that does not depend on their order.
fn signature(edges: &HashMap<String, Edge>) -> u64 {
    edges.values().fold(0, |sum, edge| sum ^ edge.signature())
}

#[cfg(test)]
mod tests;
