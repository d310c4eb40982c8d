//! A replica from the log alone, into a new file that gets its name at the end.

use std::path::Path;
use std::time::Instant;

use revenant_log::{ReadOnlyLog, Seq};
use serde::Serialize;

use crate::error::Error;
use crate::replica::{Replica, ReplicaConfig};
use crate::snapshot::Snapshot;

/// Records applied in one commit.
const BATCH_RECORDS: usize = 20_000;

/// What a rebuild made.
#[derive(Clone, Debug, Serialize)]
pub struct RebuildReport {
    /// The log.
    pub log_id: String,
    /// Rows are as of this seq: the last whole transaction up to the one asked for.
    pub seq: u64,
    /// Records read.
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
    mut progress: impl FnMut(Seq),
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
    let (mut batch, mut whole, mut records) = (Vec::new(), 0, 0);
    for located in log.records(Seq::FIRST) {
        let record = located?.record;
        if record.seq > to {
            break;
        }
        records += 1;
        let ends = record.ends_transaction;
        batch.push(record);
        if ends {
            whole = batch.len();
        }
        if whole >= BATCH_RECORDS {
            progress(replica.apply(&batch[..whole])?);
            batch.drain(..whole);
            whole = 0;
        }
    }
    replica.apply(&batch[..whole])?;
    replica.checkpoint()?;
    let snapshot = replica.snapshot()?;
    let tables = table_reports(&snapshot)?;
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
