//! How a query is kept up to date: by the engine where its parser and planner can place it, else by
//! running it again.

use revenant_log::value::Object;

use crate::query::{Query, QueryError};
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
