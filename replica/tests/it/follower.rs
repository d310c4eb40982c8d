//! The follower keeps up, and says why when it cannot.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use revenant_log::{
    ErrorKind, Event, EventLog, Key, Log, LogConfig, Op, Seq, SourcePos, Transaction, Value,
    Witnesses,
};
use revenant_replica::{Error, Pace, Replica, ReplicaConfig, follow};

use crate::model::{Stream, apply, records, rows, stream};

fn open_log(dir: &Path) -> Log {
    let config = LogConfig { segment_bytes: 64 << 10, frame_bytes: 2 << 10, ..LogConfig::new(dir) };
    Log::open(config, Witnesses::none()).unwrap().0
}

fn open_replica(path: &Path, log: &Log) -> Arc<Replica> {
    Arc::new(Replica::open(path, log.id(), &ReplicaConfig::default()).unwrap().0)
}

/// Runs a follower while `work` runs, and stops it then.
async fn followed(
    replica: &Arc<Replica>,
    log: &Log,
    work: impl AsyncFnOnce(),
) -> Result<(), Error> {
    followed_at(Pace::default(), replica, log, work).await
}

async fn followed_at(
    pace: Pace,
    replica: &Arc<Replica>,
    log: &Log,
    work: impl AsyncFnOnce(),
) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let log: Arc<dyn EventLog> = Arc::new(log.clone());
    let (replica, stopped) = (Arc::clone(replica), Arc::clone(&stop));
    let follower = std::thread::spawn(move || follow(&replica, &log, pace, &stopped, |_| {}));
    work().await;
    stop.store(true, Ordering::Release);
    follower.join().unwrap()
}

