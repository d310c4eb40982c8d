//! Capturing, cloning and comparing: whatever happens, the log holds every change once and adds up to
//! the database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use revenant_fanout::{Error, Scheduler, Transport};
use revenant_log::{Key, Op, Record};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::rig::{Life, PATIENCE, quick, records, records_in, state_of};
use crate::sim::Sim;

/// Numbers from a seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Writes transactions until told to stop; some become visible late.
async fn writer(sim: Sim, mut dice: Dice, stop: Arc<AtomicBool>, tables: u64) {
    while !stop.load(Ordering::SeqCst) {
        let mut writes = BTreeMap::new();
        for _ in 0..=dice.below(3) {
            let table = ["a", "b", "c"][usize::try_from(dice.below(tables)).unwrap()];
            let key = Key::Int(i64::try_from(dice.below(150)).unwrap());
            let n = i64::try_from(dice.below(1 << 40)).unwrap();
            writes.insert((table, key), (dice.below(4) > 0).then_some(n));
        }
        let writes = writes.into_iter().map(|((table, key), n)| (table, key, n)).collect();
        if let Some(open) = sim.begin(writes) {
            let late = if dice.below(4) == 0 { dice.below(45) } else { 0 };
            sleep(Duration::from_millis(late)).await;
            open.commit();
        }
        sleep(Duration::from_micros(dice.below(4000))).await;
    }
}

fn writers(
    sim: &Sim,
    count: u64,
    seed: u64,
    stop: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let writer = |n| tokio::spawn(writer(sim.clone(), Dice(seed * 77 + n + 1), stop.clone(), 3));
    (0..count).map(writer).collect()
}

/// Events in the log by the versionstamp of their transaction, without those that are not from the feed.
fn captured(records: &[Record]) -> BTreeMap<u64, usize> {
    let mut captured = BTreeMap::new();
    for record in records.iter().filter(|record| record.event.source.versionstamp > 0) {
        *captured.entry(record.event.source.versionstamp).or_default() += 1;
    }
    captured
}

