//! The sequencer: the one thread that owns the engine. Records and registrations reach it through one
//! channel, so a view is computed at an exact seq and misses nothing after it.
//!
//! - Records are applied in order, in whole transactions, each once.
//! - What a step changes goes to the outbox together with the step's seq.

use std::collections::HashMap;
use std::sync::Arc;

use revenant_log::{LogId, RecordId, Seq};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::edge::{Edge, EdgeWrite, ViewChange};
use crate::engine::{Declined, Engine, Explained, Size, Stepped, Why};
use crate::feed::Received;
use crate::outbox::{Dropped, Outbox, Owned};
use crate::query::ir::Query;
use crate::rerun::{Rerun, Touched};
use crate::status::Status;

/// Messages that may wait; the bytes of records among them are bounded by the feed's window.
const MESSAGES_MOST: usize = 256;

/// What the thread is asked to do.
enum Message {
    Apply { records: Vec<Received>, window: OwnedSemaphorePermit },
    Open { view: Opening, reply: oneshot::Sender<Result<Opened, Declined>> },
    Close { view: String, why: Dropped, reply: oneshot::Sender<()> },
    Report { reply: oneshot::Sender<Report> },
    Members { view: String, reply: oneshot::Sender<Option<Members>> },
    Explain { view: String, query: Query, reply: oneshot::Sender<Option<Explained>> },
    Why { view: String, query: Query, record: RecordId, reply: oneshot::Sender<Option<Why>> },
}

/// A view that is to be maintained.
pub(crate) struct Opening {
    /// Whose it is and where its edges go.
    pub(crate) owned: Owned,
    /// What it asks.
    pub(crate) query: Query,
    /// The edges that are stored for it now.
    pub(crate) stored: Vec<Edge>,
}

/// Hears when the edges that opening a view calls for are durable.
pub(crate) type Opened = oneshot::Receiver<Result<(), Dropped>>;

/// How far the thread is.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) applied_seq: Seq,
    pub(crate) transactions: u64,
    pub(crate) chain: blake3::Hash,
    pub(crate) views: Vec<ViewReport>,
    pub(crate) engine: Size,
}

/// What a maintained view amounts to.
#[derive(Clone, Debug)]
pub(crate) struct ViewReport {
    pub(crate) id: String,
    pub(crate) rows: u64,
    pub(crate) signature: u64,
    pub(crate) seq: Seq,
}

/// A view's edges as the service computed them.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) seq: Seq,
    pub(crate) edges: Vec<Edge>,
}

/// The thread is gone, because the session ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

/// The way to the thread; the thread ends with the last clone.
#[derive(Clone)]
pub(crate) struct Sequencer {
    messages: mpsc::Sender<Message>,
}

/// Where a sequencer begins.
pub(crate) struct Start {
    pub(crate) log_id: LogId,
    /// The engine holds every row as of this seq.
    pub(crate) seq: Seq,
    pub(crate) engine: Engine,
    pub(crate) outbox: Outbox,
    pub(crate) rerun: Rerun,
    pub(crate) status: Arc<Status>,
    /// Hears of views that the engine gave up, and why.
    pub(crate) lost: mpsc::UnboundedSender<(String, Declined)>,
}

impl Sequencer {
    /// Starts the thread.
    pub(crate) fn start(start: Start) -> std::io::Result<Self> {
        let (messages, inbox) = mpsc::channel(MESSAGES_MOST);
        let worker = Worker::new(start);
        std::thread::Builder::new()
            .name("ssp-sequencer".into())
            .spawn(move || worker.run(inbox))?;
        Ok(Self { messages })
    }

    /// Hands over records that follow those handed over before, in whole transactions.
    pub(crate) async fn apply(
        &self,
        records: Vec<Received>,
        window: OwnedSemaphorePermit,
    ) -> Result<(), Stopped> {
        self.messages.send(Message::Apply { records, window }).await.map_err(|_| Stopped)
    }

    /// Begins to maintain a view, at whatever seq the engine is. Its edges become what it computes.
    pub(crate) async fn open(&self, view: Opening) -> Result<Result<Opened, Declined>, Stopped> {
        self.ask(|reply| Message::Open { view, reply }).await
    }

    /// Ceases to maintain a view; on return the outbox knows nothing of it.
    pub(crate) async fn close(&self, view: &str, why: Dropped) -> Result<(), Stopped> {
        let view = view.to_owned();
        self.ask(|reply| Message::Close { view, why, reply }).await
    }

    /// How far the thread is.
    pub(crate) async fn report(&self) -> Result<Report, Stopped> {
        self.ask(|reply| Message::Report { reply }).await
    }

    /// The edges of a view, if it is maintained here.
    pub(crate) async fn members(&self, view: &str) -> Result<Option<Members>, Stopped> {
        let view = view.to_owned();
        self.ask(|reply| Message::Members { view, reply }).await
    }

    /// What a view is made of and costs, if it is maintained here; `query` is what it was opened with.
    pub(crate) async fn explain(
        &self,
        view: &str,
        query: Query,
    ) -> Result<Option<Explained>, Stopped> {
        let view = view.to_owned();
        self.ask(|reply| Message::Explain { view, query, reply }).await
    }

