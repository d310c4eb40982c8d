//! From records to row changes as they are stored. Pure: no I/O.

use std::ops::Range;

use revenant_log::RawRecord;

use crate::collapse::{Keys, Last, Rows, Touched};
use crate::tables::{VALUE_HEAD_MOST, push_row_value};

/// What records leave, by key.
pub(crate) struct Sorted<'a>(Rows<'a>);

impl<'a> Sorted<'a> {
    pub(crate) fn of(rows: &Rows<'a>) -> Self {
        let key = |row: usize| rows.keys.get(row);
        let count = rows.last.len();
        // Most keys differ in the 8 bytes after what all of them start with: few comparisons look at a key.
        let common = common_start((0..count).map(key));
        let mut order: Vec<_> = (0..count).map(|row| (word(&key(row)[common..]), row)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
        let mut last = Vec::with_capacity(count);
        let mut keys = Keys::with_room_of(&rows.keys);
        for (_, row) in order {
            last.push(rows.last[row]);
            keys.push(key(row));
        }
        Self(Rows { last, keys })
    }

    fn get(&self, row: usize) -> Option<(&[u8], &Last<'a>)> {
        let last = self.0.last.get(row)?;
        Some((self.0.keys.get(row), last))
    }
}

/// How many bytes all `keys` start with alike.
fn common_start<'k>(mut keys: impl Iterator<Item = &'k [u8]>) -> usize {
    let Some(mut common) = keys.next() else { return 0 };
    for key in keys {
        if !key.starts_with(common) {
            let same = common.iter().zip(key).take_while(|(a, b)| a == b).count();
            common = &common[..same];
        }
    }
    common.len()
}

/// The first bytes, to be compared as one number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let some = bytes.len().min(word.len());
    word[..some].copy_from_slice(&bytes[..some]);
    u64::from_be_bytes(word)
}

/// Rows of several, none in two of them, by key.
pub(crate) struct Merged<'s, 'a> {
    shares: &'s [Sorted<'a>],
    /// The next of each.
    next: Vec<usize>,
}

impl<'s, 'a> Merged<'s, 'a> {
    pub(crate) fn of(shares: &'s [Sorted<'a>]) -> Self {
        Self { shares, next: vec![0; shares.len()] }
    }
}

impl<'s, 'a> Iterator for Merged<'s, 'a> {
    type Item = (&'s [u8], &'s Last<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let shares = self.shares;
        let heads = shares.iter().zip(&self.next).enumerate();
        let heads = heads.filter_map(|(at, (share, next))| Some((at, share.get(*next)?)));
        let (share, row) = heads.min_by_key(|(_, (key, _))| *key)?;
        self.next[share] += 1;
        Some(row)
    }
}

/// Rows to be stored or removed: by key, no key twice.
#[derive(Default)]
pub(crate) struct Changes {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Where the rows of each table end, which stand together.
    tables: Vec<(String, usize)>,
    rows: Vec<Place>,
}

/// Where the parts of a change are.
struct Place {
    key: Range<usize>,
    value: Option<Range<usize>>,
}

/// What becomes of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// Where it is stored.
    pub(crate) key: &'a [u8],
    /// The row as it is stored; `None` when it is gone.
    pub(crate) value: Option<&'a [u8]>,
}

