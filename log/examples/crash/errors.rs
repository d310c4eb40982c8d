//! Every call to the disk failing once: nothing is acknowledged that is not kept, and the log opens again.

use std::sync::Arc;
use std::time::Instant;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Fault, Sim};
use revenant_log::{Error, Witnesses};

use crate::cuts::{judge, reopen};
use crate::model::{Model, Verdict, batch, small};
use crate::tally::Tally;

const APPENDS: usize = 8;

/// Every changing call and every read of some lives, each failing in each way.
pub(crate) fn every_call(tally: &mut Tally, seed: u64, started: Instant) {
    tally.share("an error at every call", started, 24, |number, tally| {
        let seed = seed.wrapping_mul(24).wrapping_add(number);
        let sim = Sim::default();
        let (_, disk, model) = live(&sim, seed);
        for op in 0..sim.ops() {
            for fault in [Fault::Eio, Fault::NoSpace] {
                let result = failed_call(seed, op, fault, tally);
                tally.judge(|| format!("{fault:?} at call {op} of life {seed}"), result);
            }
        }
        let reads = Sim::boot(disk.clone());
        drop(StepLog::open(Arc::new(reads.clone()), small("/log"), &Witnesses::none()).unwrap());
        for read in 0..reads.reads() {
            tally.errors += 1;
            let result = failed_read(&disk, &model, read);
            tally.judge(|| format!("an error at read {read} of life {seed}"), result);
        }
    });
}

/// Random calls of random lives.
pub(crate) fn seeded(tally: &mut Tally, seed: u64, started: Instant) {
    tally.share(&format!("errors of seed {seed}"), started, 2000, |number, tally| {
        let mut dice = Dice::new(seed.wrapping_mul(2000).wrapping_add(number));
        let (life, op) = (dice.roll(), dice.below(80));
        let fault = if dice.coin() { Fault::Eio } else { Fault::NoSpace };
        let result = failed_call(life, op, fault, tally);
        tally.judge(|| format!("{fault:?} at call {op} of life {life}"), result);
    });
}

/// A life on a disk that may fail; how it ended, the disk, and what was submitted and acknowledged.
fn live(sim: &Sim, seed: u64) -> (Result<(), Verdict>, Disk, Model) {
    let mut model = Model::default();
    let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    let Ok((mut log, _)) = opened else { return (Ok(()), sim.disk(), model) };
    let (mut dice, mut next) = (Dice::new(seed), 0);
    let mut failed = false;
    for _ in 0..APPENDS {
        let transactions = batch(&mut dice, &mut next);
        model.submit(&transactions);
        match log.append(&transactions) {
            Ok(_) if failed => {
                let verdict = Verdict::Wrong("acknowledged after a failed write or sync".into());
                return (Err(verdict), sim.disk(), model);
            }
            Ok(_) => model.ack(),
            Err(Error::Full { .. }) => {
                // Whole transactions of the round may be in; the rest never were.
                model.records.truncate(usize::try_from(log.durable_seq().0).unwrap());
                model.ack();
                sim.heal();
            }
            // The keeper and callers may come all the same; what is poisoned must stay as it is.
            Err(_) => failed = true,
        }
        let _seals_later = log.keep();
        if dice.below(4) == 0 {
            let _marks_later = log.idle();
        }
        if dice.below(4) == 0 {
            let _compresses_later = log.compress(1);
        }
    }
    // What readers are shown is durable, also after a failure.
    (judge(&log, &model).map(|_| ()), sim.disk(), model)
}

fn failed_call(seed: u64, op: u64, fault: Fault, tally: &mut Tally) -> Result<(), Verdict> {
    tally.errors += 1;
    let sim = Sim::default();
    sim.fail_at(op, fault);
    let (ended, disk, model) = live(&sim, seed);
    ended?;
    let mut dice = Dice::new(seed ^ op);
    tally.cuts += 2;
    reopen(disk.after_power_cut(&mut dice), &model)?;
    // What a process finds after a failed sync may be in memory only; what it then vouches for must survive
    // the power all the same.
    let (reopened, held) = reopen(disk.after_kill(), &model)?;
    let model = Model { acked: held, ..model };
    tally.cuts += 1;
    reopen(reopened.after_power_cut(&mut dice), &model).map(|_| ())
}

/// Opening fails with the disk's own error or not at all, changes nothing if it does, and works afterwards.
fn failed_read(disk: &Disk, model: &Model, read: u64) -> Result<(), Verdict> {
    let sim = Sim::boot(disk.after_kill());
    sim.fail_read_at(read);
    match StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()) {
        Ok((log, _)) => judge(&log, model).map(|_| ())?,
        Err(Error::Io { .. }) if sim.ops() == 0 => {}
        Err(error) => return Err(Verdict::Refused(error)),
    }
    sim.heal();
    let (log, _) = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none())
        .map_err(Verdict::Refused)?;
    judge(&log, model).map(|_| ())
}
