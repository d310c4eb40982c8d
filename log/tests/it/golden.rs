//! Bytes that format 1.0 wrote, kept for good: every later build opens them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use revenant_log::value::{Datetime, Duration, File, Geometry, Range};
use revenant_log::{
    Anchor, Error, Event, Key, Log, LogConfig, Op, ReadOnlyLog, RecordId, SegmentUse, Seq,
    SourcePos, Transaction, Value, Witnesses, verify, verify_anchors,
};

use crate::model::{Model, decode, small, transaction};

/// A log that was closed cleanly.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1")
}

/// A log whose writer was killed: its first segment is trimmed but still there, its second one full but not
/// sealed, and in its third one a group is torn. It holds `transaction(n, 2, 3000)` for n from 1 to 19 and
/// `transaction(20, 3, 40)`.
fn golden_killed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1-killed")
}

/// What the golden log holds: every operation, kind of key and kind of value, a transaction of several
/// frames, and one so large that it starts the second segment.
fn history() -> Vec<Transaction> {
    let event = |op, key, body, before| Event {
        op,
        table: Arc::from("thing"),
        key,
        version: Some(2),
        body,
        before,
        source: SourcePos { versionstamp: 77, ordinal: 3 },
        stale: false,
    };
    let transaction = |time_us, events| Transaction { time_us, feed_high: 70, events };
    let fields = |values: Vec<Value>| {
        Value::Object(values.into_iter().enumerate().map(|(at, v)| (format!("f{at}"), v)).collect())
    };
    let load = event(Op::Load, Key::Int(-5), Some(fields(every_value())), None);
    let create = event(Op::Create, Key::from("a b"), Some(Value::Null), None);
    let update = event(Op::Update, Key::Uuid([9; 16]), Some(Value::Int(2)), Some(Value::Int(1)));
    let mut stale =
        event(Op::Delete, Key::Array(vec![Value::Int(1)]), None, Some(Value::Bool(false)));
    stale.stale = true;
    let object = Key::Object([("k".to_owned(), Value::Int(3))].into());
    let reconcile = Event { version: None, ..event(Op::Reconcile, object, None, None) };
    let run =
        (0..4).map(|n| event(Op::Update, Key::Int(n), Some(Value::Bytes(vec![7; 900])), None));
    let large = event(Op::Create, Key::from("large"), Some(Value::Bytes(vec![5; 58_000])), None);
    vec![
        transaction(1_700_000_000_000_000, vec![load]),
        transaction(1_700_000_000_000_001, vec![create, update]),
        transaction(-1, vec![stale, reconcile]),
        transaction(1_700_000_000_000_002, run.collect()),
        transaction(1_700_000_000_000_003, vec![large]),
    ]
}

pub(crate) fn every_value() -> Vec<Value> {
    let id = RecordId::new("person", "ada");
    vec![
        Value::None,
        Value::Null,
        Value::Bool(true),
        Value::Int(-3),
        Value::Float(1.5),
        Value::Decimal("12.3400".parse().unwrap()),
        Value::String("text".into()),
        Value::Bytes(vec![0, 255]),
        Value::Datetime(Datetime { secs: -1, nanos: 999_999_999 }),
        Value::Duration(Duration { secs: 3600, nanos: 1 }),
        Value::Uuid([1; 16]),
        Value::RecordId(Box::new(id)),
        Value::Table("person".into()),
        Value::File(File { bucket: "b".into(), key: "/k".into() }),
        Value::Regex("a+".into()),
        Value::Array(vec![Value::Int(1)]),
        Value::Object(BTreeMap::from([("x".to_owned(), Value::Null)])),
        Value::Set([Value::Int(1), Value::Int(2)].into()),
        Value::Range(Box::new(Range {
            start: Bound::Included(Value::Int(1)),
            end: Bound::Unbounded,
        })),
        Value::Geometry(Geometry::Collection(vec![Geometry::Point((1.0, 2.0))])),
    ]
}

