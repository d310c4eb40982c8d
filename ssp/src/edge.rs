//! Edges: what a live query's result looks like in SurrealDB, and `EdgeSink`, the door through which
//! they are written. It knows no SurrealDB client; the outbox that fills batches is in
//! `outbox`.

use std::io::Write as _;

use async_trait::async_trait;
use revenant_log::value::{Datetime, Duration, Object};
use revenant_log::{LogId, RecordId, Seq};
use thiserror::Error;

/// The edge table that all clients share.
pub const SHARED_EDGE_TABLE: &str = "_00_list_ref";

/// The `auth_id` of a registrant who is not signed in.
pub const ANONYMOUS: &str = "anon";

/// One row of a view's result, as SurrealDB stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Key of the edge row, as [`edge_id`] gives it: the same place in a view is the same edge for ever.
    pub id: String,
    /// The row that is in the view.
    pub record: RecordId,
    /// The row's `_00_rv`.
    pub version: u64,
    /// The parent row's edge; `None` for a root row.
    pub parent: Option<String>,
    /// Alias of the subquery that brought the row in; `None` for a root row.
    pub parent_rel: Option<String>,
}

impl Edge {
    /// What it adds to its view's signature, the XOR of all its edges'.
    #[must_use]
    pub fn signature(&self) -> u64 {
        signature(&self.id, self.version)
    }
}

/// [`Edge::signature`] of an edge with this key at some version. The key is a hash already; what is left to
/// do is to spread the version over all bits, by the finalizer of splitmix64 (Steele et al., OOPSLA 2014),
/// which is a bijection: two versions of one edge never have the same signature.
///
/// It finds accidents: a difference stays unseen by a chance of 2^-64. It is no proof against someone who
/// chooses the rows: an XOR of 64 bits can be steered whatever is summed up, by solving 64 linear equations.
pub(crate) fn signature(id: &str, version: u64) -> u64 {
    let mut mixed = version;
    for chunk in id.as_bytes().chunks(8) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        mixed = mixed.wrapping_add(u64::from_le_bytes(bytes)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed
}

/// One absolute change of an edge table; repeating it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EdgeWrite {
    /// The edge is so, whatever was there.
    Put(Edge),
    /// The edge is not there.
    Delete {
        /// Its key.
        id: String,
        /// The row it pointed at, from which it is found fastest.
        record: RecordId,
    },
}

impl EdgeWrite {
    /// Key of the edge that changes.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Put(edge) => &edge.id,
            Self::Delete { id, .. } => id,
        }
    }
}

/// What happened to one view.
#[derive(Clone, Debug)]
pub struct ViewChange {
    /// The view.
    pub view: String,
    /// Its changed edges, each with its depth: 0 for a root row.
    pub edges: Vec<(usize, EdgeWrite)>,
    /// Its root rows from now on.
    pub row_count: u64,
}

/// What one flush writes for one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewWrite {
    /// Key of the `_00_query` row.
    pub view: String,
    /// The writer's ownership epoch; a write below the stored one is fenced.
    pub epoch: u64,
    /// The edge table, see [`RefMode::edge_table`].
    pub table: String,
    /// Deletes, then puts; parents before children. At most one write per edge.
    pub edges: Vec<EdgeWrite>,
    /// Root rows of the view after the write.
    pub row_count: u64,
    /// Whether the view is complete after it: `state` becomes `ready`, else `materializing`.
    pub ready: bool,
}

/// What one flush writes: every view that changed, and how far the log is covered by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeBatch {
    /// Who writes.
    pub ssp_id: String,
    /// The log that `seq` numbers.
    pub log_id: LogId,
    /// With this batch, the stored edges of this SSP's views cover the log up to and with it.
    pub seq: Seq,
    /// One entry per view.
    pub views: Vec<ViewWrite>,
}

/// A registered query, as its `_00_query` row holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryRow {
    /// Key of the row, bare.
    pub id: String,
    /// The query's text.
    pub surql: String,
    /// Its parameters.
    pub params: Object,
    /// How long the query lives without a sign of its client.
    pub ttl: Duration,
    /// The client that asked.
    pub client_id: String,
    /// The client's last sign of life.
    pub last_active_at: Datetime,
    /// `<string>$auth.id` of the registrant, or [`ANONYMOUS`].
    pub auth_id: String,
    /// The SSP that owns the query.
    pub ssp_id: String,
    /// The ownership's epoch.
    pub epoch: u64,
}

