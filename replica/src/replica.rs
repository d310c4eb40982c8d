//! `Replica`: open, apply, snapshot, `applied_seq`. Rows as of one seq, in redb.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, WriteTransaction};
use revenant_log::{LogId, Record, Seq};
use serde::Serialize;

use crate::apply::{Change, change};
use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::tables::{
    META, POSITION, Position, ROWS, Row, Stat, TABLES, decode, encode, prefix, row_key,
};

/// Settings of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Bytes of redb's page cache. Default 64 MiB.
    pub cache_bytes: usize,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// What opening a replica found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OpenReport {
    /// Where a file that could not be used was moved, and why. The replica starts empty.
    pub moved_aside: Option<(PathBuf, String)>,
    /// The last seq that its rows contain.
    pub applied_seq: u64,
}

/// Rows as of one seq of one log.
///
/// - Rows, counts, signatures and `applied_seq` change in one commit, after whole transactions.
/// - Commits between checkpoints are not durable: after a crash the log replays the rest.
/// - Every snapshot holds still for as long as it lives and holds nobody up.
pub struct Replica {
    path: PathBuf,
    database: Database,
    log_id: LogId,
    applied: AtomicU64,
    checkpoint: AtomicU64,
    /// Statistics as of the last commit; the writer's turn.
    stats: Mutex<BTreeMap<String, Stat>>,
}

impl Replica {
    /// Opens the replica of the log `log_id` in the file `path`, or creates it. A file that is damaged, of
    /// another log or of another layout is moved aside, and the replica starts empty.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it; [`Error::Io`], [`Error::Database`] if no new file can be
    /// made.
    pub fn open(
        path: impl Into<PathBuf>,
        log_id: LogId,
        config: &ReplicaConfig,
    ) -> Result<(Self, OpenReport), Error> {
        let path = path.into();
        let mut report = OpenReport::default();
        let opened = Self::try_open(&path, log_id, config);
        let replica = match opened {
            Ok(replica) => replica,
            Err(Error::Locked(path)) => return Err(Error::Locked(path)),
            Err(error) if path.exists() => {
                let reason = describe(&error);
                let aside = move_aside(&path)?;
                tracing::warn!(path = %path.display(), aside = %aside.display(), reason,
                    "the replica cannot be used: building it anew");
                report.moved_aside = Some((aside, reason));
                Self::try_open(&path, log_id, config)?
            }
            Err(error) => return Err(error),
        };
        report.applied_seq = replica.applied_seq().0;
        Ok((replica, report))
    }

