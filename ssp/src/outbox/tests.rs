//! The outbox against a sink that fails in every way a sink may.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use revenant_log::RecordId;

use super::*;
use crate::edge::{Edge, QueryRow};

const LOG: LogId = LogId([7; 16]);
const THROTTLE: Duration = Duration::from_millis(100);

/// Stores batches; fails as told.
#[derive(Default)]
struct Sink {
    batches: Mutex<Vec<(Instant, EdgeBatch)>>,
    unavailable: AtomicU32,
    /// Stores the batch, and says that it did not.
    forgetful: AtomicBool,
    fenced: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
}

#[async_trait]
impl EdgeSink for Sink {
    async fn commit(&self, batch: &EdgeBatch) -> Result<(), SinkError> {
        sleep(Duration::from_millis(1)).await;
        let has = |name: &Option<String>| {
            name.clone().filter(|name| batch.views.iter().any(|write| write.view == *name))
        };
        if let Some(view) = has(&lock(&self.fenced)) {
            return Err(SinkError::Fenced { view });
        }
        if has(&lock(&self.refused)).is_some() {
            return Err(SinkError::Refused("no".into()));
        }
        let least = |left: u32| left.checked_sub(1);
        if self.unavailable.fetch_update(Ordering::SeqCst, Ordering::SeqCst, least).is_ok() {
            return Err(SinkError::Unavailable("away".into()));
        }
        lock(&self.batches).push((Instant::now(), batch.clone()));
        if self.forgetful.swap(false, Ordering::SeqCst) {
            return Err(SinkError::Unavailable("the answer was lost".into()));
        }
        Ok(())
    }

    async fn position(&self, _: &str) -> Result<Option<(LogId, Seq)>, SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn claim(&self, _: &QueryRow) -> Result<(), SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn edges(&self, _: &str, _: &str) -> Result<Vec<Edge>, SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn release(&self, _: &str, _: &str, _: u64) -> Result<(), SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn expired(&self, _: &str) -> Result<Vec<String>, SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn release_expired(&self, _: &str, _: &str, _: u64) -> Result<bool, SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn missing(&self, _: &[String]) -> Result<Vec<String>, SinkError> {
        unreachable!("the outbox only commits")
    }
    async fn ensure_edge_table(&self, _: &str, _: Option<&str>) -> Result<(), SinkError> {
        unreachable!("the outbox only commits")
    }
}

struct Rig {
    outbox: Outbox,
    sink: Arc<Sink>,
    fences: mpsc::UnboundedReceiver<String>,
    stop: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

impl Rig {
    fn new(edges_most: usize) -> Self {
        let outbox = Outbox::new("ssp-1", LOG, Seq::ZERO, edges_most);
        let (sink, stop) = (Arc::new(Sink::default()), CancellationToken::new());
        let (fenced, fences) = mpsc::unbounded_channel();
        let writer = tokio::spawn({
            let (outbox, sink, stop) = (outbox.clone(), sink.clone(), stop.clone());
            async move { outbox.run(&*sink, THROTTLE, &fenced, &stop).await }
        });
        Self { outbox, sink, fences, stop, writer }
    }

    async fn open(&self, view: &str) {
        let opened = self.outbox.open(owned(view), change(view, &[]));
        assert_eq!(opened.await.unwrap(), Ok(()));
    }

    async fn committed(&self, seq: u64) {
        self.outbox.committed().wait_for(|committed| committed.0 >= seq).await.unwrap();
    }

    /// The edges that are stored for `view`, with their versions.
    fn stored(&self, view: &str) -> BTreeMap<String, u64> {
        let mut edges = BTreeMap::new();
        for (_, batch) in &*lock(&self.sink.batches) {
            let writes = batch.views.iter().filter(|write| write.view == view);
            for write in writes.flat_map(|write| &write.edges) {
                match write {
                    EdgeWrite::Put(edge) => {
                        edges.insert(edge.id.clone(), edge.version);
                    }
                    EdgeWrite::Delete { id, .. } => {
                        edges.remove(id);
                    }
                }
            }
        }
        edges
    }

