//! Changes into redb, with what they do to the figures of tables.

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::{ReadableTableMetadata as _, Table, WriteTransaction};

use crate::apply::Changes;
use crate::error::Error;
use crate::tables::{META, POSITION, Position, ROWS, Stat, TABLES, encode};

/// The figures of tables, by name.
pub(crate) type Stats = BTreeMap<String, Stat>;

type RowsTable<'t> = Table<'t, &'static [u8], &'static [u8]>;

/// Changes that [`fill`] stores in one commit, of 1 MiB each. Fewer than fill the half of redb's cache that holds what
/// is written: of what does not fit there, redb writes each page twice, the second time with its checksum.
const FILL_CHANGES: usize = 16;

/// Stores `changes`, which come in key order. Returns the figures of the tables that they touch, which were as
/// `stats` says.
pub(crate) fn write(
    transaction: &WriteTransaction,
    changes: impl Iterator<Item = Result<Changes, Error>>,
    stats: &Stats,
) -> Result<Stats, Error> {
    let mut rows = transaction.open_table(ROWS).map_err(Error::database("write"))?;
    let mut touched = Stats::new();
    if rows.is_empty().map_err(Error::database("write"))? {
        append(&mut rows, changes, &mut touched)?;
    } else {
        change(&mut rows, changes, stats, &mut touched)?;
    }
    Ok(touched)
}

/// Stores the next of `changes`, which come in key order, behind what is stored, and adds them to `stats`. Returns
/// whether there may be more.
pub(crate) fn fill(
    transaction: &WriteTransaction,
    changes: &mut dyn Iterator<Item = Result<Changes, Error>>,
    stats: &mut Stats,
) -> Result<bool, Error> {
    let mut rows = transaction.open_table(ROWS).map_err(Error::database("write"))?;
    Ok(append(&mut rows, changes.take(FILL_CHANGES), stats)? == FILL_CHANGES)
}

/// Stores changes behind what is stored: leaf by leaf, each full, which takes a fraction of the time. Adds them to
/// `stats` and returns how many there were.
fn append(
    rows: &mut RowsTable<'_>,
    changes: impl Iterator<Item = Result<Changes, Error>>,
    stats: &mut Stats,
) -> Result<usize, Error> {
    let end = rows.upper_bound_mut(Bound::<&[u8]>::Unbounded);
    let mut end = end.map_err(Error::database("write"))?;
    let mut count = 0;
    for changes in changes {
        for (table, changes) in changes?.by_table() {
            let stat: &mut Stat = stats.entry(table.to_owned()).or_default();
            for change in changes {
                let Some(value) = change.value else { continue };
                end.insert_before(change.key, value).map_err(Error::database("write"))?;
                stat.toggle(value)?;
                stat.rows += 1;
            }
        }
        count += 1;
    }
    end.close().map_err(Error::database("write"))?;
    Ok(count)
}

/// Stores changes among what is stored. Adds the figures of the tables that they touch to `touched`.
fn change(
    rows: &mut RowsTable<'_>,
    changes: impl Iterator<Item = Result<Changes, Error>>,
    stats: &Stats,
    touched: &mut Stats,
) -> Result<(), Error> {
    for changes in changes {
        for (table, changes) in changes?.by_table() {
            let before = || stats.get(table).copied().unwrap_or_default();
            let stat: &mut Stat = touched.entry(table.to_owned()).or_insert_with(before);
            for change in changes {
                let old = match change.value {
                    Some(value) => rows.insert(change.key, value),
                    None => rows.remove(change.key),
                };
                if let Some(old) = old.map_err(Error::database("write"))? {
                    stat.toggle(old.value())?;
                    let few = || Error::Damaged(format!("table {table} counts too few rows"));
                    stat.rows = stat.rows.checked_sub(1).ok_or_else(few)?;
                }
                if let Some(value) = change.value {
                    stat.toggle(value)?;
                    stat.rows += 1;
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn write_stats(transaction: &WriteTransaction, stats: &Stats) -> Result<(), Error> {
    let mut tables = transaction.open_table(TABLES).map_err(Error::database("write"))?;
    for (table, stat) in stats {
        let bytes = encode(table.as_bytes(), stat);
        tables.insert(table.as_str(), bytes.as_slice()).map_err(Error::database("write"))?;
    }
    Ok(())
}

pub(crate) fn write_position(
    transaction: &WriteTransaction,
    position: &Position,
) -> Result<(), Error> {
    let mut meta = transaction.open_table(META).map_err(Error::database("write"))?;
    let bytes = encode(POSITION.as_bytes(), position);
    meta.insert(POSITION, bytes.as_slice()).map_err(Error::database("write"))?;
    Ok(())
}
