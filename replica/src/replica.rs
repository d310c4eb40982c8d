//! `Replica`: open, apply, snapshot, `applied_seq`. Rows as of one seq, in redb.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, Durability, ReadableDatabase, StorageBackend, WriteTransaction};
use revenant_log::{LogId, RawRecord, Seq};
use serde::Serialize;

use crate::apply::Changes;
use crate::doubt::Doubt;
use crate::error::{Error, guarded};
use crate::prepare::{Batch, End};
use crate::snapshot::Snapshot;
use crate::store::{self, Stats};
use crate::tables::{Position, ROWS, TABLES};
use crate::turns::Turns;

/// Settings of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Bytes of redb's page cache. Default 64 MiB.
    pub cache_bytes: usize,
    /// When what is in the file already is proven. Default: later.
    pub proof: Proof,
}

/// When it is made sure that a file holds what was written: every page its checksum, every table the rows
/// that its count and signature stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Before opening returns, which takes the longer the more rows there are.
    AtOpen,
    /// When the first checkpoint is confirmed, which a follower begins with. Opening takes as long for many
    /// rows as for few. Until then damage shows where it is read: a row proves itself, and so does a table
    /// that is read to its end. A process that dies before it came to that leaves word, and the next open
    /// takes the time.
    #[default]
    Later,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, proof: Proof::default() }
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
    /// Taken when it is dropped.
    database: Option<Database>,
    log_id: LogId,
    applied: AtomicU64,
    feed_high: AtomicU64,
    /// 0 until the file is proven.
    checkpoint: AtomicU64,
    proven: AtomicBool,
    /// Stands while the file is not proven.
    doubt: Option<Doubt>,
    /// Statistics as of the last commit; the writer's turn.
    stats: Mutex<Stats>,
    /// Of the readers of pages.
    turns: Arc<Turns>,
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
        let opened = guarded(|| Self::try_open(&path, log_id, config));
        let replica = match opened {
            Ok(replica) => replica,
            Err(Error::Locked(path)) => return Err(Error::Locked(path)),
            Err(error) if path.exists() => {
                let reason = describe(&error);
                let aside = Self::move_aside(&path, &reason)?;
                report.moved_aside = Some((aside, reason));
                Self::try_open(&path, log_id, config)?
            }
            Err(error) => return Err(error),
        };
        report.applied_seq = replica.applied_seq().0;
        Ok((replica, report))
    }

    /// Opens the replica in `storage`, which is no file: a simulated disk, say. What cannot be used is an
    /// error, since only files can be moved aside.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn open_on(
        storage: impl StorageBackend,
        log_id: LogId,
        config: &ReplicaConfig,
    ) -> Result<Self, Error> {
        guarded(|| {
            let database = Database::builder()
                .set_cache_size(config.cache_bytes)
                .create_with_backend(storage)
                .map_err(Error::database("open"))?;
            Self::with_database(Path::new(""), database, log_id, config.proof, None)
        })
    }

    fn try_open(path: &Path, log_id: LogId, config: &ReplicaConfig) -> Result<Self, Error> {
        let database = Database::builder()
            .set_cache_size(config.cache_bytes)
            .create(path)
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => Error::Locked(path.to_owned()),
                other => Error::database("open")(other),
            })?;
        let (doubt, stood) = Doubt::raise(path)?;
        let proof = if stood { Proof::AtOpen } else { config.proof };
        Self::with_database(path, database, log_id, proof, Some(doubt))
    }

    fn with_database(
        path: &Path,
        mut database: Database,
        log_id: LogId,
        proof: Proof,
        doubt: Option<Doubt>,
    ) -> Result<Self, Error> {
        let new = is_new(&database)?;
        if proof == Proof::AtOpen && !new {
            check_pages(&mut database)?;
        }
        if new {
            create_tables(&database, log_id)?;
        }
        let turns = Arc::new(Turns::beside_a_writer());
        let transaction = database.begin_read().map_err(Error::database("read"))?;
        let snapshot = Snapshot::new(transaction, Arc::clone(&turns))?;
        if snapshot.log_id() != log_id {
            return Err(Error::Damaged(format!("it belongs to log {}", snapshot.log_id())));
        }
        let replica = Self {
            path: path.to_owned(),
            database: Some(database),
            log_id,
            applied: AtomicU64::new(snapshot.seq().0),
            feed_high: AtomicU64::new(snapshot.feed_high()),
            checkpoint: AtomicU64::new(0),
            proven: AtomicBool::new(false),
            doubt,
            stats: Mutex::new(snapshot.stats()?),
            turns,
        };
        if proof == Proof::AtOpen || new {
            replica.confirm(&snapshot)?;
        }
        Ok(replica)
    }

    /// Moves the file `path` out of the way, so that nothing of it is lost and the next open starts empty.
    /// For a replica that failed while it was open: drop it, move its file aside, open, follow the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn move_aside(path: &Path, reason: &str) -> Result<PathBuf, Error> {
        let aside = free_name(path);
        Doubt::at(path).settle()?;
        let io = |source| Error::Io { action: "move aside", path: path.to_owned(), source };
        std::fs::rename(path, &aside).map_err(io)?;
        tracing::warn!(path = %path.display(), aside = %aside.display(), reason,
            "the replica cannot be used: building it anew");
        Ok(aside)
    }

    /// The file; empty if the replica is not in one.
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

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is taken only when the replica is dropped")
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
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
    pub fn apply(&self, records: &[RawRecord<'_>]) -> Result<Seq, Error> {
        let applied = self.applied_seq();
        let start = records.partition_point(|record| record.seq <= applied);
        let Some(last) = records[start..].last() else { return Ok(applied) };
        assert!(last.ends_transaction, "half a transaction at seq {}", last.seq);
        check_contiguous(applied, &records[start..])?;
        let feed_high = records[start..].iter().map(|record| record.feed_high).max().unwrap_or(0);
        let end = End { seq: last.seq, time_us: last.time_us, feed_high };
        let changes = Changes::of(&records[start..]);
        guarded(|| self.write([Ok(changes)].into_iter(), end))
    }

    /// Applies what is prepared, whose `rows` come in key order; nobody may read meanwhile. Not durable on return.
    ///
    /// Where nothing is stored it takes several commits, of which only the last says what is there: a file in which it
    /// did not come to that is found damaged.
    ///
    /// # Errors
    /// As [`Replica::apply`]; those of `rows`. Then the replica is not to be used any more.
    pub(crate) fn load(
        &self,
        batch: Batch,
        rows: &mut dyn Iterator<Item = Result<Changes, Error>>,
    ) -> Result<Seq, Error> {
        let applied = self.applied_seq();
        if batch.first_seq != applied.next() {
            return Err(Error::Gap { applied, found: batch.first_seq });
        }
        guarded(|| {
            if applied > Seq::ZERO {
                return self.write(rows, batch.end);
            }
            let stats = self.stats();
            let mut found = Stats::new();
            let mut part = self.begin()?;
            while store::fill(&part, rows, &mut found)? {
                commit(part)?;
                part = self.begin()?;
            }
            self.finish(part, found, batch.end, stats)
        })
    }

    fn begin(&self) -> Result<WriteTransaction, Error> {
        let mut transaction = self.database().begin_write().map_err(Error::database("write"))?;
        transaction.set_durability(Durability::None).map_err(Error::database("write"))?;
        Ok(transaction)
    }

    fn write(
        &self,
        rows: impl Iterator<Item = Result<Changes, Error>>,
        end: End,
    ) -> Result<Seq, Error> {
        let stats = self.stats();
        let transaction = self.begin()?;
        let touched = store::write(&transaction, rows, &stats)?;
        self.finish(transaction, touched, end, stats)
    }

    /// Commits rows with the figures of the tables that they `touched`, and with what they are as of.
    fn finish(
        &self,
        transaction: WriteTransaction,
        touched: Stats,
        end: End,
        mut stats: MutexGuard<'_, Stats>,
    ) -> Result<Seq, Error> {
        store::write_stats(&transaction, &touched)?;
        let position = Position {
            log_id: self.log_id,
            applied_seq: end.seq,
            feed_high: end.feed_high.max(self.feed_high.load(Ordering::Acquire)),
            time_us: end.time_us,
        };
        store::write_position(&transaction, &position)?;
        commit(transaction)?;
        stats.extend(touched);
        self.feed_high.store(position.feed_high, Ordering::Release);
        self.applied.store(end.seq.0, Ordering::Release);
        Ok(end.seq)
    }

    /// [`Replica::save`] and [`Replica::confirm`]: all that is applied is durable and verified on return.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Damaged`] if what was read back does not add up.
    pub fn checkpoint(&self) -> Result<Seq, Error> {
        let saved = self.save()?;
        self.confirm(&saved)
    }

    /// Makes all that is applied durable, and returns it as it is to be read back. After a crash the log
    /// replays what follows it.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn save(&self) -> Result<Snapshot, Error> {
        // After a crash redb then needs no walk through the whole file.
        self.save_as(|transaction| transaction.set_quick_repair(true))
    }

    fn save_as(&self, set: impl FnOnce(&mut WriteTransaction)) -> Result<Snapshot, Error> {
        guarded(|| {
            let _held = self.stats();
            let mut transaction =
                self.database().begin_write().map_err(Error::database("write"))?;
            set(&mut transaction);
            transaction.commit().map_err(Error::database("commit"))?;
            self.snapshot()
        })
    }

    /// Recomputes counts and signatures from the rows that were saved, and only then moves
    /// [`Replica::checkpoint_seq`]. Reads every row; others apply meanwhile.
    ///
    /// # Errors
    /// [`Error::Database`]; [`Error::Damaged`] if what was read back does not add up.
    pub fn confirm(&self, saved: &Snapshot) -> Result<Seq, Error> {
        self.confirm_unless(saved, &AtomicBool::new(false))?;
        Ok(saved.seq())
    }

    /// [`Replica::confirm`] that gives up, and returns false, soon after `stop` is set.
    ///
    /// # Errors
    /// As [`Replica::confirm`].
    pub fn confirm_unless(&self, saved: &Snapshot, stop: &AtomicBool) -> Result<bool, Error> {
        match guarded(|| saved.verify_unless(stop)) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                if self.doubt.is_some() {
                    Doubt::raise(&self.path)?;
                }
                return Err(error);
            }
        }
        self.confirmed(saved)?;
        Ok(true)
    }

    /// Notes that `saved` was verified.
    fn confirmed(&self, saved: &Snapshot) -> Result<(), Error> {
        self.checkpoint.fetch_max(saved.seq().0, Ordering::AcqRel);
        if !self.proven.swap(true, Ordering::AcqRel)
            && let Some(doubt) = &self.doubt
        {
            doubt.settle()?;
        }
        Ok(())
    }

    /// [`Replica::checkpoint`] of a replica that nobody writes to meanwhile and that is closed next, which is when redb
    /// prepares for a quick repair. Reads back while the disk is busy.
    ///
    /// # Errors
    /// As [`Replica::checkpoint`].
    pub(crate) fn save_confirmed(&self) -> Result<Snapshot, Error> {
        let applied = self.snapshot()?;
        let saved = std::thread::scope(|scope| {
            let confirmed = scope.spawn(|| guarded(|| applied.verify()));
            let saved = self.save_as(|_| {})?;
            let confirmed = confirmed.join();
            confirmed.map_err(|_| Error::Damaged("verifying it failed".into()))??;
            Ok::<_, Error>(saved)
        })?;
        assert_eq!(saved.seq(), applied.seq(), "nobody writes");
        self.confirmed(&saved)?;
        Ok(saved)
    }

    /// Whether what was in the file when it was opened is proven.
    #[must_use]
    pub fn proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// All rows as of now, held still. Any number may live at once.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let transaction = self.database().begin_read().map_err(Error::database("read"))?;
        Snapshot::new(transaction, Arc::clone(&self.turns))
    }
}