async fn caught_up(replica: &Replica, log: &Log) {
    while replica.applied_seq() < log.durable_seq() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// What a follower leaves when it stops is durable.
fn assert_reopens_at_the_end(replica: Arc<Replica>, log: &Log) {
    let path = replica.path().to_owned();
    assert!(Arc::into_inner(replica).is_some(), "someone still has it");
    assert_eq!(open_replica(&path, log).applied_seq(), log.durable_seq());
}

async fn append(log: &Log, stream: &Stream) {
    for transactions in stream.transactions.chunks(7) {
        log.append(transactions.to_vec(), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_taken_while_rows_change_equal_the_model_at_their_seq() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let replica = open_replica(&dir.path().join("replica"), &log);
    let stream = Arc::new(stream(11, 600));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [1, 3, 50]
        .into_iter()
        .map(|page| {
            let (replica, log) = (Arc::clone(&replica), log.clone());
            let (stream, done) = (Arc::clone(&stream), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut between = 0;
                while !done.load(Ordering::Acquire) {
                    let snapshot = replica.snapshot().unwrap();
                    let seq = snapshot.seq();
                    assert_eq!(Some(&rows(&snapshot, page)), stream.rows.get(&seq), "seq {seq}");
                    between += usize::from(seq > Seq::ZERO && seq < log.durable_seq());
                }
                between
            })
        })
        .collect();
    followed(&replica, &log, async || {
        append(&log, &stream).await;
        caught_up(&replica, &log).await;
    })
    .await
    .unwrap();
    done.store(true, Ordering::Release);
    let between: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert_reopens_at_the_end(replica, &log);
    assert!(between > 0, "no snapshot was taken while rows changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_a_batch_is_applied_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig::new(dir.path().join("log"));
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    let replica = open_replica(&dir.path().join("replica"), &log);
    let event = |n: i64| Event {
        op: Op::Create,
        table: "blob".into(),
        key: Key::Int(n),
        version: None,
        body: Some(Value::Bytes(vec![7; 512 << 10])),
        before: None,
        source: SourcePos { versionstamp: 5, ordinal: 0 },
        stale: false,
    };
    let transaction =
        Transaction { time_us: 3, feed_high: 5, events: (0..40).map(event).collect() };
    followed(&replica, &log, async || {
        log.append(vec![transaction], None).await.unwrap();
        caught_up(&replica, &log).await;
    })
    .await
    .unwrap();
    let snapshot = replica.snapshot().unwrap();
    assert_eq!((snapshot.seq(), snapshot.feed_high(), snapshot.time_us()), (Seq(40), 5, 3));
    assert_eq!(snapshot.tables().unwrap()[0].rows, 40);
    let page = snapshot.page("blob", None, 100, 1 << 20).unwrap();
    assert_eq!(page.len(), 1, "two rows are more than 1 MiB as stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lacks_what_the_replica_needs_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    append(&log, &stream(2, 2_000)).await;
    let first = loop {
        let first = log.trim(log.durable_seq()).await.unwrap().first_seq;
        if first > Seq::FIRST.0 {
            break Seq(first); // a full segment is sealed, off the path of appends
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let replica = open_replica(&dir.path().join("replica"), &log);
    let error = followed(&replica, &log, async || {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Restore);
    assert!(error.to_string().contains("clone the tables again"), "{error}");
    assert!(matches!(error, Error::Trimmed { applied: Seq(0), first: f } if f == first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_ahead_of_its_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let replica = open_replica(&dir.path().join("replica"), &log);
    apply(&replica, &records(&stream(2, 5).transactions, Seq::FIRST)).unwrap();
    let error = followed(&replica, &log, async || {}).await.unwrap_err();
    assert!(matches!(error, Error::Ahead { last: Seq(0), .. }), "{error}");
    let path = replica.path().to_owned();
    drop(replica);
    Replica::move_aside(&path, &error.to_string()).unwrap();
    assert_eq!(open_replica(&path, &log).applied_seq(), Seq::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_come_by_time_and_by_bytes_and_at_the_end() {
    let long = Duration::from_secs(3600);
    let by_time =
        Pace { checkpoint_every: Duration::from_millis(20), checkpoint_bytes: usize::MAX };
    let by_bytes = Pace { checkpoint_every: long, checkpoint_bytes: 1 };
    let at_the_end = Pace { checkpoint_every: long, checkpoint_bytes: usize::MAX };
    for (pace, soon) in [(by_time, true), (by_bytes, true), (at_the_end, false)] {
        let dir = tempfile::tempdir().unwrap();
        let log = open_log(&dir.path().join("log"));
        let path = dir.path().join("replica");
        let replica = open_replica(&path, &log);
        let stream = stream(3, 300);
        followed_at(pace, &replica, &log, async || {
            append(&log, &stream).await;
            caught_up(&replica, &log).await;
            let begun = Instant::now();
            while soon && replica.checkpoint_seq() == Seq::ZERO {
                assert!(begun.elapsed() < Duration::from_secs(20), "no checkpoint: {pace:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if !soon {
                assert_eq!(replica.checkpoint_seq(), Seq::ZERO, "too early: {pace:?}");
            }
            // What a kill leaves has at least the checkpoint.
            let at_least = replica.checkpoint_seq();
            let killed = dir.path().join("killed");
            std::fs::copy(&path, &killed).unwrap();
            let killed = open_replica(&killed, &log);
            let found = killed.applied_seq();
            assert!(found >= at_least, "{found} after {at_least}");
            assert_eq!(rows(&killed.snapshot().unwrap(), 9), stream.rows[&found]);
        })
        .await
        .unwrap();
        assert_reopens_at_the_end(replica, &log);
    }
}

/// A disk that does not answer a sync while it hangs.
#[derive(Clone, Debug, Default)]
struct HangingDisk {
    bytes: Arc<InMemoryBackend>,
    state: Arc<(Mutex<Hanging>, Condvar)>,
}

#[derive(Debug, Default)]
struct Hanging {
    hangs: bool,
    /// Somebody waits for it.
    felt: bool,
}

impl HangingDisk {
    fn hang(&self, hangs: bool) {
        self.state.0.lock().unwrap().hangs = hangs;
        self.state.1.notify_all();
    }

    async fn felt(&self) {
        while !self.state.0.lock().unwrap().felt {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl StorageBackend for HangingDisk {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.0.lock().unwrap();
        state.felt |= state.hangs;
        drop(self.state.1.wait_while(state, |state| state.hangs).unwrap());
        self.bytes.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes.write(offset, data)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_disk_hangs_holds_up_no_append_and_catches_up_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(&dir.path().join("log"));
    let disk = HangingDisk::default();
    let replica = Replica::open_on(disk.clone(), log.id(), &ReplicaConfig::default()).unwrap();
    let replica = Arc::new(replica);
    let pace = Pace { checkpoint_every: Duration::ZERO, checkpoint_bytes: 1 };
    let (first, rest) = (stream(4, 50), stream(5, 3_000));
    followed_at(pace, &replica, &log, async || {
        disk.hang(true);
        append(&log, &first).await;
        disk.felt().await;
        let held_at = replica.applied_seq();
        append(&log, &rest).await;
        assert!(replica.applied_seq() <= held_at, "it hung meanwhile");
        assert!(log.durable_seq() > held_at, "and the log went on");
        disk.hang(false);
        caught_up(&replica, &log).await;
    })
    .await
    .unwrap();
    let mut all = first;
    all.transactions.extend(rest.transactions);
    let model = Replica::open_on(InMemoryBackend::new(), log.id(), &ReplicaConfig::default());
    let model = model.unwrap();
    apply(&model, &records(&all.transactions, Seq::FIRST)).unwrap();
    let [found, wanted] = [&*replica, &model].map(|one| rows(&one.snapshot().unwrap(), 9));
    assert_eq!(found, wanted);
}
