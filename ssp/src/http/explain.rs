//! `/v1/views/{id}/explain` and `/v1/views/{id}/why/{record}`: what a view is made of and what it costs, and
//! why a row is or is not in it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use revenant_log::{RecordId, Value};
use serde_json::json;
use tokio::time::timeout;

use super::Shared;
use super::problem::Problem;
use super::state::{ANSWER_MOST, busy, word};
use crate::plan::{Plan, plan};
use crate::query::ir::Query;
use crate::registration::bare_id;
use crate::session::Session;
use crate::views::{Entry, Mode};

/// Tier, template, indexes, candidates per change, memory and cost of a view.
pub(super) async fn explain(State(context): Shared, Path(id): Path<String>) -> Response {
    let (session, id, entry) = match asked(context.session(), &id) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let mut body = json!({
        "id": id,
        "tier": word(entry.mode),
        "surql": entry.registration.surql,
        "edge_table": entry.table,
    });
    match maintained(&entry) {
        Some(query) => match timeout(ANSWER_MOST, session.sequencer.explain(&id, query)).await {
            Ok(Ok(Some(explained))) => {
                let cost = explained.cost;
                let candidates = cost.candidates as f64 / cost.changes.max(1) as f64;
                body["candidates_per_change"] = json!(candidates);
                body["select"] = json!(explained);
            }
            Ok(Ok(None)) => return missing().into_response(),
            _ => return busy(),
        },
        None => body["reason"] = json!(rerun_reason(&session, &id)),
    }
    Json(body).into_response()
}

/// Which condition lets a record in, or keeps it out.
pub(super) async fn why(
    State(context): Shared,
    Path((id, record)): Path<(String, String)>,
) -> Response {
    let (session, id, entry) = match asked(context.session(), &id) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let Ok(Value::RecordId(record)) = Value::parse(&record) else {
        let detail = format!("{record:?} is no record id: table:key is due");
        return Problem::new(StatusCode::BAD_REQUEST, "bad_record", detail).into_response();
    };
    let mut body = json!({ "id": id, "record": record.to_string(), "tier": word(entry.mode) });
    let Some(query) = maintained(&entry) else {
        let is_in = match timeout(ANSWER_MOST, session.views.members(&id)).await {
            Ok(Ok(Some(members))) => members.edges.iter().any(|edge| is_root(edge, &record)),
            Ok(Ok(None)) => return missing().into_response(),
            _ => return busy(),
        };
        body["is_in"] = json!(is_in);
        body["reason"] = json!(format!(
            "SurrealDB decides; the query is re-run, since {}",
            rerun_reason(&session, &id).unwrap_or_default()
        ));
        return Json(body).into_response();
    };
    match timeout(ANSWER_MOST, session.sequencer.why(&id, query, *record)).await {
        Ok(Ok(Some(why))) => {
            body["is_in"] = json!(why.is_in);
            body["reason"] = json!(why.reason);
            body["conditions"] = json!(why.conditions);
            Json(body).into_response()
        }
        Ok(Ok(None)) => missing().into_response(),
        _ => busy(),
    }
}

fn asked(
    session: Option<Arc<Session>>,
    id: &str,
) -> Result<(Arc<Session>, String, Entry), Problem> {
    let (Some(session), Some(id)) = (session, bare_id(id)) else { return Err(missing()) };
    let entry = session.views.entry(&id).ok_or_else(missing)?;
    Ok((session, id, entry))
}

/// The query of a view that the engine maintains.
fn maintained(entry: &Entry) -> Option<Query> {
    let registration = &entry.registration;
    match plan(&registration.surql, &registration.params, entry.rules.as_deref()) {
        Ok(Plan { query: Ok(query), .. }) if entry.mode == Mode::Incremental => Some(query),
        _ => None,
    }
}

fn rerun_reason(session: &Session, id: &str) -> Option<String> {
    let mut reports = session.rerun.reports().into_iter();
    reports.find(|report| report.view.id == id).map(|report| report.reason)
}

fn is_root(edge: &crate::edge::Edge, record: &RecordId) -> bool {
    edge.parent.is_none() && edge.record == *record
}

fn missing() -> Problem {
    Problem::not_found("this SSP does not maintain that view")
}
