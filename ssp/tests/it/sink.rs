//! `MemorySink`: SurrealDB's part, in memory, which fails as told. `Oracle`: its answers to re-run
//! queries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock};

use async_trait::async_trait;
use revenant_log::{LogId, Record, RecordId, Seq, Value};
use revenant_ssp::edge::{Edge, EdgeBatch, EdgeSink, EdgeWrite, QueryRow, SinkError};
use revenant_ssp::query::rules::Rules;
use revenant_ssp::requery::{Requery, RequeryError, RequeryMember, RequeryText};

use crate::scheduler::FakeScheduler;

/// A `_00_query` row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) row: QueryRow,
    pub(crate) row_count: u64,
    pub(crate) ready: bool,
    pub(crate) expired: bool,
}

#[derive(Default)]
pub(crate) struct Stored {
    pub(crate) rows: BTreeMap<String, Row>,
    /// By view, then by edge id.
    pub(crate) edges: BTreeMap<String, BTreeMap<String, Edge>>,
    pub(crate) positions: BTreeMap<String, (LogId, Seq)>,
    pub(crate) tables: BTreeSet<String>,
    /// Every batch, in order.
    pub(crate) batches: Vec<EdgeBatch>,
    /// No call is answered.
    pub(crate) away: bool,
    /// Batches that are stored although the writer hears otherwise.
    pub(crate) lost_answers: u32,
}

#[derive(Default)]
pub(crate) struct MemorySink {
    stored: Mutex<Stored>,
}

impl MemorySink {
    pub(crate) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    /// The ids of a view's root rows with their versions.
    pub(crate) fn members(&self, view: &str) -> BTreeMap<String, u64> {
        let stored = self.stored();
        let edges = stored.edges.get(view).into_iter().flat_map(BTreeMap::values);
        edges.map(|edge| (edge.record.to_string(), edge.version)).collect()
    }

    fn open(&self) -> Result<MutexGuard<'_, Stored>, SinkError> {
        let stored = self.stored();
        if stored.away { Err(SinkError::Unavailable("away".into())) } else { Ok(stored) }
    }
}

impl Stored {
    fn check(&self, view: &str, epoch: u64) -> Result<(), SinkError> {
        let owned = self.rows.get(view).is_some_and(|row| row.row.epoch <= epoch);
        if owned { Ok(()) } else { Err(SinkError::Fenced { view: view.to_owned() }) }
    }

    fn release(&mut self, view: &str, epoch: u64) -> Result<(), SinkError> {
        if self.rows.contains_key(view) {
            self.check(view, epoch)?;
        }
        self.rows.remove(view);
        self.edges.remove(view);
        Ok(())
    }
}

#[async_trait]
impl EdgeSink for MemorySink {
    async fn position(&self, ssp_id: &str) -> Result<Option<(LogId, Seq)>, SinkError> {
        Ok(self.open()?.positions.get(ssp_id).copied())
    }

    async fn claim(&self, row: &QueryRow) -> Result<(), SinkError> {
        let mut stored = self.open()?;
        if stored.rows.contains_key(&row.id) {
            stored.check(&row.id, row.epoch)?;
        }
        let before = stored.rows.get(&row.id);
        let (row_count, ready) = before.map_or((0, false), |row| (row.row_count, row.ready));
        let row = Row { row: row.clone(), row_count, ready, expired: false };
        stored.rows.insert(row.row.id.clone(), row);
        Ok(())
    }

    async fn edges(&self, table: &str, view: &str) -> Result<Vec<Edge>, SinkError> {
        let stored = self.open()?;
        assert!(stored.tables.contains(table), "the edge table {table} is defined");
        Ok(stored.edges.get(view).into_iter().flat_map(BTreeMap::values).cloned().collect())
    }

