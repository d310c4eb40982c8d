//! The log with its threads on a real disk.

use std::sync::Arc;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::Sim;
use revenant_log::{Error, Log, LogConfig, ReadOnlyLog, SegmentUse, Seq, Witnesses, verify};

use crate::model::{Model, decode, small, transaction};

fn check(log: &Log, model: &Model) {
    let read = |from| decode(&log.read(from, 100_000).unwrap());
    model.check(read, log.first_seq(), log.durable_seq());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_append_and_all_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert!(report.created);
    let mut callers = Vec::new();
    for caller in 0..16u64 {
        let log = log.clone();
        callers.push(tokio::spawn(async move {
            for number in 0..50 {
                let sent = transaction(caller * 1000 + number, 3, 100);
                let appended = log.append(vec![sent], None).await.unwrap();
                assert!(log.durable_seq() >= appended.last_seq);
                let batch = log.read(appended.first_seq, 1).unwrap();
                let first = &decode(&batch)[0];
                assert_eq!(first.event.source.versionstamp, caller * 1000 + number);
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(log.durable_seq(), Seq(16 * 50 * 3));
    let id = log.id();
    log.close().await.unwrap();
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert_eq!((log.id(), log.durable_seq(), report.torn_bytes), (id, Seq(2400), 0));
    let mut next = Seq::FIRST;
    while next <= log.durable_seq() {
        for record in decode(&log.read(next, 5000).unwrap()) {
            assert_eq!(record.seq, next);
            next = next.next();
        }
    }
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.records, 2400);
}

#[tokio::test]
async fn segments_roll_seal_and_trim() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { ring_bytes: 1000, ..small(dir.path()) };
    let (log, _) = Log::open(config.clone(), Witnesses::none()).unwrap();
    let mut model = Model::default();
    for number in 1..=60 {
        let sent = vec![transaction(number, 2, 3000)];
        model.submit(&sent);
        log.append(sent, None).await.unwrap();
        model.ack();
    }
    check(&log, &model);
    while log.stats().sealed + 1 < log.stats().segments {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    check(&log, &model);
    let seen = ReadOnlyLog::open(dir.path()).unwrap();
    let used = |state| seen.segments().iter().filter(|one| one.state == state).count();
    assert!(used(SegmentUse::Sealed) >= 4 && used(SegmentUse::Active) == 1);
    assert_eq!(
        seen.records(Seq(17)).map(|r| r.unwrap().record.seq.0).sum::<u64>(),
        (17..=120).sum::<u64>()
    );
    let report = log.trim(Seq(60)).await.unwrap();
    assert!(!report.segments.is_empty() && log.first_seq() <= Seq(60));
    assert!(matches!(log.read(Seq(1), 10), Err(Error::Trimmed { .. })));
    check(&log, &model);
    log.close().await.unwrap();
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    assert_eq!(log.first_seq().0, report.first_seq);
    check(&log, &model);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

#[tokio::test]
async fn a_second_writer_is_refused_with_the_owners_pid() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    let refused = Log::open(small(dir.path()), Witnesses::none());
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains(&std::process::id().to_string()), "{text}");
}

#[tokio::test]
async fn an_append_at_the_wrong_seq_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    let sent = || vec![transaction(1, 1, 10)];
    log.append(sent(), Some(Seq(1))).await.unwrap();
    let refused = log.append(sent(), Some(Seq(1))).await;
    assert!(matches!(refused, Err(Error::WrongSeq { next: Seq(2), .. })));
    assert!(matches!(log.append(Vec::new(), None).await, Err(Error::BadInput(_))));
    assert_eq!(log.durable_seq(), Seq(1));
}

#[tokio::test]
async fn a_waiter_wakes_when_its_seq_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    let mut watch = log.watch();
    let waiter = tokio::spawn(async move { watch.wait_past(Seq(1)).await });
    log.append(vec![transaction(1, 3, 10)], None).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap(), Seq(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_beside_a_running_writer_finds_a_whole_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    log.append(vec![transaction(0, 2, 3000)], None).await.unwrap();
    let writer = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 1..400 {
                log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
                if number % 50 == 0 {
                    log.trim(Seq(number)).await.unwrap();
                }
            }
        }
    });
    let mut looks = 0;
    while !writer.is_finished() || looks < 3 {
        let path = dir.path().to_owned();
        let look = tokio::task::spawn_blocking(move || {
            let report = verify(&path).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
            let seen = ReadOnlyLog::open(&path).unwrap();
            let mut next = seen.first_seq();
            for located in seen.records(next) {
                match located {
                    Ok(located) => assert_eq!(located.record.seq, next),
                    Err(Error::Trimmed { .. }) => return,
                    Err(error) => panic!("{error}"),
                }
                next = next.next();
            }
            assert_eq!(next, seen.last_seq().next());
        });
        look.await.unwrap();
        looks += 1;
    }
    writer.await.unwrap();
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_footer_that_rotted_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    for number in 1..=20 {
        let sent = vec![transaction(number, 2, 3000)];
        model.submit(&sent);
        log.append(sent, None).await.unwrap();
        model.ack();
    }
    log.close().await.unwrap();
    let path = dir.path().join("seg/0000000001.log");
    let whole = std::fs::read(&path).unwrap();
    let mut rotten = whole.clone();
    let at = rotten.len() - 100;
    rotten[at] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, rotten).unwrap();
    assert!(!verify(dir.path()).unwrap().findings.is_empty());
    let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    assert_eq!(report.unsealed.first(), Some(&1));
    check(&log, &model);
    while log.stats().sealed + 1 < log.stats().segments {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_transaction_larger_than_a_segment_is_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    for (number, events) in [(1, 1), (2, 60), (3, 1)] {
        let sent = vec![transaction(number, events, 3000)];
        model.submit(&sent);
        log.append(sent, None).await.unwrap();
        model.ack();
    }
    check(&log, &model);
    log.close().await.unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    check(&log, &model);
    assert!(verify(dir.path()).unwrap().findings.is_empty());
}

