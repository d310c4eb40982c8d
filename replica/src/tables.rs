//! Every redb table: bytes of key and value. Nothing else reads or writes them.

use redb::TableDefinition;
use revenant_log::{Key, LogId, Seq, SourcePos, Value, encode_key, encode_value};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Rows: the table's name and the row's key in memcmp order, so that a scan is in SurrealDB's id order.
pub(crate) const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// Per table: its statistics.
pub(crate) const TABLES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tables");
/// The one entry [`POSITION`].
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Where in the log the rows stand.
pub(crate) const POSITION: &str = "position";

/// The layout of all tables; another one is moved aside and built anew.
const LAYOUT: u8 = 1;

/// Where in which log the rows stand; changes in the commit that changes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) log_id: LogId,
    pub(crate) applied_seq: Seq,
}

/// A row as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its key within the table.
    pub key: Key,
    /// `_00_rv`, if known.
    pub version: Option<u64>,
    /// Where its last change stands in the source.
    pub source: SourcePos,
    /// The row.
    pub body: Value,
}

/// Order-independent figures of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) rows: u64,
    /// XOR over all rows of the first 16 bytes of BLAKE3 of key and value as stored.
    pub(crate) signature: u128,
}

impl Stat {
    pub(crate) fn toggle(&mut self, key: &[u8], value: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(key).update(value);
        let hash = hasher.finalize();
        let half = hash.as_bytes()[..16].try_into().expect("16 of 32 bytes");
        self.signature ^= u128::from_le_bytes(half);
    }
}

/// The start of every key of `table`; no other table's keys start so.
pub(crate) fn prefix(table: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(table.len() + 32);
    encode_value(&Value::String(table.to_owned()), &mut key);
    key
}

pub(crate) fn row_key(table: &str, key: &Key) -> Vec<u8> {
    let mut bytes = prefix(table);
    encode_key(key, &mut bytes);
    bytes
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![LAYOUT]).expect("memory takes any bytes")
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&LAYOUT, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(Error::Damaged(format!("{what}: bytes left over"))),
            Err(error) => Err(Error::Damaged(format!("{what}: {error}"))),
        },
        Some((layout, _)) => Err(Error::Damaged(format!("{what}: layout {layout}"))),
        None => Err(Error::Damaged(format!("{what}: no bytes"))),
    }
}
