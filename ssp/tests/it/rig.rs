//! `Rig`: one SSP between a fake scheduler and a sink in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use revenant_ssp::{Config, Running, Ssp, State};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::scheduler::FakeScheduler;
use crate::sink::{MemorySink, Oracle};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) scheduler: FakeScheduler,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) ssp: Running,
    pub(crate) stop: CancellationToken,
    pub(crate) client: reqwest::Client,
}

impl Rig {
    /// An SSP that is ready, over an empty log.
    pub(crate) async fn ready() -> Self {
        Self::over(FakeScheduler::start().await, Arc::default()).await
    }

    /// An SSP that is ready.
    pub(crate) async fn over(scheduler: FakeScheduler, sink: Arc<MemorySink>) -> Self {
        let rig = Self::start(scheduler, sink, |_| {}).await;
        rig.reached(State::Ready).await;
        rig
    }

    /// An SSP that has just been started.
    pub(crate) async fn start(
        scheduler: FakeScheduler,
        sink: Arc<MemorySink>,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::local("ssp-1", scheduler.url());
        config.heartbeat_interval = Duration::from_millis(50);
        config.throttle = Duration::from_millis(5);
        adjust(&mut config);
        let (oracle, stop) = (Arc::<Oracle>::default(), CancellationToken::new());
        oracle.log.set(scheduler.clone()).ok().expect("set once");
        let ssp = Ssp::start(config, sink.clone(), oracle.clone(), stop.clone()).await.unwrap();
        Self { scheduler, sink, oracle, ssp, stop, client: reqwest::Client::new() }
    }

    pub(crate) async fn reached(&self, state: State) {
        timeout(PATIENCE, self.ssp.reached(state)).await.expect("the state is reached");
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.ssp.addr())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let answer = self.client.post(self.url(path)).json(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.client.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    /// Registers a view and expects that it is taken in.
    pub(crate) async fn register(&self, id: &str, surql: &str, epoch: u64) {
        let answer = self.post("/view/register", &registration(id, surql, epoch)).await;
        assert_eq!(answer, (StatusCode::OK, String::new()));
    }

    /// Waits until the stored root rows of `view` are `members`.
    pub(crate) async fn shows<const N: usize>(&self, view: &str, members: [(&str, u64); N]) {
        let wanted: BTreeMap<String, u64> =
            members.iter().map(|(key, version)| (format!("t:{key}"), *version)).collect();
        self.until(|| self.sink.members(view) == wanted).await;
    }

    /// Waits until the scheduler heard an ack of `seq`.
    pub(crate) async fn acked(&self, seq: u64) {
        self.until(|| self.scheduler.inner().acks.last() == Some(&seq)).await;
    }

    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            let state = self.get("/v1/state").await;
            panic!("it does not happen; the state is {state:#}");
        }
    }

    /// Stops the service as a crash does: nothing is drained, nothing is said.
    pub(crate) async fn crash(self) -> (FakeScheduler, Arc<MemorySink>) {
        // A database that is away keeps the drain from storing anything.
        self.sink.stored().away = true;
        self.stop.cancel();
        self.ssp.stopped().await;
        self.sink.stored().away = false;
        (self.scheduler, self.sink)
    }

    /// Stops the service in peace.
    pub(crate) async fn leave(self) -> (FakeScheduler, Arc<MemorySink>) {
        self.stop.cancel();
        timeout(PATIENCE, self.ssp.stopped()).await.expect("it stops");
        (self.scheduler, self.sink)
    }
}

/// A registration as the scheduler sends it.
pub(crate) fn registration(id: &str, surql: &str, epoch: u64) -> Value {
    json!({
        "id": format!("_00_query:{id}"),
        "surql": surql,
        "params": "{}",
        "clientId": "client-1",
        "ttl": "10m",
        "lastActiveAt": "2026-05-01T10:00:00Z",
        "epoch": epoch,
    })
}
