//! `Event` (what happened to a row) and `Record` (an event with its place in the log), and their
//! bytes: a version byte, then postcard. It knows nothing of frames and files.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::seq::Seq;
use crate::value::{Key, RecordId, Value};

/// What happened to a row. The position is its number on disk: only ever appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The row was created.
    Create,
    /// The row was changed.
    Update,
    /// The row was deleted.
    Delete,
    /// The row was read by the first clone.
    Load,
    /// The reconciler found the row to be so: with a body it exists, without one it does not.
    Reconcile,
}

/// Where a change stands in its source: the feed's versionstamp and the ordinal inside its set.
///
/// It orders the changes of one record; [`SourcePos::UNKNOWN`] is for sources without positions.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SourcePos {
    /// SurrealDB's versionstamp of the transaction.
    pub versionstamp: u64,
    /// Place of the change within the transaction, from 0.
    pub ordinal: u32,
}

impl SourcePos {
    /// No position: a pushed event, a loaded or a reconciled row.
    pub const UNKNOWN: Self = Self { versionstamp: 0, ordinal: 0 };
}

/// One fact: a row was created, changed, deleted, loaded or reconciled.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub op: Op,
    /// The row's table.
    pub table: Arc<str>,
    /// The row's key.
    pub key: Key,
    /// `_00_rv`, the row's version as clients know it, if it has one. Restarts after a delete.
    pub version: Option<u64>,
    /// The row as it is now; `None` when it is gone.
    pub body: Option<Value>,
    /// The row as it was, when the source tells.
    pub before: Option<Value>,
    /// Place in the source.
    pub source: SourcePos,
    /// Came late: a newer change of the same row is already in the log, so it changes no row.
    pub stale: bool,
}

impl Event {
    /// The row's address.
    #[must_use]
    pub fn record_id(&self) -> RecordId {
        RecordId { table: self.table.to_string(), key: self.key.clone() }
    }
}

/// Events that belong together: seen whole or not at all.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// When the source committed it, microseconds since 1970.
    pub time_us: i64,
    /// Highest source versionstamp that a reader of the feed had seen when it handed this over.
    pub feed_high: u64,
    /// Never empty.
    pub events: Vec<Event>,
}

/// An event with its place in the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// Commit time at the source, microseconds since 1970.
    pub time_us: i64,
    /// Whether it is the last of its transaction.
    pub ends_transaction: bool,
    /// See [`Transaction::feed_high`].
    pub feed_high: u64,
    /// What happened.
    pub event: Event,
}

/// The first byte of every encoded record: which layout follows.
pub const RECORD_VERSION: u8 = 1;

/// Why bytes are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// No bytes at all.
    #[error("a record of no bytes")]
    Empty,
    /// A layout this build does not know.
    #[error("record layout {0}, this build reads {RECORD_VERSION}")]
    Version(u8),
    /// The layout does not match the bytes.
    #[error("the bytes are no record: {0}")]
    Malformed(String),
    /// Bytes were left over.
    #[error("{0} bytes too many after the record")]
    Trailing(usize),
}

/// What is encoded: all of a record but its seq, which its place gives.
#[derive(Serialize, Deserialize)]
struct Layout<'a> {
    time_us: i64,
    ends_transaction: bool,
    feed_high: u64,
    #[serde(borrow)]
    event: std::borrow::Cow<'a, Event>,
}

/// Appends `record`'s bytes, without its seq, to `to`.
pub fn encode_record(record: &Record, to: &mut Vec<u8>) {
    encode_parts(record.time_us, record.ends_transaction, record.feed_high, &record.event, to);
}

/// Appends the bytes of a record that is made of these parts to `to`.
pub fn encode_parts(
    time_us: i64,
    ends_transaction: bool,
    feed_high: u64,
    event: &Event,
    to: &mut Vec<u8>,
) {
    to.push(RECORD_VERSION);
    let layout =
        Layout { time_us, ends_transaction, feed_high, event: std::borrow::Cow::Borrowed(event) };
    let buffer = std::mem::take(to);
    *to = postcard::to_extend(&layout, buffer)
        .expect("memory takes any bytes, and every field has a fixed layout");
}

/// Reads a record back; `seq` is where it was found.
///
/// # Errors
/// Any other bytes than [`encode_record`] wrote are a [`DecodeError`], never a panic.
pub fn decode_record(seq: Seq, bytes: &[u8]) -> Result<Record, DecodeError> {
    let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if version != RECORD_VERSION {
        return Err(DecodeError::Version(version));
    }
    let (layout, rest) = postcard::take_from_bytes::<Layout<'_>>(body)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    Ok(Record {
        seq,
        time_us: layout.time_us,
        ends_transaction: layout.ends_transaction,
        feed_high: layout.feed_high,
        event: layout.event.into_owned(),
    })
}
