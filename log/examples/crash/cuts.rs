//! Power cuts and kills between any two calls: every short life with every loss, and long ones by seed.

use std::sync::Arc;
use std::time::Instant;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Sim};
use revenant_log::{Seq, Transaction, Witnesses};

use crate::model::{Model, Verdict, batch, decode, small, transaction};
use crate::tally::Tally;

/// With this many choices at most, every power cut is tried.
const EXHAUSTIVE: usize = 8;
/// Power cuts by seed where there are more.
const SAMPLES: u64 = 24;
/// Power cuts at each call of a long life.
const LOSSES: u64 = 12;
/// Long lives of a round.
const LIVES: u64 = 40;

/// A step of a life.
#[derive(Clone, Copy, Debug)]
enum Step {
    Small,
    Several,
    Run,
    Large,
    Idle,
    Keep,
    Compress,
    Trim,
    Reopen,
}

/// zstd's own default.
const LEVEL: i32 = 3;

const STEPS: [Step; 9] = [
    Step::Small,
    Step::Several,
    Step::Run,
    Step::Large,
    Step::Idle,
    Step::Keep,
    Step::Compress,
    Step::Trim,
    Step::Reopen,
];

/// A life in progress, with what it acknowledged by each call to the disk.
struct Life {
    sim: Sim,
    log: Option<StepLog>,
    model: Model,
    models: Vec<(u64, Model)>,
    next: u64,
}

impl Life {
    fn start(disk: Disk, model: Model) -> Self {
        let sim = Sim::boot(disk).recording();
        let next = model.records.last().map_or(0, |record| record.0);
        let models = vec![(0, model.clone())];
        let mut life = Self { sim, log: None, model, models, next };
        life.open();
        life
    }

    fn open(&mut self) {
        self.log = None;
        let storage = Arc::new(self.sim.clone());
        self.log = Some(StepLog::open(storage, small("/log"), &Witnesses::none()).unwrap().0);
    }

    fn log(&mut self) -> &mut StepLog {
        self.log.as_mut().unwrap()
    }

    fn append(&mut self, transactions: &[Transaction]) {
        self.model.submit(transactions);
        self.models.push((self.sim.ops(), self.model.clone()));
        self.log().append(transactions).unwrap();
        self.model.ack();
        self.models.push((self.sim.ops(), self.model.clone()));
    }

    fn step(&mut self, step: Step) {
        let mut transaction = |events, bytes| {
            self.next += 1;
            transaction(self.next, events, bytes)
        };
        match step {
            Step::Small => {
                let one = transaction(1, 60);
                self.append(&[one]);
            }
            Step::Several => {
                let some = [transaction(1, 10), transaction(2, 300), transaction(1, 0)];
                self.append(&some);
            }
            Step::Run => {
                let run = transaction(4, 900);
                self.append(&[run]);
            }
            Step::Large => {
                let large = transaction(1, 15_000);
                self.append(&[large]);
            }
            Step::Idle => self.log().idle().unwrap(),
            Step::Keep => self.log().keep().unwrap(),
            Step::Compress => {
                self.log().keep().unwrap();
                self.log().compress(LEVEL).unwrap();
            }
            Step::Trim => {
                let durable = self.log().durable_seq();
                self.log().trim(durable.next()).unwrap();
            }
            Step::Reopen => {
                self.log.take().unwrap().close().unwrap();
                self.open();
            }
        }
    }

    /// What the log must hold when call number `op` was about to be made.
    fn model_at(&self, op: usize) -> &Model {
        let index = self.models.partition_point(|(ops, _)| *ops <= op as u64);
        &self.models[index.saturating_sub(1)].1
    }
}

/// Opens the log on `disk` and judges it; the disk as the opening leaves it, and the records it holds.
pub(crate) fn reopen(disk: Disk, model: &Model) -> Result<(Disk, usize), Verdict> {
    let sim = Sim::boot(disk);
    let (log, _) = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none())
        .map_err(Verdict::Refused)?;
    let held = judge(&log, model)?;
    Ok((sim.disk(), held))
}

pub(crate) fn judge(log: &StepLog, model: &Model) -> Result<usize, Verdict> {
    let read = |from| log.read(from, 1 << 16).map(|batch| decode(&batch));
    model.judge(read, log.first_seq(), log.durable_seq())
}

/// Every life of up to three steps, on a new log and on one that is about to roll, cut at every call.
pub(crate) fn every_small_life(tally: &mut Tally, started: Instant) {
    let mut lives: Vec<Vec<Step>> = vec![Vec::new()];
    let mut all = Vec::new();
    for _ in 0..3 {
        lives = lives
            .iter()
            .flat_map(|life| STEPS.map(|step| [life.as_slice(), &[step]].concat()))
            .collect();
        all.extend(lives.clone());
    }
    let starts = [(Disk::default(), Model::default()), nearly_full()];
    tally.share("lives of up to three steps", started, (all.len() * 2) as u64, |number, tally| {
        let number = usize::try_from(number).unwrap();
        let (steps, (disk, model)) = (&all[number / 2], &starts[number % 2]);
        let mut life = Life::start(disk.clone(), model.clone());
        let opened = life.sim.ops();
        steps.iter().for_each(|&step| life.step(step));
        let mut history = life.sim.history();
        history.push(life.sim.disk());
        // What comes before the last step was tried with the shorter life.
        let from = match steps.len() {
            1 => 0,
            _ => life_until_last(disk, model, steps).max(opened),
        };
        for (op, disk) in history.iter().enumerate().skip(usize::try_from(from).unwrap()) {
            let model = life.model_at(op);
            for number in 0..cuts_of(disk) {
                let cut = cut(disk, number);
                tally.cuts += 1;
                tally.exhaustive += u64::from(disk.choices() <= EXHAUSTIVE);
                tally.judge(|| format!("{steps:?} call {op} cut {number}"), reopen(cut, model));
            }
        }
    });
}

