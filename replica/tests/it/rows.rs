//! Rows, snapshots and rebuilds equal the model at every seq.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use revenant_log::{EventLog, Log, LogConfig, Seq, Witnesses};
use revenant_replica::{
    Error, Pace, RebuildConfig, Replica, ReplicaConfig, Snapshot, follow, rebuild, table_reports,
};

use crate::model::{LOG, apply, records, rows, stream};

#[test]
fn rows_equal_the_model_at_every_seq_however_records_are_cut_and_repeated() {
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replica.redb");
        let config = ReplicaConfig::default();
        let (mut replica, _) = Replica::open(&path, LOG, &config).unwrap();
        let stream = stream(seed, 60);
        let all = records(&stream.transactions, Seq::FIRST);
        let ends: Vec<Seq> = stream.rows.keys().copied().collect();
        for (index, end) in ends.iter().enumerate().skip(1) {
            // From somewhere already applied up to the end of this transaction.
            let from = if index % 3 == 0 { 0 } else { usize::try_from(ends[index - 1].0).unwrap() };
            let reached = apply(&replica, &all[from..usize::try_from(end.0).unwrap()]).unwrap();
            assert_eq!(reached, *end);
            let snapshot = replica.snapshot().unwrap();
            assert_eq!(rows(&snapshot, 1 + index % 7), stream.rows[end], "seed {seed} seq {end}");
            snapshot.verify().unwrap();
            if index % 20 == 0 {
                assert_eq!(replica.checkpoint().unwrap(), *end);
                assert_eq!(replica.checkpoint_seq(), *end);
                drop((snapshot, replica));
                replica = Replica::open(&path, LOG, &config).unwrap().0;
                assert_eq!(replica.applied_seq(), *end, "a checkpoint is durable");
            }
        }
    }
}

#[test]
fn a_snapshot_holds_still_while_rows_change() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(3, 50);
    let mut held = Vec::new();
    let mut next = Seq::FIRST;
    for transaction in &stream.transactions {
        let batch = records(std::slice::from_ref(transaction), next);
        next = apply(&replica, &batch).unwrap().next();
        held.push(replica.snapshot().unwrap());
    }
    for snapshot in held {
        assert_eq!(rows(&snapshot, 3), stream.rows[&snapshot.seq()]);
    }
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(1, 5);
    let late = records(&stream.transactions, Seq(3));
    assert!(matches!(apply(&replica, &late), Err(Error::Gap { applied: Seq(0), found: Seq(3) })));
    let mut holed = records(&stream.transactions, Seq::FIRST);
    holed.remove(1);
    assert!(matches!(apply(&replica, &holed), Err(Error::Gap { .. })));
    assert!(rows(&replica.snapshot().unwrap(), 9).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_keeps_up_and_a_rebuild_equals_it_at_every_seq() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let config =
        LogConfig { segment_bytes: 64 << 10, frame_bytes: 2 << 10, ..LogConfig::new(&log_dir) };
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    let log_id = log.id();
    let path = dir.path().join("replica");
    let (replica, _) = Replica::open(&path, log_id, &ReplicaConfig::default()).unwrap();
    let replica = Arc::new(replica);
    let stop = Arc::new(AtomicBool::new(false));
    let follower = {
        let (replica, stop) = (Arc::clone(&replica), Arc::clone(&stop));
        let log: Arc<dyn EventLog> = Arc::new(log.clone());
        std::thread::spawn(move || follow(&replica, &log, Pace::default(), &stop, |_| {}))
    };
    let stream = stream(5, 40);
    for transaction in &stream.transactions {
        log.append(vec![transaction.clone()], None).await.unwrap();
    }
    while replica.applied_seq() < log.durable_seq() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Release);
    follower.join().unwrap().unwrap();
    let live = table_reports(&replica.snapshot().unwrap()).unwrap();
    log.close().await.unwrap();
    let out = dir.path().join("whole");
    let whole = rebuild(&log_dir, &out, &RebuildConfig::default(), |_| {}).unwrap();
    assert_eq!((whole.seq, whole.records), (replica.applied_seq().0, whole.seq));
    assert_eq!(table_reports(&Snapshot::open(&out).unwrap()).unwrap(), live);
    for (seq, expected) in stream.rows.iter().skip(1).step_by(7) {
        let out = dir.path().join(format!("at-{seq}"));
        let report =
            rebuild(&log_dir, &out, &RebuildConfig { to: Some(*seq), from: None }, |_| {}).unwrap();
        assert_eq!(report.seq, seq.0);
        let (rebuilt, _) = Replica::open(&out, log_id, &ReplicaConfig::default()).unwrap();
        assert_eq!(rows(&rebuilt.snapshot().unwrap(), 5), *expected);
    }
    let again = rebuild(&log_dir, &out, &RebuildConfig::default(), |_| {});
    assert!(matches!(again, Err(Error::Io { .. })), "it exists");
}
