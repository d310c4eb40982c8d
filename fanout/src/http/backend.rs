//! `/backends`: which services' health is watched.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Shared;
use crate::config::Backend;

/// Watches these instead.
pub(super) async fn replace(
    State(context): Shared,
    body: Result<Json<Vec<Backend>>, JsonRejection>,
) -> Response {
    match body {
        Ok(Json(backends)) => {
            context.backends.replace(backends);
            StatusCode::OK.into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}
