//! The scheduler's replica against SurrealDB's tables; and, where they differ, which rows of the log's own
//! account do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use revenant_log::{Key, Op, ReadOnlyLog, Seq, Value};
use revenant_replica::hash::TableHash;
use serde_json::Value as Json;

use super::database::{Database, without_id};
use super::{Fault, Verdict};

type Tables = BTreeMap<String, BTreeMap<Key, Value>>;

pub(super) fn check(
    log: &ReadOnlyLog,
    scheduler: &Json,
    database: &Database,
    verdict: &mut Verdict,
) -> Result<()> {
    for (name, rows) in &database.tables {
        let table = &scheduler["replica"]["tables"][name];
        let count = table["rows"].as_u64().unwrap_or(0);
        if count != rows.len() as u64 {
            verdict.fault(Fault::ReplicaDiff, || {
                format!("{name} has {count} rows in the replica, {} in SurrealDB", rows.len())
            });
        }
        let mut hash = TableHash::default();
        rows.iter().for_each(|(key, row)| hash.add(key, row));
        let hash = hash.finish();
        if !rows.is_empty() && table["hash"].as_str() != Some(hash.as_str()) {
            verdict.fault(Fault::ReplicaDiff, || {
                format!("{name} is {} in the replica, {hash} in SurrealDB", table["hash"])
            });
        }
    }
    compare(&told(log)?, &database.tables, verdict);
    Ok(())
}

/// The rows that the log tells of, by nothing but its records.
fn told(log: &ReadOnlyLog) -> Result<Tables> {
    let mut tables = Tables::new();
    for located in log.records(Seq::FIRST) {
        let event = located?.record.event;
        if event.stale {
            continue;
        }
        let rows = tables.entry(event.table.to_string()).or_default();
        match event.body {
            Some(body) if event.op != Op::Delete => rows.insert(event.key, body),
            _ => rows.remove(&event.key),
        };
    }
    Ok(tables)
}

fn compare(told: &Tables, stored: &Tables, verdict: &mut Verdict) {
    let none = BTreeMap::new();
    let names: BTreeSet<_> = told.keys().chain(stored.keys()).collect();
    for name in names {
        let (told, stored) = (told.get(name).unwrap_or(&none), stored.get(name).unwrap_or(&none));
        let keys: BTreeSet<_> = told.keys().chain(stored.keys()).collect();
        for key in keys {
            let (one, other) = (told.get(key).map(without_id), stored.get(key).map(without_id));
            if one != other {
                let text = |row: Option<Value>| row.map_or("nothing".into(), |row| row.to_string());
                verdict.fault(Fault::ReplicaDiff, || {
                    format!(
                        "{name}:{key} is {} in the log, {} in SurrealDB",
                        text(one),
                        text(other)
                    )
                });
            }
        }
    }
}
