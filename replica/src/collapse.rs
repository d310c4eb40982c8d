//! What records leave of the rows that they touch: of each row the last record that is not stale. Pure: no I/O.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rapidhash::v3::rapidhash_v3;
use revenant_log::{RawChange, RawRecord, Seq, SourcePos};

use crate::tables::push_row_key;

/// What one record leaves of its row.
#[derive(Clone, Copy)]
pub(crate) struct Last<'a> {
    pub(crate) seq: Seq,
    pub(crate) source: SourcePos,
    pub(crate) change: RawChange<'a>,
}

/// Records by the hash of their row's key, in parts. The rows of a part are few enough for a processor's cache, where
/// finding the last record of each takes a fraction of the time.
pub(crate) struct Touched<'a> {
    parts: Vec<Part<'a>>,
    /// The stored key of the record in hand.
    key: Vec<u8>,
}

#[derive(Default)]
struct Part<'a> {
    /// Records, each with its key's hash.
    records: Vec<(u64, Last<'a>)>,
    keys: Keys,
}

impl<'a> Touched<'a> {
    pub(crate) fn new(parts: usize) -> Self {
        Self { parts: (0..parts).map(|_| Part::default()).collect(), key: Vec::new() }
    }

    /// Takes a record, unless it is stale.
    pub(crate) fn take(&mut self, record: &RawRecord<'a>) {
        let RawRecord { seq, table, source, change, stale, .. } = *record;
        if stale {
            return;
        }
        self.key.clear();
        push_row_key(table, &change, &mut self.key);
        let hash = rapidhash_v3(&self.key);
        // Not by the bits by which a table of a part finds its place.
        let part = (hash >> 24) % self.parts.len() as u64;
        let part = &mut self.parts[usize::try_from(part).expect("less than a length")];
        part.records.push((hash, Last { seq, source, change }));
        part.keys.push(&self.key);
    }
}

/// Keys, one after the other.
#[derive(Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(crate) fn with_room_of(other: &Self) -> Self {
        let (bytes, ends) = (other.bytes.len(), other.ends.len());
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(ends) }
    }

    pub(crate) fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn get(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[number]]
    }
}

/// Rows, each once, with what their last records leave.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    pub(crate) last: Vec<Last<'a>>,
    /// Their keys.
    pub(crate) keys: Keys,
}

impl<'a> Rows<'a> {
    /// Adds those in the same `part` of all that were `touched`. What their last records leave is the same however often
    /// it is applied, and whatever was there before: also a row that was deleted and created again is as its last record
    /// says, and a reconciled one as it was found.
    pub(crate) fn add(&mut self, touched: &[Touched<'a>], part: usize) {
        let Self { last, keys } = self;
        let most = touched.iter().map(|one| one.parts[part].records.len()).sum();
        let mut by_key: HashTable<(u64, usize)> = HashTable::with_capacity(most);
        for one in touched {
            let part = &one.parts[part];
            for (number, (hash, record)) in part.records.iter().enumerate() {
                let key = part.keys.get(number);
                let same = |known: &(u64, usize)| known.0 == *hash && keys.get(known.1) == key;
                match by_key.entry(*hash, same, |known| known.0) {
                    Entry::Occupied(known) => {
                        let known = &mut last[known.get().1];
                        if known.seq < record.seq {
                            *known = *record;
                        }
                    }
                    Entry::Vacant(place) => {
                        place.insert((*hash, last.len()));
                        last.push(*record);
                        keys.push(key);
                    }
                }
            }
        }
    }
}
