//! What anyone may ask: `/health`, `/version`, `/info`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Shared;
use crate::edge::RefMode;
use crate::status::State as Stage;

/// 200 only when ready; upstream's scheduler compares the literal word.
pub(super) async fn health(State(context): Shared) -> Response {
    let state = context.status.state();
    let status = match state {
        Stage::Ready => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let writing = context.session().map(|session| session.outbox.counters().0.trouble);
    let waiting_for = match writing.flatten() {
        Some(_) => Some("database"),
        None => context.status.waiting_for(),
    };
    let mut body = json!({ "status": state.word() });
    if let Some(what) = waiting_for {
        body["waiting_for"] = json!(what);
    }
    if waiting_for.is_some() || state != Stage::Ready && context.status.last_trouble().is_some() {
        // What went wrong may name addresses; it is in the log and behind the bearer.
        body["degraded"] = json!(true);
    }
    (status, Json(body)).into_response()
}

/// Upstream's shape.
pub(super) async fn version() -> Response {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "mode": "streaming" })).into_response()
}

/// One `ssp` entity, as upstream has it.
pub(super) async fn info(State(context): Shared) -> Response {
    let config = &context.config;
    let views = context.session().map_or(0, |session| session.views.count());
    let entity = json!({
        "entity": "ssp",
        "id": config.ssp_id,
        "ip": context.listening.to_string(),
        "status": context.status.state().word(),
        "views": views,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": context.status.uptime_seconds(),
        "last_heartbeat_seconds_ago": null,
        "ref_mode": match config.ref_mode {
            RefMode::Dedicated => "dedicated",
            RefMode::Single => "single",
        },
        "env": {},
    });
    Json(json!([entity])).into_response()
}