/// What opening reads, in bytes; the log has about `segments` sealed segments.
fn read_to_open(segments: u64, end: fn(StepLog)) -> (u64, u64) {
    let sim = Sim::default();
    let open = |sim: &Sim| {
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap().0
    };
    let mut log = open(&sim);
    let mut number = 0;
    let path = |number| format!("/log/seg/{number:010}.log");
    while sim.disk().bytes(path(segments + 2).as_ref()).is_none() {
        number += 1;
        log.append(&[transaction(number, 2, 3000)]).unwrap();
        log.keep().unwrap();
    }
    end(log);
    let sim = Sim::boot(sim.disk().after_kill());
    let log = open(&sim);
    assert_eq!(log.durable_seq(), Seq(number * 2));
    (sim.read_bytes(), sim.reads())
}

#[test]
fn opening_reads_the_last_segment_and_the_spare_and_of_the_others_a_page_however_many() {
    const SEGMENT: u64 = 64 << 10;
    const PAGE: u64 = 6 << 10;
    for end in [|log: StepLog| log.close().unwrap(), |log: StepLog| drop(log)] {
        let (few, few_reads) = read_to_open(2, end);
        let (many, many_reads) = read_to_open(40, end);
        assert!(few <= 2 * (SEGMENT + PAGE) + 3 * PAGE, "{few} bytes");
        assert!(many <= 2 * (SEGMENT + PAGE) + 41 * PAGE, "{many} bytes");
        let each = (many_reads - few_reads) / 38;
        assert!(each <= 3, "{few_reads} and {many_reads} reads");
    }
}

#[test]
fn a_group_over_idle_marks_leaves_none_of_them() {
    let sim = Sim::default();
    let open = || StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    let (mut log, _) = open();
    let path = std::path::Path::new("/log/seg/0000000001.log");
    let used = || {
        let bytes = sim.disk().contents()[path].clone();
        bytes.iter().rposition(|&byte| byte != 0).unwrap()
    };
    log.append(&[transaction(1, 1, 10)]).unwrap();
    let before = used();
    log.idle().unwrap();
    assert!(used() / 4096 > before / 4096, "a mark stands in a sector of its own");
    log.append(&[transaction(2, 1, 10)]).unwrap();
    assert!(used() < before + 400, "{} bytes after {before}", used());
    log.idle().unwrap();
    log.append(&[transaction(3, 1, 9000)]).unwrap();
    log.idle().unwrap();
    drop(log);
    let (log, report) = open();
    assert_eq!((log.durable_seq(), report.torn_bytes), (Seq(3), 0));
}
