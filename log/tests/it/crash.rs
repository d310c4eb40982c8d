//! Crashes at every call to the disk, with every kind of loss, twice in a row; failures of every call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Fault, Sim};
use revenant_log::{Error, Seq, Witnesses};

use crate::model::{Model, batch, decode, small, transaction};

/// What was acknowledged when the disk had seen so many calls.
struct Run {
    history: Vec<Disk>,
    models: Vec<(u64, Model)>,
}

/// A life of a log on `disk`: appends, rolls, seals, idle marks, trims, perhaps a clean stop.
fn live(disk: Disk, mut model: Model, seed: u64) -> Run {
    let sim = Sim::boot(disk).recording();
    let mut dice = Dice::new(seed);
    let mut models = vec![(0, model.clone())];
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    let mut next = model.records.last().map_or(0, |record| record.0);
    for _ in 0..8 {
        match dice.below(10) {
            0 | 1 => log.keep().unwrap(),
            2 => log.idle().unwrap(),
            3 => {
                log.keep().unwrap();
                let durable = log.durable_seq().0;
                log.trim(Seq(dice.below(durable + 2))).unwrap();
            }
            _ => {
                let transactions = batch(&mut dice, &mut next);
                model.submit(&transactions);
                models.push((sim.ops(), model.clone()));
                log.append(&transactions).unwrap();
                model.ack();
                models.push((sim.ops(), model.clone()));
            }
        }
    }
    if dice.coin() {
        log.close().unwrap();
    }
    Run { history: sim.history(), models }
}

/// What the log must hold when call number `op` was about to be made.
fn model_at(run: &Run, op: u64) -> &Model {
    let index = run.models.partition_point(|(ops, _)| *ops <= op);
    &run.models[index.saturating_sub(1)].1
}

fn reopen(disk: Disk, model: &Model) -> (Disk, usize) {
    let sim = Sim::boot(disk);
    let (log, _) = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    let read = |from| decode(&log.read(from, 1 << 16).unwrap());
    let held = model.check(read, log.first_seq(), log.durable_seq());
    (sim.disk(), held)
}

