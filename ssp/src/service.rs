//! `Ssp`: the service as a whole. It listens, registers with the scheduler as often as it takes, runs a
//! session at a time, and drains on stop.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::edge::EdgeSink;
use crate::error::{Error, ErrorKind};
use crate::http;
use crate::requery::Requery;
use crate::scheduler::Scheduler;
use crate::session::{self, Session};
use crate::status::{State, Status};

/// First wait before registering again; doubled up to [`BACKOFF_MOST`].
const BACKOFF_LEAST: Duration = Duration::from_millis(100);

/// Longest wait between two registrations.
const BACKOFF_MOST: Duration = Duration::from_secs(5);

/// A session that lasted this long was a good one: the next registration does not wait.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// The whole stop takes no longer.
const STOP_MOST: Duration = Duration::from_secs(8);

/// What every part of the service shares.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) scheduler: Scheduler,
    pub(crate) sink: Arc<dyn EdgeSink>,
    pub(crate) requery: Arc<dyn Requery>,
    pub(crate) status: Arc<Status>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) listening: SocketAddr,
    session: RwLock<Option<Arc<Session>>>,
}

impl Context {
    /// The session that is under way, once its snapshot is loaded.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_session(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }
}

/// The SSP service.
#[derive(Debug)]
pub struct Ssp;

/// A service that was started.
pub struct Running {
    context: Arc<Context>,
    work: JoinHandle<()>,
    server: JoinHandle<()>,
}

impl Ssp {
    /// Listens, and starts to register, bootstrap and follow the log in the background.
    ///
    /// On return `/health` is answered. Neither the scheduler nor the database need be up: both are
    /// waited for. Cancelling `shutdown` stops the service within 8 seconds.
    ///
    /// # Errors
    /// The address cannot be listened on, or the scheduler's URL cannot be called.
    pub async fn start(
        config: Config,
        sink: Arc<dyn EdgeSink>,
        requery: Arc<dyn Requery>,
        shutdown: CancellationToken,
    ) -> Result<Running, Error> {
        for variable in &config.without_effect {
            tracing::warn!(variable, "this variable has no effect here");
        }
        let addr = config.listen;
        let listener =
            TcpListener::bind(addr).await.map_err(|source| Error::Listen { addr, source })?;
        let listening = listener.local_addr().map_err(|source| Error::Listen { addr, source })?;
        let scheduler = Scheduler::new(&config.scheduler, config.secret.clone(), &config.ssp_id)?;
        tracing::info!(%listening, ssp_id = config.ssp_id, auth = config.secret.is_some(), "SSP");
        let context = Arc::new(Context {
            config,
            scheduler,
            sink,
            requery,
            status: Arc::new(Status::new()),
            shutdown,
            listening,
            session: RwLock::default(),
        });
        let server = tokio::spawn(http::serve(listener, context.clone()));
        let work = tokio::spawn(supervise(context.clone()));
        Ok(Running { context, work, server })
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.context.listening
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.context.status.state()
    }

    /// Waits until it enters `state`.
    pub async fn reached(&self, state: State) {
        // The sender lives as long as `self`.
        drop(self.context.status.states().wait_for(|now| *now == state).await);
    }

    /// Waits until the service has stopped, at most 8 seconds after `shutdown` was cancelled.
    pub async fn stopped(self) {
        let Self { context, work, server } = self;
        let (stop_work, stop_server) = (work.abort_handle(), server.abort_handle());
        context.shutdown.cancelled().await;
        let both = async { tokio::join!(work, server) };
        if timeout(STOP_MOST, both).await.is_err() {
            tracing::warn!("stopped before everything was drained");
            stop_work.abort();
            stop_server.abort();
        }
    }
}

/// Registers and runs sessions until the stop.
async fn supervise(context: Arc<Context>) {
    let mut backoff = BACKOFF_LEAST;
    while !context.shutdown.is_cancelled() {
        context.status.begin();
        let begun = Instant::now();
        let Err(error) = attempt(&context).await else { return };
        context.status.report(&error);
        if matches!(error, Error::Unreachable { .. } | Error::Scheduler { .. }) {
            context.status.waits_for(Some("scheduler"));
        }
        if error.kind() == ErrorKind::Input {
            context.status.enter(State::Failed);
            tracing::error!(%error, "an operator must act; registering again meanwhile");
        } else {
            tracing::warn!(%error, "registering again");
        }
        if begun.elapsed() >= GOOD_SESSION {
            backoff = BACKOFF_LEAST;
        }
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

/// One registration and its session.
async fn attempt(context: &Arc<Context>) -> Result<(), Error> {
    let url = advertised(context);
    let registered = tokio::select! {
        () = context.shutdown.cancelled() => return Ok(()),
        registered = context.scheduler.register(&url) => registered?,
    };
    let (registered, native) = registered;
    context.status.waits_for(None);
    tracing::info!(
        epoch = native.epoch,
        snapshot_seq = registered.snapshot_seq,
        tables = registered.table_hashes.len(),
        views = native.views.len(),
        "registered"
    );
    session::run(context, &context.scheduler, native).await
}

/// The URL under which the scheduler reaches us: as configured, else by host name where we listen on
/// every address, as upstream does.
fn advertised(context: &Context) -> String {
    if let Some(url) = &context.config.advertise {
        return url.clone();
    }
    let addr = context.listening;
    if !addr.ip().is_unspecified() {
        return format!("http://{addr}");
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("http://{host}:{}", addr.port())
}
