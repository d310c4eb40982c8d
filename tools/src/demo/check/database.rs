//! The oracle: what SurrealDB's own statements say was changed, is in the tables, and is in the edges.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context as _, Result, bail};
use revenant_log::{Key, Op, RecordId, Value};
use revenant_surreal::Db;

/// Entries that one `SHOW CHANGES` gives at most.
const PAGE: usize = 1000;

/// Rows that are selected at once.
const ROWS: usize = 2000;

/// A change of a row, as the feed tells it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) versionstamp: u64,
    pub(super) op: Op,
    pub(super) id: RecordId,
    /// The row after it, without its id; `None` when it is gone.
    pub(super) body: Option<Value>,
}

/// An edge as it is stored.
#[derive(Clone, Debug)]
pub(super) struct StoredEdge {
    pub(super) id: String,
    pub(super) record: RecordId,
    pub(super) version: Option<i64>,
    pub(super) parent: Option<String>,
    pub(super) alias: Option<String>,
}

/// What the database says.
pub(super) struct Database {
    /// Every change of the user's tables.
    pub(super) changes: Vec<Change>,
    /// Every row of the user's tables, with its id.
    pub(super) tables: BTreeMap<String, BTreeMap<Key, Value>>,
    /// Every row's version.
    pub(super) versions: HashMap<RecordId, i64>,
    /// Every stored edge, by the key of its view.
    pub(super) edges: HashMap<String, Vec<StoredEdge>>,
}

impl Database {
    pub(super) async fn read(db: &Db) -> Result<Self> {
        let info = one(db, "INFO FOR DB".into()).await?;
        let Some(Value::Object(tables)) = info.field("tables") else { bail!("no tables") };
        let (system, user): (Vec<_>, Vec<_>) =
            tables.keys().cloned().partition(|name| name.starts_with("_00_"));
        let mut this = Self {
            changes: changes(db).await?,
            tables: BTreeMap::new(),
            versions: HashMap::new(),
            edges: HashMap::new(),
        };
        for name in user {
            let rows = rows(db, &name).await?;
            this.tables.insert(name, rows);
        }
        for row in rows(db, "_00_version").await?.into_values() {
            if let (Some(Value::RecordId(id)), Some(Value::Int(version))) =
                (row.field("record_id"), row.field("version"))
            {
                this.versions.insert((**id).clone(), *version);
            }
        }
        for name in system.iter().filter(|name| name.starts_with("_00_list_ref")) {
            for row in rows(db, name).await?.into_values() {
                let (view, edge) = edge(&row).with_context(|| format!("not an edge: {row}"))?;
                this.edges.entry(view).or_default().push(edge);
            }
        }
        Ok(this)
    }
}

/// The highest versionstamp in the feed; 0 for none.
pub(crate) async fn highest(db: &Db) -> Result<u64> {
    let mut high = 0;
    sets(db, |versionstamp, _| {
        high = high.max(versionstamp);
        Ok(())
    })
    .await?;
    Ok(high)
}

async fn one(db: &Db, statement: String) -> Result<Value> {
    let results = db.run(&statement, []).await.context(statement)?;
    results.into_iter().next().context("no result")
}

/// All rows of a table, in pages.
async fn rows(db: &Db, table: &str) -> Result<BTreeMap<Key, Value>> {
    let mut all = BTreeMap::new();
    let table = revenant_surreal::connect::quote(table);
    loop {
        let start = all.len();
        let page = one(db, format!("SELECT * FROM {table} ORDER BY id LIMIT {ROWS} START {start}"))
            .await?;
        let Value::Array(page) = page else { bail!("not rows: {page}") };
        let count = page.len();
        for row in page {
            let Some(Value::RecordId(id)) = row.field("id") else { bail!("a row without id") };
            all.insert(id.key.clone(), row.clone());
        }
        if count < ROWS {
            return Ok(all);
        }
    }
}

async fn changes(db: &Db) -> Result<Vec<Change>> {
    let mut all = Vec::new();
    sets(db, |versionstamp, entries| {
        for entry in entries {
            if let Some((op, id, body)) = change(entry)?
                && !id.table.starts_with("_00_")
            {
                all.push(Change { versionstamp, op, id, body });
            }
        }
        Ok(())
    })
    .await?;
    Ok(all)
}

/// Hands every change set to `take`. The last set of a full page may lack tables, so it is read again.
async fn sets(db: &Db, mut take: impl FnMut(u64, &[Value]) -> Result<()>) -> Result<()> {
    let mut since = 0;
    loop {
        let statement = format!("SHOW CHANGES FOR DATABASE SINCE {since} LIMIT {PAGE}");
        let Value::Array(page) = one(db, statement).await? else { bail!("no change sets") };
        let sets = page.iter().map(|set| match (set.field("versionstamp"), set.field("changes")) {
            (Some(Value::Int(at)), Some(Value::Array(changes))) => {
                Ok((at.cast_unsigned(), changes.as_slice()))
            }
            _ => bail!("not a change set: {set}"),
        });
        let mut sets = sets.collect::<Result<Vec<_>>>()?;
        let entries: usize = sets.iter().map(|(_, changes)| tables_of(changes)).sum();
        let full = entries >= PAGE;
        let next = if full { sets.pop().map(|(versionstamp, _)| versionstamp) } else { None };
        for (versionstamp, changes) in sets {
            take(versionstamp, changes)?;
        }
        match next {
            Some(next) if next > since => since = next,
            Some(next) => bail!("the change set {next} does not fit into a page"),
            None => return Ok(()),
        }
    }
}

/// Tables that a change set is about: each is an entry.
fn tables_of(changes: &[Value]) -> usize {
    let table = |entry: &Value| match change(entry) {
        Ok(Some((_, id, _))) => id.table,
        _ => String::new(),
    };
    changes.iter().map(table).collect::<BTreeSet<_>>().len()
}

type RowChange = (Op, RecordId, Option<Value>);

/// A row's change; `None` for a change of the schema.
fn change(entry: &Value) -> Result<Option<RowChange>> {
    let id = |row: &Value| match row.field("id") {
        Some(Value::RecordId(id)) => Ok((**id).clone()),
        _ => bail!("a change without id: {entry}"),
    };
    if let Some(gone) = entry.field("delete") {
        return Ok(Some((Op::Delete, id(gone)?, None)));
    }
    let (op, row) = match (entry.field("current"), entry.field("update"), entry.field("create")) {
        (Some(row), _, _) => (Op::Update, row),
        (None, Some(row), _) | (None, None, Some(row)) => (Op::Create, row),
        (None, None, None) => return Ok(None),
    };
    Ok(Some((op, id(row)?, Some(without_id(row)))))
}

/// A row without its id, which its key tells.
pub(super) fn without_id(row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(fields) = &mut row {
        fields.remove("id");
    }
    row
}

fn edge(row: &Value) -> Option<(String, StoredEdge)> {
    let id = |name: &str| match row.field(name) {
        Some(Value::RecordId(id)) => Some((**id).clone()),
        _ => None,
    };
    let key = |id: RecordId| match id.key {
        Key::String(key) => key,
        other => other.to_string(),
    };
    let edge = StoredEdge {
        id: key(id("id")?),
        record: id("out")?,
        version: match row.field("version") {
            Some(Value::Int(version)) => Some(*version),
            _ => None,
        },
        parent: id("parent").map(key),
        alias: match row.field("parent_rel") {
            Some(Value::String(alias)) => Some(alias.clone()),
            _ => None,
        },
    };
    Some((key(id("in")?), edge))
}
