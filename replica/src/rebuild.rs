//! A replica from the log, or from a checkpoint and the log, into a new file that gets its name at the end. What
//! an interruption leaves is gone on with.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use revenant_log::{ReadOnlyLog, Seq};
use serde::Serialize;

use crate::error::Error;
use crate::overlay::lock_shared;
use crate::prepare::{Preparer, records_of};
use crate::replica::{Proof, Replica, ReplicaConfig};
use crate::snapshot::{Snapshot, TableStat};

/// What to rebuild.
#[derive(Clone, Debug, Default)]
pub struct RebuildConfig {
    /// Up to this seq. Default: to the log's end.
    pub to: Option<Seq>,
    /// The replica file to start from, which no process may have open, instead of nothing.
    pub from: Option<PathBuf>,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Rows are as of this seq, and durable.
    pub seq: Seq,
    /// They will be as of this one.
    pub to: Seq,
}

/// What a rebuild made.
#[derive(Clone, Debug, Serialize)]
pub struct RebuildReport {
    /// The log.
    pub log_id: String,
    /// Rows are as of this seq: the last whole transaction up to the one asked for.
    pub seq: u64,
    /// When the source committed it, microseconds since 1970.
    pub time_us: i64,
    /// The seq that was begun after: 0, the checkpoint's, or where an interrupted rebuild was.
    pub after_seq: u64,
    /// Records applied.
    pub records: u64,
    /// Every table that ever had a row.
    pub tables: Vec<TableStat>,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// A table's figures and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// See [`crate::TableStat::signature`].
    pub signature: String,
    /// See [`Snapshot::hash`].
    pub hash: String,
}

/// Every table of a snapshot that has rows.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub fn table_reports(snapshot: &Snapshot) -> Result<Vec<TableReport>, Error> {
    let tables = snapshot.tables()?.into_iter().filter(|table| table.rows > 0);
    tables
        .map(|table| {
            let hash = snapshot.hash(&table.name)?;
            Ok(TableReport { name: table.name, rows: table.rows, signature: table.signature, hash })
        })
        .collect()
}

/// The last seq of the log in `log_dir` before its first transaction that was committed after `time_us`,
/// microseconds since 1970.
///
/// # Errors
/// [`Error::Log`].
pub fn seq_at(log_dir: &Path, time_us: i64) -> Result<Seq, Error> {
    let log = ReadOnlyLog::open(log_dir)?;
    for frame in log.frames(log.first_seq()) {
        let frame = frame?;
        for record in records_of(&frame) {
            let record = record?;
            if record.time_us > time_us {
                return Ok(record.seq.prev());
            }
        }
    }
    Ok(log.last_seq())
}

/// Builds the replica of the log in `log_dir` as the file `out`, which must not exist. Durable and verified on
/// return.
///
/// Until then it is a file beside `out`, named like it with `.unfinished` behind. If there is one that was begun
/// for the same log and is not beyond what is asked for, it is gone on with.
///
/// # Errors
/// [`Error::Trimmed`] if the log does not start where the checkpoint ends, or at its first seq without one;
/// [`Error::Beyond`] if the checkpoint is beyond what is asked for; [`Error::Log`] for damage in the log;
/// [`Error::Locked`] if another rebuild is at it; [`Error::Io`] if `out` exists or cannot be written. Then
/// there is no file `out`.
pub fn rebuild(
    log_dir: &Path,
    out: &Path,
    config: &RebuildConfig,
    mut progress: impl FnMut(Progress),
) -> Result<RebuildReport, Error> {
    let started = Instant::now();
    if out.exists() {
        return Err(io("create", out)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let log = ReadOnlyLog::open(log_dir)?;
    let to = config.to.unwrap_or(Seq(u64::MAX)).min(log.last_seq());
    let unfinished = unfinished(out);
    let replica = begin(&unfinished, &log, to, config.from.as_deref())?;
    let after_seq = replica.applied_seq();
    if log.first_seq() > after_seq.next() {
        return Err(Error::Trimmed { applied: after_seq, first: log.first_seq() });
    }
    apply_all(&replica, &log, to, |seq| progress(Progress { seq, to }))?;
    let snapshot = replica.save_confirmed()?;
    let (seq, time_us, tables) = (snapshot.seq(), snapshot.time_us(), snapshot.tables()?);
    drop((snapshot, replica));
    std::fs::rename(&unfinished, out).map_err(io("rename", &unfinished))?;
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io("sync", folder))?;
    Ok(RebuildReport {
        log_id: log.id().to_string(),
        seq: seq.0,
        time_us,
        after_seq: after_seq.0,
        records: seq.0 - after_seq.0,
        tables,
        micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

fn unfinished(out: &Path) -> PathBuf {
    let mut name = OsString::from(out);
    name.push(".unfinished");
    name.into()
}

/// What an interrupted rebuild left, if it can be gone on with; else the checkpoint `from`, or nothing.
fn begin(path: &Path, log: &ReadOnlyLog, to: Seq, from: Option<&Path>) -> Result<Replica, Error> {
    let config = ReplicaConfig { proof: Proof::AtOpen, ..ReplicaConfig::default() };
    if path.exists() {
        let (replica, report) = Replica::open(path, log.id(), &config)?;
        let Some((aside, _)) = report.moved_aside else {
            let at_least = match from {
                Some(from) => Snapshot::open(from)?.seq(),
                None => Seq::ZERO,
            };
            if (at_least..=to).contains(&replica.applied_seq()) {
                return Ok(replica);
            }
            drop(replica);
            std::fs::remove_file(path).map_err(io("remove", path))?;
            return begin(path, log, to, from);
        };
        std::fs::remove_file(&aside).map_err(io("remove", &aside))?;
        drop(replica);
        std::fs::remove_file(path).map_err(io("remove", path))?;
    }
    let Some(from) = from else { return Ok(Replica::open(path, log.id(), &config)?.0) };
    let held = lock_shared(from)?;
    std::fs::copy(from, path).map_err(io("copy", from))?;
    drop(held);
    let (replica, report) = Replica::open(path, log.id(), &config)?;
    let refused = match report.moved_aside {
        Some((aside, reason)) => {
            std::fs::remove_file(&aside).map_err(io("remove", &aside))?;
            Error::Damaged(format!("{} cannot be started from: {reason}", from.display()))
        }
        None if replica.applied_seq() > to => {
            Error::Beyond { checkpoint: replica.applied_seq(), asked: to }
        }
        None => return Ok(replica),
    };
    drop(replica);
    std::fs::remove_file(path).map_err(io("remove", path))?;
    Err(refused)
}

/// Applies the log's whole transactions up to `to`. While a batch is prepared the one before is made durable: an
/// interruption costs the batches in hand.
fn apply_all(
    replica: &Replica,
    log: &ReadOnlyLog,
    to: Seq,
    mut progress: impl FnMut(Seq),
) -> Result<(), Error> {
    let first = replica.applied_seq().next();
    let mut preparer = Preparer::new(log.frames(first), first, to);
    while !preparer.is_done() {
        let (saved, more) = std::thread::scope(|scope| {
            let stored = replica.applied_seq() >= first;
            let saving = stored.then(|| scope.spawn(|| replica.save()));
            let more = preparer.batch(|batch, rows| replica.load(batch, rows).map(drop));
            (saving.map(std::thread::ScopedJoinHandle::join), more)
        });
        if let Some(saved) = saved {
            let saved = saved.map_err(|_| Error::Damaged("making it durable failed".into()))?;
            progress(saved?.seq());
        }
        if !more? {
            break;
        }
    }
    Ok(())
}
