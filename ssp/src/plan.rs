//! How a query is kept up to date: by the engine where it can place it, else by running it again.

use revenant_log::value::Object;

use crate::query::ir::Query;
use crate::query::parse;
use crate::query::rules::Rules;
use crate::requery::RequeryText;
use crate::rerun::Triggers;

/// How a query is kept up to date.
pub(crate) struct Plan {
    /// By the engine, which may still decline; or why it cannot be.
    pub(crate) query: Result<Query, String>,
    /// Else by running this; or why that would show its registrant too much.
    pub(crate) text: Result<RequeryText, String>,
    /// When that is to be run.
    pub(crate) triggers: Triggers,
}

/// Decides for a query, of a registrant who sees what `rules` say.
///
/// # Errors
/// SurrealDB's message, when the query is none, or why it is refused.
pub(crate) fn plan(surql: &str, params: &Object, rules: Option<&Rules>) -> Result<Plan, String> {
    let parse::Parsed { query, text, tables, timed } = parse::parse_under(surql, params, rules)?;
    let query = query.map_err(|what| format!("not maintained: {what}"));
    if let (Err(reason), Err(past)) = (&query, &text) {
        return Err(refused(reason, past));
    }
    let text = text.map(|parse::Text { surql, params }| RequeryText { surql, params });
    Ok(Plan { query, text, triggers: Triggers { tables, timed } })
}

/// Why a query is neither maintained nor run.
pub(crate) fn refused(reason: &str, past: &str) -> String {
    format!("Invalid Query Plan: {reason}; and not run for who registers it: {past}")
}