    async fn commit(&self, batch: &EdgeBatch) -> Result<(), SinkError> {
        let mut stored = self.open()?;
        for write in &batch.views {
            stored.check(&write.view, write.epoch)?;
        }
        for write in &batch.views {
            let edges = stored.edges.entry(write.view.clone()).or_default();
            for edge in &write.edges {
                match edge {
                    EdgeWrite::Put(edge) => {
                        if let Some(parent) = &edge.parent {
                            assert!(edges.contains_key(parent), "parents come first");
                        }
                        edges.insert(edge.id.clone(), edge.clone());
                    }
                    EdgeWrite::Delete { id, .. } => drop(edges.remove(id)),
                }
            }
            let row = stored.rows.get_mut(&write.view).expect("checked above");
            (row.row_count, row.ready) = (write.row_count, write.ready);
        }
        let before = stored.positions.insert(batch.ssp_id.clone(), (batch.log_id, batch.seq));
        if let Some((log_id, seq)) = before {
            assert!(log_id != batch.log_id || seq <= batch.seq, "the position never moves back");
        }
        stored.batches.push(batch.clone());
        if stored.lost_answers > 0 {
            stored.lost_answers -= 1;
            return Err(SinkError::Unavailable("the answer was lost".into()));
        }
        Ok(())
    }

    async fn release(&self, _: &str, view: &str, epoch: u64) -> Result<(), SinkError> {
        self.open()?.release(view, epoch)
    }

    async fn expired(&self, ssp_id: &str) -> Result<Vec<String>, SinkError> {
        let stored = self.open()?;
        let rows = stored.rows.values().filter(|row| row.expired && row.row.ssp_id == ssp_id);
        Ok(rows.map(|row| row.row.id.clone()).collect())
    }

    async fn release_expired(&self, _: &str, view: &str, epoch: u64) -> Result<bool, SinkError> {
        let mut stored = self.open()?;
        if !stored.rows.get(view).is_some_and(|row| row.expired) {
            return Ok(false);
        }
        stored.release(view, epoch).map(|()| true)
    }

    async fn missing(&self, views: &[String]) -> Result<Vec<String>, SinkError> {
        let stored = self.open()?;
        Ok(views.iter().filter(|view| !stored.rows.contains_key(*view)).cloned().collect())
    }

    async fn ensure_edge_table(&self, table: &str, _: Option<&str>) -> Result<(), SinkError> {
        self.open()?.tables.insert(table.to_owned());
        Ok(())
    }
}

/// Answers re-run queries: with a list that a test sets, else from the rows of the scheduler's log,
/// which is what the database would hold.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) log: OnceLock<FakeScheduler>,
    pub(crate) members: Mutex<Option<Vec<RequeryMember>>>,
    pub(crate) runs: Mutex<Vec<RequeryText>>,
    pub(crate) invalid: Mutex<Option<String>>,
    pub(crate) rules: Mutex<Rules>,
}

impl Oracle {
    pub(crate) fn set(&self, members: &[(&str, u64)]) {
        let member = |(key, version): &(&str, u64)| RequeryMember {
            record: RecordId::new("t", *key),
            version: *version,
        };
        *self.members.lock().unwrap() = Some(members.iter().map(member).collect());
    }

    /// The rows of `t`, above the bound that the query ends with if it has one.
    fn select(&self, surql: &str) -> Vec<RequeryMember> {
        let bound: Option<i64> = surql.rsplit_once("> ").map(|(_, bound)| bound.parse().unwrap());
        let mut rows = BTreeMap::new();
        let log = self.log.get().unwrap().inner();
        for Record { event, .. } in &log.records {
            rows.remove(&event.key);
            let n = event.body.as_ref().and_then(|body| body.field("n"));
            let Some(Value::Int(n)) = n else { continue };
            if bound.is_none_or(|bound| *n > bound) {
                rows.insert(event.key.clone(), event.version.unwrap_or(1));
            }
        }
        let member = |(key, version)| RequeryMember { record: RecordId::new("t", key), version };
        rows.into_iter().map(member).collect()
    }
}

#[async_trait]
impl Requery for Oracle {
    async fn run(&self, query: &RequeryText) -> Result<Vec<RequeryMember>, RequeryError> {
        self.runs.lock().unwrap().push(query.clone());
        if let Some(message) = &*self.invalid.lock().unwrap() {
            return Err(RequeryError::Invalid(message.clone()));
        }
        if let Some(members) = &*self.members.lock().unwrap() {
            return Ok(members.clone());
        }
        Ok(self.select(&query.surql))
    }

    async fn rules(&self) -> Result<Rules, RequeryError> {
        Ok(self.rules.lock().unwrap().clone())
    }
}
