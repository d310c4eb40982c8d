//! Runs a registrant's query as it stands, read only, and says which rows it returned; and reads what tables let
//! others see.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use revenant_log::{RecordId, Value};
use revenant_ssp::query::rules::{Permission, Rules, TableRules};
use revenant_ssp::requery::{Requery, RequeryError, RequeryMember, RequeryText};

use crate::connect::{Db, DbError, quote};
use crate::convert::object_to;

/// Re-runs queries on the database behind a connection.
pub struct Rerun {
    db: Db,
}

impl Rerun {
    /// Re-runs on `db`.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db }
    }
}

#[async_trait]
impl Requery for Rerun {
    async fn run(&self, query: &RequeryText) -> Result<Vec<RequeryMember>, RequeryError> {
        let surql = query.surql.trim().trim_end_matches(';');
        let statements = format!(
            "LET $_00_rows = ({surql}); \
             LET $_00_versions = (SELECT record_id, version FROM _00_version \
             WHERE record_id IN $_00_rows.id); \
             RETURN {{ rows: $_00_rows, versions: $_00_versions }}"
        );
        let params = object_to(&query.params)
            .map_err(|error| RequeryError::Invalid(format!("parameters: {error}")))?;
        let answer = self.db.run_with(&statements, params).await;
        let answer = answer.map_err(|error| match error {
            DbError::Unavailable(text) | DbError::Conflict(text) => RequeryError::Unavailable(text),
            DbError::Refused(text) => RequeryError::Invalid(text),
        })?;
        let answer = answer.iter().find(|value| value.field("rows").is_some());
        members(answer.unwrap_or(&Value::None))
    }

    async fn rules(&self) -> Result<Rules, RequeryError> {
        let refused = |error| match error {
            DbError::Unavailable(text) | DbError::Conflict(text) => RequeryError::Unavailable(text),
            DbError::Refused(text) => RequeryError::Refused(text),
        };
        let info = self.db.run("INFO FOR DB STRUCTURE", []).await.map_err(refused)?;
        let Some(Value::Array(tables)) = info.first().and_then(|info| info.field("tables")) else {
            return Err(RequeryError::Refused("INFO FOR DB names no tables".into()));
        };
        let mut rules = BTreeMap::new();
        for table in tables {
            let Some(Value::String(name)) = table.field("name") else { continue };
            let select = permission(table);
            rules.insert(name.clone(), TableRules { select, hidden: BTreeSet::new() });
        }
        let looks: Vec<_> =
            rules.keys().map(|name| format!("INFO FOR TABLE {} STRUCTURE", quote(name))).collect();
        let looks = self.db.run(&looks.join("; "), []).await.map_err(refused)?;
        if looks.len() != rules.len() {
            return Err(RequeryError::Unavailable("tables came or went meanwhile".into()));
        }
        for (table, info) in rules.values_mut().zip(&looks) {
            let Some(Value::Array(fields)) = info.field("fields") else { continue };
            let hidden = fields.iter().filter(|field| permission(field) != Permission::Full);
            table.hidden = hidden.filter_map(head).collect();
        }
        Ok(Rules::new(rules))
    }
}

/// Who may select what this describes. What is not said is denied.
fn permission(info: &Value) -> Permission {
    match info.field("permissions").and_then(|permissions| permissions.field("select")) {
        Some(Value::Bool(true)) => Permission::Full,
        Some(Value::String(condition)) => Permission::of(condition),
        _ => Permission::None,
    }
}

/// The row's field under which a described field lies.
fn head(field: &Value) -> Option<String> {
    let Some(Value::String(name)) = field.field("name") else { return None };
    let quoted = name.strip_prefix('`').and_then(|rest| rest.split('`').next());
    let plain = || name.split(['.', '[']).next();
    quoted.or_else(plain).map(str::to_owned)
}

fn members(answer: &Value) -> Result<Vec<RequeryMember>, RequeryError> {
    let rows = match answer.field("rows") {
        Some(Value::Array(rows)) => rows.as_slice(),
        Some(row @ (Value::Object(_) | Value::RecordId(_))) => std::slice::from_ref(row),
        _ => &[],
    };
    let mut members: Vec<RequeryMember> = Vec::with_capacity(rows.len());
    for row in rows {
        let id = match row {
            Value::RecordId(id) => id,
            Value::Object(fields) => match fields.get("id") {
                Some(Value::RecordId(id)) => id,
                _ => return Err(no_id(row)),
            },
            _ => return Err(no_id(row)),
        };
        let record: RecordId = (**id).clone();
        if !members.iter().any(|member| member.record == record) {
            let version = version_of(answer, &record);
            members.push(RequeryMember { record, version });
        }
    }
    Ok(members)
}

fn version_of(answer: &Value, record: &RecordId) -> u64 {
    let Some(Value::Array(versions)) = answer.field("versions") else { return 1 };
    let found =
        versions.iter().find_map(|row| match (row.field("record_id")?, row.field("version")?) {
            (Value::RecordId(id), Value::Int(version)) if **id == *record => {
                u64::try_from(*version).ok()
            }
            _ => None,
        });
    found.unwrap_or(1)
}

fn no_id(row: &Value) -> RequeryError {
    RequeryError::Invalid(format!("the query's rows have no id, so they cannot be listed: {row}"))
}
