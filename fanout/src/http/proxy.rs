//! `/proxy/*`: what SSPs ask that load their rows by statements.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Shared;
use super::problem::Problem;

#[derive(Deserialize)]
pub(super) struct Statement {
    query: String,
}

/// Answers a statement from the replica.
pub(super) async fn query(
    State(context): Shared,
    body: Result<Json<Statement>, JsonRejection>,
) -> Response {
    let Statement { query } = match body {
        Ok(Json(statement)) => statement,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(queries) = context.queries.clone() else {
        let detail = "this scheduler answers no statements; use /v1/snapshot";
        return Problem::new(StatusCode::NOT_IMPLEMENTED, "no_queries", detail).into_response();
    };
    let rows = Arc::clone(&context.rows);
    let answer = tokio::task::spawn_blocking(move || {
        let snapshot = rows.snapshot().map_err(|error| (500, error.to_string()))?;
        queries.query(&query, &snapshot).map_err(|reason| (400, reason))
    });
    match answer.await {
        Ok(Ok(json)) => Json(json).into_response(),
        Ok(Err((400, reason))) => {
            (StatusCode::BAD_REQUEST, format!("Query failed: {reason}")).into_response()
        }
        Ok(Err((_, reason))) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("Query failed: {reason}")).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Query failed").into_response(),
    }
}

/// Signing in and choosing a database are no-ops here.
pub(super) async fn nothing() -> StatusCode {
    StatusCode::OK
}
