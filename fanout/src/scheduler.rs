//! `Scheduler`: opens the parts, runs the tasks, drains on stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use revenant_log::{DirArchive, EventLog, Log, LogConfig, Witnesses};
use revenant_replica::{Leases, Pace, Snapshot};
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::backend::Backends;
use crate::capture::{Capture, Doorbell, Health};
use crate::claim::Claims;
use crate::clone::Cloner;
use crate::config::{Config, Transport};
use crate::deliver::{Caller, Delivery};
use crate::error::Error;
use crate::http;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::receipt;
use crate::reconcile::{Drift, Reconciler};
use crate::registry::Registry;
use crate::retention::Retention;
use crate::rows::Rows;
use crate::snapshot::watch_leases;
use crate::source::Source;
use crate::store::{Saved, Store};
use crate::tables::Tables;

/// What there is to say before the database has answered for the first time.
const NOT_YET: &str = "the database has not answered yet";

/// Wait before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The tasks may take this long to stop; after it the log is closed under them.
const STOP_MOST: Duration = Duration::from_secs(6);

/// An SSP that was silent for so many heartbeat timeouts and owns nothing is forgotten.
const FORGET_TIMEOUTS: u32 = 240;

/// Where the scheduler is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Tables are loaded for the first time: no rows and no views are offered yet.
    #[default]
    Cloning,
    /// Rows and views are offered.
    Ready,
    /// It cannot go on: why.
    Failed(String),
}

/// Answers statements of SSPs that load their rows at `/proxy/query`.
pub trait QueryRows: Send + Sync + 'static {
    /// The result of `statement` over `rows`, as flattened JSON. Blocks.
    ///
    /// # Errors
    /// Why it cannot be answered; the caller gets the text with 400.
    fn query(&self, statement: &str, rows: &Snapshot) -> Result<Json, String>;
}

/// What every part shares.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) rows: Arc<Rows>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) claims: Claims,
    pub(crate) caller: Caller,
    pub(crate) backends: Backends,
    pub(crate) doorbell: Doorbell,
    pub(crate) capture: watch::Receiver<Health>,
    pub(crate) loaded: watch::Receiver<u64>,
    pub(crate) drift: watch::Receiver<Drift>,
    pub(crate) phase: watch::Sender<Phase>,
    /// Why the tables cannot be looked at now; so from the start until the database has answered.
    pub(crate) trouble: watch::Sender<Option<String>>,
    pub(crate) queries: Option<Arc<dyn QueryRows>>,
    pub(crate) listening: SocketAddr,
    pub(crate) begun: Instant,
    pub(crate) stop: CancellationToken,
}

/// The scheduler.
#[derive(Default)]
pub struct Scheduler {
    queries: Option<Arc<dyn QueryRows>>,
}

/// A scheduler that runs.
pub struct Running {
    address: SocketAddr,
    phase: watch::Receiver<Phase>,
    log: Arc<dyn EventLog>,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is in its life.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.log)
    }

    /// Waits until it has stopped and everything accepted is on disk.
    ///
    /// # Errors
    /// Why it stopped, if nobody asked for it.
    pub async fn wait(self) -> Result<(), Error> {
        self.task.await.unwrap_or(Err(Error::Ended("the scheduler")))
    }
}

impl Scheduler {
    /// Answers `/proxy/query` with `queries`.
    #[must_use]
    pub fn with_queries(queries: Arc<dyn QueryRows>) -> Self {
        Self { queries: Some(queries) }
    }

    /// Starts a scheduler that captures `source`, until `shutdown`.
    ///
    /// On return it listens and its log is open; the database need not answer yet.
    ///
    /// # Errors
    /// Another process has the data ([`Error::Locked`]), the log refuses to open, or the address is taken.
    pub async fn start(
        config: Config,
        source: Arc<dyn Source>,
        shutdown: CancellationToken,
    ) -> Result<Running, Error> {
        Self::default().run(config, source, shutdown).await
    }

