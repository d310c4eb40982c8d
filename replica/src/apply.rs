//! From records to row changes. Pure: no I/O.

use std::collections::BTreeMap;

use revenant_log::{Event, Op, Record};

use crate::tables::{StoredRow, encode, row_key};

/// What records do to one row.
pub(crate) struct Change<'a> {
    /// The row's table.
    pub(crate) table: &'a str,
    /// The row as it is stored; `None` when it is gone.
    pub(crate) value: Option<Vec<u8>>,
}

/// What `records` leave of the rows that they touch, by stored key, whatever was there before: applying
/// them again changes nothing more.
///
/// Of a row's events the last one that is not stale decides, also for a row that was deleted and created
/// again; a reconciled row is set to what was found.
pub(crate) fn changes(records: &[Record]) -> BTreeMap<Vec<u8>, Change<'_>> {
    let mut last: BTreeMap<Vec<u8>, &Event> = BTreeMap::new();
    for record in records.iter().filter(|record| !record.event.stale) {
        last.insert(row_key(&record.event.table, &record.event.key), &record.event);
    }
    let stored = |(key, event): (Vec<u8>, _)| {
        let value = row(event).map(|row| encode(&key, &row));
        (key, Change { table: &event.table, value })
    };
    last.into_iter().map(stored).collect()
}

/// The row that `event` leaves.
fn row(event: &Event) -> Option<StoredRow<'_>> {
    let body = event.body.as_ref().filter(|_| event.op != Op::Delete)?;
    Some(StoredRow { source: event.source, key: &event.key, version: event.version, body })
}