    /// Why a row is or is not in a view, if that is maintained here.
    pub(crate) async fn why(
        &self,
        view: &str,
        query: Query,
        record: RecordId,
    ) -> Result<Option<Why>, Stopped> {
        let view = view.to_owned();
        self.ask(|reply| Message::Why { view, query, record, reply }).await
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }
}

/// What the thread owns.
struct Worker {
    seq: Seq,
    transactions: u64,
    chain: blake3::Hash,
    engine: Engine,
    /// The seq at which each view last changed.
    changed: HashMap<String, Seq>,
    outbox: Outbox,
    rerun: Rerun,
    status: Arc<Status>,
    lost: mpsc::UnboundedSender<(String, Declined)>,
}

impl Worker {
    fn new(start: Start) -> Self {
        let mut chain = blake3::Hasher::new();
        chain.update(&start.log_id.0).update(&start.seq.0.to_le_bytes());
        start.status.set_applied(start.seq);
        Self {
            seq: start.seq,
            transactions: 0,
            chain: chain.finalize(),
            engine: start.engine,
            changed: HashMap::new(),
            outbox: start.outbox,
            rerun: start.rerun,
            status: start.status,
            lost: start.lost,
        }
    }

    fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        while let Some(message) = inbox.blocking_recv() {
            match message {
                Message::Apply { records, window } => {
                    self.apply(records);
                    drop(window);
                }
                Message::Open { view, reply } => answer(reply, self.open(view)),
                Message::Close { view, why, reply } => {
                    self.engine.close(&view);
                    self.changed.remove(&view);
                    self.outbox.forget(&view, why);
                    answer(reply, ());
                }
                Message::Report { reply } => answer(reply, self.report()),
                Message::Members { view, reply } => answer(reply, self.members(&view)),
                Message::Explain { view, query, reply } => {
                    answer(reply, self.engine.explain(&view, &query));
                }
                Message::Why { view, query, record, reply } => {
                    answer(reply, self.engine.why(&view, &query, &record));
                }
            }
        }
    }

    fn apply(&mut self, received: Vec<Received>) {
        let mut records = Vec::with_capacity(received.len());
        for (record, bytes) in received {
            assert_eq!(record.seq, self.seq.next(), "records are contiguous");
            self.seq = record.seq;
            self.transactions += u64::from(record.ends_transaction);
            let mut chain = blake3::Hasher::new();
            chain.update(self.chain.as_bytes()).update(&record.seq.0.to_le_bytes()).update(&bytes);
            self.chain = chain.finalize();
            records.push(record);
        }
        let touched = Touched::of(&records);
        let Stepped { changes, lost } = self.engine.apply(records);
        for (view, declined) in lost {
            tracing::warn!(view, reason = %declined, "the view is not maintained any more");
            self.changed.remove(&view);
            // The session may be ending; then nobody needs to hear of it.
            drop(self.lost.send((view, declined)));
        }
        for change in &changes {
            self.changed.insert(change.view.clone(), self.seq);
        }
        self.outbox.push(Some(self.seq), changes);
        self.rerun.touch(self.seq, &touched);
        self.status.set_applied(self.seq);
    }

    fn open(&mut self, opening: Opening) -> Result<Opened, Declined> {
        let Opening { owned, query, stored } = opening;
        let view = owned.view.clone();
        let edges = self.engine.open(&view, &query)?;
        self.changed.insert(view.clone(), self.seq);
        let row_count = self.engine.row_count(&view);
        let change = ViewChange { view, edges: difference(stored, edges), row_count };
        Ok(self.outbox.open(owned, change))
    }

    fn report(&self) -> Report {
        let views = self.changed.iter().map(|(id, seq)| ViewReport {
            id: id.clone(),
            rows: self.engine.row_count(id),
            signature: self.engine.signature(id),
            seq: *seq,
        });
        Report {
            applied_seq: self.seq,
            transactions: self.transactions,
            chain: self.chain,
            views: views.collect(),
            engine: self.engine.size(),
        }
    }

    fn members(&self, view: &str) -> Option<Members> {
        let maintained = self.changed.contains_key(view);
        maintained.then(|| Members { seq: self.seq, edges: self.engine.edges(view) })
    }
}

/// What makes the stored edges the wanted ones.
pub(crate) fn difference(stored: Vec<Edge>, wanted: Vec<(usize, Edge)>) -> Vec<(usize, EdgeWrite)> {
    let mut stored: HashMap<String, Edge> =
        stored.into_iter().map(|edge| (edge.id.clone(), edge)).collect();
    let mut writes = Vec::new();
    for (depth, edge) in wanted {
        if stored.remove(&edge.id).as_ref() != Some(&edge) {
            writes.push((depth, EdgeWrite::Put(edge)));
        }
    }
    let gone = stored.into_values();
    writes.extend(gone.map(|edge| (0, EdgeWrite::Delete { id: edge.id, record: edge.record })));
    writes
}

fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    if reply.send(answer).is_err() {
        tracing::trace!("nobody waits for the answer any more");
    }
}
