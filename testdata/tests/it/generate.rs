use std::collections::HashSet;

use revenant_testdata::generate::Generator;
use revenant_testdata::history::Op;

#[test]
fn a_seed_gives_the_same_history_again() {
    let once: Vec<_> = Generator::new(7).take(500).collect();
    let again: Vec<_> = Generator::new(7).take(500).collect();
    assert_eq!(once, again);
    assert_ne!(once, Generator::new(8).take(500).collect::<Vec<_>>());
}

#[test]
fn a_generated_history_is_consistent_from_an_empty_start() {
    let mut alive = HashSet::new();
    for transaction in Generator::new(1).take(5_000) {
        for change in transaction.changes {
            match change.op {
                Op::Create => assert!(alive.insert(change.path)),
                Op::Update => assert!(alive.contains(&change.path)),
                Op::Delete => assert!(alive.remove(&change.path)),
            }
        }
    }
}
