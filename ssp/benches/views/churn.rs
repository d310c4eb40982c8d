//! `Churn`: rows with an owner and a number that come, change and go, about as many as there were at first.
//! Free of dependencies, since the peers' workspace includes this file.

use std::collections::{BTreeSet, HashMap};

use crate::random::Random;

/// Rows at the top of an owner that count as being in its window.
const WINDOW: usize = 10;

/// What a row holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) owner: u64,
    pub(crate) n: i64,
}

/// What happens to the row with a key: it is so now, or gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) key: u64,
    pub(crate) row: Option<Row>,
}

/// Rows of `owners` owners.
pub(crate) struct Churn {
    random: Random,
    owners: u64,
    numbers: u64,
    next: u64,
    live: Vec<(u64, Row)>,
    places: HashMap<u64, usize>,
    /// Where deletes go to the top of an owner: its rows by number.
    ranks: Option<Vec<BTreeSet<(i64, u64)>>>,
}

impl Churn {
    /// Without rows; each row's number is below `numbers`.
    pub(crate) fn new(seed: u64, owners: u64, numbers: u64) -> Self {
        let (live, places) = (Vec::new(), HashMap::new());
        Self { random: Random(seed), owners, numbers, next: 0, live, places, ranks: None }
    }

    /// Two thirds of all deletes, which is a fifth of all changes, hit one of an owner's ten highest numbers.
    pub(crate) fn at_the_top(mut self) -> Self {
        self.ranks = Some(vec![BTreeSet::new(); index(self.owners)]);
        self
    }

    /// A new row, of each owner in turn.
    pub(crate) fn create(&mut self) -> Change {
        let (key, owner) = (self.next, self.next % self.owners);
        self.put(key, owner)
    }

    /// 40 % creates, 20 % updates that keep the owner, 10 % that change it, 30 % deletes, as long as there
    /// are about `rows` rows.
    pub(crate) fn change(&mut self, rows: usize) -> Change {
        let dice = self.random.below(100);
        let few = self.live.len() < rows / 2 || self.live.len() < 2;
        if few || dice < 40 && self.live.len() <= rows + rows / 50 {
            let owner = self.random.below(self.owners);
            return self.put(self.next, owner);
        }
        let (key, row) = self.live[self.random.place(self.live.len())];
        match dice {
            40..60 => self.put(key, row.owner),
            60..70 => {
                let owner = self.random.below(self.owners);
                self.put(key, owner)
            }
            70..90 if self.ranks.is_some() => {
                let key = self.top(row.owner);
                self.delete(key)
            }
            _ => self.delete(key),
        }
    }

    fn top(&mut self, owner: u64) -> u64 {
        let ranks = &self.ranks.as_ref().expect("the caller looked")[index(owner)];
        let nth = self.random.place(WINDOW.min(ranks.len()));
        ranks.iter().rev().nth(nth).expect("a place below the length").1
    }

    fn put(&mut self, key: u64, owner: u64) -> Change {
        self.forget(key);
        let row = Row { owner, n: self.random.below(self.numbers) as i64 };
        self.next = self.next.max(key + 1);
        self.places.insert(key, self.live.len());
        self.live.push((key, row));
        if let Some(ranks) = &mut self.ranks {
            ranks[index(owner)].insert((row.n, key));
        }
        Change { key, row: Some(row) }
    }

    fn delete(&mut self, key: u64) -> Change {
        self.forget(key);
        Change { key, row: None }
    }

    fn forget(&mut self, key: u64) {
        let Some(place) = self.places.remove(&key) else { return };
        let (_, row) = self.live.swap_remove(place);
        if let Some((moved, _)) = self.live.get(place) {
            self.places.insert(*moved, place);
        }
        if let Some(ranks) = &mut self.ranks {
            ranks[index(row.owner)].remove(&(row.n, key));
        }
    }
}

fn index(owner: u64) -> usize {
    usize::try_from(owner).expect("owners fit in memory")
}