impl Changes {
    /// What `records` leave.
    pub(crate) fn of(records: &[RawRecord<'_>]) -> Self {
        let mut touched = Touched::new(1);
        for record in records {
            touched.take(record);
        }
        let mut rows = Rows::default();
        rows.add(&[touched], 0);
        let rows = Sorted::of(&rows);
        let bytes = rows.0.last.iter().filter_map(|row| row.change.row());
        let bytes = bytes.map(|row| VALUE_HEAD_MOST + row.len()).sum();
        let mut changes = Self { values: Vec::with_capacity(bytes), ..Self::default() };
        changes.take(&mut Merged::of(&[rows]), usize::MAX);
        changes
    }

    /// The next of `rows`, of about as many `bytes` as stored but at least one; `None` if there are no more.
    pub(crate) fn next_of(rows: &mut Merged<'_, '_>, bytes: usize) -> Option<Self> {
        let mut changes = Self { values: Vec::with_capacity(bytes + bytes / 8), ..Self::default() };
        changes.take(rows, bytes);
        (!changes.rows.is_empty()).then_some(changes)
    }

    /// Takes the next of `rows` until there are so many `bytes`.
    fn take(&mut self, rows: &mut Merged<'_, '_>, bytes: usize) {
        let Self { keys, values, tables, rows: places } = self;
        for (row_key, last) in rows {
            let table = last.change.table();
            match tables.last_mut() {
                Some((last, end)) if last == table => *end += 1,
                _ => tables.push((table.to_owned(), places.len() + 1)),
            }
            let (key, start) = (keys.len()..keys.len() + row_key.len(), values.len());
            keys.extend_from_slice(row_key);
            let value = last.change.row().map(|row| {
                push_row_value(row_key, last.source, row, values);
                start..values.len()
            });
            places.push(Place { key, value });
            if values.len() + keys.len() >= bytes {
                break;
            }
        }
    }

    /// Tables by name, each with its rows by key.
    pub(crate) fn by_table(
        &self,
    ) -> impl Iterator<Item = (&str, impl Iterator<Item = Change<'_>>)> {
        let mut start = 0;
        self.tables.iter().map(move |(table, end)| {
            let rows = &self.rows[start..*end];
            start = *end;
            (table.as_str(), rows.iter().map(|row| self.change(row)))
        })
    }

    fn change(&self, row: &Place) -> Change<'_> {
        let value = row.value.clone().map(|value| &self.values[value]);
        Change { key: &self.keys[row.key.clone()], value }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    use revenant_log::{Event, Key, Op, Record, Seq, SourcePos, Value, encode_record};

    use super::*;

    fn record(random: &mut StdRng, seq: u64) -> Record {
        let decimal = |text: &str| Value::Decimal(text.parse().unwrap());
        let key = match random.random_range(0..4) {
            0 => Key::Int(random.random_range(-2..2)),
            1 => Key::String(
                "same start ".to_owned() + ["", "a", "\0", "ab"][random.random_range(0..4)],
            ),
            2 => Key::Array(vec![decimal(["1", "1.0", "1.00", "2"][random.random_range(0..4)])]),
            _ => Key::Uuid([random.random_range(0..3); 16]),
        };
        let gone = random.random_range(0..4) == 0;
        let event = Event {
            op: if gone { Op::Delete } else { Op::Update },
            table: ["a", "ab"][random.random_range(0..2)].into(),
            key,
            version: Some(seq),
            body: (!gone).then_some(Value::Int(seq.cast_signed())),
            before: None,
            source: SourcePos { versionstamp: seq, ordinal: 1 },
            stale: random.random_range(0..8) == 0,
        };
        Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: 0, event }
    }

    /// Key and seq of the rows of `changes`, by key.
    type Found = Vec<(Vec<u8>, Option<i64>)>;

    fn found<'c>(changes: impl Iterator<Item = Change<'c>>) -> Found {
        let body =
            |key: &[u8], value: &[u8]| match crate::tables::decode("row", key, value).unwrap() {
                crate::tables::Row { body: Value::Int(seq), .. } => seq,
                other => panic!("{other:?}"),
            };
        changes.map(|row| (row.key.to_vec(), row.value.map(|value| body(row.key, value)))).collect()
    }

    #[test]
    fn of_each_row_the_last_record_is_stored_in_key_order_however_records_are_shared_out() {
        for seed in 0..500 {
            let random = &mut StdRng::seed_from_u64(seed);
            let records: Vec<_> =
                (1..random.random_range(1..60)).map(|seq| record(random, seq)).collect();
            let mut model = BTreeMap::new();
            for Record { event, .. } in records.iter().filter(|record| !record.event.stale) {
                let key = crate::tables::row_key(&event.table, &event.key);
                let seq = event.body.as_ref().map(|_| event.source.versionstamp.cast_signed());
                model.insert(key, seq);
            }
            let model: Found = model.into_iter().collect();
            let bytes: Vec<_> = records
                .iter()
                .map(|record| {
                    let mut bytes = Vec::new();
                    encode_record(record, &mut bytes);
                    (record.seq, bytes)
                })
                .collect();
            let raw: Vec<_> =
                bytes.iter().map(|(seq, bytes)| RawRecord::read(*seq, bytes).unwrap()).collect();
            assert_eq!(
                found(Changes::of(&raw).by_table().flat_map(|(_, rows)| rows)),
                model,
                "seed {seed}"
            );

            let (parts, threads) = (random.random_range(1..5), random.random_range(1..4));
            let mut touched: Vec<_> = (0..threads).map(|_| Touched::new(parts)).collect();
            for record in &raw {
                touched[random.random_range(0..threads)].take(record);
            }
            let mut shares: Vec<_> =
                (0..random.random_range(1..4)).map(|_| Rows::default()).collect();
            for part in 0..parts {
                let share = random.random_range(0..shares.len());
                shares[share].add(&touched, part);
            }
            let shares: Vec<_> = shares.iter().map(Sorted::of).collect();
            let mut merged = Merged::of(&shares);
            let mut shared = Found::new();
            while let Some(changes) = Changes::next_of(&mut merged, random.random_range(1..300)) {
                shared.extend(found(changes.by_table().flat_map(|(_, rows)| rows)));
            }
            assert_eq!(shared, model, "seed {seed}");
        }
    }
}
