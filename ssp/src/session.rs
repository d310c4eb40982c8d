//! `Session`: one registration with the scheduler, from the snapshot to the moment it is fenced or the
//! service stops. Everything it holds is built anew by the next one.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use revenant_log::{LogId, Seq};
use serde_json::Value as Json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::engine::Declined;
use crate::error::{Error, ErrorKind};
use crate::feed::{Feed, Intake};
use crate::load::Load;
use crate::outbox::Outbox;
use crate::query::expr::Beyond;
use crate::registration::Registration;
use crate::rerun::Rerun;
use crate::scheduler::{Heartbeat, Native, Scheduler};
use crate::sequencer::{Sequencer, Start};
use crate::service::Context;
use crate::status::State;
use crate::ttl;
use crate::views::{Refusal, Views};

/// Wait between two attempts at something that needs the scheduler or the database.
const RETRY: Duration = Duration::from_millis(500);

/// How long a feed that never pauses is replayed before the service gets ready all the same.
const TAIL_PATIENCE: Duration = Duration::from_secs(2);

/// How long a feed that is at its end may stay behind the stored edges before the log counts as cut.
const LOST_PATIENCE: Duration = Duration::from_secs(5);

/// Between two acks.
const ACK_INTERVAL: Duration = Duration::from_millis(50);

/// How long the outbox may write after the stop.
const DRAIN_MOST: Duration = Duration::from_secs(4);

/// How long the ack after that may take.
const LAST_ACK_MOST: Duration = Duration::from_secs(1);

/// Views that are taken in at the same time after a bootstrap.
const ADOPTIONS: usize = 8;

/// Between two looks at how far the replay is.
const TICK: Duration = Duration::from_millis(10);

/// A registration that has its rows.
pub(crate) struct Session {
    /// The registration's epoch.
    pub(crate) epoch: u64,
    /// The log it follows.
    pub(crate) log_id: LogId,
    /// The seq of the snapshot it began with.
    pub(crate) bootstrap_seq: Seq,
    /// The thread that owns the engine.
    pub(crate) sequencer: Sequencer,
    /// Edges on their way.
    pub(crate) outbox: Outbox,
    /// Views that are re-run.
    pub(crate) rerun: Rerun,
    /// The views it owns.
    pub(crate) views: Views,
    /// Views that the engine gave up.
    losses: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Declined)>>,
}

/// Runs one registration until it ends. `Ok` means that the service was asked to stop.
pub(crate) async fn run(
    context: &Arc<Context>,
    scheduler: &Scheduler,
    native: Native,
) -> Result<(), Error> {
    let epoch = native.epoch;
    // From the first moment, so that a long bootstrap counts as life.
    let heartbeats = heartbeats(context, scheduler, epoch);
    tokio::pin!(heartbeats);
    let loaded = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(()),
        error = &mut heartbeats => return Err(error),
        loaded = load(context, scheduler, epoch) => loaded?,
    };
    if loaded.log_id != native.log_id {
        let reason = format!("its snapshot is of log {}", loaded.log_id);
        return Err(Error::Fenced { epoch, reason });
    }
    tracing::info!(rows = loaded.rows, seq = %loaded.seq, "snapshot loaded");
    context.status.enter(State::Replaying);
    let session = Arc::new(Session::new(context, epoch, loaded)?);
    context.set_session(Some(session.clone()));
    let outcome = session.live(context, scheduler, native.views, heartbeats).await;
    context.set_session(None);
    outcome
}

