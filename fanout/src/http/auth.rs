//! The bearer: who may call what is not public.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::Shared;

/// Lets a request through that carries the secret. The answer to others is upstream's: 401, empty.
///
/// Without a secret every request is let through; the configuration sees to it that then only this
/// machine can call, or that someone asked for it.
pub(super) async fn bearer(State(context): Shared, request: Request, next: Next) -> Response {
    let Some(secret) = &context.config.secret else { return next.run(request).await };
    if context.config.open_ssp && request.uri().path().starts_with("/ssp/") {
        return next.run(request).await;
    }
    let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
    if bool::from(given.ct_eq(secret.reveal().as_bytes())) {
        return next.run(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}
