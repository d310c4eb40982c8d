//! `Snapshot`: all rows as of one seq, in pages. A read transaction: it holds still and holds nobody up.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{
    AccessGuard, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError,
};
use revenant_log::{Key, LogId, RowsItem, Seq};
use serde::Serialize;

use crate::error::{Error, guarded};
use crate::hash::TableHash;
use crate::overlay::Overlay;
use crate::replica::check_pages;
use crate::tables::{
    META, POSITION, Position, ROWS, Row, Stat, TABLES, check, decode, prefix, row_key, snapshot_row,
};
use crate::turns::Turns;

/// A table's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStat {
    /// The table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The same for the same rows, in whatever order they came: 32 hex digits.
    pub signature: String,
}

/// All rows as of one seq.
pub struct Snapshot {
    position: Position,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    tables: ReadOnlyTable<&'static str, &'static [u8]>,
    turns: Arc<Turns>,
    /// The database, if nobody else holds it open.
    _owner: Option<Database>,
}

impl Snapshot {
    /// The rows in the file `path` as of its last checkpoint, also when its process was killed. The file stays
    /// as it is, whatever is found; verified on return.
    ///
    /// # Errors
    /// [`Error::Locked`] if a process has it; [`Error::Database`], [`Error::Damaged`], [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        guarded(|| {
            let overlay = Overlay::open(path)?;
            let mut database = Database::builder()
                .create_with_backend(overlay)
                .map_err(Error::database("open"))?;
            check_pages(&mut database)?;
            let transaction = database.begin_read().map_err(Error::database("read"))?;
            let turns = Arc::new(Turns::beside_a_writer());
            let snapshot = Self { _owner: Some(database), ..Self::new(transaction, turns)? };
            snapshot.verify()?;
            Ok(snapshot)
        })
    }

    /// What `transaction` sees; pages of it are read when `turns` says so.
    pub(crate) fn new(transaction: ReadTransaction, turns: Arc<Turns>) -> Result<Self, Error> {
        let read = "read";
        let meta = transaction.open_table(META).map_err(Error::database(read))?;
        let position = meta.get(POSITION).map_err(Error::database(read))?;
        let position = position.ok_or_else(|| Error::Damaged("it has no position".into()))?;
        Ok(Self {
            position: decode("position", POSITION.as_bytes(), position.value())?,
            rows: transaction.open_table(ROWS).map_err(Error::database(read))?,
            tables: transaction.open_table(TABLES).map_err(Error::database(read))?,
            turns,
            _owner: None,
        })
    }

    /// Rows are as of this seq.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.position.applied_seq
    }

    /// The log they come from.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.position.log_id
    }

    /// Highest versionstamp of the source's feed that the rows may contain; every one below it that the
    /// log knew of at this seq is in.
    #[must_use]
    pub fn feed_high(&self) -> u64 {
        self.position.feed_high
    }

    /// When the source committed the last change in it, microseconds since 1970; 0 before the first.
    #[must_use]
    pub fn time_us(&self) -> i64 {
        self.position.time_us
    }

    fn stat(&self, table: &str) -> Result<Stat, Error> {
        let bytes = self.tables.get(table).map_err(Error::database("read"))?;
        let stat = bytes.map(|bytes| decode("table", table.as_bytes(), bytes.value()));
        Ok(stat.transpose()?.unwrap_or_default())
    }

    pub(crate) fn stats(&self) -> Result<BTreeMap<String, Stat>, Error> {
        let mut stats = BTreeMap::new();
        for entry in self.tables.iter().map_err(Error::database("read"))? {
            let (name, bytes) = entry.map_err(Error::database("read"))?;
            let name = name.value();
            let stat = decode("table", name.as_bytes(), bytes.value())?;
            stats.insert(name.to_owned(), stat);
        }
        Ok(stats)
    }

    /// Every table that ever had a row, by name.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn tables(&self) -> Result<Vec<TableStat>, Error> {
        let stats = self.stats()?.into_iter();
        Ok(stats
            .map(|(name, stat)| TableStat {
                name,
                rows: stat.rows,
                signature: format!("{:032x}", stat.signature),
            })
            .collect())
    }

    /// Up to `max_rows` rows of `table` after the key `after`, in SurrealDB's id order, of about `max_bytes`
    /// as stored but at least one. Empty: there are no more. Waits while as many pages of the replica are read as there
    /// are processors but one.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn page(
        &self,
        table: &str,
        after: Option<&Key>,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Vec<Row>, Error> {
        let _turn = self.turns.take();
        let mut page = Vec::new();
        let mut left = max_bytes;
        rows_after(&self.rows, table, after, |key, value| {
            if page.len() >= max_rows || (value.len() > left && !page.is_empty()) {
                return Ok(false);
            }
            left = left.saturating_sub(value.len());
            page.push(decode("row", key, value)?);
            Ok(true)
        })?;
        Ok(page)
    }

    /// The next rows of the table that `scan` goes through as an item for the wire, undecoded: up to
    /// `max_rows`, of about `max_bytes` but at least one. `None`: that was all, and it was whole. Waits as
    /// [`Snapshot::page`] does.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Damaged`] also if the rows given in all are not those that the
    /// table's count and signature stand for.
    pub fn next_page(
        &self,
        scan: &mut Scan,
        max_rows: usize,
        max_bytes: usize,
    ) -> Result<Option<RowsItem>, Error> {
        if scan.done {
            return Ok(None);
        }
        let _turn = self.turns.take();
        // A row over the bound is as long as it is; most are far shorter.
        let mut item = RowsItem::new(&scan.table, max_bytes + max_bytes / 8);
        let Scan { after, found, .. } = scan;
        let start = match after.take() {
            Some(last) => Bound::Excluded(last),
            None => Bound::Included(prefix(&scan.table)),
        };
        range(&self.rows, &scan.table, start, |key, value| {
            item.push(snapshot_row(key, value)?);
            found.toggle(value)?;
            found.rows += 1;
            let full = item.count() >= max_rows || item.len() >= max_bytes;
            if full {
                *after = Some(key.to_vec());
            }
            Ok(!full)
        })?;
        if after.is_none() {
            scan.done = true;
            check_stat(&scan.table, scan.found, self.stat(&scan.table)?)?;
        }
        Ok((!item.is_empty()).then_some(item))
    }

    /// The row with `key`.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn get(&self, table: &str, key: &Key) -> Result<Option<Row>, Error> {
        let key = row_key(table, key);
        guarded(|| {
            let value = self.rows.get(key.as_slice()).map_err(Error::database("read"))?;
            value.map(|value| decode("row", &key, value.value())).transpose()
        })
    }

    /// The table's hash as upstream defines it. Reads every row.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn hash(&self, table: &str) -> Result<String, Error> {
        let mut hash = TableHash::default();
        rows_after(&self.rows, table, None, |key, value| {
            let row: Row = decode("row", key, value)?;
            hash.add(&row.key, &row.body);
            Ok(true)
        })?;
        Ok(hash.finish())
    }

    /// Recomputes every table's count and signature from its rows, with two threads.
    ///
    /// # Errors
    /// [`Error::Damaged`] if one differs from what is kept, or a row cannot be read.
    pub fn verify(&self) -> Result<(), Error> {
        let (all, never) = (self.len()?, AtomicBool::new(false));
        // The first half from the start on, the other from the end: half of the time.
        let (found, rest) = std::thread::scope(|scope| {
            let rest =
                scope.spawn(|| guarded(|| self.count(self.each()?.rev(), all - all / 2, &never)));
            let found = guarded(|| self.count(self.each()?, all / 2, &never));
            let failed = |_| Error::Damaged("a thread that verifies failed".into());
            (found, rest.join().map_err(failed))
        });
        let (mut found, rest) = (found?, rest??);
        for (table, stat) in rest {
            let whole = found.entry(table).or_default();
            whole.rows += stat.rows;
            whole.signature ^= stat.signature;
        }
        self.check_stats(&found)
    }

    /// [`Snapshot::verify`] with this thread alone, beside others that apply and read; gives up, and returns false, soon
    /// after `stop` is set.
    pub(crate) fn verify_unless(&self, stop: &AtomicBool) -> Result<bool, Error> {
        let found = self.count(self.each()?, self.len()?, stop)?;
        if stop.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.check_stats(&found)?;
        Ok(true)
    }

    /// All rows must have been `found`, and nothing else.
    fn check_stats(&self, found: &BTreeMap<String, Stat>) -> Result<(), Error> {
        for (table, kept) in self.stats()? {
            check_stat(&table, found.get(&table).copied().unwrap_or_default(), kept)?;
        }
        Ok(())
    }

    /// Rows, by redb's count.
    fn len(&self) -> Result<u64, Error> {
        redb::ReadableTableMetadata::len(&self.rows).map_err(Error::database("read"))
    }

    /// All rows, by key.
    fn each(&self) -> Result<redb::Range<'_, &'static [u8], &'static [u8]>, Error> {
        self.rows.iter().map_err(Error::database("read"))
    }

    /// The figures of the first `most` of `rows`, by table; of fewer soon after `stop` is set.
    fn count<'r>(
        &self,
        mut rows: impl Iterator<Item = Result<StoredRow<'r>, StorageError>>,
        most: u64,
        stop: &AtomicBool,
    ) -> Result<BTreeMap<String, Stat>, Error> {
        let tables = self.stats()?.into_keys();
        let mut tables: Vec<_> =
            tables.map(|name| (prefix(&name), name, Stat::default())).collect();
        let mut at = 0;
        for number in 0..most {
            if number.is_multiple_of(STOP_ROWS) && stop.load(Ordering::Acquire) {
                break;
            }
            let Some(row) = rows.next() else { break };
            let (key, value) = row.map_err(Error::database("read"))?;
            let (key, value) = (key.value(), value.value());
            let of = |table: &(Vec<u8>, String, Stat)| key.starts_with(&table.0);
            if !tables.get(at).is_some_and(of) {
                let found = tables.iter().position(of);
                at = found
                    .ok_or_else(|| Error::Damaged("a row of a table that is not kept".into()))?;
            }
            check("row", key, value)?;
            let stat = &mut tables[at].2;
            stat.toggle(value)?;
            stat.rows += 1;
        }
        Ok(tables.into_iter().map(|(_, name, stat)| (name, stat)).collect())
    }
}

