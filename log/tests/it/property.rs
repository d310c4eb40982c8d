//! Random operations against a model that keeps a list; a failure shrinks to the shortest life that shows it.

use std::sync::Arc;

use proptest::prelude::*;
use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Sim};
use revenant_log::{Error, Seq, Witnesses};

use crate::model::{Model, decode, small, transaction};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u64, usize)>),
    Keep,
    Idle,
    Trim(u64),
    Close,
    Kill,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let transactions = prop::collection::vec((1u64..12, 0usize..4000), 1..4);
    prop_oneof![
        6 => transactions.prop_map(Step::Append),
        2 => Just(Step::Keep),
        1 => Just(Step::Idle),
        1 => (0u64..200).prop_map(Step::Trim),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

fn open(disk: Disk) -> (Sim, StepLog) {
    let sim = Sim::boot(disk);
    let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    (sim, opened.unwrap().0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_log_holds_what_a_list_would(steps in prop::collection::vec(step(), 1..40)) {
        let (mut sim, mut log) = open(Disk::default());
        let mut model = Model::default();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Append(shapes) => {
                    let transactions: Vec<_> = shapes
                        .into_iter()
                        .map(|(events, bytes)| {
                            number += 1;
                            transaction(number, events, bytes / usize::try_from(events).unwrap())
                        })
                        .collect();
                    model.submit(&transactions);
                    let appended = log.append(&transactions).unwrap();
                    prop_assert_eq!(appended.last_seq, log.durable_seq());
                    model.ack();
                }
                Step::Keep => log.keep().unwrap(),
                Step::Idle => log.idle().unwrap(),
                Step::Trim(before) => {
                    let first = log.first_seq();
                    log.trim(Seq(before)).unwrap();
                    prop_assert!(log.first_seq() <= Seq(before).max(first), "trimmed too much");
                }
                Step::Close => {
                    log.close().unwrap();
                    (sim, log) = open(sim.disk());
                }
                Step::Kill => (sim, log) = open(sim.disk().after_kill()),
                Step::PowerCut(seed) => {
                    (sim, log) = open(sim.disk().after_power_cut(&mut Dice::new(seed)));
                }
            }
            let first = log.first_seq();
            let read = |from| decode(&log.read(from, 5000).unwrap());
            let held = model.check(read, first, log.durable_seq());
            prop_assert_eq!(held, model.records.len(), "all appends were acknowledged");
            if first > Seq::FIRST {
                let below = log.read(first.prev(), 10);
                prop_assert!(matches!(below, Err(Error::Trimmed { .. })), "below the trim point");
            }
        }
    }
}
