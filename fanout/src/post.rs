//! A posted event: what a database event sends to `/ingest`, checked field by field.

use std::sync::Arc;

use revenant_log::{Event, Key, Op, RecordId, SourcePos, Value};
use serde_json::Value as Json;
use thiserror::Error;

/// The field in which the version travels.
const VERSION_FIELD: &str = "_00_rv";

/// A checked event.
#[derive(Clone, Debug)]
pub struct Post {
    /// The row's table.
    pub table: Arc<str>,
    /// Its key.
    pub key: Key,
    /// What is said to have happened.
    pub op: Op,
    /// The row's version, if it is told.
    pub version: Option<u64>,
    /// The row; `None` for a delete.
    pub body: Option<Value>,
}

/// What is wrong with a posted event; the text is upstream's where upstream has one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PostError {
    /// A field is missing or of another type.
    #[error("Missing or invalid '{0}'")]
    Field(&'static str),
    /// No such operation.
    #[error("Invalid operation: {0}")]
    Op(String),
    /// The id is no record id.
    #[error("Invalid id {id:?}: {reason}")]
    Id {
        /// What came.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The id is of another table.
    #[error("Invalid id {id:?}: it is not of table {table:?}")]
    Table {
        /// What came.
        id: String,
        /// The table that was named.
        table: String,
    },
}

impl Post {
    /// Checks a request body.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn from_json(body: &Json) -> Result<Self, PostError> {
        let text = |name: &'static str| {
            let text = body.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
            text.ok_or(PostError::Field(name))
        };
        let (table, op, id) = (text("table")?, text("op")?, text("id")?);
        let op = match op.to_ascii_uppercase().as_str() {
            "CREATE" => Op::Create,
            "UPDATE" => Op::Update,
            "DELETE" => Op::Delete,
            _ => return Err(PostError::Op(op.to_owned())),
        };
        let record_id = RecordId::parse(id)
            .map_err(|error| PostError::Id { id: id.to_owned(), reason: error.to_string() })?;
        if record_id.table != table {
            return Err(PostError::Table { id: id.to_owned(), table: table.to_owned() });
        }
        let record = body.get("record").filter(|record| !record.is_null());
        let fields = match record {
            Some(Json::Object(fields)) => Some(fields.clone()),
            None if op == Op::Delete => None,
            _ => return Err(PostError::Field("record")),
        };
        let version = fields.as_ref().and_then(|fields| fields.get(VERSION_FIELD)?.as_u64());
        let body = fields.filter(|_| op != Op::Delete).map(|mut fields| {
            fields.remove(VERSION_FIELD);
            let mut body = Value::from_json(Json::Object(fields));
            if let Value::Object(fields) = &mut body {
                fields.insert("id".into(), Value::RecordId(Box::new(record_id.clone())));
            }
            body
        });
        Ok(Self { table: Arc::from(table), key: record_id.key, op, version, body })
    }

    /// The event that the log keeps of it.
    #[must_use]
    pub fn into_event(self) -> Event {
        Event {
            op: self.op,
            table: self.table,
            key: self.key,
            version: self.version,
            body: self.body,
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_as_the_database_sends_it_is_accepted() {
        let post = Post::from_json(&json!({
            "table": "comment", "op": "create", "id": "comment:`a-b`", "hash": "",
            "record": { "id": "comment:`a-b`", "content": "hi", "_00_rv": 3 },
        }))
        .unwrap();
        assert_eq!((post.op, post.version), (Op::Create, Some(3)));
        assert_eq!(post.key, Key::from("a-b"));
        let body = post.body.unwrap();
        assert!(matches!(body.field("id"), Some(Value::RecordId(_))));
        assert!(body.field("_00_rv").is_none());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |field: &str, value: Json| {
            let mut body = json!({
                "table": "t", "op": "UPDATE", "id": "t:1", "record": { "id": "t:1" },
            });
            body[field] = value;
            Post::from_json(&body).unwrap_err().to_string()
        };
        assert_eq!(with("table", Json::Null), "Missing or invalid 'table'");
        assert_eq!(with("op", json!("MERGE")), "Invalid operation: MERGE");
        assert_eq!(with("id", json!(7)), "Missing or invalid 'id'");
        assert_eq!(with("record", json!("x")), "Missing or invalid 'record'");
        assert!(with("id", json!("u:1")).contains("not of table \"t\""));
        assert!(with("id", json!("nothing")).starts_with("Invalid id \"nothing\": "));
    }
}
