//! Every redb table: bytes of key and value. Nothing else reads or writes them.
//!
//! Every value is [`LAYOUT`], a hash of [`HASH_BYTES`] over its key and body, and the body in postcard. redb opens after a crash without looking at its checksums (that is what makes it fast), so
//! each value proves itself whenever it is read.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use redb::TableDefinition;
use revenant_log::order::encode_string;
use revenant_log::{Key, LogId, RawChange, RawRow, Seq, SourcePos, Value, encode_key};
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
const LAYOUT: u8 = 3;

/// Bytes of the hash in front of every value.
const HASH_BYTES: usize = 16;
/// Bytes in front of every body.
const HEAD_BYTES: usize = 1 + HASH_BYTES;

/// Bytes that [`push_row_value`] puts in front of a row at most: the head and two varints.
pub(crate) const VALUE_HEAD_MOST: usize = HEAD_BYTES + 10 + 5;

/// Where the rows stand in which log and in its source; changes in the commit that changes the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) log_id: LogId,
    pub(crate) applied_seq: Seq,
    /// Highest versionstamp of the source's feed that any applied record carries.
    pub(crate) feed_high: u64,
    /// When the source committed the last applied record, microseconds since 1970.
    pub(crate) time_us: i64,
}

impl Position {
    /// Before the first record of `log_id`.
    pub(crate) fn start(log_id: LogId) -> Self {
        Self { log_id, applied_seq: Seq::ZERO, feed_high: 0, time_us: 0 }
    }
}

/// A row, as its stored body says it. After the first field, the bytes are those of
/// [`revenant_log::SnapshotRow`].
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Where its last change stands in the source.
    pub source: SourcePos,
    /// Its key within the table.
    pub key: Key,
    /// `_00_rv`, if known.
    pub version: Option<u64>,
    /// The row.
    pub body: Value,
}

/// Order-independent figures of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) rows: u64,
    /// XOR over the hashes of all rows.
    pub(crate) signature: u128,
}

impl Stat {
    /// Takes a row in, or out again.
    ///
    /// # Errors
    /// [`Error::Damaged`] if `value` has no hash.
    pub(crate) fn toggle(&mut self, value: &[u8]) -> Result<(), Error> {
        self.signature ^= u128::from_le_bytes(split("row", value)?.0);
        Ok(())
    }
}

/// The start of every key of `table`; no other table's keys start so.
pub(crate) fn prefix(table: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(table.len() + 32);
    push_prefix(table, &mut key);
    key
}

fn push_prefix(table: &str, to: &mut Vec<u8>) {
    encode_string(table, to);
}

pub(crate) fn row_key(table: &str, key: &Key) -> Vec<u8> {
    let mut bytes = prefix(table);
    encode_key(key, &mut bytes);
    bytes
}

/// Appends the [`row_key`] of the row of `table` that `change` is of to `to`.
pub(crate) fn push_row_key(table: &str, change: &RawChange<'_>, to: &mut Vec<u8>) {
    push_prefix(table, to);
    change.push_key(to);
}

/// Appends `row`, whose last change stands at `source` and which is to stand under `key`, to `to` as it is stored.
pub(crate) fn push_row_value(key: &[u8], source: SourcePos, row: RawRow<'_>, to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + HEAD_BYTES, 0);
    *to = postcard::to_extend(&source, std::mem::take(to)).expect("memory takes any bytes");
    row.push(to);
    seal(key, &mut to[start..]);
}

/// The bytes of the [`revenant_log::SnapshotRow`] in `bytes`, which were found under `key`.
///
/// # Errors
/// [`Error::Damaged`] if they are not what was stored there.
pub(crate) fn snapshot_row<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let body = check("row", key, bytes)?;
    let row = postcard::take_from_bytes::<SourcePos>(body).map(|(_, row)| row);
    row.map_err(|error| Error::Damaged(format!("row: {error}")))
}

/// The bytes of `value`, which is to stand under `key`.
pub(crate) fn encode<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    let mut bytes =
        postcard::to_extend(value, vec![0; HEAD_BYTES]).expect("memory takes any bytes");
    seal(key, &mut bytes);
    bytes
}

/// Fills the first [`HEAD_BYTES`] of a value that is to stand under `key`.
fn seal(key: &[u8], bytes: &mut [u8]) {
    bytes[0] = LAYOUT;
    let hash = hash(key, &bytes[HEAD_BYTES..]);
    bytes[1..HEAD_BYTES].copy_from_slice(&hash);
}

/// The value in `bytes`, which were found under `key`.
///
/// # Errors
/// [`Error::Damaged`] if they are not what was stored there.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    what: &str,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<T, Error> {
    match postcard::take_from_bytes(check(what, key, bytes)?) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Error::Damaged(format!("{what}: bytes left over"))),
        Err(error) => Err(Error::Damaged(format!("{what}: {error}"))),
    }
}

/// The body in `bytes`, if they are what was stored under `key`.
///
/// # Errors
/// [`Error::Damaged`] if not.
pub(crate) fn check<'a>(what: &str, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let (stored, body) = split(what, bytes)?;
    if stored != hash(key, body) {
        return Err(Error::Damaged(format!("{what}: its hash does not match")));
    }
    Ok(body)
}

/// The hash and the body.
fn split<'a>(what: &str, bytes: &'a [u8]) -> Result<([u8; HASH_BYTES], &'a [u8]), Error> {
    let Some((&layout, rest)) = bytes.split_first() else {
        return Err(Error::Damaged(format!("{what}: no bytes")));
    };
    if layout != LAYOUT {
        return Err(Error::Damaged(format!("{what}: layout {layout}, this build has {LAYOUT}")));
    }
    let short = || Error::Damaged(format!("{what}: cut short"));
    rest.split_first_chunk().map(|(hash, body)| (*hash, body)).ok_or_else(short)
}

/// Each half of a hash is rapidhash V3 with secrets of its own, over the hashes of key and body, so that
/// the same body under two keys counts twice. Not against an adversary: who can write the file can also hash.
const HALVES: [RapidSecrets; 2] = [RapidSecrets::seed(1), RapidSecrets::seed(2)];

fn hash(key: &[u8], body: &[u8]) -> [u8; HASH_BYTES] {
    let mut hash = [0; HASH_BYTES];
    for (half, secrets) in hash.chunks_exact_mut(HASH_BYTES / 2).zip(&HALVES) {
        let mut parts = [0; 16];
        parts[..8].copy_from_slice(&rapidhash_v3_seeded(key, secrets).to_le_bytes());
        parts[8..].copy_from_slice(&rapidhash_v3_seeded(body, secrets).to_le_bytes());
        half.copy_from_slice(&rapidhash_v3_seeded(&parts, secrets).to_le_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_files_hold() {
        let hex = |hash: [u8; HASH_BYTES]| format!("{:032x}", u128::from_be_bytes(hash));
        let found = [hex(hash(b"", b"")), hex(hash(b"key", b"body")), hex(hash(b"key", &[7; 999]))];
        assert_eq!(
            found,
            [
                "b60fb363428db63b5d637a77da8f9ff7",
                "36854d31c7b07feffcb7db228f22db6e",
                "13db92b8e3f352ccd6d10c737f98da21"
            ]
        );
        assert_ne!(hash(b"a", b"b"), hash(b"b", b"a"));
        assert_ne!(hash(b"ab", b"c"), hash(b"a", b"bc"));
    }
}