impl Drop for Replica {
    /// redb may panic once more when it closes a file in which it came upon damage.
    fn drop(&mut self) {
        let database = self.database.take();
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(error) = closed {
            tracing::warn!(%error, path = %self.path.display(), "close the replica");
        }
    }
}

/// Compares every page in use with its checksum. redb does so only when it repairs, and reading a damaged
/// page can panic, even twice, which ends the process; a page that passes was written so.
pub(crate) fn check_pages(database: &mut Database) -> Result<(), Error> {
    let sound = database.check_integrity().map_err(Error::database("check"))?;
    if !sound {
        // redb then went back to the last commit that is whole; the log has the rest.
        tracing::warn!("the replica's file needed repair");
    }
    Ok(())
}

/// Whether nothing was ever stored in the file.
fn is_new(database: &Database) -> Result<bool, Error> {
    let transaction = database.begin_read().map_err(Error::database("read"))?;
    let mut tables = transaction.list_tables().map_err(Error::database("read"))?;
    Ok(tables.next().is_none())
}

fn create_tables(database: &Database, log_id: LogId) -> Result<(), Error> {
    let mut transaction = database.begin_write().map_err(Error::database("create"))?;
    transaction.set_quick_repair(true);
    transaction.open_table(ROWS).map_err(Error::database("create"))?;
    transaction.open_table(TABLES).map_err(Error::database("create"))?;
    store::write_position(&transaction, &Position::start(log_id))?;
    transaction.commit().map_err(Error::database("create"))
}

