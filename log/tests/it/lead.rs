//! A caller that has the log to itself makes its appends durable on its own thread, and nothing else changes.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use revenant_log::storage::sim::{Fault, Sim};
use revenant_log::{Error, Log, Seq, Witnesses, verify};

use crate::model::{Model, decode, small, transaction};

fn open(sim: &Sim) -> Log {
    Log::open_on(Arc::new(sim.clone()), small("/log"), Witnesses::none()).unwrap().0
}

/// Appends transactions `numbers` one after the other, as a task.
async fn append_alone(log: &Log, numbers: std::ops::Range<u64>) -> Result<(), Error> {
    let log = log.clone();
    let run = async move {
        for number in numbers {
            let appended = log.append(vec![transaction(number, 2, 100)], None).await?;
            assert_eq!(appended.last_seq, log.durable_seq());
        }
        Ok(())
    };
    tokio::spawn(run).await.unwrap()
}

fn check(log: &Log, numbers: std::ops::Range<u64>) {
    let mut model = Model::default();
    numbers.for_each(|number| model.submit(&[transaction(number, 2, 100)]));
    model.ack();
    let read = |from| decode(&log.read(from, 1 << 20).unwrap());
    model.check(read, Seq::FIRST, log.durable_seq());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_task_leads_and_all_of_it_is_there_after_a_kill() {
    let sim = Sim::default();
    let log = open(&sim);
    append_alone(&log, 1..301).await.unwrap();
    let stats = log.stats();
    assert_eq!((stats.appends, stats.groups), (300, 300));
    assert!((200..300).contains(&stats.led), "{} were led", stats.led);
    check(&log, 1..301);
    let killed = open(&Sim::boot(sim.disk().after_kill()));
    check(&killed, 1..301);
    log.close().await.unwrap();
    check(&open(&sim), 1..301);
}

#[tokio::test]
async fn on_a_runtime_of_one_thread_nobody_leads() {
    let log = open(&Sim::default());
    append_alone(&log, 1..101).await.unwrap();
    assert_eq!(log.stats().led, 0);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_of_the_workers_nobody_leads() {
    let log = open(&Sim::default());
    let local = tokio::task::LocalSet::new();
    let own = log.clone();
    let run = async move {
        for number in 1..101 {
            own.append(vec![transaction(number, 2, 100)], None).await.unwrap();
        }
    };
    local.run_until(async { tokio::task::spawn_local(run).await.unwrap() }).await;
    assert_eq!(log.stats().led, 0);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_alone_and_then_asks_for_many_at_once_gets_groups() {
    // A disk on which a sync takes longer than to ask for the next append.
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    append_alone(&log, 1..101).await.unwrap();
    let (before, own) = (log.stats(), log.clone());
    let many = async move {
        let sent = |number| vec![transaction(number, 2, 100)];
        let mut all: Vec<_> =
            (101..1101).map(|number| Box::pin(own.append(sent(number), None))).collect();
        // As `join_all` does: each is asked once before any is waited for.
        std::future::poll_fn(|cx| {
            all.retain_mut(|one| match one.as_mut().poll(cx) {
                Poll::Ready(done) => {
                    done.unwrap();
                    false
                }
                Poll::Pending => true,
            });
            if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    };
    tokio::spawn(many).await.unwrap();
    let after = log.stats();
    assert!(after.led - before.led <= 64, "{} were led", after.led - before.led);
    assert!(after.groups - before.groups < 500, "{} groups", after.groups - before.groups);
    check(&log, 1..1101);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_come_and_go_lose_nothing_whoever_leads() {
    let log = open(&Sim::default());
    let tasks: Vec<_> = (0..6u64)
        .map(|caller| {
            let log = log.clone();
            tokio::spawn(async move {
                for turn in 0..150 {
                    let sent = transaction(caller * 1000 + turn, 1, 50);
                    let appended = log.append(vec![sent], None).await.unwrap();
                    let batch = log.read(appended.first_seq, 1).unwrap();
                    let source = decode(&batch)[0].event.source.versionstamp;
                    assert_eq!(source, caller * 1000 + turn);
                    if turn % 50 > caller * 8 {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(log.durable_seq(), Seq(900));
    assert_eq!(log.stats().appends, 900);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expected_seq_is_checked_by_one_who_leads() {
    let log = open(&Sim::default());
    append_alone(&log, 1..101).await.unwrap();
    let own = log.clone();
    let run = async move {
        for number in 101..140 {
            let wrong = own.append(vec![transaction(number, 2, 100)], Some(Seq(7))).await;
            assert!(matches!(wrong, Err(Error::WrongSeq { expected: Seq(7), .. })));
            let next = Some(own.next_seq());
            own.append(vec![transaction(number, 2, 100)], next).await.unwrap();
        }
    };
    tokio::spawn(run).await.unwrap();
    check(&log, 1..140);
    assert!(log.stats().led > 80);
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_under_one_who_leads_poisons_the_log() {
    let mut poisoned = 0;
    for ahead in 1..40 {
        let sim = Sim::default();
        let log = open(&sim);
        append_alone(&log, 1..50).await.unwrap();
        sim.fail_at(sim.ops() + ahead, Fault::Eio);
        let Err(failed) = append_alone(&log, 50..150).await else {
            continue; // it was the keeper's
        };
        poisoned += 1;
        assert!(matches!(failed, Error::Io { .. } | Error::Poisoned(_)), "{failed}");
        let again = append_alone(&log, 200..201).await.unwrap_err();
        assert!(matches!(again, Error::Poisoned(_)), "{again}");
        assert_eq!(log.stats().state, "poisoned");
        let durable = log.durable_seq();
        assert!(log.close().await.is_err());
        sim.heal();
        assert!(open(&sim).durable_seq() >= durable);
    }
    assert!(poisoned > 30, "{poisoned} of 39");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_closed_under_one_who_leads_holds_what_was_acknowledged() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
        append_alone(&log, 1..50).await.unwrap();
        let own = log.clone();
        let caller = tokio::spawn(async move {
            let mut acked = Seq::ZERO;
            for number in 50.. {
                match own.append(vec![transaction(number, 1, 50)], None).await {
                    Ok(appended) => acked = appended.last_seq,
                    Err(Error::Closed) => break,
                    Err(other) => panic!("{other}"),
                }
            }
            acked
        });
        tokio::time::sleep(Duration::from_micros(500 * round)).await;
        log.close().await.unwrap();
        let acked = caller.await.unwrap();
        drop(log);
        let (log, report) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
        assert!(log.durable_seq() >= acked && log.durable_seq() >= Seq(98));
        assert_eq!(report.torn_bytes, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_is_marked_when_one_who_led_is_idle() {
    let sim = Sim::default();
    let log = open(&sim);
    let path = Path::new("/log/seg/0000000001.log");
    let used = || {
        let bytes = sim.disk().contents()[path].clone();
        bytes.iter().rposition(|&byte| byte != 0).unwrap()
    };
    for burst in 0..3 {
        append_alone(&log, burst * 40 + 1..burst * 40 + 41).await.unwrap();
        let (begun, end) = (Instant::now(), used());
        while used() == end {
            assert!(begun.elapsed() < Duration::from_secs(60), "never marked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(used() / 4096 > end / 4096, "a mark stands in a sector of its own");
    }
    assert!(log.stats().led > 60);
    log.close().await.unwrap();
    drop(log);
    assert!(sim.disk().contents().contains_key(path));
    check(&open(&sim), 1..121);
}

#[test]
fn what_was_led_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
        append_alone(&log, 1..400).await.unwrap();
        assert!(log.stats().segments > 1 && log.stats().led > 200);
        log.close().await.unwrap();
    });
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
