//! How a query is kept up to date: by the engine where it can place it, else by running it again.

use revenant_log::value::Object;

use crate::query::ir::Query;
use crate::query::parse;
use crate::rerun::Triggers;

/// How a query is kept up to date.
pub(crate) enum Plan {
    /// By the engine, which may still decline; then by the triggers.
    Incremental {
        /// For the engine.
        query: Query,
        /// For re-running.
        triggers: Triggers,
    },
    /// By running it again.
    Requery {
        /// When.
        triggers: Triggers,
        /// Why the engine cannot.
        reason: String,
    },
}

/// Decides for a query.
///
/// # Errors
/// SurrealDB's message, when the query is none, or why it is refused.
pub(crate) fn plan(surql: &str, params: &Object) -> Result<Plan, String> {
    let parse::Parsed { query, tables, timed } = parse::parse(surql, params)?;
    let triggers = Triggers { tables, timed };
    Ok(match query {
        Ok(query) => Plan::Incremental { query, triggers },
        Err(what) => Plan::Requery { triggers, reason: format!("not maintained: {what}") },
    })
}