fn commit(transaction: WriteTransaction) -> Result<(), Error> {
    transaction.commit().map_err(Error::database("commit"))
}

fn check_contiguous(mut applied: Seq, records: &[RawRecord<'_>]) -> Result<(), Error> {
    for record in records {
        if record.seq != applied.next() {
            return Err(Error::Gap { applied, found: record.seq });
        }
        applied = record.seq;
    }
    Ok(())
}

/// A name beside `path` that no file has.
fn free_name(path: &Path) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let first = path.with_file_name(format!("{name}.aside-{seconds}"));
    let others = (1..).map(|n| path.with_file_name(format!("{name}.aside-{seconds}-{n}")));
    let mut names = std::iter::once(first).chain(others);
    names.find(|name| !name.exists()).expect("names do not run out")
}

/// The error with its cause.
fn describe(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use revenant_log::{Event, Key, Op, Record, SourcePos, Value, encode_record};

    use super::*;

    fn changes(seq: u64) -> Changes {
        let event = Event {
            op: Op::Create,
            table: "t".into(),
            key: Key::Int(seq.cast_signed()),
            version: None,
            body: Some(Value::Bool(true)),
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        };
        let mut bytes = Vec::new();
        let record =
            Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: 0, event };
        encode_record(&record, &mut bytes);
        Changes::of(&[RawRecord::read(Seq(seq), &bytes).unwrap()])
    }

    #[test]
    fn a_load_that_did_not_come_to_its_end_is_found_damaged_and_one_that_did_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = ReplicaConfig { proof: Proof::AtOpen, ..ReplicaConfig::default() };
        for count in [0, 1, 15, 16, 17, 40] {
            let load = |path: &Path, end: Option<Error>| {
                let replica = Replica::open(path, LogId([1; 16]), &config).unwrap().0;
                let mut rows = (1..=count).map(|seq| Ok(changes(seq))).chain(end.map(Err));
                let end = End { seq: Seq(count.max(1)), ..End::default() };
                replica.load(Batch { first_seq: Seq::FIRST, end }, &mut rows)
            };
            let open = |path: &Path| {
                let (replica, report) = Replica::open(path, LogId([1; 16]), &config).unwrap();
                let rows: u64 = replica.stats().values().map(|stat| stat.rows).sum();
                (replica.applied_seq().0, rows, report.moved_aside.is_some())
            };
            let path = dir.path().join(format!("whole-{count}"));
            assert_eq!(load(&path, None).unwrap(), Seq(count.max(1)));
            assert_eq!(open(&path), (count.max(1), count, false));
            let path = dir.path().join(format!("half-{count}"));
            assert!(load(&path, Some(Error::Damaged("planned".into()))).is_err());
            // Rows of whole commits are there, and nothing that says so.
            assert_eq!(open(&path), (0, 0, count >= 16));
        }
    }
}
