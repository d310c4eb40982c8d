//! `/ssp/*`: SSPs come, say that they live, and are told when they must come again.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use revenant_log::Seq;
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::problem::Problem;
use crate::deliver::takeover_of;
use crate::member::{Registration, Sign};
use crate::registry::{Turned, Vitals};
use crate::rows::Rows;
use crate::scheduler::Phase;

/// Longest id of an SSP.
const ID_MOST: usize = 128;

#[derive(Deserialize)]
pub(super) struct Register {
    ssp_id: String,
    url: String,
    version: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    native: bool,
}

/// Registers an SSP. Its cursor protects the log from the snapshot on that it may load now.
pub(super) async fn register(
    State(context): Shared,
    body: Result<Json<Register>, JsonRejection>,
) -> Response {
    let request = match body {
        Ok(Json(request)) => request,
        Err(rejection) => return rejection.into_response(),
    };
    if let Err(text) = check(&request) {
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    if *context.phase.borrow() != Phase::Ready {
        let text = "Scheduler is still cloning database";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    let rows = Arc::clone(&context.rows);
    let known = tokio::task::spawn_blocking(move || rows.known_hashes()).await;
    let (snapshot_seq, hashes) = match known {
        Ok(Ok(known)) => known,
        // The replica is being opened anew; an SSP that comes now is not kept waiting for that.
        _ => (context.rows.applied_seq(), BTreeMap::new()),
    };
    learn_hashes(&context.rows);
    let Register { ssp_id, url, version, env, .. } = request;
    let url = url.trim_end_matches('/').to_owned();
    let registration = Registration { url, version, epoch: 0, env, lapsed: false };
    let registered = context.registry.register(&ssp_id, registration, snapshot_seq).await;
    let (registration, views) = match registered {
        Ok(registered) => registered,
        Err(error) => return Problem::internal("register an SSP", &error).into_response(),
    };
    let views: Vec<_> = views.iter().map(|(_, view)| takeover_of(view)).collect();
    let body = json!({
        "snapshot_seq": snapshot_seq,
        // As far as they are known: nobody waits here for rows to be read. The others are on their way, and
        // `/health/snapshot` has all of them.
        "table_hashes": hashes,
        "native": {
            "log_id": context.log.id().to_string(),
            "epoch": registration.epoch,
            "ack_seq": snapshot_seq,
            "views": views,
        },
    });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// Has the hashes that are not known computed while the SSP goes on.
fn learn_hashes(rows: &Arc<Rows>) {
    let rows = Arc::clone(rows);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = rows.learn_hashes() {
            tracing::warn!(%error, "hash the tables");
        }
    });
}

fn check(request: &Register) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if request.ssp_id.is_empty() {
        return Err("SSP ID cannot be empty");
    }
    if request.ssp_id.len() > ID_MOST || !request.ssp_id.chars().all(plain) {
        return Err("SSP ID may have up to 128 letters, digits, '-', '_', '.' and ':'");
    }
    if !(request.url.starts_with("http://") || request.url.starts_with("https://"))
        || reqwest::Url::parse(&request.url).is_err()
    {
        return Err("SSP URL must start with http:// or https://");
    }
    if !request.native {
        return Err("this scheduler feeds SSPs over /v1/feed only: register with \"native\": true");
    }
    Ok(())
}

#[derive(Deserialize)]
pub(super) struct Heartbeat {
    ssp_id: String,
    #[serde(default)]
    views: u64,
    #[serde(default)]
    cpu_usage: Option<f64>,
    #[serde(default)]
    memory_usage: Option<f64>,
    #[serde(default)]
    epoch: Option<u64>,
    #[serde(default)]
    applied_seq: Option<Seq>,
    #[serde(default)]
    state: Option<String>,
}

/// An SSP lives.
pub(super) async fn heartbeat(
    State(context): Shared,
    body: Result<Json<Heartbeat>, JsonRejection>,
) -> Response {
    let heartbeat = match body {
        Ok(Json(heartbeat)) => heartbeat,
        Err(rejection) => return rejection.into_response(),
    };
    let sign = match heartbeat.state.as_deref() {
        Some("ready") => Sign::Ready,
        Some("replaying") => Sign::Replaying,
        _ => Sign::Alive,
    };
    let ssp_id = &heartbeat.ssp_id;
    match context.registry.heard(ssp_id, heartbeat.epoch, sign) {
        Ok(()) => {}
        Err(turned) => return turned_down(turned),
    }
    let vitals = Vitals {
        views: heartbeat.views,
        cpu: heartbeat.cpu_usage,
        memory: heartbeat.memory_usage,
        applied_seq: heartbeat.applied_seq,
    };
    context.registry.vitals(ssp_id, vitals);
    if let Some(applied) = heartbeat.applied_seq {
        let lag = context.log.durable_seq().0.saturating_sub(applied.0);
        if lag > context.config.lag_warning {
            tracing::warn!(ssp_id, lag, "the SSP is far behind");
        }
    }
    StatusCode::OK.into_response()
}

/// Upstream's texts, which its SSPs print.
fn turned_down(turned: Turned) -> Response {
    let (status, text) = match turned {
        Turned::Unknown => (StatusCode::NOT_FOUND, "SSP not registered. Please re-register."),
        Turned::Lapsed => {
            (StatusCode::CONFLICT, "Buffer overflow detected. SSP needs to re-bootstrap.")
        }
        Turned::Resync => {
            (StatusCode::CONFLICT, "Integrity-check resync requested. SSP must re-bootstrap.")
        }
        Turned::Fenced => (StatusCode::CONFLICT, "Fenced: a later registration has this SSP ID."),
    };
    (status, text).into_response()
}

#[derive(Deserialize)]
pub(super) struct Progress {
    ssp_id: String,
    tables_done: u64,
    tables_total: u64,
    rows_loaded: u64,
}

/// An SSP bootstraps, which counts as life.
pub(super) async fn progress(
    State(context): Shared,
    body: Result<Json<Progress>, JsonRejection>,
) -> Response {
    let progress = match body {
        Ok(Json(progress)) => progress,
        Err(rejection) => return rejection.into_response(),
    };
    let Progress { ssp_id, tables_done, tables_total, rows_loaded } = progress;
    tracing::info!(ssp_id, tables_done, tables_total, rows_loaded, "bootstrap");
    match context.registry.heard(&ssp_id, None, Sign::Alive) {
        Ok(()) => StatusCode::OK.into_response(),
        Err(turned) => turned_down(turned),
    }
}

/// Has every SSP bootstrap again.
pub(super) async fn resync_all(State(context): Shared) -> Response {
    let marked = context.registry.resync_all();
    Json(json!({ "marked_for_resync": marked })).into_response()
}