/// Waits until every transaction of the feed from the first captured on is in the log, and checks that it
/// is there once and whole. That the rows are equal says less: a late change may have been overtaken.
async fn assert_each_once(life: &Life, sim: &Sim) {
    let begun = Instant::now();
    loop {
        let captured = captured(&records(life.running.log().as_ref()));
        let first = captured.keys().next().copied().unwrap_or(u64::MAX);
        let feed = sim.feed();
        let expected: BTreeMap<u64, usize> =
            feed.range(first..).map(|(at, transaction)| (*at, transaction.events.len())).collect();
        if begun.elapsed() > PATIENCE || expected.keys().all(|at| captured.contains_key(at)) {
            let missing: Vec<_> = expected.keys().filter(|at| !captured.contains_key(at)).collect();
            assert!(missing.is_empty(), "versionstamps that are missing: {missing:?}");
            assert!(captured == expected, "more or fewer events: {captured:?}, not {expected:?}");
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_in_the_log_once_with_late_ones_and_outages() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.set_page(7);
    for table in ["a", "b", "c"] {
        sim.define(table, true);
    }
    let life = Life::ready(quick(dir.path()), &sim).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = writers(&sim, 8, 1, &stop);
    for _ in 0..3 {
        sleep(Duration::from_millis(600)).await;
        sim.set_down(true);
        sleep(Duration::from_millis(150)).await;
        sim.set_down(false);
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    life.wait_equal(&sim).await;
    let state = life.get("/v1/state").await;
    assert!(state["capture"]["late"].as_u64().unwrap() > 0, "no change came late: {state}");
    assert!(state["capture"]["duplicates"].as_u64().unwrap() > 0);
    assert_eq!(state["capture"]["drift"], 0);
    assert_each_once(&life, &sim).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_many_windows_after_the_start_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    for table in ["a", "b", "c"] {
        sim.define(table, true);
    }
    let life = Life::ready(quick(dir.path()), &sim).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = writers(&sim, 2, 5, &stop);
    for _ in 0..2 {
        // Long enough for sweeps of the whole window to have forgotten what is old.
        sleep(quick(dir.path()).window * 6).await;
        sim.set_down(true);
        sleep(Duration::from_millis(100)).await;
        sim.set_down(false);
    }
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    life.wait_equal(&sim).await;
    assert_each_once(&life, &sim).await;
    life.stop().await;
}

#[test]
fn a_clone_under_writes_and_crashes_adds_up_to_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    for table in ["a", "b", "c"] {
        sim.define(table, true);
        for key in 0..150 {
            sim.write(vec![(table, Key::Int(key), Some(key))]);
        }
    }
    std::thread::sleep(Duration::from_millis(500)); // older than the window: only the clone has them
    let writing =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = {
        let _inside = writing.enter();
        writers(&sim, 6, 9, &stop)
    };
    let mut dice = Dice(4711);
    for _ in 0..12 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let lived = Duration::from_millis(5 + dice.below(150));
        let life = runtime.block_on(async {
            let life = Life::start(quick(dir.path()), &sim).await;
            sleep(lived).await;
            life
        });
        // Every task ends where it waits, as in a crash.
        drop(runtime);
        drop(life);
    }
    stop.store(true, Ordering::SeqCst);
    writing.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        let life = Life::ready(quick(dir.path()), &sim).await;
        life.wait_equal(&sim).await;
        let records = records(life.running.log().as_ref());
        assert!(records.iter().any(|record| record.event.op == Op::Load));
        assert_each_once(&life, &sim).await;
        life.stop().await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_it_is_stopped_is_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.set_page(5);
    sim.define("a", true);
    let life = Life::ready(quick(dir.path()), &sim).await;
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    life.wait_equal(&sim).await;
    life.stop().await;
    for n in 0..60 {
        sim.write(vec![("a", Key::Int(n % 7), Some(n))]);
    }
    sleep(Duration::from_millis(1500)).await; // far more than the window
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    assert_each_once(&life, &sim).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_compared_when_the_feed_does_not_reach_back() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    for key in 0..50 {
        sim.write(vec![("a", Key::Int(key), Some(key))]);
    }
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    life.stop().await;
    sim.write(vec![
        ("a", Key::Int(3), None),
        ("a", Key::Int(4), Some(-4)),
        ("a", Key::Int(99), Some(9)),
    ]);
    sleep(Duration::from_millis(1600)).await;
    sim.lose_feed();
    let life = Life::ready(quick(dir.path()), &sim).await;
    sim.write(vec![("a", Key::Int(5), Some(-5))]);
    life.wait_equal(&sim).await;
    let records = records(life.running.log().as_ref());
    let repaired = records.iter().filter(|record| record.event.op == Op::Reconcile).count();
    assert_eq!(repaired, 3);
    assert_eq!(life.get("/v1/state").await["capture"]["gaps"], 1);
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    let life = Life::ready(quick(dir.path()), &sim).await;
    // Rows from before its changes are in the feed are loaded.
    sim.define("b", false);
    sim.write(vec![("b", Key::Int(1), Some(1)), ("b", Key::Int(2), Some(2))]);
    sim.define("b", true);
    sim.write(vec![("a", Key::Int(1), Some(1)), ("b", Key::Int(1), Some(3))]);
    life.wait_equal(&sim).await;
    // A removed table gives no deletes.
    sim.remove("a");
    life.wait_equal(&sim).await;
    let state = life.get("/v1/state").await;
    assert!(state["tables"].get("a").is_none(), "{state}");
    assert_eq!(state["tables"]["b"]["state"], "captured");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_a_feed_is_named_and_takes_posts() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", false);
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    let health = life.get("/health").await;
    assert_eq!(health["tables_without_feed"]["a"], "ALTER TABLE a CHANGEFEED 3d");
    sim.write(vec![("a", Key::Int(2), Some(2))]);
    let post = json!({ "table": "a", "op": "CREATE", "id": "a:2", "record": { "n": 2 } });
    assert_eq!(life.post("/ingest", post).await.0, 200);
    life.wait_equal(&sim).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posted_event_is_on_disk_and_taken_back_when_it_did_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    let mut config = quick(dir.path());
    config.transport = Transport::Http;
    let log_dir = config.log_dir.clone();
    let life = Life::ready(config, &sim).await;
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    let event = |id: &str| json!({ "table": "a", "op": "create", "id": id, "record": { "n": 1, "_00_rv": 1 } });
    assert_eq!(life.post("/ingest", event("a:1")).await, (200, String::new()));
    // It may have been looked at by now, which appends more.
    assert_eq!(records_in(&log_dir)[0].event.op, Op::Create);
    // This one's transaction is rolled back after the event was sent.
    assert_eq!(life.post("/ingest", event("a:2")).await.0, 200);
    let (status, text) = life
        .post(
            "/ingest",
            json!({
                "table": "zz", "op": "create", "id": "zz:1", "record": {},
            }),
        )
        .await;
    assert_eq!((status, text.as_str()), (404, "Unknown table: zz"));
    life.wait_equal(&sim).await;
    let records = records(life.running.log().as_ref());
    assert!(records.iter().any(|record| record.event.op == Op::Reconcile));
    life.stop().await;
    assert_eq!(state_of(&records_in(&log_dir)), sim.rows());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_down_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    sim.set_down(true);
    let life = Life::start(quick(dir.path()), &sim).await;
    let down = "the database is unavailable: it is down";
    let refused = |health: &Json| health["trouble"]["tables"] == down;
    let health = life.wait_health("its tables cannot be asked for", refused).await;
    assert_eq!(health["waiting_for"], "database");
    assert_eq!(health["capture"]["connected"], false);
    assert_eq!(life.get("/health/ready").await["status"], "cloning");
    sim.set_down(false);
    life.wait_ready().await;
    life.wait_equal(&sim).await;
    life.wait_health("nothing is waited for", |health| health["waiting_for"].is_null()).await;
    sim.set_down(true);
    let waiting =
        |health: &Json| health["waiting_for"] == "database" && health["trouble"]["capture"] == down;
    life.wait_health("it is away again", waiting).await;
    life.stop().await;
    // What was offered once is offered while the database is away.
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_scheduler_on_the_same_data_is_refused_with_the_owners_pid() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    let life = Life::start(quick(dir.path()), &sim).await;
    let second =
        Scheduler::start(quick(dir.path()), Arc::new(sim.clone()), CancellationToken::new()).await;
    let Err(error @ Error::Locked { .. }) = second else { panic!("it was let in") };
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_finds_what_no_doorbell_announced() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.set_deaf(true);
    let life = Life::ready(quick(dir.path()), &sim).await;
    let late = sim.begin(vec![("a", Key::Int(1), Some(1))]).unwrap();
    sim.write(vec![("a", Key::Int(2), Some(2))]);
    life.wait_equal(&sim).await;
    sleep(Duration::from_millis(150)).await;
    late.commit();
    life.wait_equal(&sim).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_cloned_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    for table in ["a", "b", "c", "d"] {
        sim.define(table, true);
        for n in 0..50 {
            sim.write(vec![(table, Key::Int(n), Some(n))]);
        }
    }
    // One after the other would wait here for ever.
    sim.meet(4);
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    life.stop().await;
}
