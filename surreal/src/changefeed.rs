//! `Changefeed`: SurrealDB's change feed as a `Source`. It reads pages and says what is in them; when
//! to read, and what of it is new, is the scheduler's part.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, Stream};
use revenant_fanout::source::{
    ChangePage, FeedTime, Source, SourceError, SourceRow, SourceTable, SourceTransaction,
};
use revenant_log::value::Object;
use revenant_log::{Event, Key, Op, RecordId, SourcePos, Value};
use surrealdb::types as sdk;
use tokio::sync::Mutex;

use crate::connect::{Db, DbError, quote};
use crate::convert::key_to;
use crate::patch::undo;

/// Most entries that SurrealDB puts on a page, whatever is asked. An entry is a table in a transaction.
const PAGE_ENTRIES: usize = 1000;
/// How long feeds that we define keep their changes.
const RETENTION: &str = "3d";
/// Tables with `_00_` names whose rows clients sync like a user's.
const SYNCED: [&str; 2] = ["_00_user_feature", "_00_app_release"];
const VERSIONS: &str = "_00_version";

/// What the scheduler may do to the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedPolicy {
    /// Tables without a feed get one.
    Define,
    /// Tables without a feed are told with the statement that would give them one.
    Tell,
}

type Bell = SelectAll<Pin<Box<dyn Stream<Item = ()> + Send>>>;

/// The change feed of one database.
pub struct Changefeed {
    db: Db,
    /// For notifications alone: SurrealDB closes a connection on which more of them wait than it holds
    /// (a transaction of some hundred rows is enough), and the feed is not to be cut off with it.
    bell_db: Db,
    policy: FeedPolicy,
    /// Shortest retention of any captured table, seconds.
    retention_secs: AtomicI64,
    bell: Mutex<Option<Bell>>,
    /// Whether versionstamps are known to be clock time; what is one stays one.
    clocked: AtomicBool,
}

impl Changefeed {
    /// The feed behind `db`.
    #[must_use]
    pub fn new(db: Db, policy: FeedPolicy) -> Self {
        let retention_secs = AtomicI64::new(i64::MAX);
        let bell_db = db.beside();
        let (bell, clocked) = (Mutex::new(None), AtomicBool::new(false));
        Self { db, bell_db, policy, retention_secs, bell, clocked }
    }

    async fn structure(&self) -> Result<Vec<Table>, SourceError> {
        let info = self.db.run("INFO FOR DB STRUCTURE", []).await.map_err(source_error)?;
        let Some(Value::Array(tables)) = info.first().and_then(|info| info.field("tables")) else {
            return Err(SourceError::Refused("INFO FOR DB names no tables".into()));
        };
        Ok(tables.iter().filter_map(Table::read).collect())
    }

    async fn define_feed(&self, name: &str) -> Result<(), SourceError> {
        let statement = fix(name);
        tracing::info!(table = name, statement, "defining a changefeed");
        self.db.run(&statement, []).await.map(|_| ()).map_err(source_error)
    }

    async fn page(&self, since: String) -> Result<ChangePage, SourceError> {
        let statement = format!("SHOW CHANGES FOR DATABASE SINCE {since} LIMIT {PAGE_ENTRIES}");
        let mut results = self.db.run(&statement, []).await.map_err(source_error)?;
        let Some(Value::Array(sets)) = results.pop() else {
            return Err(SourceError::Refused("SHOW CHANGES gave no list".into()));
        };
        page(&sets)
    }

    /// The versionstamp of a moment. The server's own conversion of datetimes is not relied on: SurrealKV
    /// (3.3.5) stamps milliseconds << 16, and reads a datetime as nanoseconds, behind every change.
    async fn versionstamp_of(&self, time_us: i64) -> Result<u64, SourceError> {
        // An empty feed, and one that merely counts, are read from the start.
        if !self.clocked.load(Ordering::Relaxed) {
            let statement = "SHOW CHANGES FOR DATABASE SINCE 0 LIMIT 1";
            let first = self.db.run(statement, []).await.map_err(source_error)?;
            let first = match first.first() {
                Some(Value::Array(sets)) => sets.first().and_then(|set| set.field("versionstamp")),
                _ => None,
            };
            if !matches!(first, Some(Value::Int(at)) if commit_time(at.cast_unsigned()) > 0) {
                return Ok(0);
            }
            self.clocked.store(true, Ordering::Relaxed);
        }
        Ok(u64::try_from(time_us.div_euclid(1000)).unwrap_or(0) << 16)
    }

