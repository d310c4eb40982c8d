//! A walk that lends records gives what reading gives, in every state of a log, and nothing that is damaged.

use std::path::Path;
use std::sync::Arc;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Sim};
use revenant_log::{Error, Log, Reader, Record, Seq, Witnesses, decode_record};

use crate::model::{Model, batch, small, transaction};

fn open(disk: Disk) -> (Sim, StepLog) {
    let sim = Sim::boot(disk);
    let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    (sim, opened.unwrap().0)
}

/// All that `reader` lends up to the end.
fn lent(reader: &mut Reader) -> Result<Vec<Record>, Error> {
    let mut all = Vec::new();
    while let Some(records) = reader.next_frame()? {
        all.extend(records.map(|(seq, bytes)| decode_record(seq, bytes).unwrap()));
    }
    Ok(all)
}

#[test]
fn a_reader_lends_what_was_appended_from_every_seq() {
    for seed in 0..20 {
        let (mut dice, mut model, mut next) = (Dice::new(seed), Model::default(), 0);
        let (sim, mut log) = open(Disk::default());
        for _ in 0..40 {
            let transactions = batch(&mut dice, &mut next);
            model.submit(&transactions);
            log.append(&transactions).unwrap();
            model.ack();
            if dice.coin() {
                log.keep().unwrap();
            }
        }
        let check = |log: &StepLog| {
            for from in (1..=log.durable_seq().0).step_by(7) {
                let mut reader = log.reader(Seq(from));
                let all = lent(&mut reader).unwrap();
                model.check(|_| all.clone(), Seq(from), log.durable_seq());
                assert_eq!(reader.next_seq(), log.durable_seq().next(), "seed {seed}");
            }
        };
        check(&log);
        drop(log);
        check(&open(sim.disk().after_kill()).1);
    }
}

#[tokio::test]
async fn a_reader_goes_on_where_it_ended_while_segments_roll_and_seal() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    let mut reader = log.reader(Seq::FIRST);
    assert!(reader.next_frame().unwrap().is_none());
    for number in 1..=60 {
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
        let records = lent(&mut reader).unwrap();
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(|one| one.event.source.versionstamp == number));
    }
    assert!(log.stats().segments > 4);
    log.close().await.unwrap();
}

#[test]
fn a_reader_below_the_trim_point_says_so() {
    let (_, mut log) = open(Disk::default());
    for number in 1..=30 {
        log.append(&[transaction(number, 2, 3000)]).unwrap();
    }
    log.keep().unwrap();
    let mut reader = log.reader(Seq(2));
    log.trim(Seq(40)).unwrap();
    let first = log.first_seq();
    assert!(first > Seq(2));
    assert!(matches!(reader.next_frame(), Err(Error::Trimmed { first: at }) if at == first));
    assert_eq!(lent(&mut log.reader(first)).unwrap().len() as u64, 61 - first.0);
}

#[test]
fn a_flipped_bit_is_never_lent() {
    let (sim, mut log) = open(Disk::default());
    let mut model = Model::default();
    for number in 1..=12 {
        let transactions = [transaction(number, 2, 3000)];
        model.submit(&transactions);
        log.append(&transactions).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    log.close().unwrap();
    let disk = sim.disk();
    let path = Path::new("/log/seg/0000000001.log");
    let mut refused = 0;
    for offset in (4096..disk.contents()[path].len()).step_by(5) {
        let mut damaged = disk.clone();
        damaged.flip(path, offset, 1 << (offset % 8));
        let opened = StepLog::open(Arc::new(Sim::boot(damaged)), small("/log"), &Witnesses::none());
        let Ok((log, _)) = opened else { continue };
        match lent(&mut log.reader(Seq::FIRST)) {
            Ok(all) => {
                model.check(|_| all.clone(), Seq::FIRST, log.durable_seq());
            }
            Err(Error::Corrupt { .. }) => refused += 1,
            Err(other) => panic!("byte {offset}: {other}"),
        }
    }
    assert!(refused > 9_000, "only {refused} flips were met");
}