/// Where edges go. Implementations check every statement's outcome and bind every value.
///
/// - Every write carries an ownership epoch; a stored epoch that is higher answers
///   [`SinkError::Fenced`], and nothing of that call is written.
/// - Every call may be repeated after any error and then has the effect of one.
#[async_trait]
pub trait EdgeSink: Send + Sync + 'static {
    /// The position that the last [`EdgeSink::commit`] of this SSP stored.
    async fn position(&self, ssp_id: &str) -> Result<Option<(LogId, Seq)>, SinkError>;

    /// Makes `row` the `_00_query` row, unless a higher epoch owns it. On return it is stored.
    ///
    /// `lastActiveAt` never moves back, and neither `rowCount` nor `state` of a row that exists is
    /// touched; a new row starts with 0 and `materializing`.
    async fn claim(&self, row: &QueryRow) -> Result<(), SinkError>;

    /// Every edge stored for `view` in `table`, in any order; none when the table does not exist.
    async fn edges(&self, table: &str, view: &str) -> Result<Vec<Edge>, SinkError>;

    /// Writes the batch in one transaction and with it the position; a batch above the statement
    /// limit is split, and the position goes with the last part.
    async fn commit(&self, batch: &EdgeBatch) -> Result<(), SinkError>;

    /// Deletes the query's edges and its row. A row that is gone is no error.
    async fn release(&self, table: &str, view: &str, epoch: u64) -> Result<(), SinkError>;

    /// Keys of this SSP's `_00_query` rows whose `lastActiveAt + ttl` the database's clock has passed.
    async fn expired(&self, ssp_id: &str) -> Result<Vec<String>, SinkError>;

    /// [`EdgeSink::release`], provided that the row is expired still; says whether it was.
    async fn release_expired(&self, table: &str, view: &str, epoch: u64)
    -> Result<bool, SinkError>;

    /// Keys among `views` that have no `_00_query` row (any more): their client deleted it.
    async fn missing(&self, views: &[String]) -> Result<Vec<String>, SinkError>;

    /// Defines the edge table `table` if it is not there; `uid` is the user it belongs to, `None` for
    /// the shared tables.
    async fn ensure_edge_table(&self, table: &str, uid: Option<&str>) -> Result<(), SinkError>;
}

/// Why a write did not happen, by what the caller does next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The database does not answer, or asks to try again: try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Another SSP owns the view: drop it here.
    #[error("view {view} belongs to a newer owner")]
    Fenced {
        /// Key of the `_00_query` row.
        view: String,
    },
    /// The database refuses; an operator must act.
    #[error("the database refuses: {0}")]
    Refused(String),
}

/// How edge tables are laid out; clients follow the same rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefMode {
    /// One table per user.
    #[default]
    Dedicated,
    /// One table for all.
    Single,
}

impl RefMode {
    /// The edge table for a registrant, and the user id it belongs to if it is that user's own.
    ///
    /// A user id that is not `[A-Za-z0-9_]+` falls back to the shared table.
    #[must_use]
    pub fn edge_table(self, auth_id: &str) -> (String, Option<String>) {
        if self == Self::Single {
            return (SHARED_EDGE_TABLE.to_owned(), None);
        }
        if auth_id == ANONYMOUS {
            return (format!("{SHARED_EDGE_TABLE}_{ANONYMOUS}"), None);
        }
        let uid = auth_id.strip_prefix("user:").unwrap_or(auth_id);
        let plain = uid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if uid.is_empty() || !plain {
            return (SHARED_EDGE_TABLE.to_owned(), None);
        }
        (format!("{SHARED_EDGE_TABLE}_user_{uid}"), Some(uid.to_owned()))
    }
}

/// The key of an edge: the first 128 bits of BLAKE3 over its place, in hex.
///
/// The place is the view, the parent's edge, the subquery's alias and the record; each part is
/// preceded by its length, so no two places share their bytes.
#[must_use]
pub fn edge_id(
    view: &str,
    parent: Option<&str>,
    parent_rel: Option<&str>,
    record: &RecordId,
) -> String {
    let mut place = Vec::with_capacity(192);
    for part in [view, parent.unwrap_or(""), parent_rel.unwrap_or("")] {
        place.extend_from_slice(&(part.len() as u64).to_le_bytes());
        place.extend_from_slice(part.as_bytes());
    }
    let start = place.len();
    place.extend_from_slice(&[0; 8]);
    write!(place, "{record}").expect("memory takes all");
    let record_bytes = (place.len() - start - 8) as u64;
    place[start..start + 8].copy_from_slice(&record_bytes.to_le_bytes());
    // One call over joined bytes costs half of what a hasher that is fed costs.
    let hex = blake3::hash(&place).to_hex();
    hex[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_user_ids_get_a_table_of_their_own() {
        let table = |auth_id| RefMode::Dedicated.edge_table(auth_id).0;
        assert_eq!(table("user:abc_1"), "_00_list_ref_user_abc_1");
        assert_eq!(table("user:`a-b`"), "_00_list_ref");
        assert_eq!(table(""), "_00_list_ref");
        assert_eq!(table("anon"), "_00_list_ref_anon");
        assert_eq!(RefMode::Single.edge_table("user:abc").0, "_00_list_ref");
    }

    #[test]
    fn an_edge_id_tells_places_apart_and_is_stable() {
        let record = RecordId::new("t", "a");
        let root = edge_id("view", None, None, &record);
        assert_eq!(root, edge_id("view", None, None, &record));
        assert_eq!(root.len(), 32);
        assert_ne!(root, edge_id("view", Some(&root), Some("x"), &record));
        assert_ne!(
            edge_id("ab", Some("c"), None, &record),
            edge_id("a", Some("bc"), None, &record)
        );
    }
}
