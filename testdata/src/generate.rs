//! Made-up histories: the same seed gives the same history, for ever. They are consistent from an empty
//! start, as real ones are, and use the paths that go wrong easily.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::history::{Change, Op, Transaction};

/// Parts of paths: plain, spaced, quoted, hostile to SurrealQL, beyond ASCII.
const NAMES: [&str; 12] = [
    "main",
    "lib-1",
    "a b",
    "it's",
    "back`tick",
    "semi;colon",
    "⟨angle⟩",
    "ünïcode",
    "100",
    "None",
    "back\\slash",
    "$param",
];

/// Endings of paths.
const ENDINGS: [&str; 5] = ["rs", "go", "md", "proto", "yaml"];

/// Most changes of a transaction.
const CHANGES: usize = 8;

/// An endless history.
pub struct Generator {
    random: StdRng,
    alive: Vec<String>,
    count: u64,
}

impl Generator {
    /// The history of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), alive: Vec::new(), count: 0 }
    }

    fn change(&mut self, done: &[Change]) -> Option<Change> {
        let fresh = |path: &String| done.iter().all(|change| change.path != *path);
        let path = format!(
            "{}/{}.{}",
            NAMES.choose(&mut self.random)?,
            NAMES.choose(&mut self.random)?,
            ENDINGS.choose(&mut self.random)?,
        );
        let roll = self.random.random_range(0..10);
        if roll < 4 && !self.alive.contains(&path) && fresh(&path) {
            self.alive.push(path.clone());
            return Some(Change { op: Op::Create, path });
        }
        let index = self.random.random_range(0..self.alive.len().max(1));
        let path = self.alive.get(index).filter(|path| fresh(path))?.clone();
        if roll < 9 {
            return Some(Change { op: Op::Update, path });
        }
        self.alive.swap_remove(index);
        Some(Change { op: Op::Delete, path })
    }
}

impl Iterator for Generator {
    type Item = Transaction;

    fn next(&mut self) -> Option<Transaction> {
        let due = self.random.random_range(1..=CHANGES);
        let mut changes = Vec::new();
        while changes.is_empty() {
            for _ in 0..due {
                changes.extend(self.change(&changes));
            }
        }
        self.count += 1;
        Some(Transaction {
            commit: format!("{:012x}", self.count),
            time: 1_400_000_000 + self.random.random_range(0..100_000_000),
            author: format!("u{}", self.random.random_range(0..20)),
            words: self.random.random_range(1..20),
            changes,
        })
    }
}
