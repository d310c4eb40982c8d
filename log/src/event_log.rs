//! `EventLog`: the seam between the scheduler and its log, so that a replicated log service can stand
//! behind it.

use async_trait::async_trait;

use crate::chain::Anchor;
use crate::durable::DurableSeq;
use crate::error::Error;
use crate::log::{Appended, LogStats, TrimReport};
use crate::record::Transaction;
use crate::segment::header::LogId;
use crate::seq::Seq;
use crate::wire::WireBatch;

/// An append-only log of events.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// The log's identity.
    fn id(&self) -> LogId;
    /// Grows at every opening for writing.
    fn epoch(&self) -> u64;
    /// Appends `transactions`, each whole; durable on return.
    ///
    /// # Errors
    /// [`Error::WrongSeq`] if the log does not end right before `expected_next`.
    async fn append(
        &self,
        transactions: Vec<Transaction>,
        expected_next: Option<Seq>,
    ) -> Result<Appended, Error>;
    /// The lowest seq that can be read.
    fn first_seq(&self) -> Seq;
    /// The highest durable seq.
    fn durable_seq(&self) -> Seq;
    /// A watch of the highest durable seq.
    fn watch(&self) -> DurableSeq;
    /// Durable records from `from` on, about `max_bytes` of them but at least one; none at the end.
    ///
    /// # Errors
    /// [`Error::Trimmed`] below the lowest seq.
    fn read(&self, from: Seq, max_bytes: usize) -> Result<WireBatch, Error>;
    /// Gives up records below `before`, by whole segments.
    ///
    /// # Errors
    /// As `append`.
    async fn trim(&self, before: Seq) -> Result<TrimReport, Error>;
    /// The chain hash of `seq`, which stands for all records up to there.
    ///
    /// # Errors
    /// As [`crate::Log::anchor`].
    fn anchor(&self, seq: Seq) -> Result<Anchor, Error>;
    /// Lets go of the space that is held back for a full disk; bytes given back.
    ///
    /// # Errors
    /// As [`crate::Log::release_ballast`].
    fn release_ballast(&self) -> Result<u64, Error>;
    /// Figures.
    fn stats(&self) -> LogStats;
}
