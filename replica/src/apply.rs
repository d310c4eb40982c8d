//! From records to row changes. Pure: no I/O.

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::v3::rapidhash_v3;
use revenant_log::RawRecord;

use crate::tables::{push_row_key, row_value};

/// What records leave of one row.
pub(crate) struct Change<'a> {
    /// Where it is stored.
    pub(crate) key: &'a [u8],
    /// The last record that decides.
    record: &'a RawRecord<'a>,
}

impl<'a> Change<'a> {
    /// The row's table.
    pub(crate) fn table(&self) -> &'a str {
        self.record.table
    }

    /// Puts the row as it is stored into `to`; false when it is gone.
    pub(crate) fn value(&self, to: &mut Vec<u8>) -> bool {
        row_value(self.key, self.record, to)
    }
}

/// What records leave of the rows that they touch, whatever was there before: applying them again changes
/// nothing more.
///
/// Of a row's events the last one that is not stale decides, also for a row that was deleted and created
/// again; a reconciled row is set to what was found.
pub(crate) struct Changes<'a> {
    /// The stored keys of all records, one after the other.
    keys: Vec<u8>,
    /// Each row's key and its last record, in key order.
    rows: Vec<(Range<usize>, &'a RawRecord<'a>)>,
}

impl<'a> Changes<'a> {
    pub(crate) fn of(records: &'a [RawRecord<'a>]) -> Self {
        let mut keys = Vec::new();
        let mut rows: Vec<(Range<usize>, &RawRecord<'_>)> = Vec::new();
        let mut by_key: HashTable<usize> = HashTable::with_capacity(records.len());
        for record in records.iter().filter(|record| !record.stale) {
            let start = keys.len();
            push_row_key(record.table, &record.key, &mut keys);
            let hash = |at: &usize| rapidhash_v3(&keys[rows[*at].0.clone()]);
            let same = |at: &usize| keys[rows[*at].0.clone()] == keys[start..];
            match by_key.entry(rapidhash_v3(&keys[start..]), same, hash) {
                Entry::Occupied(row) => {
                    rows[*row.get()].1 = record;
                    keys.truncate(start);
                }
                Entry::Vacant(place) => {
                    place.insert(rows.len());
                    rows.push((start..keys.len(), record));
                }
            }
        }
        rows.sort_unstable_by(|(a, _), (b, _)| keys[a.clone()].cmp(&keys[b.clone()]));
        Self { keys, rows }
    }

    /// By key, no key twice.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.rows.iter().map(|(key, record)| Change { key: &self.keys[key.clone()], record })
    }
}