fn point(run: &Run, op: usize, seed: u64) {
    let model = model_at(run, op as u64);
    let mut dice = Dice::new(seed);
    let disk = run.history[op].after_power_cut(&mut dice);
    if dice.below(8) > 0 {
        reopen(disk, model);
        return;
    }
    // Now and then the power goes again while the log recovers.
    let sim = Sim::boot(disk.clone()).recording();
    drop(StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap());
    let history = sim.history();
    let again = usize::try_from(dice.below(history.len() as u64)).unwrap();
    let (_, held) = reopen(history[again].after_power_cut(&mut dice), model);
    let (disk, first) = reopen(disk, model);
    assert!(held >= model.acked && first >= model.acked);
    let (_, second) = reopen(disk, model);
    assert_eq!(first, second, "opening twice is opening once");
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash_point() {
    let base: u64 = std::env::var("REVENANT_SEED").map_or(1, |seed| seed.parse().unwrap());
    // A taste: `just crash` runs many more, and every short life.
    let points: u64 = 20_000;
    let (run_count, cursor, failed) =
        (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while run_count.load(Ordering::Relaxed) < points && !failed.load(Ordering::Relaxed)
                {
                    let seed = base * 1_000_003 + cursor.fetch_add(1, Ordering::Relaxed);
                    let result = std::panic::catch_unwind(|| life(seed));
                    let count = result.unwrap_or_else(|cause| {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("crash suite: failed with seed {seed}");
                        std::panic::resume_unwind(cause)
                    });
                    run_count.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
    });
    println!(
        "crash points: {}, seed {base}, lost 0, invented 0, reordered 0, wrong 0",
        run_count.into_inner()
    );
}

/// Two lives one after the other, crashed at every call of each; returns the number of points.
fn life(seed: u64) -> u64 {
    const LOSSES: u64 = 12;
    let mut disk = Disk::default();
    let mut model = Model::default();
    let mut count = 0;
    for generation in 0..2 {
        let run = live(disk, model, seed * 2 + generation);
        for op in 0..run.history.len() {
            for loss in 0..LOSSES {
                point(&run, op, seed ^ (op as u64) << 20 ^ loss << 40);
                count += 1;
            }
        }
        // The next life starts from one of these crashes.
        let mut dice = Dice::new(seed);
        let op = usize::try_from(dice.below(run.history.len() as u64)).unwrap();
        let crashed = run.history[op].after_power_cut(&mut dice);
        model = model_at(&run, op as u64).clone();
        let (recovered, held) = reopen(crashed, &model);
        model.records.truncate(held);
        model.acked = held;
        disk = recovered;
    }
    count
}

#[test]
fn a_trim_of_many_segments_cut_short_leaves_no_gap() {
    let sim = Sim::default();
    let mut model = Model::default();
    let open = |sim: &Sim| {
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap().0
    };
    let mut log = open(&sim);
    for number in 1..=20 {
        let transactions = [transaction(number, 1, 14_000)];
        model.submit(&transactions);
        log.append(&transactions).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    drop(log);
    let sim = Sim::boot(sim.disk()).recording();
    let mut log = open(&sim);
    let before = sim.ops();
    log.trim(Seq(19)).unwrap();
    assert!(sim.ops() > before + 6, "several segments go");
    for (op, disk) in sim.history().iter().enumerate() {
        for seed in 0..64 {
            reopen(disk.after_power_cut(&mut Dice::new(seed << 20 | op as u64)), &model);
        }
    }
}

/// A log that a power cut left with half a roll: the new segment lacks its first sector, and no more. The end
/// of the segment before moves with `lead`.
fn torn_roll(lead: usize) -> (Disk, Model) {
    let sim = Sim::default().recording();
    let mut model = Model::default();
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    for number in 1..=5 {
        let bytes = if number == 1 { 13_000 + lead } else { 13_000 };
        let transactions = [transaction(number, 1, bytes)];
        model.submit(&transactions);
        log.keep().unwrap();
        let before = sim.ops();
        log.append(&transactions).unwrap();
        assert_eq!(sim.ops() - before, 2, "a write and a sync");
        if number < 5 {
            model.ack();
        }
    }
    let mut sectors = 0..;
    let torn = sim.history().pop().unwrap().after_this_power_cut(&mut || sectors.next() > Some(0));
    (torn, model)
}

#[test]
fn a_recovery_from_a_torn_roll_cut_short_anywhere_is_done_again() {
    let mut across_sectors = 0;
    for lead in (0..512).step_by(64) {
        let (torn, model) = torn_roll(lead);
        let sim = Sim::boot(torn).recording();
        let (log, report) =
            StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
        drop(log);
        assert!(report.torn_bytes > 13_000, "{report:?}");
        let history = sim.history();
        // The OPEN frame is written, and about to be synced.
        across_sectors += u64::from(history.last().unwrap().choices() == 2);
        for (op, disk) in history.iter().enumerate() {
            let choices = disk.choices();
            if choices > 8 {
                // The copy of the torn roll; nothing reads it.
                for seed in 0..24 {
                    reopen(disk.after_power_cut(&mut Dice::new(seed << 20 | op as u64)), &model);
                }
                continue;
            }
            for kept in 0_u32..1 << choices {
                let mut bits = (0..choices).map(|bit| kept >> bit & 1 == 1);
                reopen(disk.after_this_power_cut(&mut || bits.next().unwrap()), &model);
            }
        }
    }
    assert!(across_sectors > 0, "no OPEN frame could be torn");
}

#[test]
fn nothing_is_acknowledged_after_a_failed_write_or_sync() {
    let opened = Sim::default();
    drop(StepLog::open(Arc::new(opened.clone()), small("/log"), &Witnesses::none()).unwrap());
    for op in 0..8 {
        let sim = Sim::boot(opened.disk());
        let (mut log, _) =
            StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
        sim.fail_at(sim.ops() + op, Fault::Eio);
        let mut results = (1..=8).map(|number| log.append(&[transaction(number, 1, 50)]).is_ok());
        let acknowledged = results.by_ref().take_while(|&ok| ok).count();
        assert_eq!(acknowledged as u64, op / 2, "an append is one write and one sync");
        assert!(results.all(|ok| !ok), "call {op} failed, and later appends were acknowledged");
    }
}

#[test]
fn an_append_is_one_write_and_one_sync_and_so_is_one_that_rolls() {
    let sim = Sim::default();
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    for number in 1..=60 {
        log.keep().unwrap();
        let before = sim.ops();
        log.append(&[transaction(number, 2, 3000), transaction(number, 1, 10)]).unwrap();
        assert_eq!(sim.ops() - before, 2, "append {number}");
    }
    assert!(sim.disk().bytes("/log/seg/0000000005.log".as_ref()).is_some(), "it rolled");
}

#[test]
fn a_failed_call_poisons_and_loses_nothing() {
    for seed in 0..40 {
        for (op, fault) in (0..60).flat_map(|op| [(op, Fault::Eio), (op, Fault::NoSpace)]) {
            let sim = Sim::default();
            sim.fail_at(op, fault);
            let mut model = Model::default();
            let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
            if let Ok((mut log, _)) = opened {
                let mut dice = Dice::new(seed);
                let mut next = 0;
                for _ in 0..8 {
                    let transactions = batch(&mut dice, &mut next);
                    model.submit(&transactions);
                    match log.append(&transactions) {
                        Ok(_) => model.ack(),
                        Err(Error::Full { .. }) => {
                            // Whole transactions of the round may be in; the rest never were.
                            let held = usize::try_from(log.durable_seq().0).unwrap();
                            model.records.truncate(held);
                            model.ack();
                            sim.heal();
                        }
                        Err(_) => {
                            // The keeper may wake up only now; what is poisoned must stay as it is.
                            let _refused = log.keep();
                            break;
                        }
                    }
                    let _seals_later = log.keep();
                }
            }
            sim.heal();
            let mut dice = Dice::new(seed ^ op);
            let disk = sim.disk();
            reopen(disk.after_power_cut(&mut dice), &model);
            // What a process finds after a failed sync may be in memory only; what it then vouches for
            // must survive the power all the same.
            let (reopened, held) = reopen(disk.after_kill(), &model);
            model.acked = held;
            reopen(reopened.after_power_cut(&mut dice), &model);
        }
    }
}