/// [`golden`] with its sealed segment compressed, as format 1.1 wrote it.
fn golden_compressed() -> tempfile::TempDir {
    let (dir, name) = (copy(&golden()), "seg/0000000001.log");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-v1.1");
    fs::copy(golden.join(name), dir.path().join(name)).unwrap();
    dir
}

fn copy(golden: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("seg")).unwrap();
    for entry in fs::read_dir(golden.join("seg")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join("seg").join(entry.file_name())).unwrap();
    }
    dir
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir.join("seg")).unwrap();
    entries.map(|entry| entry.unwrap().path()).map(|p| (p.clone(), fs::read(p).unwrap())).collect()
}

#[test]
fn the_golden_log_reads_as_it_was_written() {
    let log = ReadOnlyLog::open(&golden()).unwrap();
    assert_eq!(log.id().to_string(), include_str!("../golden/log-v1/id").trim());
    let states: Vec<_> = log.segments().iter().map(|segment| segment.state).collect();
    assert_eq!(states, [SegmentUse::Sealed, SegmentUse::Active]);
    let mut records = log.records(Seq::FIRST).map(Result::unwrap);
    for transaction in history() {
        let count = transaction.events.len();
        for (index, event) in transaction.events.into_iter().enumerate() {
            let record = records.next().unwrap().record;
            assert_eq!((record.time_us, record.feed_high), (transaction.time_us, 70));
            assert_eq!(record.ends_transaction, index + 1 == count);
            assert_eq!(format!("{:?}", record.event), format!("{event:?}"));
        }
    }
    assert!(records.next().is_none());
    let report = verify(&golden()).unwrap();
    assert_eq!((report.findings.len(), report.torn_bytes, report.transactions), (0, 0, 5));
}

#[test]
fn the_golden_logs_have_the_chain_hashes_they_were_written_with() {
    let closed = "10:f5b44c5d87bdf2ded96704952b19de427336c6a5288ab37d00a01a290278bd67";
    let killed = "41:3ddb0c5319b541c80b773584a5339302dbe18a53ba441a324c7df31e1f93cf9b";
    for (dir, anchor) in [(golden(), closed), (golden_killed(), killed)] {
        let anchor: Anchor = anchor.parse().unwrap();
        let report = verify_anchors(&dir, &[anchor]).unwrap();
        assert_eq!((report.findings.len(), report.anchors), (0, 1), "{:?}", report.findings);
        assert_eq!((report.last_seq, report.chain), (anchor.seq, anchor.hash));
    }
}

