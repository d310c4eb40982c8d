//! What a database needs so that Revenant can serve it: installed, or checked.

use std::fmt::Write as _;

use revenant_log::Value;
use serde::Serialize;

use crate::connect::{Db, DbError, quote};

/// How long feeds keep their changes.
const RETENTION: &str = "3d";

/// The tables and functions that do not depend on the user's tables. `_00_version` is written by the
/// tables' events, inside the transaction that changes the row; clients may read it and nobody else may
/// write it.
const BASE: &str = "
DEFINE TABLE IF NOT EXISTS _00_version SCHEMALESS
    CHANGEFEED 3d INCLUDE ORIGINAL
    PERMISSIONS FOR select WHERE true FOR create, update, delete NONE;
DEFINE FIELD IF NOT EXISTS record_id ON _00_version TYPE record;
DEFINE FIELD IF NOT EXISTS version ON _00_version TYPE int;
DEFINE INDEX IF NOT EXISTS idx_record_id ON _00_version FIELDS record_id UNIQUE;

DEFINE TABLE IF NOT EXISTS _00_query SCHEMALESS
    PERMISSIONS
        FOR select, update, delete
            WHERE auth_id = 'anon' OR ($auth.id != NONE AND auth_id = <string>$auth.id)
        FOR create NONE;

DEFINE TABLE IF NOT EXISTS _00_list_ref TYPE RELATION SCHEMALESS
    PERMISSIONS FOR select WHERE auth_id = <string>$auth.id FOR create, update, delete NONE;

DEFINE TABLE IF NOT EXISTS _00_ssp_cursor SCHEMALESS PERMISSIONS NONE;
";

/// Something that is missing or unsafe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaFinding {
    /// What it is about.
    pub name: String,
    /// `missing` or `unsafe`.
    pub severity: &'static str,
    /// What is wrong.
    pub detail: String,
    /// The statement that mends it.
    pub fix: String,
}

/// Installs what is missing, for every user table there is. Running it again changes nothing.
///
/// # Errors
/// See [`DbError`].
pub async fn install(db: &Db) -> Result<Vec<String>, DbError> {
    db.run(BASE, []).await?;
    let mut done = Vec::new();
    for table in user_tables(db).await? {
        let mut statements = String::new();
        if !table.feed {
            writeln!(statements, "{};", feed_statement(&table.name)).expect("text takes any text");
        }
        statements.push_str(&event_statements(&table.name));
        db.run(&statements, []).await?;
        done.push(table.name);
    }
    Ok(done)
}

/// What is missing or unsafe. Changes nothing.
///
/// # Errors
/// See [`DbError`].
pub async fn check(db: &Db) -> Result<Vec<SchemaFinding>, DbError> {
    let info = db.run("INFO FOR DB", []).await?;
    let info = info.into_iter().next().unwrap_or_default();
    let mut findings = Vec::new();
    for name in ["_00_version", "_00_query", "_00_list_ref", "_00_ssp_cursor"] {
        if info.field("tables").and_then(|tables| tables.field(name)).is_none() {
            findings.push(SchemaFinding {
                name: name.to_owned(),
                severity: "missing",
                detail: format!("table {name} is not defined"),
                fix: "revenant schema install".to_owned(),
            });
        }
    }
    if info.field("params").is_some_and(|params| params.field("sp00ky_secret").is_some()) {
        findings.push(SchemaFinding {
            name: "$sp00ky_secret".to_owned(),
            severity: "unsafe",
            detail: "any signed-in record user can read a DEFINE PARAM, and so the bearer"
                .to_owned(),
            fix: "REMOVE PARAM $sp00ky_secret".to_owned(),
        });
    }
    for table in user_tables(db).await? {
        if !table.feed {
            findings.push(SchemaFinding {
                name: table.name.clone(),
                severity: "missing",
                detail: "its changes are not in the feed, or without the row as it was".to_owned(),
                fix: feed_statement(&table.name),
            });
        }
        if !table.events.iter().any(|event| event == &version_event(&table.name)) {
            findings.push(SchemaFinding {
                name: table.name.clone(),
                severity: "missing",
                detail: "nothing keeps the versions of its rows".to_owned(),
                fix: event_statements(&table.name),
            });
        }
    }
    Ok(findings)
}

fn feed_statement(table: &str) -> String {
    format!("ALTER TABLE {} CHANGEFEED {RETENTION} INCLUDE ORIGINAL", quote(table))
}

fn version_event(table: &str) -> String {
    format!("_00_{table}_version")
}

/// The version counts from 1 while the row lives; the row's own id is part of the version's, so that no
/// index has to be searched. A target version, set by a client that knows better, is taken as it is.
fn event_statements(table: &str) -> String {
    let (event, table) = (quote(&version_event(table)), quote(table));
    format!(
        "DEFINE EVENT IF NOT EXISTS {event} ON TABLE {table} WHEN $before != $after THEN {{
            LET $row = $before.id ?? $after.id;
            LET $version = type::record('_00_version', [record::tb($row), record::id($row)]);
            IF $event = 'DELETE' {{
                DELETE $version;
            }} ELSE {{
                UPSERT $version SET record_id = $row, version =
                    IF $sp00ky_target_version.id = $row {{ $sp00ky_target_version.version }}
                    ELSE {{ (version ?? 0) + 1 }};
            }};
        }};\n"
    )
}

struct UserTable {
    name: String,
    feed: bool,
    events: Vec<String>,
}

async fn user_tables(db: &Db) -> Result<Vec<UserTable>, DbError> {
    let info = db.run("INFO FOR DB STRUCTURE", []).await?;
    let Some(Value::Array(tables)) = info.first().and_then(|info| info.field("tables")) else {
        return Err(DbError::Refused("INFO FOR DB names no tables".into()));
    };
    let mut found = Vec::new();
    for table in tables {
        let Some(Value::String(name)) = table.field("name") else { continue };
        let kind = table.field("kind").and_then(|kind| kind.field("kind"));
        let relation = matches!(kind, Some(Value::String(kind)) if kind == "RELATION");
        if name.starts_with("_00_") || relation {
            continue;
        }
        let original = table.field("changefeed").and_then(|feed| feed.field("original"));
        let info = db.run(&format!("INFO FOR TABLE {}", quote(name)), []).await?;
        let events = match info.first().and_then(|info| info.field("events")) {
            Some(Value::Object(events)) => events.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let feed = matches!(original, Some(Value::Bool(true)));
        found.push(UserTable { name: name.clone(), feed, events });
    }
    Ok(found)
}
