//! `/ingest`: schemas made for a single node ring here. The change itself comes through the scheduler's
//! log, so the ring is passed on to it.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::problem::Problem;

/// Passes the body on to the scheduler and its answer back.
pub(super) async fn ingest(State(context): Shared, body: Bytes) -> Response {
    match context.scheduler.relay("/ingest", body).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "scheduler_unreachable", error.to_string()).into_response()
        }
    }
}