    /// As [`Scheduler::start`].
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub async fn run(
        self,
        config: Config,
        source: Arc<dyn Source>,
        shutdown: CancellationToken,
    ) -> Result<Running, Error> {
        for remark in &config.remarks {
            tracing::warn!("settings: {remark}");
        }
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| Error::Listen { address: config.listen, source })?;
        let address = listener
            .local_addr()
            .map_err(|source| Error::Listen { address: config.listen, source })?;
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || Opened::open(&opening)).await;
        let opened = opened.map_err(|_| Error::Ended("opening the log"))??;
        let scheduler_log: Arc<dyn EventLog> = Arc::new(opened.log.clone());
        let parts = Parts::new(config, source, opened, self.queries, address, &shutdown).await?;
        tracing::info!(%address, log = %scheduler_log.id(), "the scheduler listens");
        if parts.context.config.secret.is_none() {
            tracing::warn!(%address, "SPKY_AUTH_SECRET is not set: whoever reaches this address is let in");
        }
        let phase = parts.context.phase.subscribe();
        let task = tokio::spawn(parts.run(listener, shutdown));
        Ok(Running { address, phase, log: scheduler_log, task })
    }
}

/// What is on disk.
struct Opened {
    lock: Lock,
    log: Log,
    store: Arc<Store>,
    saved: Saved,
    rows: Arc<Rows>,
    journal: Arc<Journal>,
}

impl Opened {
    /// Opens everything; blocks while the log recovers.
    fn open(config: &Config) -> Result<Self, Error> {
        if let Some(parent) = config.log_dir.parent() {
            make_dir(parent)?;
        }
        make_dir(&config.replica_dir)?;
        let lock = Lock::take(&config.lock_path())?;
        let (store, saved) = Store::open(&config.state_path())?;
        let mut witnesses = Witnesses::none();
        for (ssp_id, cursor) in &saved.cursors {
            witnesses = witnesses.with(format!("cursor {ssp_id}"), cursor.acked_seq);
        }
        if let Some(receipt) = saved.meta.receipt(&config.state_path())? {
            witnesses = witnesses.with_receipt("the receipt in the state store", receipt);
        }
        let mut settings = LogConfig::new(&config.log_dir);
        settings.segment_bytes = config.segment_bytes;
        settings.ballast_bytes = config.ballast_bytes;
        settings.scrub_bytes_per_s = config.scrub_bytes_per_s;
        settings.compress_level = config.compress_level;
        settings.archive =
            config.archive_dir.as_ref().map(|dir| Arc::new(DirArchive::new(dir)) as _);
        settings.frame_bytes = settings
            .frame_bytes
            .min(usize::try_from(config.segment_bytes / 8).unwrap_or(usize::MAX));
        let (log, report) = Log::open(settings, witnesses)?;
        tracing::info!(id = %log.id(), durable_seq = %log.durable_seq(), clean = report.clean, "log open");
        if !saved.meta.is_of(log.id()) {
            let reason = format!(
                "it belongs to log {}, and {} holds log {}: restore that log, or move this file away",
                saved.meta.log_id.as_deref().unwrap_or("?"),
                config.log_dir.display(),
                log.id()
            );
            return Err(Error::Store { action: "open", path: config.state_path(), reason });
        }
        let shared: Arc<dyn EventLog> = Arc::new(log.clone());
        let journal =
            Arc::new(Journal::open(Arc::clone(&shared), crate::capture::micros(config.window))?);
        let pace = Pace { checkpoint_every: config.checkpoint_interval, ..Pace::default() };
        let rows = Arc::new(Rows::open(config.replica_path(), shared, pace)?);
        Ok(Self { lock, log, store: Arc::new(store), saved, rows, journal })
    }
}

