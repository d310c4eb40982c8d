//! Table hashes as upstream defines them: `b3:` and BLAKE3 over the rows in byte order of their raw
//! ids, each row giving id, NUL, canonical JSON, NUL.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use revenant_log::{Key, Value};
use serde_json::Value as Json;

use crate::error::Error;
use crate::rebuild::TableReport;
use crate::snapshot::{Snapshot, TableStat};

/// Collects a table's rows and hashes them.
#[derive(Default)]
pub struct TableHash {
    /// Canonical JSON by raw id.
    rows: BTreeMap<String, String>,
}

impl TableHash {
    /// Adds the row `body` with `key`.
    pub fn add(&mut self, key: &Key, body: &Value) {
        let mut json = String::new();
        write_canonical(&body.to_json(), &mut json);
        self.rows.insert(key.to_string(), json);
    }

    /// The hash of all rows added. A table without rows hashes nothing.
    #[must_use]
    pub fn finish(self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (id, json) in &self.rows {
            hasher.update(id.as_bytes()).update(&[0]).update(json.as_bytes()).update(&[0]);
        }
        format!("b3:{}", hasher.finalize().to_hex())
    }
}

/// The hashes of tables as they were last computed. A table's signature says whether its rows have changed since, so
/// that only tables that did are read again.
#[derive(Default)]
pub struct HashCache {
    known: Mutex<BTreeMap<String, TableReport>>,
    /// Held by who hashes, so that nobody does the same work beside.
    turn: Mutex<()>,
}

impl HashCache {
    /// The hashes of the tables of `snapshot` that are known, by table. Reads no row.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn known(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, String>, Error> {
        let tables = snapshot.tables()?.into_iter();
        Ok(tables.filter_map(|table| Some((table.name.clone(), self.get(&table)?))).collect())
    }

    /// Every table of `snapshot`. Reads the rows of those whose hash is not known, which takes as long as that
    /// takes.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub fn reports(&self, snapshot: &Snapshot) -> Result<Vec<TableReport>, Error> {
        let _turn = lock(&self.turn);
        self.reports_in_turn(snapshot)
    }

    /// Has the hashes of all tables of `snapshot` known, unless somebody hashes already.
    ///
    /// # Errors
    /// As [`HashCache::reports`].
    pub fn fill(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        self.reports_in_turn(snapshot).map(drop)
    }

    fn reports_in_turn(&self, snapshot: &Snapshot) -> Result<Vec<TableReport>, Error> {
        let tables = snapshot.tables()?.into_iter();
        tables
            .map(|table| {
                let hash = match self.get(&table) {
                    Some(hash) => hash,
                    None => snapshot.hash(&table.name)?,
                };
                let TableStat { name, rows, signature } = table;
                let report = TableReport { name: name.clone(), rows, signature, hash };
                lock(&self.known).insert(name, report.clone());
                Ok(report)
            })
            .collect()
    }

    fn get(&self, table: &TableStat) -> Option<String> {
        let known = lock(&self.known);
        let known = known.get(&table.name)?;
        let same = known.signature == table.signature && known.rows == table.rows;
        same.then(|| known.hash.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// JSON with keys sorted at every depth and scalars as `serde_json` prints them.
fn write_canonical(json: &Json, to: &mut String) {
    match json {
        Json::Array(items) => {
            to.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                write_canonical(item, to);
            }
            to.push(']');
        }
        Json::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            to.push('{');
            for (index, (name, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                to.push_str(&Json::from(name.as_str()).to_string());
                to.push(':');
                write_canonical(value, to);
            }
            to.push('}');
        }
        scalar => to.push_str(&scalar.to_string()),
    }
}