/// Loads the snapshot, again and again until it is whole.
async fn load(
    context: &Context,
    scheduler: &Scheduler,
    epoch: u64,
) -> Result<bootstrap::Loaded, Error> {
    loop {
        let Context { status, config, .. } = context;
        let loaded = bootstrap::load(status, scheduler, epoch, config.budget).await;
        status.loads(None);
        match loaded {
            Err(error) if error.kind() == ErrorKind::Retry => {
                tracing::warn!(%error, "the snapshot is loaded again");
                sleep(RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

impl Session {
    fn new(context: &Arc<Context>, epoch: u64, loaded: bootstrap::Loaded) -> Result<Self, Error> {
        let bootstrap::Loaded { log_id, seq, engine, .. } = loaded;
        let config = &context.config;
        let outbox = Outbox::new(&config.ssp_id, log_id, seq, config.outbox_edges);
        let rerun = Rerun::default();
        let (lost, losses) = mpsc::unbounded_channel();
        let sequencer = Sequencer::start(Start {
            lost,
            log_id,
            seq,
            engine,
            outbox: outbox.clone(),
            rerun: rerun.clone(),
            status: context.status.clone(),
        })
        .map_err(|source| Error::Thread { source })?;
        let views = Views::new(context.clone(), outbox.clone(), sequencer.clone(), rerun.clone());
        let losses = tokio::sync::Mutex::new(losses);
        Ok(Self { epoch, log_id, bootstrap_seq: seq, sequencer, outbox, rerun, views, losses })
    }

    /// Everything from the first record after the snapshot to the end.
    async fn live(
        self: &Arc<Self>,
        context: &Arc<Context>,
        scheduler: &Scheduler,
        assigned: Vec<Json>,
        heartbeats: impl Future<Output = Error>,
    ) -> Result<(), Error> {
        let (fenced, mut fences) = mpsc::unbounded_channel();
        let writing = CancellationToken::new();
        let writer =
            tokio::spawn(write(self.outbox.clone(), context.clone(), fenced, writing.clone()));
        let feed = Feed {
            scheduler: scheduler.clone(),
            epoch: self.epoch,
            sequencer: self.sequencer.clone(),
            outbox: self.outbox.clone(),
            status: context.status.clone(),
            window_bytes: context.config.feed_window_bytes,
        };
        let stop = CancellationToken::new();
        let drop_fenced = async {
            while let Some(view) = fences.recv().await {
                self.views.fenced(&view).await;
            }
        };
        let demote = async {
            let mut losses = self.losses.lock().await;
            while let Some((view, declined)) = losses.recv().await {
                match declined {
                    Declined::Beyond(beyond) => self.demote(scheduler, &view, beyond).await,
                    over => self.refuse(scheduler, &view, over).await,
                }
            }
            pending::<()>().await;
        };
        let begin = async {
            self.catch_up(context).await;
            self.adopt(assigned).await;
            context.status.enter(State::Ready);
            let sweep = ttl::sweep(context, self, scheduler);
            let rules = self.follow_rules(context, scheduler);
            tokio::join!(sweep, rules, self.acks(scheduler)).2
        };
        let outcome = tokio::select! {
            () = context.shutdown.cancelled() => Ok(()),
            error = feed.run(Intake::new(self.log_id, self.bootstrap_seq)) => Err(error),
            error = heartbeats => Err(error),
            error = begin => Err(error),
            () = demote => Ok(()),
            () = drop_fenced => Err(Error::Fenced {
                epoch: self.epoch,
                reason: "the outbox stopped".into(),
            }),
            () = self.rerun.run(&*context.requery, &self.outbox, &stop) => Ok(()),
        };
        // What was applied is still written when we leave in peace; a fenced session writes no more.
        writing.cancel();
        if writer.await.is_err() {
            tracing::error!("the outbox failed");
        }
        self.outbox.end();
        if outcome.is_ok() && context.status.state() == State::Ready {
            self.last_ack(scheduler).await;
        }
        outcome
    }

    /// Waits until the engine is at least where the stored edges are, and near the log's end.
    async fn catch_up(&self, context: &Context) {
        let stored = loop {
            match context.sink.position(&context.config.ssp_id).await {
                Ok(Some((log_id, seq))) if log_id == self.log_id => break seq,
                Ok(_) => break Seq::ZERO,
                Err(error) => {
                    tracing::warn!(%error, "the position of the stored edges is asked for again");
                    context.status.report(&error);
                    context.status.waits_for(Some("database"));
                    sleep(RETRY).await;
                }
            }
        };
        context.status.waits_for(None);
        let begun = Instant::now();
        let (mut last, mut moved) = (Seq::ZERO, begun);
        loop {
            let applied = context.status.applied_seq();
            if applied > last {
                (last, moved) = (applied, Instant::now());
            }
            let at_tail = context.status.tail().is_some_and(|tail| applied >= tail);
            if applied >= stored && (at_tail || begun.elapsed() >= TAIL_PATIENCE) {
                return;
            }
            if at_tail && moved.elapsed() >= LOST_PATIENCE {
                tracing::error!(%applied, %stored, "SurrealDB holds edges of seqs that the log lost");
                return;
            }
            sleep(TICK).await;
        }
    }

    /// Takes in the views that the scheduler assigned, each until it is stored or cannot be.
    async fn adopt(&self, assigned: Vec<Json>) {
        let count = assigned.len();
        let adopt = async |body: Json| {
            let registration = match Registration::from_json(&body) {
                Ok(registration) => registration,
                Err(error) => {
                    let id = body.get("id").and_then(Json::as_str).unwrap_or("?");
                    return self.views.note_failure(id, &Refusal::Invalid(error.to_string()));
                }
            };
            loop {
                match self.views.register(registration.clone()).await {
                    Ok(()) | Err(Refusal::Ended) => return,
                    Err(Refusal::Unavailable(reason)) => {
                        tracing::warn!(view = registration.id, reason, "a view is taken in later");
                        sleep(RETRY).await;
                    }
                    Err(Refusal::Fenced) => {
                        return tracing::info!(view = registration.id, "another SSP has the view");
                    }
                    Err(refusal) => return self.views.note_failure(&registration.id, &refusal),
                }
            }
        };
        stream::iter(assigned).for_each_concurrent(ADOPTIONS, adopt).await;
        tracing::info!(count, "assigned views are up to date");
    }

    /// Has a view re-run that the engine gave up, however long the database is away.
    async fn demote(&self, scheduler: &Scheduler, view: &str, beyond: Beyond) {
        loop {
            match self.views.demote(view, beyond).await {
                Err(Refusal::Unavailable(reason)) => {
                    tracing::warn!(view, reason, "the view is re-run later");
                    sleep(RETRY).await;
                }
                Err(refusal) => return self.failed(scheduler, view, &refusal).await,
                Ok(()) => return,
            }
        }
    }

    /// Refuses a view that outgrew its budget, however long the database is away.
    async fn refuse(&self, scheduler: &Scheduler, view: &str, over: Declined) {
        loop {
            match self.views.outgrown(view).await {
                Err(Refusal::Unavailable(reason)) => {
                    tracing::warn!(view, reason, "the view is refused later");
                    sleep(RETRY).await;
                }
                Err(refusal) => return self.views.note_failure(view, &refusal),
                Ok(false) => return,
                Ok(true) => {
                    let refusal = Refusal::TooLarge(over.to_string());
                    return self.failed(scheduler, view, &refusal).await;
                }
            }
        }
    }

    /// Keeps views within the permissions of those who registered them.
    async fn follow_rules(&self, context: &Context, scheduler: &Scheduler) {
        loop {
            sleep(context.config.schema_interval).await;
            let views = match self.views.judged_by_others().await {
                Ok(views) => views,
                Err(refusal) => {
                    tracing::warn!(%refusal, "the permissions are looked at again later");
                    continue;
                }
            };
            for view in views {
                if let Err(refusal) = self.views.judge(&view).await {
                    self.failed(scheduler, &view, &refusal).await;
                }
            }
        }
    }

    /// Notes that a view could not be kept, and says so where it is gone for good.
    async fn failed(&self, scheduler: &Scheduler, view: &str, refusal: &Refusal) {
        self.views.note_failure(view, refusal);
        if let Refusal::Invalid(_) | Refusal::TooLarge(_) = refusal {
            ttl::tell(scheduler, view).await;
        }
    }

    /// Acks what is committed, until the scheduler ends the registration.
    async fn acks(&self, scheduler: &Scheduler) -> Error {
        let mut committed = self.outbox.committed();
        loop {
            let seq = *committed.borrow_and_update();
            match scheduler.ack(self.epoch, seq).await {
                Ok(()) => {
                    sleep(ACK_INTERVAL).await;
                    if committed.changed().await.is_err() {
                        pending::<()>().await;
                    }
                }
                Err(error @ Error::Fenced { .. }) => return error,
                Err(error) => {
                    tracing::warn!(%error, "the ack is sent again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn last_ack(&self, scheduler: &Scheduler) {
        let seq = *self.outbox.committed().borrow();
        let ack = timeout(LAST_ACK_MOST, scheduler.ack(self.epoch, seq));
        if !matches!(ack.await, Ok(Ok(()))) {
            tracing::info!(%seq, "the last ack was not taken; records after it come again");
        }
    }
}

/// Writes edges until told to stop, and then what is left if the service is leaving in peace.
async fn write(
    outbox: Outbox,
    context: Arc<Context>,
    fenced: mpsc::UnboundedSender<String>,
    stop: CancellationToken,
) {
    let sink = &*context.sink;
    outbox.run(sink, context.config.throttle, &fenced, &stop).await;
    if context.shutdown.is_cancelled() {
        outbox.drain(sink, &fenced, DRAIN_MOST).await;
    }
}

/// Tells the scheduler that we live, until it says that we do not.
async fn heartbeats(context: &Arc<Context>, scheduler: &Scheduler, epoch: u64) -> Error {
    let mut load = Load::new();
    loop {
        sleep(context.config.heartbeat_interval).await;
        let usage = load.measure();
        let session = context.session();
        let heartbeat = Heartbeat {
            ssp_id: context.config.ssp_id.clone(),
            timestamp: unix_seconds(),
            views: session.map_or(0, |session| session.views.count()),
            cpu_usage: usage.cpu,
            memory_usage: usage.memory,
            version: env!("CARGO_PKG_VERSION"),
            epoch,
            applied_seq: context.status.applied_seq(),
            state: context.status.state().word(),
        };
        match scheduler.heartbeat(&heartbeat).await {
            Ok(()) => {}
            Err(error @ Error::Fenced { .. }) => return error,
            Err(error) => tracing::warn!(%error, "a heartbeat was not taken"),
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
