//! `Sorted`: entries in order, found by order and by rank: short sorted runs one after the other. Moving a
//! run's entries is cheaper than following a tree's pointers, and few entries are one run.

/// Entries in a run before it is split. A choice: half of it moves on average, a few hundred bytes.
const RUN_MOST: usize = 256;
/// Runs below this join their neighbour.
const RUN_LEAST: usize = RUN_MOST / 4;

/// Entries in order.
#[derive(Debug)]
pub(crate) enum Sorted<E> {
    One(Vec<E>),
    /// None is empty.
    Many(Vec<Vec<E>>),
}

impl<E> Default for Sorted<E> {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

impl<E> Sorted<E> {
    /// Puts an entry after those for which `before` holds; it holds for a beginning of the entries.
    pub(crate) fn insert(&mut self, before: impl Fn(&E) -> bool, entry: E) {
        let (run, place) = self.seek(before);
        match self {
            Self::One(own) => {
                own.insert(place, entry);
                if own.len() > RUN_MOST {
                    let tail = own.split_off(RUN_MOST / 2);
                    *self = Self::Many(vec![std::mem::take(own), tail]);
                }
            }
            Self::Many(runs) => {
                // What is beyond all goes to the last run.
                let (run, place) = match runs.len() == run {
                    true => (run - 1, runs[run - 1].len()),
                    false => (run, place),
                };
                runs[run].insert(place, entry);
                if runs[run].len() > RUN_MOST {
                    let tail = runs[run].split_off(RUN_MOST / 2);
                    runs.insert(run + 1, tail);
                }
            }
        }
    }

    /// Takes out the first entry for which `before` does not hold, if it `is` the one that is meant.
    pub(crate) fn remove(
        &mut self,
        before: impl Fn(&E) -> bool,
        is: impl Fn(&E) -> bool,
    ) -> Option<E> {
        let (number, place) = self.seek(before);
        match self {
            Self::One(run) => {
                let found = run.get(place).is_some_and(is);
                let entry = found.then(|| run.remove(place));
                if run.capacity() > 8 && run.len() < run.capacity() / 4 {
                    run.shrink_to(run.len() * 2);
                }
                entry
            }
            Self::Many(runs) => {
                let run = runs.get_mut(number)?;
                let found = run.get(place).is_some_and(is);
                let entry = found.then(|| run.remove(place));
                if run.len() < RUN_LEAST {
                    Self::join(runs, number);
                }
                if runs.len() == 1 {
                    *self = Self::One(std::mem::take(&mut runs[0]));
                }
                entry
            }
        }
    }

    /// The entries from the first on for which `before` does not hold.
    pub(crate) fn not_before(&self, before: impl Fn(&E) -> bool) -> impl Iterator<Item = &E> {
        let (run, place) = self.seek(before);
        self.iter_from(run, place)
    }

    /// The entries from a rank on; the first has rank 0.
    pub(crate) fn skip(&self, mut rank: usize) -> impl Iterator<Item = &E> {
        let mut run = 0;
        while let Some(entries) = self.runs().get(run)
            && entries.len() <= rank
        {
            rank -= entries.len();
            run += 1;
        }
        self.iter_from(run, rank)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::One(run) if run.is_empty())
    }

    /// The run and the place in it of the first entry for which `before` does not hold.
    fn seek(&self, before: impl Fn(&E) -> bool) -> (usize, usize) {
        let runs = self.runs();
        let run = match runs {
            [_] => 0,
            runs => runs.partition_point(|run| run.last().is_some_and(&before)),
        };
        let place = runs.get(run).map_or(0, |entries| entries.partition_point(before));
        (run, place)
    }

    fn iter_from(&self, run: usize, place: usize) -> impl Iterator<Item = &E> {
        let mut runs = self.runs().get(run..).unwrap_or_default().iter();
        let first = runs.next().and_then(|run| run.get(place..)).unwrap_or_default();
        first.iter().chain(runs.flatten())
    }

    fn runs(&self) -> &[Vec<E>] {
        match self {
            Self::One(run) => std::slice::from_ref(run),
            Self::Many(runs) => runs,
        }
    }

    /// Has a short run join a neighbour if both are one run then that has room.
    fn join(runs: &mut Vec<Vec<E>>, number: usize) {
        let first = number.min(runs.len().saturating_sub(2));
        let fits = |runs: &[Vec<E>]| {
            runs.get(first + 1).is_some_and(|next| runs[first].len() + next.len() <= RUN_MOST / 2)
        };
        if fits(runs) || runs[number].is_empty() && runs.len() > 1 {
            let next = runs.remove(first + 1);
            runs[first].extend(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sorted_list_holds_what_a_set_of_the_same_entries_holds(
            steps in prop::collection::vec((any::<bool>(), 0u32..600), 0..3000)
        ) {
            let (mut own, mut model) = (Sorted::default(), BTreeSet::new());
            for (put, entry) in steps {
                if put && model.insert(entry) {
                    own.insert(|other| *other < entry, entry);
                } else if !put {
                    let gone = own.remove(|other| *other < entry, |other| *other == entry);
                    prop_assert_eq!(gone.is_some(), model.remove(&entry));
                }
            }
            prop_assert!(own.skip(0).eq(&model));
            prop_assert_eq!(own.is_empty(), model.is_empty());
            for bound in [0, 1, 77, 300, 599, 700] {
                let all = own.not_before(|other| *other < bound);
                prop_assert!(all.eq(model.range(bound..)));
                let all = own.skip(bound as usize);
                prop_assert!(all.eq(model.iter().skip(bound as usize)));
            }
        }
    }
}