/// Calls of a life until its last step.
fn life_until_last(disk: &Disk, model: &Model, steps: &[Step]) -> u64 {
    let mut life = Life::start(disk.clone(), model.clone());
    steps[..steps.len() - 1].iter().for_each(|&step| life.step(step));
    life.sim.ops()
}

fn cuts_of(disk: &Disk) -> u64 {
    let choices = disk.choices();
    if choices <= EXHAUSTIVE { 1 << choices } else { SAMPLES }
}

fn cut(disk: &Disk, number: u64) -> Disk {
    if disk.choices() > EXHAUSTIVE {
        return disk.after_power_cut(&mut Dice::new(number));
    }
    let mut bits = number;
    disk.after_this_power_cut(&mut || {
        let kept = bits & 1 == 1;
        bits >>= 1;
        kept
    })
}

/// A log whose active segment has room for little more than one large transaction.
fn nearly_full() -> (Disk, Model) {
    let mut life = Life::start(Disk::default(), Model::default());
    for step in [Step::Large, Step::Large, Step::Large, Step::Keep] {
        life.step(step);
    }
    let (sim, model) = (life.sim.clone(), life.model.clone());
    drop(life);
    (sim.disk(), model)
}

/// Long lives by seed, two one after the other, each cut at every call; now and then the recoveries too, and
/// the recoveries from these.
pub(crate) fn lives(tally: &mut Tally, seed: u64, started: Instant) {
    tally.share(&format!("lives of seed {seed}"), started, LIVES, |number, tally| {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let (mut disk, mut model) = (Disk::default(), Model::default());
        for generation in 0..2 {
            let life = long_life(disk, model, seed.wrapping_mul(2).wrapping_add(generation));
            let mut history = life.sim.history();
            history.push(life.sim.disk());
            for (op, disk) in history.iter().enumerate() {
                for loss in 0..LOSSES {
                    let seed = seed ^ (op as u64) << 20 ^ loss << 40;
                    let what = || format!("life {seed} call {op} loss {loss}");
                    let result = point(disk, life.model_at(op), seed, tally);
                    tally.judge(what, result);
                }
            }
            // The next life starts from one of these crashes.
            let mut dice = Dice::new(seed);
            let op = usize::try_from(dice.below(history.len() as u64)).unwrap();
            model = life.model_at(op).clone();
            let Ok((recovered, held)) = reopen(history[op].after_power_cut(&mut dice), &model)
            else {
                return;
            };
            model.records.truncate(held);
            model.acked = held;
            disk = recovered;
        }
    });
}

fn long_life(disk: Disk, model: Model, seed: u64) -> Life {
    let mut dice = Dice::new(seed);
    let mut life = Life::start(disk, model);
    for _ in 0..8 {
        match dice.below(12) {
            0 | 1 => life.step(Step::Keep),
            2 => life.step(Step::Idle),
            3 => {
                life.step(Step::Keep);
                let durable = life.log().durable_seq().0;
                life.log().trim(Seq(dice.below(durable + 2))).unwrap();
            }
            4 => life.step(Step::Reopen),
            5 => life.step(Step::Compress),
            _ => {
                let transactions = batch(&mut dice, &mut life.next);
                life.append(&transactions);
            }
        }
    }
    if dice.coin() {
        life.log.take().unwrap().close().unwrap();
    }
    life
}

fn point(disk: &Disk, model: &Model, seed: u64, tally: &mut Tally) -> Result<(), Verdict> {
    let mut dice = Dice::new(seed);
    let cut = disk.after_power_cut(&mut dice);
    tally.cuts += 1;
    let (recovered, held) = reopen(cut.clone(), model)?;
    if dice.below(8) > 0 {
        return Ok(());
    }
    let (_, again) = reopen(recovered, model)?;
    if held != again {
        return Err(Verdict::Wrong(format!("{held} records, after another opening {again}")));
    }
    // The power goes again while the log recovers, and again.
    let mut cut = cut;
    for _ in 0..3 {
        let sim = Sim::boot(cut).recording();
        let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
        drop(opened.map_err(Verdict::Refused)?);
        let history = sim.history();
        let op = usize::try_from(dice.below(history.len() as u64)).unwrap();
        cut = history[op].after_power_cut(&mut dice);
        tally.cuts += 1;
        tally.nested += 1;
        reopen(cut.clone(), model)?;
    }
    Ok(())
}
