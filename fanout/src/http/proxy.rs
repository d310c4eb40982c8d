//! `/proxy/*`: what SSPs ask that load their rows by statements.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use revenant_replica::proxy::{self, ProxyError};
use serde::Deserialize;

use super::Shared;

#[derive(Deserialize)]
pub(super) struct Statement {
    query: String,
}

/// Answers a statement from the replica: the closed set that SSPs send here, anything else by whoever
/// evaluates queries, if there is one.
pub(super) async fn query(
    State(context): Shared,
    body: Result<Json<Statement>, JsonRejection>,
) -> Response {
    let Statement { query } = match body {
        Ok(Json(statement)) => statement,
        Err(rejection) => return rejection.into_response(),
    };
    let (rows, queries) = (Arc::clone(&context.rows), context.queries.clone());
    let answer = tokio::task::spawn_blocking(move || {
        let failed = |error: &dyn std::fmt::Display| (500, error.to_string());
        let snapshot = rows.snapshot().map_err(|error| failed(&error))?;
        match (proxy::answer(&query, &snapshot), queries) {
            (Ok(json), _) => Ok(json),
            (Err(ProxyError::Unsupported { .. }), Some(queries)) => {
                queries.query(&query, &snapshot).map_err(|reason| (400, reason))
            }
            (Err(error @ ProxyError::Unsupported { .. }), None) => Err((400, error.to_string())),
            (Err(error), _) => Err(failed(&error)),
        }
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