    /// Rows with their versions, both as of one moment.
    async fn read(
        &self,
        select: &str,
        mut params: sdk::Object,
    ) -> Result<Vec<SourceRow>, SourceError> {
        let statements = format!(
            "BEGIN; LET $rows = ({select}); \
             LET $versions = (SELECT record_id, version FROM {VERSIONS} WHERE record_id IN $rows.id); \
             RETURN {{ rows: $rows, versions: $versions }}; COMMIT"
        );
        let answer = self.db.run_with(&statements, params.clone()).await;
        let answer = match answer {
            Err(DbError::Refused(text)) if missing_table(&text) => {
                // Without versions: the table may be there and `_00_version` not.
                params.insert(
                    "versions".to_owned(),
                    sdk::Value::Array(Vec::<sdk::Value>::new().into()),
                );
                let statements = format!(
                    "LET $rows = ({select}); RETURN {{ rows: $rows, versions: $versions }}"
                );
                match self.db.run_with(&statements, params).await {
                    Err(DbError::Refused(text)) if missing_table(&text) => return Ok(Vec::new()),
                    other => other,
                }
            }
            other => other,
        };
        let answer = answer.map_err(source_error)?;
        let answer = answer.iter().find(|value| value.field("rows").is_some());
        rows(answer.ok_or_else(|| SourceError::Refused("no rows in the answer".into()))?)
    }

    async fn listen(&self) -> Result<Bell, SourceError> {
        let mut bell = SelectAll::new();
        for table in self.structure().await?.iter().filter(|table| table.is_captured()) {
            let statement = format!("LIVE SELECT VALUE id FROM {}", quote(&table.name));
            let live = self.bell_db.client().await.map_err(source_error)?.query(statement).await;
            let mut live = live.map_err(|error| source_error(crate::connect::classify(error)))?;
            let stream = live.stream::<sdk::Value>(0);
            let stream = stream.map_err(|error| source_error(crate::connect::classify(error)))?;
            let stream: Pin<Box<dyn Stream<Item = ()> + Send>> = Box::pin(stream.map(|_| ()));
            bell.push(stream);
        }
        Ok(bell)
    }
}

fn missing_table(text: &str) -> bool {
    text.contains("does not exist")
}

fn fix(name: &str) -> String {
    format!("ALTER TABLE {} CHANGEFEED {RETENTION} INCLUDE ORIGINAL", quote(name))
}

fn source_error(error: DbError) -> SourceError {
    match error {
        DbError::Unavailable(text) | DbError::Conflict(text) => SourceError::Unavailable(text),
        DbError::Refused(text) => SourceError::Refused(text),
    }
}

/// A table as `INFO FOR DB STRUCTURE` describes it.
struct Table {
    name: String,
    relation: bool,
    original: bool,
    retention_secs: Option<i64>,
}

impl Table {
    fn read(info: &Value) -> Option<Self> {
        let Value::String(name) = info.field("name")? else { return None };
        let feed = info.field("changefeed").filter(|feed| !feed.is_none());
        let kind = info.field("kind").and_then(|kind| kind.field("kind"));
        let secs = match feed.and_then(|feed| feed.field("expiry")) {
            Some(Value::Duration(expiry)) => i64::try_from(expiry.secs).ok(),
            Some(Value::String(text)) => match Value::parse(text) {
                Ok(Value::Duration(expiry)) => i64::try_from(expiry.secs).ok(),
                _ => None,
            },
            _ => None,
        };
        Some(Self {
            name: name.clone(),
            relation: matches!(kind, Some(Value::String(kind)) if kind == "RELATION"),
            original: matches!(feed.and_then(|f| f.field("original")), Some(Value::Bool(true))),
            retention_secs: secs,
        })
    }

    fn is_captured(&self) -> bool {
        let system = self.name.starts_with("_00_") && !SYNCED.contains(&self.name.as_str());
        !self.relation && !system
    }
}