fn make_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::Io {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Everything that runs.
struct Parts {
    context: Arc<Context>,
    capture: Arc<Capture>,
    cloner: Arc<Cloner>,
    source: Arc<dyn Source>,
    store: Arc<Store>,
    log: Log,
    begun_us: Option<i64>,
    _lock: Lock,
}

impl Parts {
    async fn new(
        config: Config,
        source: Arc<dyn Source>,
        opened: Opened,
        queries: Option<Arc<dyn QueryRows>>,
        listening: SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<Self, Error> {
        let Opened { lock, log, store, saved, rows, journal } = opened;
        let shared: Arc<dyn EventLog> = Arc::new(log.clone());
        let registry = Registry::new(Arc::clone(&store), &saved, config.balance, Instant::now());
        let id = log.id().to_string();
        if saved.meta.log_id.as_ref() != Some(&id) {
            registry.note(|meta| meta.log_id = Some(id)).await?;
        }
        // Once offered, rows and views are offered whether the database answers or not.
        let phase = if saved.meta.offered { Phase::Ready } else { Phase::Cloning };
        let tables = Arc::new(Tables::new(Arc::clone(&store), saved.tables));
        let (s, j, t) = (Arc::clone(&source), Arc::clone(&journal), Arc::clone(&tables));
        let capture = Arc::new(Capture::new(s, j, t, config.window));
        let passes = (config.transport == Transport::Changefeed).then(|| capture.passes());
        let (drift, drift_seen) = watch::channel(Drift::default());
        let reconciler = Arc::new(Reconciler {
            source: Arc::clone(&source),
            journal: Arc::clone(&journal),
            rows: Arc::clone(&rows),
            passes: passes.clone(),
            page_rows: config.page_rows,
            drift,
        });
        let (loaded, loaded_seen) = watch::channel(0);
        let cloner = Arc::new(Cloner {
            source: Arc::clone(&source),
            journal: Arc::clone(&journal),
            tables: Arc::clone(&tables),
            reconciler,
            passes,
            page_rows: config.page_rows,
            loaded,
        });
        let context = Arc::new(Context {
            log: shared,
            rows,
            leases: Arc::new(Leases::new(config.bootstrap_timeout)),
            registry: Arc::new(registry),
            tables,
            claims: Claims::new(Arc::clone(&journal)),
            journal,
            caller: Caller::new(config.secret.clone())?,
            backends: Backends::new(config.backends.clone()),
            doorbell: capture.doorbell(),
            capture: capture.health(),
            loaded: loaded_seen,
            drift: drift_seen,
            phase: watch::Sender::new(phase),
            trouble: watch::Sender::new(Some(NOT_YET.to_owned())),
            queries,
            listening,
            begun: Instant::now(),
            stop: shutdown.child_token(),
            config,
        });
        let begun_us = saved.meta.begun_us;
        Ok(Self { context, capture, cloner, source, store, log, begun_us, _lock: lock })
    }

    /// Runs every task until the stop, or until one that must not end does.
    async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        let stop = self.context.stop.clone();
        let mut tasks = JoinSet::new();
        self.spawn(&mut tasks, listener);
        let mut outcome = Ok(());
        while let Some(ended) = tokio::select! {
            () = stop.cancelled() => None,
            ended = tasks.join_next() => ended,
        } {
            let error = match ended {
                Ok(Ok(name)) if !stop.is_cancelled() => Error::Ended(name),
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error,
                Err(_) => Error::Ended("a task"),
            };
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the scheduler stops");
            self.context.phase.send_replace(Phase::Failed(error.to_string()));
            outcome = Err(error);
            break;
        }
        stop.cancel();
        let drained = timeout(STOP_MOST, async { while tasks.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!("some tasks were cut off at the stop");
            tasks.abort_all();
        }
        drop(shutdown);
        let closed = self.close().await;
        outcome.and(closed)
    }

    fn spawn(&self, tasks: &mut JoinSet<Result<&'static str, Error>>, listener: TcpListener) {
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            http::serve(listener, context).await;
            Ok("the listener")
        });
        let feed = Beginning {
            context: Arc::clone(&self.context),
            source: Arc::clone(&self.source),
            known_us: self.begun_us,
        };
        let (capture, cloner) = (Arc::clone(&self.capture), Arc::clone(&self.cloner));
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            let stop = context.stop.clone();
            let begun_us = tokio::select! {
                () = stop.cancelled() => return Ok("the capture"),
                begun_us = feed.time() => begun_us?,
            };
            if context.config.transport == Transport::Http {
                let stopped = stop.cancelled();
                let keep = keep_tables(&context, &cloner);
                tokio::select! { () = stopped => {}, () = keep => {} }
                return Ok("the capture");
            }
            tokio::select! {
                outcome = capture.run(begun_us, &stop) => outcome?,
                () = capture.listen(&stop) => {}
                () = keep_tables(&context, &cloner) => {}
            }
            Ok("the capture")
        });
        let context = Arc::clone(&self.context);
        let cloner = Arc::clone(&self.cloner);
        tasks.spawn(async move {
            context.claims.run(&cloner.reconciler, &context.stop).await;
            Ok("the claims")
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            delivery(&context).run(&context.stop).await;
            Ok("the delivery")
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            retention(&context).run(&context.stop).await;
            Ok("the retention")
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            receipt::keep(Arc::clone(&context.log), &context.registry, &context.stop).await;
            Ok("the receipts")
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = watch_leases(&context.leases) => {}
            }
            Ok("the leases")
        });
        let context = Arc::clone(&self.context);
        tasks.spawn(async move {
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = context.backends.watch(context.config.backend_interval) => {}
            }
            Ok("the backends")
        });
    }

    /// Makes everything durable and lets go of the files.
    async fn close(self) -> Result<(), Error> {
        let (rows, store) = (Arc::clone(&self.context.rows), Arc::clone(&self.store));
        let closed = tokio::task::spawn_blocking(move || {
            rows.close();
            store.close();
        });
        if closed.await.is_err() {
            tracing::error!("close the replica and the state");
        }
        self.log.close().await?;
        tracing::info!("stopped; everything accepted is on disk");
        Ok(())
    }
}