    fn try_open(path: &Path, log_id: LogId, config: &ReplicaConfig) -> Result<Self, Error> {
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .create(path)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => Error::Locked(path.to_owned()),
                other => Error::database("open")(other),
            })?;
        let transaction = database.begin_write().map_err(Error::database("open"))?;
        let position = {
            let mut meta = transaction.open_table(META).map_err(Error::database("open"))?;
            transaction.open_table(ROWS).map_err(Error::database("open"))?;
            transaction.open_table(TABLES).map_err(Error::database("open"))?;
            let stored = meta.get(POSITION).map_err(Error::database("open"))?;
            let stored =
                stored.map(|bytes| decode::<Position>("position", bytes.value())).transpose()?;
            if stored.is_none() {
                let position = Position { log_id, applied_seq: Seq::ZERO };
                let bytes = encode(&position);
                meta.insert(POSITION, bytes.as_slice()).map_err(Error::database("open"))?;
            }
            stored.unwrap_or(Position { log_id, applied_seq: Seq::ZERO })
        };
        transaction.commit().map_err(Error::database("open"))?;
        if position.log_id != log_id {
            return Err(Error::Damaged(format!("it belongs to log {}", position.log_id)));
        }
        let replica = Self {
            path: path.to_owned(),
            database,
            log_id,
            applied: AtomicU64::new(position.applied_seq.0),
            checkpoint: AtomicU64::new(0),
            stats: Mutex::default(),
        };
        // What survived is checked once, so that a checkpoint of before the crash may be relied on.
        replica.snapshot()?.verify()?;
        *replica.stats() = replica.snapshot()?.stats()?;
        replica.checkpoint.store(position.applied_seq.0, Ordering::Release);
        Ok(replica)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log whose rows these are.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The last seq that the rows contain.
    #[must_use]
    pub fn applied_seq(&self) -> Seq {
        Seq(self.applied.load(Ordering::Acquire))
    }

    /// The last seq of a checkpoint that is durable and was verified: the log may be trimmed up to it.
    #[must_use]
    pub fn checkpoint_seq(&self) -> Seq {
        Seq(self.checkpoint.load(Ordering::Acquire))
    }

    fn stats(&self) -> MutexGuard<'_, BTreeMap<String, Stat>> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies records that follow each other and end with a transaction's last, in one commit. Records
    /// that are contained already are skipped. Not durable on return: see [`Replica::checkpoint`].
    ///
    /// # Errors
    /// [`Error::Gap`] if records are missing before them; [`Error::Database`], [`Error::Damaged`]. Then
    /// nothing is applied.
    ///
    /// # Panics
    /// If the last record does not end a transaction.
    pub fn apply(&self, records: &[Record]) -> Result<Seq, Error> {
        let applied = self.applied_seq();
        let start = records.partition_point(|record| record.seq <= applied);
        let Some(last) = records[start..].last() else { return Ok(applied) };
        assert!(last.ends_transaction, "half a transaction at seq {}", last.seq);
        let mut stats_now = self.stats();
        let mut stats = stats_now.clone();
        let mut transaction = self.database.begin_write().map_err(Error::database("write"))?;
        transaction.set_durability(Durability::None).map_err(Error::database("write"))?;
        let mut expected = applied.next();
        for record in &records[start..] {
            if record.seq != expected {
                return Err(Error::Gap { applied: expected.prev(), found: record.seq });
            }
            expected = expected.next();
        }
        write(&transaction, &records[start..], &mut stats)?;
        let position = Position { log_id: self.log_id, applied_seq: last.seq };
        {
            let mut meta = transaction.open_table(META).map_err(Error::database("write"))?;
            let bytes = encode(&position);
            meta.insert(POSITION, bytes.as_slice()).map_err(Error::database("write"))?;
        }
        transaction.commit().map_err(Error::database("commit"))?;
        *stats_now = stats;
        self.applied.store(last.seq.0, Ordering::Release);
        Ok(last.seq)
    }

    /// Makes all that is applied durable, reads it back, recomputes counts and signatures, and only then
    /// moves [`Replica::checkpoint_seq`].
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Damaged`] if what was read back does not add up.
    pub fn checkpoint(&self) -> Result<Seq, Error> {
        let held = self.stats();
        let mut transaction = self.database.begin_write().map_err(Error::database("write"))?;
        transaction.set_durability(Durability::Immediate).map_err(Error::database("write"))?;
        transaction.set_quick_repair(true);
        transaction.commit().map_err(Error::database("commit"))?;
        let snapshot = self.snapshot()?;
        drop(held);
        snapshot.verify()?;
        self.checkpoint.fetch_max(snapshot.seq().0, Ordering::AcqRel);
        Ok(snapshot.seq())
    }

    /// All rows as of now, held still. Any number may live at once.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.database.begin_read().map_err(Error::database("read"))?;
        Snapshot::new(transaction)
    }
}

fn write(
    transaction: &WriteTransaction,
    records: &[Record],
    stats: &mut BTreeMap<String, Stat>,
) -> Result<(), Error> {
    let mut rows = transaction.open_table(ROWS).map_err(Error::database("write"))?;
    let mut tables = transaction.open_table(TABLES).map_err(Error::database("write"))?;
    let mut touched = BTreeMap::new();
    for record in records {
        let event = &record.event;
        let key = row_key(&event.table, &event.key);
        let stat = touched
            .entry(&*event.table)
            .or_insert_with(|| stats.get(&*event.table).copied().unwrap_or_default());
        let next = match change(event) {
            Change::Keep => continue,
            Change::Put(row) => Some(encode(&row)),
            Change::Remove => None,
        };
        let old = match &next {
            Some(value) => rows.insert(key.as_slice(), value.as_slice()),
            None => rows.remove(key.as_slice()),
        };
        if let Some(old) = old.map_err(Error::database("write"))? {
            stat.toggle(&key, old.value());
            stat.rows = stat
                .rows
                .checked_sub(1)
                .ok_or_else(|| Error::Damaged(format!("table {} counts too few", event.table)))?;
        }
        if let Some(value) = &next {
            stat.toggle(&key, value);
            stat.rows += 1;
        }
    }
    for (table, stat) in touched {
        let bytes = encode(&stat);
        tables.insert(table, bytes.as_slice()).map_err(Error::database("write"))?;
        stats.insert(table.to_owned(), stat);
    }
    Ok(())
}

/// Moves a file that cannot be used out of the way, so that nothing of it is lost.
fn move_aside(path: &Path) -> Result<PathBuf, Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut aside = path.with_file_name(format!("{name}.aside-{seconds}"));
    let mut attempt = 1;
    while aside.exists() {
        aside = path.with_file_name(format!("{name}.aside-{seconds}-{attempt}"));
        attempt += 1;
    }
    let io = |source| Error::Io { action: "move aside", path: path.to_owned(), source };
    std::fs::rename(path, &aside).map_err(io)?;
    Ok(aside)
}

fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Rows of `table` after `after` in a table of rows, in key order.
pub(crate) fn rows_after<T: ReadableTable<&'static [u8], &'static [u8]>>(
    rows: &T,
    table: &str,
    after: Option<&revenant_log::Key>,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<bool, Error>,
) -> Result<(), Error> {
    use std::ops::Bound;
    let prefix = prefix(table);
    let start = match after {
        Some(key) => Bound::Excluded(row_key(table, key)),
        None => Bound::Included(prefix.clone()),
    };
    let range = (start.as_ref().map(Vec::as_slice), Bound::Unbounded);
    for entry in rows.range::<&[u8]>(range).map_err(Error::database("read"))? {
        let (key, value) = entry.map_err(Error::database("read"))?;
        if !key.value().starts_with(&prefix) || !take(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

pub(crate) fn decode_row(bytes: &[u8]) -> Result<Row, Error> {
    decode("row", bytes)
}
