//! `Source`: the door to the database whose changes are captured. It says what can be read; when to
//! read, how often, and what to make of late and repeated changes is [`crate::capture`]'s part.

use async_trait::async_trait;
use revenant_log::{Event, Key, Value};
use thiserror::Error;

/// A table that is captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTable {
    /// Its name, unquoted.
    pub name: String,
    /// Whether its changes are in the feed, with before-images.
    pub feed: bool,
    /// Where they are not: the exact statement that would put them there.
    pub fix: Option<String>,
}

/// A committed transaction as the feed shows it.
#[derive(Clone, Debug)]
pub struct SourceTransaction {
    /// Its place in the feed; never 0.
    pub versionstamp: u64,
    /// When it was committed, microseconds since 1970.
    pub time_us: i64,
    /// What it changed in captured tables, with source positions and versions filled in. May be empty.
    pub events: Vec<Event>,
}

/// A part of the feed.
#[derive(Clone, Debug, Default)]
pub struct ChangePage {
    /// In ascending order of versionstamp, each whole.
    pub transactions: Vec<SourceTransaction>,
    /// More is to be read from this versionstamp on, inclusive.
    pub next: Option<u64>,
    /// Whether a table was defined, changed or removed.
    pub schema_changed: bool,
}

/// A row as it is at the source.
#[derive(Clone, Debug)]
pub struct SourceRow {
    /// Its key in its table.
    pub key: Key,
    /// `_00_rv`, where the database keeps it.
    pub version: Option<u64>,
    /// Its fields.
    pub body: Value,
}

/// A moment on the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedTime {
    /// Microseconds since 1970.
    pub time_us: i64,
}

/// A database whose committed changes can be read again.
///
/// - A change may become visible after a later one was already read; nothing is ever taken back.
/// - Reading has no effect and may be repeated, cancelled and run concurrently.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The user's tables and the synced `_00_` tables. May define feeds that are missing, if it may.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] and [`SourceError::Refused`].
    async fn tables(&self) -> Result<Vec<SourceTable>, SourceError>;

    /// The time on the server's clock.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] and [`SourceError::Refused`].
    async fn now(&self) -> Result<FeedTime, SourceError>;

    /// The transactions committed at `time_us` of the server's clock or later.
    ///
    /// # Errors
    /// [`SourceError::Lost`] when the feed does not reach back that far.
    async fn changes_since_time(&self, time_us: i64) -> Result<ChangePage, SourceError>;

    /// The transactions from `versionstamp` on, inclusive.
    ///
    /// # Errors
    /// [`SourceError::Lost`] when the feed does not reach back that far.
    async fn changes_from(&self, versionstamp: u64) -> Result<ChangePage, SourceError>;

    /// At most `limit` rows after `after` in id order; fewer only at the table's end. Empty for a table
    /// that does not exist.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] and [`SourceError::Refused`].
    async fn rows(
        &self,
        table: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError>;

    /// One row; `None` when it does not exist.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] and [`SourceError::Refused`].
    async fn row(&self, table: &str, key: &Key) -> Result<Option<SourceRow>, SourceError>;

    /// Returns when a captured table changed, or is about to. May pend for ever.
    ///
    /// # Errors
    /// [`SourceError::Unavailable`] when nothing more will be heard until it is called again.
    async fn wait_doorbell(&self) -> Result<(), SourceError>;
}

/// Why the database did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It may answer later: try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// It says no: someone must act.
    #[error("the database refuses: {0}")]
    Refused(String),
    /// The feed no longer reaches back to what was asked for: rows have to be compared.
    #[error("the feed no longer reaches back: {0}")]
    Lost(String),
}
