//! Rebuilds from nothing, from a checkpoint, to a seq, to a time, and after an interruption equal the model.

use std::path::{Path, PathBuf};

use revenant_log::{
    ErrorKind, Event, Key, Log, LogConfig, LogId, Op, Seq, SourcePos, Transaction, Value, Witnesses,
};
use revenant_replica::{
    Error, RebuildConfig, RebuildReport, Replica, ReplicaConfig, Snapshot, check_points, rebuild,
    seq_at,
};
use revenant_testdata::history::Reader;
use revenant_testdata::record::transactions;
use tempfile::TempDir;

use crate::model::{Stream, apply, records, rows, stream};

/// A log on disk, closed, in several segments.
struct Work {
    dir: TempDir,
    log_id: LogId,
    stream: Stream,
    last: Seq,
}

async fn work(seed: u64, transactions: usize) -> Work {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        segment_bytes: 64 << 10,
        frame_bytes: 2 << 10,
        ..LogConfig::new(dir.path().join("log"))
    };
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    let stream = stream(seed, transactions);
    for some in stream.transactions.chunks(5) {
        log.append(some.to_vec(), None).await.unwrap();
    }
    let (log_id, last) = (log.id(), log.durable_seq());
    log.close().await.unwrap();
    Work { dir, log_id, stream, last }
}

impl Work {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rebuild(&self, out: &Path, config: &RebuildConfig) -> Result<RebuildReport, Error> {
        rebuild(&self.path("log"), out, config, |_| {})
    }

    /// A replica file as of the transaction that ends at or before `seq`, and that seq.
    fn replica_at(&self, path: &Path, seq: u64) -> Seq {
        let end = self.end_at(seq);
        let (replica, _) = Replica::open(path, self.log_id, &ReplicaConfig::default()).unwrap();
        let all = records(&self.stream.transactions, Seq::FIRST);
        apply(&replica, &all[..usize::try_from(end.0).unwrap()]).unwrap();
        replica.save().unwrap();
        end
    }

    fn end_at(&self, seq: u64) -> Seq {
        *self.stream.rows.range(..=Seq(seq)).next_back().unwrap().0
    }

