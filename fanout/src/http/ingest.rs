//! `/ingest`: the doorbell, and where changes come in that are not in the feed.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Shared;
use crate::config::Transport;
use crate::post::Post;

/// Checks the event. Where the feed brings it, this only rings, and the answer comes at once: it is a
/// user's transaction that waits. Else 200 means that the event is on disk.
pub(super) async fn ingest(
    State(context): Shared,
    body: Result<Json<Value>, JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let post = match Post::from_json(&body) {
        Ok(post) => post,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let http = context.config.transport == Transport::Http;
    match context.tables.get(&post.table) {
        Some(table) if table.feed && !http => {
            context.doorbell.ring();
            return StatusCode::OK.into_response();
        }
        Some(_) => {}
        // The table may be as new as the transaction that waits for us, which must not fail for it.
        None if !http => {
            context.tables.look();
            context.doorbell.ring();
            return StatusCode::OK.into_response();
        }
        None => {
            context.tables.look();
            let text = format!("Unknown table: {}", post.table);
            return (StatusCode::NOT_FOUND, text).into_response();
        }
    }
    match context.claims.push(post).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "append a posted event");
            let text = format!("WAL write failed: {}", cause.unwrap_or_else(|| error.to_string()));
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}
