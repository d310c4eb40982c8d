//! A replica that is killed at any moment opens at a whole transaction and catches up from the log.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use revenant_log::storage::sim::{Dice, Disk, Fault};
use revenant_log::{Record, Seq};
use revenant_replica::{Error, Proof, Replica, ReplicaConfig};

use crate::disk::{Cut, Machine};
use crate::model::{LOG, Stream, apply, records, rows, stream};

/// Without a cache redb writes at once what is not durable yet, so that a crash can keep or lose it. Every
/// other file is not proven when it is opened.
fn config(seed: u64) -> ReplicaConfig {
    let proof = if seed.is_multiple_of(2) { Proof::Later } else { Proof::AtOpen };
    ReplicaConfig { cache_bytes: 0, proof }
}

/// Power cuts tried at every sync: each keeps other sectors of what was not synced. After the first of
/// them the power goes twice more, at every sync of opening.
const CUTS: u64 = 3;
/// Streams of transactions, and how many crashes they are to give.
const SEEDS: u64 = 150;
const CRASHES_LEAST: u64 = 50_000;

/// A stream with its records.
struct Work {
    stream: Stream,
    all: Vec<Record>,
}

impl Work {
    fn new(seed: u64, transactions: usize) -> Self {
        let stream = stream(seed, transactions);
        Self { all: records(&stream.transactions, Seq::FIRST), stream }
    }

    /// Applies everything, a transaction at a time, with checkpoints at random.
    fn run(&self, machine: &Machine, replica: &Replica, random: &mut StdRng) -> Result<(), Error> {
        for end in self.stream.rows.keys() {
            apply(replica, &self.all[..usize::try_from(end.0).unwrap()])?;
            if random.random_range(0..4) == 0 {
                machine.checkpointed(replica.checkpoint()?);
            }
        }
        Ok(())
    }

    /// After the power went on again, at the `cut`: a whole transaction, none older than the checkpoint, and
    /// the log replays the rest; also if the power goes `again` so many times while it is opened.
    fn assert_survives(&self, cut: &Cut, seed: u64, again: u32) -> u64 {
        let at_least = cut.checkpoint_seq;
        let disk = cut.disk.after_power_cut(&mut Dice::new(seed));
        let machine = Machine::boot(disk, at_least);
        let replica = Replica::open_on(machine.clone(), LOG, &config(seed));
        let during = machine.take_cuts();
        match replica {
            // The power went before the file was made: it is moved aside, and nothing is lost.
            Err(Error::Database { .. } | Error::Damaged(_)) if at_least == Seq::ZERO => {}
            Err(error) => panic!("seed {seed}, checkpoint {at_least}: {error:?}"),
            Ok(replica) => {
                let applied = replica.applied_seq();
                assert!(applied >= at_least, "seed {seed}: {applied} after checkpoint {at_least}");
                let found = rows(&replica.snapshot().unwrap(), 9);
                assert_eq!(Some(&found), self.stream.rows.get(&applied), "seed {seed}");
                apply(&replica, &self.all).unwrap();
                replica.checkpoint().unwrap();
                let (_, last) = self.stream.rows.last_key_value().unwrap();
                assert_eq!(rows(&replica.snapshot().unwrap(), 9), *last, "seed {seed}");
            }
        }
        let deeper = during.iter().filter(|_| again > 0);
        1 + deeper
            .map(|cut| self.assert_survives(cut, seed.wrapping_mul(31) + 7, again - 1))
            .sum::<u64>()
    }
}

#[test]
fn power_that_goes_at_any_sync_loses_no_checkpoint_and_halves_no_transaction() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next_seed = AtomicU64::new(0);
    let crashes: u64 = std::thread::scope(|scope| {
        let work = || {
            let seeds = std::iter::from_fn(|| Some(next_seed.fetch_add(1, Ordering::Relaxed)));
            seeds.take_while(|seed| *seed < SEEDS).map(crashes_of).sum::<u64>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("crashes: {crashes}");
    assert!(crashes >= CRASHES_LEAST, "only {crashes} crashes");
}

/// Power cuts at every sync of one stream.
fn crashes_of(seed: u64) -> u64 {
    let work = Work::new(seed, 30);
    let machine = Machine::boot(Disk::default(), Seq::ZERO);
    let replica = Replica::open_on(machine.clone(), LOG, &config(0)).unwrap();
    work.run(&machine, &replica, &mut StdRng::seed_from_u64(seed)).unwrap();
    let mut cuts = machine.take_cuts();
    cuts.push(machine.cut());
    drop(replica);
    let mut crashes = 0;
    for (index, cut) in (1_u64..).zip(&cuts) {
        for dice in 0..CUTS {
            let again = if dice == 0 { 2 } else { 0 };
            let seed = seed * 1_000_000 + index * 1_000 + dice;
            crashes += work.assert_survives(cut, seed, again);
        }
    }
    crashes
}

#[test]
fn a_disk_that_fails_once_gives_an_error_and_no_wrong_row() {
    let work = Work::new(21, 12);
    let run = |fault: Option<u64>| {
        let machine = Machine::boot(Disk::default(), Seq::ZERO);
        if let Some(op) = fault {
            machine.sim().fail_at(op, Fault::Eio);
        }
        let outcome = Replica::open_on(machine.clone(), LOG, &config(0))
            .and_then(|replica| work.run(&machine, &replica, &mut StdRng::seed_from_u64(1)));
        machine.sim().heal();
        (machine, outcome)
    };
    let (machine, outcome) = run(None);
    outcome.unwrap();
    let ops = machine.sim().ops();
    let mut failed = 0;
    for op in (0..ops).step_by(3) {
        let (machine, outcome) = run(Some(op));
        failed += u64::from(outcome.is_err());
        work.assert_survives(&machine.cut(), op, 0);
    }
    assert!(failed > ops / 10, "{failed} of {ops} calls failed");
}

#[test]
fn a_killed_replica_opens_at_its_checkpoint_and_the_log_replays_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let config = ReplicaConfig::default();
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let stream = stream(seed, 80);
        let all = records(&stream.transactions, Seq::FIRST);
        let mut path = dir.path().join(format!("{seed}"));
        let (mut replica, _) = Replica::open(&path, LOG, &config).unwrap();
        let mut checkpoint_seq = Seq::ZERO;
        for end in stream.rows.keys().skip(1) {
            let end_index = usize::try_from(end.0).unwrap();
            apply(&replica, &all[..end_index]).unwrap();
            match random.random_range(0..10) {
                0 => {
                    checkpoint_seq = replica.checkpoint().unwrap();
                    assert_eq!(checkpoint_seq, *end);
                }
                1 => {
                    // What is in the file now is what a kill leaves, as its pages outlive the process.
                    let at_least = checkpoint_seq;
                    path = dir.path().join(format!("{seed}-{end}"));
                    std::fs::copy(replica.path(), &path).unwrap();
                    let (killed, report) = Replica::open(&path, LOG, &config).unwrap();
                    assert!(report.moved_aside.is_none(), "seed {seed} seq {end}: {report:?}");
                    let applied = killed.applied_seq();
                    assert!(applied >= at_least, "seed {seed} seq {end}");
                    let found = rows(&killed.snapshot().unwrap(), 9);
                    assert_eq!(found, stream.rows[&applied], "seed {seed} seq {end}");
                    apply(&killed, &all[..end_index]).unwrap();
                    replica = killed;
                }
                _ => {}
            }
            assert_eq!(rows(&replica.snapshot().unwrap(), 9), stream.rows[end]);
        }
    }
}