#[async_trait]
impl Source for Changefeed {
    async fn tables(&self) -> Result<Vec<SourceTable>, SourceError> {
        let mut structure = self.structure().await?;
        if self.policy == FeedPolicy::Define {
            let wanted =
                |table: &&Table| !table.original && (table.is_captured() || table.name == VERSIONS);
            let names: Vec<_> = structure.iter().filter(wanted).map(|t| t.name.clone()).collect();
            for name in &names {
                if let Err(error @ SourceError::Refused(_)) = self.define_feed(name).await {
                    tracing::warn!(table = name, %error, "the changefeed could not be defined");
                }
            }
            if !names.is_empty() {
                structure = self.structure().await?;
            }
        }
        let captured = structure.iter().filter(|table| table.is_captured());
        let shortest = captured.clone().filter_map(|table| table.retention_secs).min();
        self.retention_secs.store(shortest.unwrap_or(i64::MAX), Ordering::Relaxed);
        Ok(captured
            .map(|table| SourceTable {
                name: table.name.clone(),
                feed: table.original,
                fix: (!table.original).then(|| fix(&table.name)),
            })
            .collect())
    }

    async fn now(&self) -> Result<FeedTime, SourceError> {
        let now = self.db.run("RETURN time::now()", []).await.map_err(source_error)?;
        match now.first() {
            Some(Value::Datetime(now)) => {
                Ok(FeedTime { time_us: now.secs * 1_000_000 + i64::from(now.nanos / 1000) })
            }
            _ => Err(SourceError::Refused("time::now() is no datetime".into())),
        }
    }

    async fn changes_since_time(&self, time_us: i64) -> Result<ChangePage, SourceError> {
        let retention = self.retention_secs.load(Ordering::Relaxed).saturating_mul(1_000_000);
        let now = self.now().await?.time_us;
        if now.saturating_sub(time_us) > retention {
            return Err(SourceError::Lost(format!(
                "changes are kept for {} s, asked were the last {} s",
                retention / 1_000_000,
                (now - time_us) / 1_000_000
            )));
        }
        let since = self.versionstamp_of(time_us).await?;
        self.page(since.to_string()).await
    }

    async fn changes_from(&self, versionstamp: u64) -> Result<ChangePage, SourceError> {
        self.page(versionstamp.to_string()).await
    }

