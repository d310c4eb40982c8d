//! What the tests share: a scheduler over a simulated database, and what its log adds up to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use revenant_fanout::{Config, Phase, Running, Scheduler};
use revenant_log::{EventLog, Key, ReadOnlyLog, Record, Seq, Value};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::sim::Sim;

/// How long anything may take in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings that make a test quick.
pub(crate) fn quick(dir: &Path) -> Config {
    let mut config = Config::local(dir);
    config.window = Duration::from_millis(400);
    config.schema_interval = Duration::from_millis(100);
    config.poll_interval = Duration::from_millis(50);
    config.heartbeat_timeout = Duration::from_millis(1000);
    config.page_rows = 20;
    config
}

/// A scheduler that runs.
pub(crate) struct Life {
    pub(crate) running: Running,
    stop: CancellationToken,
}

impl Life {
    pub(crate) async fn start(config: Config, sim: &Sim) -> Self {
        let stop = CancellationToken::new();
        let running = Scheduler::start(config, Arc::new(sim.clone()), stop.clone()).await.unwrap();
        Self { running, stop }
    }

    /// One that offers rows and views.
    pub(crate) async fn ready(config: Config, sim: &Sim) -> Self {
        let life = Self::start(config, sim).await;
        life.wait_ready().await;
        life
    }

    pub(crate) async fn wait_ready(&self) {
        let mut phase = self.running.phase();
        let ready = phase.wait_for(|phase| *phase == Phase::Ready);
        timeout(PATIENCE, ready).await.expect("it gets ready").unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address())
    }

    pub(crate) async fn get(&self, path: &str) -> Json {
        reqwest::get(self.url(path)).await.unwrap().json().await.unwrap()
    }

    /// Asks for health until it is as expected, and returns it.
    pub(crate) async fn wait_health(&self, what: &str, expected: impl Fn(&Json) -> bool) -> Json {
        let begun = Instant::now();
        loop {
            let health = self.get("/health").await;
            if expected(&health) {
                return health;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {health}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn post(&self, path: &str, body: Json) -> (u16, String) {
        let answer = reqwest::Client::new().post(self.url(path)).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running.wait()).await.expect("it stops").unwrap();
    }

    /// Waits until the log and the replica hold everything the database has.
    pub(crate) async fn wait_equal(&self, sim: &Sim) {
        let log = self.running.log();
        let begun = Instant::now();
        loop {
            let applied = self.get("/metrics").await["scheduler"]["snapshot_seq"].as_u64();
            let records = records(log.as_ref());
            if state_of(&records) == sim.rows() && applied == Some(log.durable_seq().0) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "log and database differ: {}",
                difference(&records, sim)
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn difference(records: &[Record], sim: &Sim) -> String {
    let (have, want) = (state_of(records), sim.rows());
    let wrong = want.iter().filter(|(row, body)| have.get(*row) != Some(*body));
    let extra = have.keys().filter(|row| !want.contains_key(*row));
    format!(
        "wrong {:?}, too much {:?}",
        wrong.take(3).collect::<Vec<_>>(),
        extra.take(3).collect::<Vec<_>>()
    )
}

/// All records of a log.
pub(crate) fn records(log: &dyn EventLog) -> Vec<Record> {
    let mut all = Vec::new();
    let mut next = log.first_seq();
    while next <= log.durable_seq() {
        let batch = log.read(next, 1 << 20).unwrap();
        all.extend(batch.decode_records().unwrap());
        next = batch.last_seq().next();
    }
    all
}

/// All records of the log in `dir`.
pub(crate) fn records_in(dir: &Path) -> Vec<Record> {
    let log = ReadOnlyLog::open(dir).unwrap();
    log.records(Seq::FIRST).map(|located| located.unwrap().record).collect()
}

/// What records add up to.
pub(crate) fn state_of(records: &[Record]) -> BTreeMap<(String, Key), Value> {
    let mut rows = BTreeMap::new();
    for record in records.iter().filter(|record| !record.event.stale) {
        let event = &record.event;
        let row = (event.table.to_string(), event.key.clone());
        match &event.body {
            Some(body) => drop(rows.insert(row, body.clone())),
            None => drop(rows.remove(&row)),
        }
    }
    rows
}
