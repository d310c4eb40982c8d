//! `Edges`: writes edges to SurrealDB in transactions that check who owns the view.

use std::fmt::Write as _;

use async_trait::async_trait;
use revenant_log::{Key, LogId, RecordId, Seq, Value};
use revenant_ssp::edge::{Edge, EdgeBatch, EdgeSink, EdgeWrite, QueryRow, SinkError, ViewWrite};
use surrealdb::types as sdk;

use crate::connect::{Db, DbError, quote};
use crate::convert::to_sdk;

/// Most edges that one transaction writes: large ones hold their locks long enough to make others fail.
const PART_EDGES: usize = 500;
/// How often a transaction that met another is run again before the caller is told to wait.
const CONFLICT_RETRIES: u32 = 8;
/// What a statement throws when a newer owner has the view; the view's key follows.
const FENCED: &str = "revenant-fenced:";

/// The edge tables of one database.
pub struct Edges {
    db: Db,
}

impl Edges {
    /// Edges in `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Runs one transaction, again when it met another.
    async fn run(&self, statements: &str, params: sdk::Object) -> Result<Vec<Value>, SinkError> {
        let mut attempt = 0;
        loop {
            let error = match self.db.run_with(statements, params.clone()).await {
                Ok(results) => return Ok(results),
                Err(error) => error,
            };
            match error {
                DbError::Conflict(_) if attempt < CONFLICT_RETRIES => {
                    attempt += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(2 << attempt)).await;
                }
                DbError::Conflict(text) | DbError::Unavailable(text) => {
                    return Err(SinkError::Unavailable(text));
                }
                DbError::Refused(text) => return Err(refused(text)),
            }
        }
    }
}

fn refused(text: String) -> SinkError {
    match text.split_once(FENCED) {
        Some((_, rest)) => {
            let view = rest.split(';').next().unwrap_or(rest).to_owned();
            SinkError::Fenced { view }
        }
        None if lacks_schema(&text) => {
            SinkError::Refused(format!("{text}; `revenant schema install` makes it"))
        }
        None => SinkError::Refused(text),
    }
}

/// A table is missing that every edge needs and no view brings along.
fn lacks_schema(text: &str) -> bool {
    ["'_00_query'", "'_00_ssp_cursor'"].iter().any(|table| text.contains(table))
        && text.contains("does not exist")
}

/// Parameters of a request, by name.
#[derive(Default)]
struct Params(sdk::Object);

impl Params {
    fn set(&mut self, name: impl Into<String>, value: &Value) -> Result<(), SinkError> {
        let value = to_sdk(value).map_err(|error| SinkError::Refused(error.to_string()))?;
        self.0.insert(name.into(), value);
        Ok(())
    }
}

fn query_id(view: &str) -> Value {
    id("_00_query", view)
}

fn id(table: &str, key: &str) -> Value {
    Value::RecordId(Box::new(RecordId::new(table, Key::from(key))))
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn int(value: u64) -> Value {
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Throws if a newer owner than `epoch` has the view, which is `$q{n}`; `$r{n}` is its row.
fn check_owner(
    n: usize,
    view: &str,
    epoch: u64,
    params: &mut Params,
    to: &mut String,
) -> Result<(), SinkError> {
    params.set(format!("q{n}"), &query_id(view))?;
    params.set(format!("k{n}"), &text(view))?;
    params.set(format!("e{n}"), &int(epoch))?;
    writeln!(
        to,
        "LET $r{n} = (SELECT epoch, clientId, auth_id FROM ONLY $q{n});
         IF $r{n}.epoch > $e{n} {{ THROW '{FENCED}' + $k{n} + ';' }};"
    )
    .expect("text takes any text");
    Ok(())
}

/// The statements of one view's part; everything that is not a table's name is bound.
fn write_view(
    n: usize,
    view: &ViewWrite,
    edges: &[EdgeWrite],
    last: bool,
    params: &mut Params,
    to: &mut String,
) -> Result<(), SinkError> {
    check_owner(n, &view.view, view.epoch, params, to)?;
    let table = quote(&view.table);
    let (mut puts, mut deletes) = (Vec::new(), Vec::new());
    for write in edges {
        match write {
            EdgeWrite::Delete { id: key, .. } => deletes.push(id(&view.table, key)),
            EdgeWrite::Put(edge) => puts.push(put_row(view, edge)),
        }
    }
    if !deletes.is_empty() {
        params.set(format!("d{n}"), &Value::Array(deletes))?;
        writeln!(to, "DELETE $d{n};").expect("text takes any text");
    }
    if !puts.is_empty() {
        params.set(format!("p{n}"), &Value::Array(puts))?;
        // A query whose row is gone gets no edges: its client has left.
        writeln!(
            to,
            "IF $r{n} != NONE {{
                INSERT RELATION INTO {table} $p{n}.map(|$row| object::extend($row,
                    {{ clientId: $r{n}.clientId, auth_id: $r{n}.auth_id, updatedAt: time::now() }}))
                ON DUPLICATE KEY UPDATE version = $input.version, parent = $input.parent,
                    parent_rel = $input.parent_rel, updatedAt = time::now() RETURN NONE
            }};"
        )
        .expect("text takes any text");
    }
    if last {
        params.set(format!("n{n}"), &int(view.row_count))?;
        let state = if view.ready { ", state = 'ready'" } else { "" };
        writeln!(to, "UPDATE $q{n} SET rowCount = $n{n}{state} RETURN NONE;")
            .expect("text takes any text");
    }
    Ok(())
}

