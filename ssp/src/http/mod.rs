//! The HTTP API: one file per route family. Handlers check and translate; what they do is elsewhere.

mod auth;
mod explain;
mod health;
mod ingest;
mod listen;
mod metrics;
mod problem;
mod state;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use self::problem::Problem;
use crate::service::Context;

/// What handlers get.
type Shared = axum::extract::State<Arc<Context>>;

/// Answers requests until the stop, and finishes those that are under way then.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let shutdown = context.shutdown.clone();
    listen::serve(listener, router(context), shutdown).await;
}

fn router(context: Arc<Context>) -> Router {
    let open = Router::new()
        .route("/health", get(health::health))
        .route("/version", get(health::version))
        .route("/info", get(health::info));
    let guarded = Router::new()
        .route("/view/register", post(view::register))
        .route("/view/unregister", post(view::unregister))
        .route("/ingest", post(ingest::ingest))
        .route("/v1/state", get(state::state))
        .route("/v1/views/{id}", get(state::view))
        .route("/v1/views/{id}/explain", get(explain::explain))
        .route("/v1/views/{id}/why/{record}", get(explain::why))
        .route("/metrics", get(metrics::metrics))
        .layer(middleware::from_fn_with_state(context.clone(), auth::bearer));
    open.merge(guarded)
        .fallback(async || Problem::not_found("there is no such route"))
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(DefaultBodyLimit::max(context.config.max_body_bytes))
        .with_state(context)
}