/// Key and value of a row as redb gives them.
type StoredRow<'r> = (AccessGuard<'r, &'static [u8]>, AccessGuard<'r, &'static [u8]>);

/// Rows after which it is looked whether to stop.
const STOP_ROWS: u64 = 4096;

/// Where a walk through the rows of one table stands. Holds no snapshot open.
#[derive(Debug)]
pub struct Scan {
    table: String,
    /// The key of the last row given; `None` at the start, and after the last row.
    after: Option<Vec<u8>>,
    found: Stat,
    done: bool,
}

impl Scan {
    /// Before the first row of `table`.
    #[must_use]
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), after: None, found: Stat::default(), done: false }
    }

    /// Rows given so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.found.rows
    }
}

fn check_stat(table: &str, found: Stat, kept: Stat) -> Result<(), Error> {
    if found == kept {
        return Ok(());
    }
    Err(Error::Damaged(format!(
        "table {table}: {} rows with signature {:032x}, kept are {} with {:032x}",
        found.rows, found.signature, kept.rows, kept.signature
    )))
}

/// Gives `take` the rows of `table` after the key `after`, in key order, until it says that it has enough.
fn rows_after(
    rows: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    table: &str,
    after: Option<&Key>,
    take: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    let start = match after {
        Some(key) => Bound::Excluded(row_key(table, key)),
        None => Bound::Included(prefix(table)),
    };
    range(rows, table, start, take)
}

fn range(
    rows: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    table: &str,
    start: Bound<Vec<u8>>,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    let prefix = prefix(table);
    let range = (start.as_ref().map(Vec::as_slice), Bound::Unbounded);
    guarded(|| {
        for entry in rows.range::<&[u8]>(range).map_err(Error::database("read"))? {
            let (key, value) = entry.map_err(Error::database("read"))?;
            if !key.value().starts_with(&prefix) || !take(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    })
}