    fn assert_rows_at(&self, out: &Path, seq: Seq) {
        let snapshot = Snapshot::open(out).unwrap();
        assert_eq!((snapshot.seq(), snapshot.log_id()), (seq, self.log_id));
        assert_eq!(rows(&snapshot, 7), self.stream.rows[&seq]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_seq_gives_the_rows_of_the_last_whole_transaction() {
    let work = work(31, 120).await;
    for seq in (0..=work.last.0 + 3).step_by(13) {
        let out = work.path(&format!("at-{seq}"));
        let report = work.rebuild(&out, &RebuildConfig { to: Some(Seq(seq)), from: None }).unwrap();
        let end = work.end_at(seq);
        assert_eq!((report.seq, report.after_seq, report.records), (end.0, 0, end.0));
        work.assert_rows_at(&out, end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_and_what_follows_it_in_the_log_give_the_same_rows() {
    let work = work(32, 100).await;
    for (at, to) in [(0, 90), (40, 41), (77, 77), (50, 10_000)] {
        let from = work.path(&format!("from-{at}"));
        let checkpoint = work.replica_at(&from, at);
        let before = std::fs::read(&from).unwrap();
        let out = work.path(&format!("{at}-to-{to}"));
        let config = RebuildConfig { to: Some(Seq(to)), from: Some(from.clone()) };
        let report = work.rebuild(&out, &config).unwrap();
        assert_eq!(report.after_seq, checkpoint.0);
        work.assert_rows_at(&out, work.end_at(to));
        assert_eq!(std::fs::read(&from).unwrap(), before, "the checkpoint stays as it is");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_does_not_fit_is_refused_and_leaves_nothing() {
    let work = work(33, 60).await;
    let (from, out) = (work.path("from"), work.path("out"));
    let checkpoint = work.replica_at(&from, 50);
    let config = |to| RebuildConfig { to: Some(to), from: Some(from.clone()) };
    let error = work.rebuild(&out, &config(Seq(20))).unwrap_err();
    assert!(matches!(error, Error::Beyond { checkpoint: c, .. } if c == checkpoint), "{error}");
    assert_eq!(error.kind(), ErrorKind::FixInput);
    let held = Replica::open(&from, work.log_id, &ReplicaConfig::default()).unwrap();
    let error = work.rebuild(&out, &config(Seq(60))).unwrap_err();
    assert!(matches!(error, Error::Locked(_)), "{error}");
    drop(held);
    let other = work.path("other");
    drop(Replica::open(&other, LogId([1; 16]), &ReplicaConfig::default()).unwrap());
    let foreign = RebuildConfig { to: None, from: Some(other) };
    let error = work.rebuild(&out, &foreign).unwrap_err();
    assert!(error.to_string().contains("belongs to log"), "{error}");
    let names: Vec<_> = std::fs::read_dir(work.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("out"))
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rebuild_is_gone_on_with_unless_it_does_not_fit() {
    let work = work(34, 80).await;
    let out = work.path("out");
    let unfinished = work.path("out.unfinished");
    let half = work.replica_at(&unfinished, work.last.0 / 2);
    let report = work.rebuild(&out, &RebuildConfig::default()).unwrap();
    assert_eq!((report.after_seq, report.records), (half.0, work.last.0 - half.0));
    work.assert_rows_at(&out, work.last);
    assert!(!unfinished.exists());
    std::fs::remove_file(&out).unwrap();
    // It has more than is asked for.
    work.replica_at(&unfinished, work.last.0);
    let report = work.rebuild(&out, &RebuildConfig { to: Some(half), from: None }).unwrap();
    assert_eq!(report.after_seq, 0);
    work.assert_rows_at(&out, half);
    std::fs::remove_file(&out).unwrap();
    // It is damaged.
    std::fs::write(&unfinished, b"no database").unwrap();
    assert_eq!(work.rebuild(&out, &RebuildConfig::default()).unwrap().after_seq, 0);
    work.assert_rows_at(&out, work.last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_gives_what_was_committed_until_then() {
    let work = work(35, 50).await;
    // The model's transaction n is committed at n microseconds.
    let ends: Vec<Seq> = work.stream.rows.keys().skip(1).copied().collect();
    for (time_us, end) in (0..).zip(&ends) {
        assert_eq!(seq_at(&work.path("log"), time_us).unwrap(), *end);
    }
    assert_eq!(seq_at(&work.path("log"), -1).unwrap(), Seq::ZERO);
    assert_eq!(seq_at(&work.path("log"), i64::MAX).unwrap(), work.last);
    let out = work.path("out");
    let to = seq_at(&work.path("log"), 20).unwrap();
    let report = work.rebuild(&out, &RebuildConfig { to: Some(to), from: None }).unwrap();
    assert_eq!(report.time_us, 20);
    work.assert_rows_at(&out, ends[20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilds_to_many_points_equal_a_model_that_is_told_the_log() {
    let work = work(36, 150).await;
    let report = check_points(&work.path("log"), work.dir.path(), 22).unwrap();
    assert_eq!(report.wrong, Vec::<String>::new());
    assert_eq!((report.seqs, report.times, report.records), (22, 22, work.last.0));
    assert!(report.rows > 44, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilds_of_a_real_history_equal_a_model_at_every_point() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let history: Vec<_> = Reader::small().collect::<Result<_, _>>().unwrap();
    let (log, _) = Log::open(LogConfig::new(&log_dir), Witnesses::none()).unwrap();
    log.append(transactions(&history), None).await.unwrap();
    let last = log.durable_seq();
    log.close().await.unwrap();
    let report = check_points(&log_dir, dir.path(), 20).unwrap();
    assert_eq!(report.wrong, Vec::<String>::new());
    assert_eq!((report.seqs, report.times, report.records), (20, 20, last.0));
    assert!(report.rows > 10_000, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_transactions_larger_than_a_chunk_is_cut_at_any_seq() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let config = LogConfig { frame_bytes: 64 << 10, ..LogConfig::new(&log_dir) };
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    // Each of about three chunks' bytes, in many frames; rows change in every one.
    let event = |transaction: i64, n: i64| Event {
        op: Op::Update,
        table: "blob".into(),
        key: Key::Int(n % 7),
        version: None,
        body: Some(Value::Bytes(vec![u8::try_from(transaction + n).unwrap(); 256 << 10])),
        before: None,
        source: SourcePos::UNKNOWN,
        stale: false,
    };
    for number in 0..4 {
        let events = (0..12).map(|n| event(number, n)).collect();
        log.append(vec![Transaction { time_us: number, feed_high: 0, events }], None)
            .await
            .unwrap();
    }
    log.close().await.unwrap();
    for to in [1, 11, 12, 13, 24, 35, 36, 47, 48] {
        let out = dir.path().join(format!("to-{to}"));
        let config = RebuildConfig { to: Some(Seq(to)), from: None };
        let report = rebuild(&log_dir, &out, &config, |_| {}).unwrap();
        let whole = to / 12 * 12;
        assert_eq!(report.seq, whole, "to {to}");
        let snapshot = Snapshot::open(&out).unwrap();
        let page = snapshot.page("blob", None, 100, 1 << 30).unwrap();
        assert_eq!(page.len(), if whole == 0 { 0 } else { 7 }, "to {to}");
        for row in page {
            let Key::Int(n) = row.key else { panic!("{row:?}") };
            // Of events 0 to 11 the last with this key.
            let last = if n + 7 < 12 { n + 7 } else { n };
            let byte = u8::try_from(i64::try_from(whole / 12).unwrap() - 1 + last).unwrap();
            assert!(row.body.identical(&Value::Bytes(vec![byte; 256 << 10])), "to {to}: {n}");
        }
    }
}
