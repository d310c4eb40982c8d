//! From records to row changes. Pure: no I/O.

use std::cmp::Reverse;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::v3::rapidhash_v3;
use revenant_log::{RawRecord, RawRow, Seq, SourcePos};

use crate::tables::{push_row_key, push_row_value};

/// What records leave of the rows that they touch, whatever was there before: applying them again changes
/// nothing more.
///
/// Of a row's events the last one that is not stale decides, also for a row that was deleted and created
/// again; a reconciled row is set to what was found.
#[derive(Default)]
pub(crate) struct Collapse<'a> {
    /// The stored keys of all rows, one after the other.
    keys: Vec<u8>,
    rows: Vec<Kept<'a>>,
    by_key: HashTable<usize>,
}

/// What is kept of a row's last record.
struct Kept<'a> {
    seq: Seq,
    table: &'a str,
    /// Where in the keys its stored key is.
    key: Range<usize>,
    source: SourcePos,
    row: Option<RawRow<'a>>,
}

impl<'a> Collapse<'a> {
    /// Room for as many rows.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self { by_key: HashTable::with_capacity(rows), ..Self::default() }
    }

    /// Takes a record that follows all that were taken.
    pub(crate) fn take(&mut self, record: &RawRecord<'a>) {
        if record.stale {
            return;
        }
        let Self { keys, rows, by_key } = self;
        let start = keys.len();
        push_row_key(record.table, &record.key, keys);
        let hash = |at: &usize| rapidhash_v3(&keys[rows[*at].key.clone()]);
        let same = |at: &usize| keys[rows[*at].key.clone()] == keys[start..];
        match by_key.entry(rapidhash_v3(&keys[start..]), same, hash) {
            Entry::Occupied(known) => {
                let kept = &mut rows[*known.get()];
                (kept.seq, kept.source, kept.row) = (record.seq, record.source, record.row());
                keys.truncate(start);
            }
            Entry::Vacant(place) => {
                place.insert(rows.len());
                let (seq, table, source) = (record.seq, record.table, record.source);
                rows.push(Kept { seq, table, key: start..keys.len(), source, row: record.row() });
            }
        }
    }

    /// The rows as they are to be stored, in key order.
    pub(crate) fn finish(self) -> Changes {
        let Self { keys, mut rows, .. } = self;
        rows.sort_unstable_by(|a, b| keys[a.key.clone()].cmp(&keys[b.key.clone()]));
        let mut changes = Changes { keys, ..Changes::default() };
        changes.rows.reserve_exact(rows.len());
        for Kept { seq, table, key, source, row } in rows {
            // Rows of a table stand together.
            if changes.tables.last().is_none_or(|last| last != table) {
                changes.tables.push(table.to_owned());
            }
            let table = changes.tables.len() - 1;
            let start = changes.values.len();
            let value = row.map(|row| {
                push_row_value(&changes.keys[key.clone()], source, row, &mut changes.values);
                start..changes.values.len()
            });
            changes.rows.push(Place { seq, table, key, value });
        }
        changes
    }
}

/// Rows to be stored or removed: by key, no key twice.
#[derive(Default)]
pub(crate) struct Changes {
    keys: Vec<u8>,
    values: Vec<u8>,
    tables: Vec<String>,
    rows: Vec<Place>,
}

/// Where the parts of a change are.
struct Place {
    seq: Seq,
    table: usize,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

/// What becomes of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// The seq of the record that decides.
    pub(crate) seq: Seq,
    /// The row's table.
    pub(crate) table: &'a str,
    /// Where it is stored.
    pub(crate) key: &'a [u8],
    /// The row as it is stored; `None` when it is gone.
    pub(crate) value: Option<&'a [u8]>,
}

impl Changes {
    /// What `records` leave.
    pub(crate) fn of(records: &[RawRecord<'_>]) -> Self {
        let mut collapse = Collapse::with_capacity(records.len());
        for record in records {
            collapse.take(record);
        }
        collapse.finish()
    }

    fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.rows.iter().map(|row| Change {
            seq: row.seq,
            table: &self.tables[row.table],
            key: &self.keys[row.key.clone()],
            value: row.value.clone().map(|value| &self.values[value]),
        })
    }
}

/// The changes of all `shares` by key. Of those with the same key the last one decides.
pub(crate) fn merged(shares: &[Changes]) -> impl Iterator<Item = Change<'_>> {
    let mut shares: Vec<_> = shares.iter().map(|share| share.iter().peekable()).collect();
    std::iter::from_fn(move || {
        let heads = shares.iter_mut().filter_map(|share| share.peek().copied());
        let next = heads.min_by_key(|change| (change.key, Reverse(change.seq)))?;
        for share in &mut shares {
            share.next_if(|change| change.key == next.key);
        }
        Some(next)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// Changes with these keys and seqs.
    fn changes(rows: &BTreeMap<u8, u64>) -> Changes {
        let mut changes = Changes { tables: vec!["t".into()], ..Changes::default() };
        for (key, seq) in rows {
            let (key_at, value_at) = (changes.keys.len(), changes.values.len());
            changes.keys.push(*key);
            changes.values.extend(seq.to_le_bytes());
            let value = (seq % 3 > 0).then_some(value_at..changes.values.len());
            let place = Place { seq: Seq(*seq), table: 0, key: key_at..key_at + 1, value };
            changes.rows.push(place);
        }
        changes
    }

    #[test]
    fn shares_are_merged_by_key_and_the_last_change_of_a_row_decides() {
        for seed in 0..500 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut shares = vec![BTreeMap::new(); random.random_range(0..5)];
            let mut model = BTreeMap::new();
            for seq in 1..random.random_range(1..40) {
                let key = random.random_range(0..20u8);
                if shares.is_empty() {
                    break;
                }
                let share = random.random_range(0..shares.len());
                shares[share].insert(key, seq);
                model.insert(key, seq);
            }
            let shares: Vec<_> = shares.iter().map(changes).collect();
            let found: Vec<_> = merged(&shares).collect();
            let due = changes(&model);
            assert_eq!(found, due.iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
