//! A snapshot is held for an SSP that takes it, and for no other.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use revenant_fanout::Error;
use revenant_fanout::assign::Balance;
use revenant_fanout::member::Registration;
use revenant_fanout::registry::Registry;
use revenant_fanout::snapshot::{Item, Receiver, Sent};
use revenant_fanout::store::Store;
use revenant_log::{
    Event, LogId, Op, RawRecord, Record, Seq, SnapshotItem, SourcePos, Value, encode_record,
};
use revenant_replica::{Leases, Replica, ReplicaConfig};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::rig::PATIENCE;

/// Tables of a row each, and so pages.
const TABLES: u64 = 12;
/// Items that are ready before they are taken, less room for a last word.
const AHEAD: usize = 2;

/// A replica with [`TABLES`] tables.
fn replica(path: &Path) -> Replica {
    let (replica, _) = Replica::open(path, LogId([1; 16]), &ReplicaConfig::default()).unwrap();
    let record = |seq| {
        let event = Event {
            op: Op::Create,
            table: format!("t{seq:02}").as_str().into(),
            key: 1.into(),
            version: None,
            body: Some(Value::Object([("n".to_owned(), Value::Int(1))].into())),
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        };
        let record =
            Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: 0, event };
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        bytes
    };
    let records: Vec<_> = (1..=TABLES).map(record).collect();
    let raw = (1..).zip(&records).map(|(seq, bytes)| RawRecord::read(Seq(seq), bytes).unwrap());
    replica.apply(&raw.collect::<Vec<_>>()).unwrap();
    replica
}

/// A snapshot that is being sent, under leases of `term`.
struct Sending {
    leases: Arc<Leases>,
    items: mpsc::Receiver<Item>,
    sender: JoinHandle<Result<Sent, Error>>,
}

impl Sending {
    async fn begin(dir: &Path, term: Duration) -> Self {
        let (store, saved) = Store::open(&dir.join("state")).unwrap();
        let now = tokio::time::Instant::now();
        let registry = Arc::new(Registry::new(Arc::new(store), &saved, Balance::default(), now));
        let (url, version) = ("http://ssp".to_owned(), "1".to_owned());
        let registration =
            Registration { url, version, epoch: 0, env: Default::default(), lapsed: false };
        let ssp_id = "ssp".to_owned();
        let (registration, _) = registry.register(&ssp_id, registration, Seq::ZERO).await.unwrap();
        let (outbox, items) = mpsc::channel(AHEAD + 1);
        let leases = Arc::new(Leases::new(term));
        let (epoch, held) = (registration.epoch, Arc::clone(&leases));
        let receiver = Receiver { registry, ssp_id, epoch, leases: held, items: outbox };
        let replica = replica(&dir.join("replica"));
        let sender = spawn_blocking(move || receiver.send(replica.snapshot()?, 1));
        Self { leases, items, sender }
    }

    /// Waits until no more fits.
    async fn wait_full(&self) {
        let begun = Instant::now();
        while self.items.len() < AHEAD {
            assert!(begun.elapsed() < PATIENCE, "{} items", self.items.len());
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn next(&mut self) -> Option<SnapshotItem> {
        let item = timeout(PATIENCE, self.items.recv()).await.expect("it comes");
        let framed: Bytes = item?.unwrap();
        Some(SnapshotItem::decode(&framed.slice(4..)).unwrap())
    }

    async fn sent(self) -> Sent {
        timeout(PATIENCE, self.sender).await.expect("it stops").unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_nobody_takes_is_let_go_of_and_who_comes_back_finds_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut sending = Sending::begin(dir.path(), Duration::from_millis(200)).await;
    let begun = Instant::now();
    while !sending.sender.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "its thread is held for ever");
        sleep(Duration::from_millis(5)).await;
    }
    assert!(sending.leases.held().is_empty());
    assert!(matches!(sending.next().await, Some(SnapshotItem::Begin { .. })));
    assert!(matches!(sending.next().await, Some(SnapshotItem::Rows { .. })));
    let Some(SnapshotItem::Ended { reason }) = sending.next().await else { panic!("no reason") };
    assert_eq!(reason, "nothing of it was taken for 0.2 s: bootstrap again");
    assert!(sending.next().await.is_none());
    assert_eq!(sending.sent().await, Sent::Ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_was_ended_gives_no_more_rows() {
    let dir = tempfile::tempdir().unwrap();
    let term = Duration::from_secs(3600);
    let mut sending = Sending::begin(dir.path(), term).await;
    sending.wait_full().await;
    // As the watch does when the deadline has come.
    assert_eq!(sending.leases.expire(Instant::now() + term).len(), 1);
    assert!(sending.leases.held().is_empty(), "the rows are free, though the sender still waits");
    let mut rows = 0;
    loop {
        match sending.next().await.expect("a reason comes first") {
            SnapshotItem::Begin { .. } => {}
            SnapshotItem::Rows { .. } => rows += 1,
            SnapshotItem::Ended { reason } => break assert!(reason.contains("bootstrap again")),
            SnapshotItem::End { .. } => panic!("it came to its end"),
        }
    }
    assert!(rows <= AHEAD, "{rows} pages after the lease ended");
    assert_eq!(sending.sent().await, Sent::Ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_renews_a_lease_until_the_snapshot_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut sending = Sending::begin(dir.path(), Duration::from_secs(3600)).await;
    let mut deadlines = Vec::new();
    let mut rows = 0;
    loop {
        // Each item that is taken makes room for one more, which renews the lease.
        if rows + (AHEAD as u64) < TABLES {
            sending.wait_full().await;
            deadlines.push(sending.leases.held()[0].deadline);
        }
        match sending.next().await.expect("an end comes first") {
            SnapshotItem::Begin { tables, .. } => assert_eq!(tables.len() as u64, TABLES),
            SnapshotItem::Rows { rows: page, .. } => rows += page.len() as u64,
            SnapshotItem::End { rows: all } => break assert_eq!((rows, all), (TABLES, TABLES)),
            SnapshotItem::Ended { reason } => panic!("{reason}"),
        }
    }
    let first = deadlines[0];
    assert!(deadlines.is_sorted() && *deadlines.last().unwrap() > first, "{deadlines:?}");
    let leases = Arc::clone(&sending.leases);
    assert_eq!(sending.sent().await, Sent::Whole);
    assert!(leases.held().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_left_ends_the_lease() {
    let dir = tempfile::tempdir().unwrap();
    let mut sending = Sending::begin(dir.path(), Duration::from_secs(3600)).await;
    assert!(matches!(sending.next().await, Some(SnapshotItem::Begin { .. })));
    sending.items.close();
    let leases = Arc::clone(&sending.leases);
    assert_eq!(sending.sent().await, Sent::Left);
    assert!(leases.held().is_empty());
}