#[test]
fn the_golden_compressed_segment_stands_for_the_golden_one() {
    let dir = golden_compressed();
    let path = dir.path().join("seg/0000000001.log");
    let plain = fs::metadata(golden().join("seg/0000000001.log")).unwrap().len();
    assert!(fs::metadata(&path).unwrap().len() < plain);
    let found = |dir: &Path| -> Vec<_> {
        let log = ReadOnlyLog::open(dir).unwrap();
        let records = log.records(Seq::FIRST).map(Result::unwrap);
        records.map(|one| (one.record.seq, one.bytes, one.segment, one.offset)).collect()
    };
    assert_eq!(found(dir.path()), found(&golden()));
    let told = |dir: &Path| serde_json::to_value(verify(dir).unwrap()).unwrap();
    assert_eq!(told(dir.path()), told(&golden()));
    let compressed = ReadOnlyLog::open(dir.path()).unwrap().segments()[0].compressed;
    assert!(compressed);
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert_eq!((report.clean, log.durable_seq()), (true, Seq(10)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.append(history(), Some(Seq(11)))).unwrap();
    runtime.block_on(log.close()).unwrap();
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[test]
fn a_newer_compressed_segment_is_refused_without_touching_a_byte() {
    for (offset, what) in [(8, "major"), (10, "minor"), (12, "feature"), (15, "feature")] {
        let dir = golden_compressed();
        let path = dir.path().join("seg/0000000001.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] += 1;
        let crc = crc32fast::hash(&bytes[..124]).to_le_bytes();
        bytes[124..128].copy_from_slice(&crc);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let before = files(dir.path());
        let refused = Log::open(LogConfig::new(dir.path()), Witnesses::none()).err();
        assert!(matches!(refused, Some(Error::Unsupported { .. })), "{what}: {refused:?}");
        assert!(files(dir.path()) == before, "{what}");
    }
}

#[test]
fn the_golden_killed_log_is_recovered_and_goes_on() {
    let dir = copy(&golden_killed());
    let torn = 10_704;
    let path = dir.path().join("seg/0000000003.log");
    let group = fs::read(&path).unwrap()[torn..].to_vec();
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert_eq!((report.clean, report.first_seq, report.last_seq), (false, 19, 41));
    assert_eq!((&report.trimmed[..], &report.unsealed[..]), (&[1][..], &[2][..]));
    let kept = fs::read(report.quarantined.unwrap()).unwrap();
    assert_eq!((kept.len() as u64, &group[..kept.len()]), (report.torn_bytes, &kept[..]));
    assert!(group[kept.len()..].iter().all(|&byte| byte == 0));
    // An OPEN frame and perhaps a mark stand where the group was, and nothing of it behind them.
    let behind = torn + 256;
    assert!(fs::read(&path).unwrap()[behind..].iter().all(|&byte| byte == 0), "it was zeroed");
    assert!(group[256..].iter().any(|&byte| byte != 0), "it was longer");
    let mut model = Model::default();
    for number in 1..=20 {
        let sent = if number < 20 { transaction(number, 2, 3000) } else { transaction(20, 3, 40) };
        model.submit(&[sent]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let more = transaction(21, 2, 300);
    model.submit(std::slice::from_ref(&more));
    runtime.block_on(log.append(vec![more], Some(Seq(42)))).unwrap();
    model.ack();
    let read = |from| decode(&log.read(from, 100_000).unwrap());
    model.check(read, log.first_seq(), log.durable_seq());
    runtime.block_on(log.close()).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn the_golden_log_opens_and_goes_on() {
    let dir = copy(&golden());
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert_eq!((report.clean, report.created, log.durable_seq()), (true, false, Seq(10)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let appended = runtime.block_on(log.append(history(), Some(Seq(11)))).unwrap();
    assert_eq!(appended.last_seq, Seq(20));
    runtime.block_on(log.close()).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_is_written_today_has_the_golden_payloads() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(log.append(history(), None)).unwrap();
    runtime.block_on(log.close()).unwrap();
    let bytes = |dir: &Path| -> Vec<_> {
        let log = ReadOnlyLog::open(dir).unwrap();
        log.records(Seq::FIRST).map(|record| record.unwrap().bytes).collect()
    };
    assert_eq!(bytes(dir.path()), bytes(&golden()));
}

#[test]
fn a_newer_version_or_an_unknown_feature_is_refused_without_touching_a_byte() {
    for (offset, what) in [(8, "major"), (10, "minor"), (12, "feature"), (15, "feature")] {
        let dir = copy(&golden());
        let path = dir.path().join("seg/0000000002.log");
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] += 1;
        let crc = crc32fast::hash(&bytes[..124]).to_le_bytes();
        bytes[124..128].copy_from_slice(&crc);
        fs::write(&path, bytes).unwrap();
        let before = files(dir.path());
        let refused = Log::open(LogConfig::new(dir.path()), Witnesses::none()).err();
        assert!(matches!(refused, Some(Error::Unsupported { .. })), "{what}: {refused:?}");
        let refused = ReadOnlyLog::open(dir.path()).err();
        assert!(matches!(refused, Some(Error::Unsupported { .. })), "{what}: {refused:?}");
        assert!(files(dir.path()) == before, "{what}");
    }
}
