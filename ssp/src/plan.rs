//! How a query is kept up to date: by the engine where it can place it, else by running it again.

use revenant_log::value::Object;

use crate::query::parse;
use crate::rerun::Triggers;

/// A query that the engine can maintain.
pub(crate) enum Query {}

/// How a query is kept up to date.
pub(crate) enum Plan {
    /// By the engine, which may still decline; then by the triggers.
    #[expect(dead_code, reason = "the engine is not joined yet, so every view is re-run")]
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
pub(crate) fn plan(surql: &str, _params: &Object) -> Result<Plan, String> {
    parse::check(surql)?;
    let timed = surql.contains("time::") || surql.contains("rand");
    let triggers = Triggers { tables: None, timed };
    Ok(Plan::Requery { triggers, reason: "no engine takes it".into() })
}