    fn batches(&self) -> usize {
        lock(&self.sink.batches).len()
    }
}

fn owned(view: &str) -> Owned {
    Owned { view: view.into(), epoch: 1, table: "_00_list_ref".into() }
}

fn put(id: &str, version: u64) -> (usize, EdgeWrite) {
    let record = RecordId::new("t", id);
    let id = id.to_owned();
    (0, EdgeWrite::Put(Edge { id, record, version, parent: None, parent_rel: None }))
}

fn delete(id: &str) -> (usize, EdgeWrite) {
    (0, EdgeWrite::Delete { id: id.into(), record: RecordId::new("t", id) })
}

fn change(view: &str, edges: &[(usize, EdgeWrite)]) -> ViewChange {
    ViewChange { view: view.into(), edges: edges.to_vec(), row_count: edges.len() as u64 }
}

fn versions<const N: usize>(edges: [(&str, u64); N]) -> BTreeMap<String, u64> {
    edges.into_iter().map(|(id, version)| (id.to_owned(), version)).collect()
}

#[tokio::test(start_paused = true)]
async fn changes_within_the_throttle_become_one_batch_and_stay_net() {
    let rig = Rig::new(100);
    rig.open("v").await;
    let before = rig.batches();
    for version in 1..=50 {
        let edges = [put("a", version), put("b", version)];
        rig.outbox.push(Some(Seq(version)), vec![change("v", &edges)]);
    }
    rig.outbox.push(Some(Seq(51)), vec![change("v", &[delete("b")])]);
    rig.committed(51).await;
    assert_eq!(rig.batches() - before, 1);
    assert_eq!(rig.stored("v"), versions([("a", 50)]));
}

#[tokio::test(start_paused = true)]
async fn batches_keep_the_throttle_between_them() {
    let rig = Rig::new(100);
    rig.open("v").await;
    for seq in 1..=5 {
        rig.outbox.push(Some(Seq(seq)), vec![change("v", &[put("a", seq)])]);
        rig.committed(seq).await;
    }
    let batches = lock(&rig.sink.batches);
    assert!(batches.windows(2).all(|pair| pair[1].0 - pair[0].0 >= THROTTLE));
}

#[tokio::test(start_paused = true)]
async fn an_outage_drops_nothing_and_holds_back_the_committed_seq() {
    let rig = Rig::new(100);
    rig.open("v").await;
    rig.sink.unavailable.store(20, Ordering::SeqCst);
    for seq in 1..=9 {
        rig.outbox.push(Some(Seq(seq)), vec![change("v", &[put(&format!("e{seq}"), seq)])]);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*rig.outbox.committed().borrow(), Seq::ZERO);
    }
    assert!(rig.outbox.counters().0.trouble.is_some());
    rig.committed(9).await;
    assert_eq!(rig.stored("v").len(), 9);
    assert_eq!(rig.outbox.counters().1, 0);
    assert!(rig.outbox.counters().0.trouble.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_answer_was_lost_is_merged_with_newer_changes() {
    let rig = Rig::new(100);
    rig.open("v").await;
    rig.sink.forgetful.store(true, Ordering::SeqCst);
    rig.outbox.push(Some(Seq(1)), vec![change("v", &[put("a", 1), put("b", 1)])]);
    sleep(Duration::from_millis(102)).await;
    rig.outbox.push(Some(Seq(2)), vec![change("v", &[delete("a"), put("c", 2)])]);
    rig.committed(2).await;
    assert_eq!(rig.stored("v"), versions([("b", 1), ("c", 2)]));
    assert_eq!(rig.outbox.counters().1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_view_is_dropped_and_the_others_are_written() {
    let mut rig = Rig::new(100);
    rig.open("mine").await;
    rig.open("lost").await;
    *lock(&rig.sink.fenced) = Some("lost".into());
    let changes = vec![change("mine", &[put("a", 1)]), change("lost", &[put("b", 1)])];
    rig.outbox.push(Some(Seq(1)), changes);
    rig.committed(1).await;
    assert_eq!(rig.fences.recv().await.as_deref(), Some("lost"));
    assert_eq!(rig.stored("mine"), versions([("a", 1)]));
    assert!(rig.stored("lost").is_empty());
    rig.outbox.push(Some(Seq(2)), vec![change("lost", &[put("b", 2)])]);
    rig.committed(2).await;
    assert_eq!(rig.outbox.counters().1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_view_holds_back_the_seq_but_not_the_other_views() {
    let rig = Rig::new(100);
    rig.open("good").await;
    rig.open("bad").await;
    *lock(&rig.sink.refused) = Some("bad".into());
    let changes = vec![change("good", &[put("a", 1)]), change("bad", &[put("b", 1)])];
    rig.outbox.push(Some(Seq(1)), changes);
    sleep(Duration::from_secs(1)).await;
    rig.outbox.push(Some(Seq(2)), vec![change("good", &[put("c", 2)])]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.stored("good"), versions([("a", 1), ("c", 2)]));
    assert_eq!(*rig.outbox.committed().borrow(), Seq::ZERO);
    *lock(&rig.sink.refused) = None;
    rig.committed(2).await;
    assert_eq!(rig.stored("bad"), versions([("b", 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_makes_the_feed_wait_until_the_database_is_back() {
    let rig = Rig::new(2);
    rig.open("v").await;
    rig.sink.unavailable.store(3, Ordering::SeqCst);
    rig.outbox.push(Some(Seq(1)), vec![change("v", &[put("a", 1), put("b", 1)])]);
    assert!(timeout(Duration::from_millis(150), rig.outbox.room()).await.is_err());
    rig.outbox.room().await;
    assert_eq!(rig.stored("v").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn parents_precede_children_and_deletes_come_first() {
    let rig = Rig::new(100);
    rig.open("v").await;
    let child = |id: &str| (1, put(id, 1).1);
    let edges = [child("a"), put("z", 1), delete("m"), child("b")];
    rig.outbox.push(Some(Seq(1)), vec![change("v", &edges)]);
    rig.committed(1).await;
    let batches = lock(&rig.sink.batches);
    let ids: Vec<&str> =
        batches.last().unwrap().1.views[0].edges.iter().map(EdgeWrite::id).collect();
    assert_eq!(ids, ["m", "z", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_attempt_and_the_drain_writes_the_rest() {
    let rig = Rig::new(100);
    rig.open("v").await;
    sleep(THROTTLE).await;
    rig.outbox.push(Some(Seq(1)), vec![change("v", &[put("a", 1)])]);
    tokio::task::yield_now().await;
    rig.outbox.push(Some(Seq(2)), vec![change("v", &[put("b", 2)])]);
    rig.stop.cancel();
    rig.writer.await.unwrap();
    let (fenced, _fences) = mpsc::unbounded_channel();
    rig.outbox.drain(&*rig.sink, &fenced, Duration::from_secs(4)).await;
    assert_eq!(*rig.outbox.committed().borrow(), Seq(2));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_the_end() {
    let rig = Rig::new(100);
    rig.sink.unavailable.store(u32::MAX, Ordering::SeqCst);
    let opened = rig.outbox.open(owned("v"), change("v", &[put("a", 1)]));
    rig.outbox.end();
    assert_eq!(opened.await.unwrap(), Err(Dropped::Released));
    let late = rig.outbox.open(owned("v"), change("v", &[put("a", 1)]));
    assert_eq!(late.await.unwrap(), Err(Dropped::Released));
}
