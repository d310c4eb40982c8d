//! `/health`, `/health/ready`, `/health/snapshot`, `/livez`, `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use revenant_log::{Finding, Seq};
use serde_json::{Value, json};

use super::Shared;
use crate::backend::Condition;
use crate::error::Error;
use crate::member::Stage;
use crate::rows::Rows;
use crate::scheduler::{Context, Phase};

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok"
}

/// Whether rows and views are offered.
pub(super) async fn ready(State(context): Shared) -> Response {
    let (status, word) = match &*context.phase.borrow() {
        Phase::Ready => (StatusCode::OK, "ready"),
        Phase::Cloning => (StatusCode::SERVICE_UNAVAILABLE, "cloning"),
        Phase::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
    };
    (status, Json(json!({ "status": word, "waiting_for": waiting_for(&context) }))).into_response()
}

/// Whom it waits for: the database, or nobody.
fn waiting_for(context: &Context) -> Option<&'static str> {
    let reached = context.capture.borrow().trouble.is_none() && context.trouble.borrow().is_none();
    (!reached).then_some("database")
}

/// How everything is: upstream's figures, and why something is waiting.
pub(super) async fn health(State(context): Shared) -> Response {
    let members = context.registry.members();
    let total = members.len();
    let ready = members.values().filter(|member| member.stage == Stage::Ready).count();
    let backends = context.backends.all();
    let count = |condition| backends.iter().filter(|one| one.condition == condition).count();
    let (healthy, unhealthy, unreachable) =
        (count(Condition::Healthy), count(Condition::Unhealthy), count(Condition::Unreachable));
    let trouble = troubles(&context);
    let down = unhealthy + unreachable;
    let all_down = !backends.is_empty() && down == backends.len();
    let word = if ready == 0 || all_down {
        "unavailable"
    } else if down > 0 || !trouble.is_empty() {
        "degraded"
    } else {
        "healthy"
    };
    let status =
        if word == "unavailable" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({
        "status": word,
        "ssps": { "ready": ready, "total": total },
        "backends": {
            "healthy": healthy,
            "unhealthy": unhealthy,
            "unreachable": unreachable,
            "total": backends.len(),
        },
        "state": phase_word(&context),
        "waiting_for": waiting_for(&context),
        "capture": { "connected": waiting_for(&context).is_none(),
                     "caught_up": context.capture.borrow().caught_up },
        "trouble": trouble,
        "tables_without_feed": without_feed(&context),
    });
    (status, Json(body)).into_response()
}

/// What is not as it should be, in words.
pub(super) fn troubles(context: &Context) -> BTreeMap<&'static str, String> {
    let mut troubles = BTreeMap::new();
    if let Phase::Failed(reason) = &*context.phase.borrow() {
        troubles.insert("scheduler", reason.clone());
    }
    if let Some(reason) = context.capture.borrow().trouble.clone() {
        troubles.insert("capture", reason);
    }
    if let Some(reason) = context.trouble.borrow().clone() {
        troubles.insert("tables", reason);
    }
    if let Some(reason) = context.rows.trouble() {
        troubles.insert("replica", reason);
    }
    let stats = context.log.stats();
    if let Some(finding) = stats.scrub.findings.first() {
        let Finding { path, offset, seq, reason } = finding;
        let more = stats.scrub.findings.len() - 1;
        let what = format!(
            "{} is damaged at offset {offset} (seq {seq}): {reason}; {more} more segments are damaged",
            path.display()
        );
        troubles.insert("log_damage", what);
    }
    if let Some(reason) = stats.archive_error {
        troubles.insert("log_archive", reason);
    }
    let log = stats.state;
    if log != "ok" {
        let what = if log == "full" { "full: free space, or release the ballast" } else { log };
        troubles.insert("log", what.to_owned());
    }
    troubles
}

/// The tables whose changes are not in the feed, with the statement that would put them there.
fn without_feed(context: &Context) -> BTreeMap<String, Option<String>> {
    let tables = context.tables.all().into_iter();
    tables.filter(|(_, state)| !state.feed).map(|(name, state)| (name, state.fix)).collect()
}

/// The word for where the scheduler is in its life.
pub(super) fn phase_word(context: &Context) -> &'static str {
    match &*context.phase.borrow() {
        Phase::Cloning => "cloning",
        Phase::Ready => "ready",
        Phase::Failed(_) => "failed",
    }
}

/// The replica's tables. Reads the rows of those that changed since it was last asked.
pub(super) async fn snapshot(State(context): Shared) -> Response {
    let rows = Arc::clone(&context.rows);
    let latest = context.log.durable_seq().0;
    match tokio::task::spawn_blocking(move || figures(&rows, latest)).await {
        Ok(Ok(figures)) => Json(figures).into_response(),
        Ok(Err(error)) => {
            let body = json!({ "error": error.to_string() });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn figures(rows: &Rows, latest: u64) -> Result<Value, Error> {
    let (Seq(seq), tables) = rows.table_reports()?;
    let (mut counts, mut hashes) = (BTreeMap::new(), BTreeMap::new());
    let mut total = 0;
    for table in tables {
        total += table.rows;
        hashes.insert(table.name.clone(), table.hash);
        counts.insert(table.name, table.rows);
    }
    Ok(json!({
        "tables": counts,
        "hashes": hashes,
        "total_records": total,
        "snapshot_seq": seq,
        "latest_seq": latest,
        "lag": latest.saturating_sub(seq),
    }))
}
