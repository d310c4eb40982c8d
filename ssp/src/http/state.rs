//! `/v1/state` and `/v1/views/{id}`: what this service computed, for operators and checkers.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Shared;
use super::problem::Problem;
use crate::load::resident_bytes;
use crate::registration::bare_id;
use crate::sequencer::{Report, ViewReport};
use crate::session::Session;
use crate::views::Mode;

/// How long the sequencer may take to get to a question.
pub(super) const ANSWER_MOST: Duration = Duration::from_secs(10);

/// Everything about the service, as of one seq.
pub(super) async fn state(State(context): Shared) -> Response {
    let status = &context.status;
    let mut body = json!({
        "ssp_id": context.config.ssp_id,
        "version": env!("CARGO_PKG_VERSION"),
        "state": status.state().word(),
        "rss_bytes": resident_bytes(),
        "uptime_seconds": status.uptime_seconds(),
        "connected": status.connected(),
        "registrations": status.sessions(),
        "reconnects": status.reconnects(),
        "trouble": status.last_trouble(),
        "waiting_for": status.waiting_for(),
    });
    if let Some(loading) = status.loading() {
        body["loading"] =
            json!({ "seq": loading.seq, "rows": loading.rows, "rows_due": loading.due });
    }
    if let Some(session) = context.session() {
        let Ok(Ok(report)) = timeout(ANSWER_MOST, session.sequencer.report()).await else {
            return busy();
        };
        merge(&mut body, session_json(&session, &report));
    }
    Json(body).into_response()
}

/// A view and its edges, as computed.
pub(super) async fn view(State(context): Shared, Path(id): Path<String>) -> Response {
    let missing = || Problem::not_found("this SSP does not maintain that view").into_response();
    let (Some(session), Some(id)) = (context.session(), bare_id(&id)) else { return missing() };
    let Some(entry) = session.views.entry(&id) else { return missing() };
    let members = match timeout(ANSWER_MOST, session.views.members(&id)).await {
        Ok(Ok(Some(members))) => members,
        Ok(Ok(None)) => return missing(),
        _ => return busy(),
    };
    let edges: Vec<Value> = members
        .edges
        .iter()
        .map(|edge| {
            json!({
                "edge": edge.id,
                "record": edge.record.to_string(),
                "version": edge.version,
                "parent": edge.parent,
                "parent_rel": edge.parent_rel,
            })
        })
        .collect();
    Json(json!({
        "id": id,
        "mode": word(entry.mode),
        "epoch": entry.epoch,
        "table": entry.table,
        "surql": entry.registration.surql,
        "seq": members.seq,
        "members": edges,
    }))
    .into_response()
}

fn session_json(session: &Session, report: &Report) -> Value {
    let incremental = report.views.iter().map(|view| view_json(view, Mode::Incremental));
    let mut views: Vec<Value> = incremental.collect();
    let reruns = session.rerun.reports();
    for rerun in &reruns {
        let mut view = view_json(&rerun.view, Mode::Requery);
        view["reason"] = json!(rerun.reason);
        view["error"] = json!(rerun.last_error);
        view["due"] = json!(rerun.due);
        views.push(view);
    }
    let (outbox, waiting) = session.outbox.counters();
    let committed = *session.outbox.committed().borrow();
    let settled = committed == report.applied_seq && !reruns.iter().any(|rerun| rerun.due);
    json!({
        "epoch": session.epoch,
        "log_id": session.log_id.to_string(),
        "bootstrap_seq": session.bootstrap_seq,
        "applied_seq": report.applied_seq,
        "committed_seq": committed,
        "settled": settled && waiting == 0,
        "transactions": report.transactions,
        "chain": report.chain.to_hex().as_str(),
        "views": views,
        "engine": report.engine,
        "failed": session.views.failures(),
        "counts": { "incremental": report.views.len(), "requery": reruns.len() },
        "outbox": {
            "waiting": waiting,
            "batches": outbox.batches,
            "edges": outbox.edges,
            "failures": outbox.failures,
            "trouble": outbox.trouble,
        },
    })
}

fn view_json(view: &ViewReport, mode: Mode) -> Value {
    json!({
        "id": view.id,
        "mode": word(mode),
        "rows": view.rows,
        "signature": format!("{:016x}", view.signature),
        "seq": view.seq,
    })
}

pub(super) fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Incremental => "incremental",
        Mode::Requery => "requery",
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

pub(super) fn busy() -> Response {
    let detail = "the engine is busy; ask again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).into_response()
}
