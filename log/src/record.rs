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
