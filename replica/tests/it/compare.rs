//! A comparison names every row that differs, and how.

use std::path::Path;

use revenant_log::{Event, Key, Op, Seq, SourcePos, Transaction, Value};
use revenant_replica::{DifferenceKind, Error, Replica, ReplicaConfig, Snapshot, compare};

use crate::model::{LOG, apply, records, stream};

fn put(key: &str, version: u64, body: Value) -> Event {
    Event {
        op: Op::Update,
        table: "file".into(),
        key: Key::from(key),
        version: Some(version),
        body: Some(body),
        before: None,
        source: SourcePos::UNKNOWN,
        stale: false,
    }
}

fn replica(path: &Path, events: Vec<Event>) -> Replica {
    let (replica, _) = Replica::open(path, LOG, &ReplicaConfig::default()).unwrap();
    let transaction = Transaction { time_us: 0, feed_high: 0, events };
    apply(&replica, &records(&[transaction], Seq::FIRST)).unwrap();
    replica
}

#[test]
fn differences_are_listed_with_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let one = Value::Int(1);
    let left = replica(
        &dir.path().join("left"),
        vec![
            put("a", 1, one.clone()),
            put("b", 1, one.clone()),
            put("c", 1, one.clone()),
            put("same", 1, one.clone()),
        ],
    );
    let right = replica(
        &dir.path().join("right"),
        vec![
            put("b", 1, Value::Float(1.0)),
            put("c", 2, one.clone()),
            put("d", 1, one.clone()),
            put("same", 1, one),
        ],
    );
    let (left, right) = (left.snapshot().unwrap(), right.snapshot().unwrap());
    let found = compare(&left, &right, 3).unwrap();
    assert!(!found.equal);
    assert_eq!((found.same_rows, found.different_rows), (1, 4));
    let listed: Vec<_> = found.differences.iter().map(|one| (one.id.as_str(), one.kind)).collect();
    assert_eq!(
        listed,
        [
            ("file:a", DifferenceKind::OnlyLeft),
            ("file:b", DifferenceKind::Body),
            ("file:c", DifferenceKind::Version)
        ]
    );
    assert_eq!(found.differences[1].right.as_deref(), Some("1f"), "1 and 1f are not the same");
    assert_eq!(found.differences[2].left.as_deref(), Some("version 1"));
    let same = compare(&left, &left, 3).unwrap();
    assert!(same.equal && same.differences.is_empty());
    assert_eq!(same.same_rows, 4);
}

#[test]
fn a_file_is_read_without_changing_it_once_its_owner_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica");
    let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(8, 50);
    apply(&replica, &records(&stream.transactions, Seq::FIRST)).unwrap();
    replica.checkpoint().unwrap();
    assert!(matches!(Snapshot::open(&path).err(), Some(Error::Locked(_))));
    let killed = dir.path().join("killed");
    std::fs::copy(&path, &killed).unwrap();
    let before = std::fs::read(&killed).unwrap();
    let found = compare(&replica.snapshot().unwrap(), &Snapshot::open(&killed).unwrap(), 9);
    assert!(found.unwrap().equal);
    assert_eq!(std::fs::read(&killed).unwrap(), before);
}
