//! Table hashes as upstream defines them: `b3:` and BLAKE3 over the rows in byte order of their raw
//! ids, each row giving id, NUL, canonical JSON, NUL.

use std::collections::BTreeMap;

use revenant_log::{Key, Value};
use serde_json::Value as Json;

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
