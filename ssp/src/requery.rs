//! `Requery`: asking SurrealDB itself for a view's members, for the few queries that the engine cannot
//! maintain. When to ask is decided in `rerun`.

use async_trait::async_trait;
use revenant_log::RecordId;
use revenant_log::value::Object;
use thiserror::Error;

use crate::query::rules::Rules;

/// A query to run as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RequeryText {
    /// One SELECT statement.
    pub surql: String,
    /// Its parameters, to be bound.
    pub params: Object,
}

/// A root row that the query returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequeryMember {
    /// The row.
    pub record: RecordId,
    /// Its `_00_version`, 1 when it has none.
    pub version: u64,
}

/// Asks SurrealDB, and changes nothing.
#[async_trait]
pub trait Requery: Send + Sync + 'static {
    /// The root rows of the query's result as of one moment during the call, each once, in any order.
    async fn run(&self, query: &RequeryText) -> Result<Vec<RequeryMember>, RequeryError>;

    /// What its tables let those read who are signed in.
    async fn rules(&self) -> Result<Rules, RequeryError>;
}

/// Why there is no result, by what the caller does next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequeryError {
    /// SurrealDB says that the query is wrong, or its rows have no ids: tell the registrant.
    #[error("{0}")]
    Invalid(String),
    /// The database does not answer, or asks to try again: try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database refuses; an operator must act.
    #[error("the database refuses: {0}")]
    Refused(String),
}
