//! `Problem`: an error answer where upstream has no shape of its own (RFC 9457, with a `code`).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::Error;
use crate::registry::Turned;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn wrong_method() -> Self {
        let detail = "this route has another method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Our own failure; the details are logged, not told.
    pub(super) fn internal(what: &'static str, error: &Error) -> Self {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, cause, "{what}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    }
}

impl From<Turned> for Problem {
    fn from(turned: Turned) -> Self {
        match turned {
            Turned::Unknown => Self::new(
                StatusCode::NOT_FOUND,
                "not_registered",
                "SSP not registered. Please re-register.",
            ),
            Turned::Fenced => {
                Self::new(StatusCode::CONFLICT, "fenced", "a later registration has this id")
            }
            Turned::Lapsed => Self::new(
                StatusCode::CONFLICT,
                "lapsed",
                "too far behind: register again and bootstrap",
            ),
            Turned::Resync => Self::new(
                StatusCode::CONFLICT,
                "resync",
                "a bootstrap was asked for: register again",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}