/// Where in the feed a log without changes begins.
struct Beginning {
    context: Arc<Context>,
    source: Arc<dyn Source>,
    known_us: Option<i64>,
}

impl Beginning {
    /// Asks the source's clock until it answers; once in the life of a log, the answer is kept.
    async fn time(&self) -> Result<i64, Error> {
        loop {
            match self.source.now().await {
                Ok(now) => {
                    self.context.trouble.send_replace(None);
                    if let Some(known_us) = self.known_us {
                        return Ok(known_us);
                    }
                    let begun_us = now.time_us;
                    self.context.registry.note(|meta| meta.begun_us = Some(begun_us)).await?;
                    return Ok(begun_us);
                }
                Err(error) => wait_for(&self.context, &error.into()).await,
            }
        }
    }
}

/// Keeps every table loaded, and offers rows once they are there.
async fn keep_tables(context: &Context, cloner: &Cloner) {
    let mut compared = Instant::now();
    loop {
        if let Err(error) = offer(context, cloner).await {
            wait_for(context, &error).await;
            continue;
        }
        context.trouble.send_replace(None);
        let due = context.config.reconcile_interval.map(|every| compared + every);
        tokio::select! {
            () = context.tables.asked() => {}
            () = sleep(context.config.schema_interval) => {}
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            compared = Instant::now();
            if let Err(error) = context.tables.compare_all().await {
                tracing::error!(%error, "have all rows compared");
            }
        }
    }
}

async fn offer(context: &Context, cloner: &Cloner) -> Result<(), Error> {
    cloner.work().await?;
    if *context.phase.borrow() == Phase::Cloning {
        // The position after the last page: the feed has to pass it, and the rows have to follow.
        if let Some(passes) = &cloner.passes {
            passes.whole().await;
        }
        context.rows.wait_for(context.log.durable_seq()).await;
        let (seq, loaded) = (context.rows.applied_seq(), *context.loaded.borrow());
        tracing::info!(%seq, loaded, "rows and views are offered");
        context.registry.note(|meta| meta.offered = true).await?;
        context.phase.send_replace(Phase::Ready);
    }
    Ok(())
}

async fn wait_for(context: &Context, error: &Error) {
    let text = error.to_string();
    if context.trouble.borrow().as_ref() != Some(&text) {
        tracing::warn!(%error, "waiting for the database");
    }
    context.trouble.send_replace(Some(text));
    sleep(RETRY).await;
}

fn delivery(context: &Context) -> Delivery {
    let forget = context.config.heartbeat_timeout * FORGET_TIMEOUTS;
    Delivery {
        registry: Arc::clone(&context.registry),
        caller: context.caller.clone(),
        heartbeat_timeout: context.config.heartbeat_timeout,
        poll_interval: context.config.poll_interval,
        forget_after: forget.max(context.config.bootstrap_timeout),
    }
}

fn retention(context: &Context) -> Retention {
    Retention {
        log: Arc::clone(&context.log),
        registry: Arc::clone(&context.registry),
        rows: Arc::clone(&context.rows),
        journal: Arc::clone(&context.journal),
        window: context.config.window,
        keep: context.config.keep,
        max_bytes: context.config.max_log_bytes,
    }
}