fn put_row(view: &ViewWrite, edge: &Edge) -> Value {
    let mut row = revenant_log::value::Object::new();
    row.insert("id".into(), id(&view.table, &edge.id));
    row.insert("in".into(), query_id(&view.view));
    row.insert("out".into(), Value::RecordId(Box::new(edge.record.clone())));
    row.insert("version".into(), int(edge.version));
    if let Some(parent) = &edge.parent {
        row.insert("parent".into(), id(&view.table, parent));
    }
    if let Some(alias) = &edge.parent_rel {
        row.insert("parent_rel".into(), text(alias));
    }
    Value::Object(row)
}

/// Writes of views, cut so that no part has more than [`PART_EDGES`] edges.
fn parts(batch: &EdgeBatch) -> Vec<Vec<(&ViewWrite, &[EdgeWrite], bool)>> {
    let mut parts = vec![Vec::new()];
    let mut room = PART_EDGES;
    for view in &batch.views {
        let mut edges = view.edges.as_slice();
        loop {
            let (now, later) = edges.split_at(edges.len().min(room));
            let last = later.is_empty();
            parts.last_mut().expect("never empty").push((view, now, last));
            room -= now.len();
            if last {
                break;
            }
            edges = later;
            parts.push(Vec::new());
            room = PART_EDGES;
        }
    }
    parts
}

#[async_trait]
impl EdgeSink for Edges {
    async fn position(&self, ssp_id: &str) -> Result<Option<(LogId, Seq)>, SinkError> {
        let mut params = Params::default();
        params.set("id", &id("_00_ssp_cursor", ssp_id))?;
        let row = self.run("SELECT * FROM ONLY $id", params.0).await?;
        let Some(row) = row.first() else { return Ok(None) };
        match (row.field("log_id"), row.field("seq")) {
            (Some(Value::String(log_id)), Some(Value::Int(seq))) => {
                let log_id = LogId::parse(log_id);
                Ok(log_id.map(|log_id| (log_id, Seq(seq.cast_unsigned()))))
            }
            _ => Ok(None),
        }
    }

    async fn claim(&self, row: &QueryRow) -> Result<(), SinkError> {
        let mut params = Params::default();
        params.set("surql", &text(&row.surql))?;
        params.set("params", &Value::Object(row.params.clone()))?;
        params.set("ttl", &Value::Duration(row.ttl))?;
        params.set("client", &text(&row.client_id))?;
        params.set("active", &Value::Datetime(row.last_active_at))?;
        params.set("auth_id", &text(&row.auth_id))?;
        params.set("ssp_id", &text(&row.ssp_id))?;
        let mut statements = String::from("BEGIN;\n");
        check_owner(0, &row.id, row.epoch, &mut params, &mut statements)?;
        statements.push_str(
            "UPSERT $q0 SET surql = $surql, params = $params, ttl = $ttl, clientId = $client,
                auth_id = $auth_id, ssp_id = $ssp_id, epoch = $e0,
                lastActiveAt = IF lastActiveAt > $active { lastActiveAt } ELSE { $active },
                rowCount = rowCount ?? 0, state = state ?? 'materializing' RETURN NONE;
             COMMIT;",
        );
        self.run(&statements, params.0).await.map(|_| ())
    }

