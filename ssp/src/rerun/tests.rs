//! Re-running against a database that is slow, fails, and changes meanwhile.

use std::collections::BTreeMap;

use async_trait::async_trait;
use revenant_log::{Event, LogId, Op, SourcePos, Value};
use tokio::time::sleep;

use super::*;
use crate::outbox::Dropped;
use crate::query::rules::Rules;

/// Takes 200 ms for a run, whose result is what is so at its beginning.
#[derive(Default)]
struct Database {
    version: Mutex<u64>,
    runs: Mutex<u32>,
    failing: Mutex<u32>,
}

#[async_trait]
impl Requery for Database {
    async fn run(&self, _: &RequeryText) -> Result<Vec<RequeryMember>, RequeryError> {
        let version = *self.version.lock().unwrap();
        *self.runs.lock().unwrap() += 1;
        sleep(Duration::from_millis(200)).await;
        let mut failing = self.failing.lock().unwrap();
        if *failing > 0 {
            *failing -= 1;
            return Err(RequeryError::Unavailable("away".into()));
        }
        Ok(vec![RequeryMember { record: RecordId::new("t", "a"), version }])
    }

    async fn rules(&self) -> Result<Rules, RequeryError> {
        Ok(Rules::default())
    }
}

struct Rig {
    rerun: Rerun,
    outbox: Outbox,
    database: Arc<Database>,
    _runner: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn new(triggers: Triggers) -> Self {
        let (rerun, database) = (Rerun::default(), Arc::<Database>::default());
        let outbox = Outbox::new("ssp-1", LogId([0; 16]), Seq::ZERO, 100);
        let opening = RerunOpening {
            owned: owned(),
            text: RequeryText { surql: "SELECT * FROM t".into(), params: BTreeMap::new() },
            triggers,
            reason: "for a test".into(),
            stored: Vec::new(),
            members: Vec::new(),
        };
        drop(rerun.open(&outbox, opening));
        let runner = tokio::spawn({
            let (rerun, database) = (rerun.clone(), database.clone());
            let outbox = outbox.clone();
            async move { rerun.run(&*database, &outbox, &CancellationToken::new()).await }
        });
        Self { rerun, outbox, database, _runner: runner }
    }

    fn change(&self, table: &str, seq: u64) {
        *self.database.version.lock().unwrap() = seq;
        self.rerun.touch(Seq(seq), &Touched::of(&[record(seq, table, Some(seq))]));
    }

    fn version(&self) -> Option<u64> {
        self.rerun.members("v").unwrap().edges.first().map(|edge| edge.version)
    }

    fn runs(&self) -> u32 {
        *self.database.runs.lock().unwrap()
    }
}

fn owned() -> Owned {
    Owned { view: "v".into(), epoch: 1, table: "_00_list_ref".into() }
}

/// The row `a` of a table is written, or deleted.
fn record(seq: u64, table: &str, version: Option<u64>) -> Record {
    let event = Event {
        op: if version.is_some() { Op::Update } else { Op::Delete },
        table: table.into(),
        key: "a".into(),
        version,
        body: version.map(|_| Value::Object(BTreeMap::new())),
        before: None,
        source: SourcePos::UNKNOWN,
        stale: false,
    };
    Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: 0, event }
}

fn on(table: &str) -> Triggers {
    Triggers { tables: Some([table.to_owned()].into()), timed: false }
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_run_calls_for_another() {
    let rig = Rig::new(on("t"));
    sleep(Duration::from_secs(1)).await;
    rig.change("t", 1);
    sleep(Duration::from_secs(2)).await;
    rig.change("t", 2);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.version(), Some(2));
    let runs = rig.runs();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.runs(), runs, "it rests when changes pause");
}

#[tokio::test(start_paused = true)]
async fn changes_of_other_tables_call_for_no_run() {
    let rig = Rig::new(on("t"));
    sleep(Duration::from_secs(1)).await;
    let runs = rig.runs();
    rig.change("other", 1);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.runs(), runs);
}

#[tokio::test(start_paused = true)]
async fn a_query_whose_tables_cannot_be_told_runs_after_every_change() {
    let rig = Rig::new(Triggers::default());
    sleep(Duration::from_secs(1)).await;
    rig.change("anything", 7);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.version(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_steady_stream_of_changes_does_not_keep_results_back() {
    let rig = Rig::new(on("t"));
    for seq in 1..=3000 {
        rig.change("t", seq);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(rig.version().is_some_and(|version| version > 2000), "{:?}", rig.version());
    // A run takes 0.2 s, and rests ten times as long.
    assert!((10..=16).contains(&rig.runs()), "{} runs in 30 s", rig.runs());
}

#[tokio::test(start_paused = true)]
async fn the_edge_of_a_record_that_was_deleted_and_came_back_is_written_again() {
    let rig = Rig::new(on("t"));
    rig.change("t", 1);
    sleep(Duration::from_secs(5)).await;
    // All that was written so far is stored.
    rig.outbox.forget("v", Dropped::Released);
    let nothing = ViewChange { view: "v".into(), edges: Vec::new(), row_count: 1 };
    drop(rig.outbox.open(owned(), nothing));
    let records = [record(2, "t", None), record(3, "t", Some(1))];
    rig.rerun.touch(Seq(2), &Touched::of(&records));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.version(), Some(1), "the same row, of the same version");
    assert_eq!(rig.outbox.counters().1, 1, "its edge waits to be written");
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_repeated_and_its_reason_shown() {
    let rig = Rig::new(on("t"));
    *rig.database.failing.lock().unwrap() = 3;
    rig.change("t", 1);
    sleep(Duration::from_millis(300)).await;
    assert!(rig.rerun.reports()[0].last_error.is_some());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.version(), Some(1));
    assert!(rig.rerun.reports()[0].last_error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_query_that_depends_on_the_time_runs_by_itself() {
    let rig = Rig::new(Triggers { timed: true, ..on("t") });
    sleep(Duration::from_secs(1)).await;
    let runs = rig.runs();
    sleep(TIMER * 3).await;
    assert!((2..=4).contains(&(rig.runs() - runs)));
}