    async fn rows(
        &self,
        table: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError> {
        let refused = |error: crate::convert::ConvertError| SourceError::Refused(error.to_string());
        let start = match after {
            Some(key) => std::ops::Bound::Excluded(key_to(key).map_err(refused)?),
            None => std::ops::Bound::Unbounded,
        };
        let range = sdk::RecordIdKeyRange { start, end: std::ops::Bound::Unbounded };
        let mut params = sdk::Object::new();
        params.insert(
            "range".to_owned(),
            sdk::Value::RecordId(sdk::RecordId::new(table.to_owned(), range)),
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        params.insert("limit".to_owned(), sdk::Value::Number(sdk::Number::Int(limit)));
        self.read("SELECT * FROM $range LIMIT $limit", params).await
    }

    async fn row(&self, table: &str, key: &Key) -> Result<Option<SourceRow>, SourceError> {
        let key = key_to(key).map_err(|error| SourceError::Refused(error.to_string()))?;
        let mut params = sdk::Object::new();
        let id = sdk::Value::RecordId(sdk::RecordId::new(table.to_owned(), key));
        params.insert("id".to_owned(), id);
        Ok(self.read("SELECT * FROM $id", params).await?.pop())
    }

    async fn wait_doorbell(&self) -> Result<(), SourceError> {
        let mut bell = self.bell.lock().await;
        if bell.is_none() {
            *bell = Some(self.listen().await?);
        }
        let streams = bell.as_mut().expect("set above");
        if streams.is_empty() {
            // No table to listen to yet; sweeps find the first.
            *bell = None;
            drop(bell);
            return std::future::pending().await;
        }
        if streams.next().await.is_none() {
            *bell = None;
            return Err(SourceError::Unavailable("live notifications ended".into()));
        }
        Ok(())
    }
}

/// Reads a page of change sets.
fn page(sets: &[Value]) -> Result<ChangePage, SourceError> {
    let mut page = ChangePage::default();
    let mut entries = 0;
    for set in sets {
        let (versionstamp, changes) = match (set.field("versionstamp"), set.field("changes")) {
            (Some(Value::Int(at)), Some(Value::Array(changes))) => (at.cast_unsigned(), changes),
            _ => return Err(SourceError::Refused(format!("not a change set: {set}"))),
        };
        let mut tables = BTreeSet::new();
        let mut transaction = SourceTransaction {
            versionstamp,
            time_us: commit_time(versionstamp),
            events: Vec::new(),
        };
        let versions: HashMap<RecordId, u64> = changes.iter().filter_map(version_change).collect();
        for (ordinal, change) in changes.iter().enumerate() {
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            let source = SourcePos { versionstamp, ordinal };
            match read_change(change, source)? {
                Change::Row(mut event) => {
                    tables.insert(event.table.to_string());
                    event.version = versions.get(&event.record_id()).copied();
                    let captured =
                        !event.table.starts_with("_00_") || SYNCED.contains(&&*event.table);
                    if captured {
                        transaction.events.push(*event);
                    }
                }
                Change::Schema(table) => {
                    tables.insert(table);
                    page.schema_changed = true;
                }
            }
        }
        entries += tables.len();
        page.transactions.push(transaction);
    }
    if entries >= PAGE_ENTRIES {
        // The last set of a full page may lack tables: it is read again.
        let last = page.transactions.pop().map(|last| last.versionstamp);
        if page.transactions.is_empty() {
            return Err(SourceError::Refused(format!(
                "transaction {} touches {PAGE_ENTRIES} tables or more, which the feed cannot page",
                last.unwrap_or_default()
            )));
        }
        page.next = last;
    }
    Ok(page)
}

enum Change {
    Row(Box<Event>),
    Schema(String),
}

fn read_change(change: &Value, source: SourcePos) -> Result<Change, SourceError> {
    let unknown = || SourceError::Refused(format!("a change that is not understood: {change}"));
    let row = |op, image: &Value, body, before| {
        let Some(Value::RecordId(id)) = image.field("id") else { return Err(unknown()) };
        Ok(Change::Row(Box::new(Event {
            op,
            table: Arc::from(id.table.as_str()),
            key: id.key.clone(),
            version: None,
            body,
            before,
            source,
            stale: false,
        })))
    };
    if let Some(deleted) = change.field("delete") {
        let before = deleted.field("original").filter(|image| !image.is_none()).cloned();
        return row(Op::Delete, deleted, None, before);
    }
    if let (Some(after), Some(Value::Array(patch))) =
        (change.field("current"), change.field("update"))
    {
        return row(Op::Update, after, Some(after.clone()), undo(after, patch));
    }
    if let Some(image) = change.field("update").or_else(|| change.field("create")) {
        return row(Op::Create, image, Some(image.clone()), None);
    }
    let defined = change.field("define_table").or_else(|| change.field("remove_table"));
    match defined.and_then(|table| table.field("name")) {
        Some(Value::String(name)) => Ok(Change::Schema(name.clone())),
        _ => Err(unknown()),
    }
}

/// What a change of `_00_version` says about a row.
fn version_change(change: &Value) -> Option<(RecordId, u64)> {
    let image = change.field("current").or_else(|| change.field("update"))?;
    match (image.field("id")?, image.field("record_id")?, image.field("version")?) {
        (Value::RecordId(id), Value::RecordId(record), Value::Int(version))
            if id.table == VERSIONS =>
        {
            Some(((**record).clone(), u64::try_from(*version).ok()?))
        }
        _ => None,
    }
}

/// Engines that stamp with their clock put milliseconds above 16 bits of counter; for others the time
/// is unknown and 0.
fn commit_time(versionstamp: u64) -> i64 {
    const PLAUSIBLE: std::ops::Range<u64> = 1_500_000_000_000..10_000_000_000_000;
    let millis = versionstamp >> 16;
    if PLAUSIBLE.contains(&millis) { millis.cast_signed() * 1000 } else { 0 }
}

fn rows(answer: &Value) -> Result<Vec<SourceRow>, SourceError> {
    let list = |name: &str| match answer.field(name) {
        Some(Value::Array(items)) => items.as_slice(),
        _ => &[],
    };
    let versions: HashMap<&RecordId, u64> = list("versions")
        .iter()
        .filter_map(|row| match (row.field("record_id")?, row.field("version")?) {
            (Value::RecordId(id), Value::Int(version)) => {
                Some((&**id, u64::try_from(*version).ok()?))
            }
            _ => None,
        })
        .collect();
    list("rows")
        .iter()
        .map(|row| match row {
            Value::Object(fields) => read_row(fields, &versions),
            other => Err(SourceError::Refused(format!("not a row: {other}"))),
        })
        .collect()
}

fn read_row(fields: &Object, versions: &HashMap<&RecordId, u64>) -> Result<SourceRow, SourceError> {
    let Some(Value::RecordId(id)) = fields.get("id") else {
        return Err(SourceError::Refused("a row without id".into()));
    };
    Ok(SourceRow {
        key: id.key.clone(),
        version: versions.get(&**id).copied(),
        body: Value::Object(fields.clone()),
    })
}
