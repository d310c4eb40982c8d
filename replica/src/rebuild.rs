//! A replica from the log alone, into a new file that gets its name at the end.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use revenant_log::{ReadOnlyLog, Record, Seq};
use serde::Serialize;

use crate::error::Error;
use crate::replica::{Replica, ReplicaConfig};
use crate::snapshot::Snapshot;

/// Records applied in one commit.
const BATCH_RECORDS: usize = 20_000;
/// Batches decoded and not applied yet: with the two in hand some 20 MB of small records.
const BATCHES_AHEAD: usize = 1;

/// What a rebuild made.
#[derive(Clone, Debug, Serialize)]
pub struct RebuildReport {
    /// The log.
    pub log_id: String,
    /// Rows are as of this seq: the last whole transaction up to the one asked for.
    pub seq: u64,
    /// Records applied.
    pub records: u64,
    /// Every table.
    pub tables: Vec<TableReport>,
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

/// Builds the replica of the log in `log_dir` up to `to`, or to its end, as the file `out`, which must not
/// exist. Durable and verified on return.
///
/// # Errors
/// [`Error::Trimmed`] if the log does not start at its first seq; [`Error::Log`] for damage in it;
/// [`Error::Io`] if `out` exists or cannot be written. Then there is no file.
pub fn rebuild(
    log_dir: &Path,
    out: &Path,
    to: Option<Seq>,
    progress: impl FnMut(Seq),
) -> Result<RebuildReport, Error> {
    let started = Instant::now();
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    if out.exists() {
        return Err(io("create", out)(std::io::ErrorKind::AlreadyExists.into()));
    }
    let log = ReadOnlyLog::open(log_dir)?;
    if log.first_seq() > Seq::FIRST {
        return Err(Error::Trimmed { applied: Seq::ZERO, first: log.first_seq() });
    }
    let unfinished = out.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_file(&unfinished).map_err(io("remove", &unfinished))?;
    }
    let (replica, _) = Replica::open(&unfinished, log.id(), &ReplicaConfig::default())?;
    let to = to.unwrap_or(log.last_seq());
    let records = apply_all(&replica, &log, to, progress)?;
    let snapshot = replica.save()?;
    // Verifying and hashing both read every row.
    let tables = std::thread::scope(|scope| {
        let verifier = scope.spawn(|| replica.confirm(&snapshot));
        let tables = table_reports(&snapshot);
        verifier.join().map_err(|_| Error::Damaged("verifying it failed".into()))??;
        tables
    })?;
    let seq = snapshot.seq();
    drop((snapshot, replica));
    std::fs::rename(&unfinished, out).map_err(io("rename", &unfinished))?;
    let folder = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io("sync", folder))?;
    Ok(RebuildReport {
        log_id: log.id().to_string(),
        seq: seq.0,
        records,
        tables,
        micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// Applies the log's whole transactions up to `to`; returns how many records that took. A second thread
/// reads and decodes ahead.
fn apply_all(
    replica: &Replica,
    log: &ReadOnlyLog,
    to: Seq,
    mut progress: impl FnMut(Seq),
) -> Result<u64, Error> {
    let (batches, decoded) = sync_channel(BATCHES_AHEAD);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_batches(log, to, &batches));
        let mut records = 0;
        // Ends when the reader has dropped its side; an error here ends the reader.
        for batch in decoded {
            progress(replica.apply(&batch)?);
            records += batch.len() as u64;
        }
        reader.join().map_err(|_| Error::Damaged("reading the log failed".into()))??;
        Ok(records)
    })
}

/// Gives the records up to `to` in batches that end with a transaction.
fn read_batches(
    log: &ReadOnlyLog,
    to: Seq,
    batches: &SyncSender<Vec<Record>>,
) -> Result<(), revenant_log::Error> {
    let (mut batch, mut whole) = (Vec::with_capacity(BATCH_RECORDS), 0);
    for located in log.records(Seq::FIRST) {
        let record = located?.record;
        if record.seq > to {
            break;
        }
        let ends = record.ends_transaction;
        batch.push(record);
        if ends {
            whole = batch.len();
        }
        if whole >= BATCH_RECORDS {
            let rest = batch.split_off(whole);
            if batches.send(std::mem::replace(&mut batch, rest)).is_err() {
                return Ok(());
            }
            whole = 0;
        }
    }
    batch.truncate(whole);
    // Nobody receives it if applying failed.
    drop(batches.send(batch));
    Ok(())
}