    async fn edges(&self, table: &str, view: &str) -> Result<Vec<Edge>, SinkError> {
        let mut params = Params::default();
        params.set("q", &query_id(view))?;
        let statement = format!(
            "LET $edges = $q->{}; SELECT id, out, version, parent, parent_rel FROM $edges",
            quote(table)
        );
        let rows = match self.run(&statement, params.0).await {
            Err(SinkError::Refused(text)) if text.contains("does not exist") => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let Some(Value::Array(rows)) = rows.last() else { return Ok(Vec::new()) };
        rows.iter().map(read_edge).collect()
    }

    async fn commit(&self, batch: &EdgeBatch) -> Result<(), SinkError> {
        let parts = parts(batch);
        let count = parts.len();
        for (index, part) in parts.into_iter().enumerate() {
            let mut params = Params::default();
            let mut statements = String::from("BEGIN;\n");
            for (n, (view, edges, last)) in part.into_iter().enumerate() {
                write_view(n, view, edges, last, &mut params, &mut statements)?;
            }
            if index + 1 == count {
                params.set("cursor", &id("_00_ssp_cursor", &batch.ssp_id))?;
                params.set("log_id", &text(&batch.log_id.to_string()))?;
                params.set("seq", &int(batch.seq.0))?;
                statements
                    .push_str("UPSERT $cursor SET log_id = $log_id, seq = $seq RETURN NONE;\n");
            }
            statements.push_str("COMMIT;");
            self.run(&statements, params.0).await?;
        }
        Ok(())
    }

    async fn release(&self, table: &str, view: &str, epoch: u64) -> Result<(), SinkError> {
        let mut params = Params::default();
        let mut statements = String::from("BEGIN;\n");
        check_owner(0, view, epoch, &mut params, &mut statements)?;
        writeln!(statements, "DELETE $q0->{}; DELETE $q0; COMMIT;", quote(table))
            .expect("text takes any text");
        match self.run(&statements, params.0).await {
            Err(SinkError::Refused(text)) if text.contains("does not exist") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn expired(&self, ssp_id: &str) -> Result<Vec<String>, SinkError> {
        let mut params = Params::default();
        params.set("ssp_id", &text(ssp_id))?;
        let statement = "SELECT VALUE record::id(id) FROM _00_query
            WHERE ssp_id = $ssp_id AND lastActiveAt + ttl < time::now()";
        let keys = self.run(statement, params.0).await?;
        Ok(strings(keys.first()))
    }

    async fn release_expired(
        &self,
        table: &str,
        view: &str,
        epoch: u64,
    ) -> Result<bool, SinkError> {
        let mut params = Params::default();
        let mut statements = String::from("BEGIN;\n");
        check_owner(0, view, epoch, &mut params, &mut statements)?;
        writeln!(
            statements,
            "LET $late = (SELECT VALUE lastActiveAt + ttl < time::now() FROM ONLY $q0);
             IF $late = true {{ DELETE $q0->{}; DELETE $q0 }};
             RETURN $late = true;
             COMMIT;",
            quote(table)
        )
        .expect("text takes any text");
        let results = self.run(&statements, params.0).await?;
        Ok(results.iter().any(|result| matches!(result, Value::Bool(true))))
    }

    async fn missing(&self, views: &[String]) -> Result<Vec<String>, SinkError> {
        let mut params = Params::default();
        params.set("ids", &Value::Array(views.iter().map(|view| query_id(view)).collect()))?;
        let there = self.run("SELECT VALUE record::id(id) FROM $ids", params.0).await?;
        let there = strings(there.first());
        Ok(views.iter().filter(|view| !there.contains(view)).cloned().collect())
    }

    async fn ensure_edge_table(&self, table: &str, uid: Option<&str>) -> Result<(), SinkError> {
        let select = match uid {
            Some(uid) => format!("$auth.id = user:{}", quote(uid)),
            None if table.ends_with("_anon") => "true".to_owned(),
            None => "auth_id = <string>$auth.id".to_owned(),
        };
        let statement = format!(
            "DEFINE TABLE IF NOT EXISTS {} TYPE RELATION SCHEMALESS PERMISSIONS \
             FOR select WHERE {select} FOR create, update, delete NONE",
            quote(table)
        );
        self.run(&statement, sdk::Object::new()).await.map(|_| ())
    }
}

fn read_edge(row: &Value) -> Result<Edge, SinkError> {
    let odd = || SinkError::Refused(format!("not an edge: {row}"));
    let key = |name: &str| match row.field(name) {
        Some(Value::RecordId(id)) => match &id.key {
            Key::String(key) => Some(key.clone()),
            other => Some(other.to_string()),
        },
        _ => None,
    };
    let Some(Value::RecordId(record)) = row.field("out") else { return Err(odd()) };
    let version = match row.field("version") {
        Some(Value::Int(version)) => u64::try_from(*version).unwrap_or(0),
        _ => 0,
    };
    let parent_rel = match row.field("parent_rel") {
        Some(Value::String(alias)) => Some(alias.clone()),
        _ => None,
    };
    Ok(Edge {
        id: key("id").ok_or_else(odd)?,
        record: (**record).clone(),
        version,
        parent: key("parent"),
        parent_rel,
    })
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let Some(Value::Array(items)) = list else { return Vec::new() };
    let text = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}
