//! The HTTP API: one file per route family. Handlers check and translate; what they do is elsewhere.

mod auth;
mod backend;
mod feed;
mod health;
mod info;
mod ingest;
mod listen;
mod metrics;
mod problem;
mod proxy;
mod ssp;
mod state;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post, put};
use tokio::net::TcpListener;

use self::problem::Problem;
use crate::scheduler::Context;

/// What handlers get.
type Shared = axum::extract::State<Arc<Context>>;

/// Answers requests until the stop, and finishes those that are under way then.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let stop = context.stop.clone();
    listen::serve(listener, router(context), stop).await;
}

fn router(context: Arc<Context>) -> Router {
    let open = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/health/ready", get(health::ready));
    let guarded = Router::new()
        .route("/health/snapshot", get(health::snapshot))
        .route("/ingest", post(ingest::ingest))
        .route("/ssp/register", post(ssp::register))
        .route("/ssp/heartbeat", post(ssp::heartbeat))
        .route("/ssp/bootstrap-progress", post(ssp::progress))
        .route("/admin/ssp/resync-all", post(ssp::resync_all))
        .route("/admin/reconcile", post(state::reconcile))
        .route("/admin/log/release-ballast", post(state::release_ballast))
        .route("/view/register", post(view::register))
        .route("/query/register", post(view::register_query))
        .route("/view/unregister", post(view::unregister))
        .route("/v1/snapshot", get(feed::snapshot))
        .route("/v1/feed", get(feed::feed))
        .route("/v1/ack", post(feed::ack))
        .route("/v1/state", get(state::state))
        .route("/proxy/query", post(proxy::query))
        .route("/proxy/signin", post(proxy::nothing))
        .route("/proxy/use", post(proxy::nothing))
        .route("/metrics", get(metrics::metrics))
        .route("/metrics/prometheus", get(metrics::prometheus))
        .route("/info", get(info::json))
        .route("/info/text", get(info::text))
        .route("/backends", put(backend::replace))
        .layer(middleware::from_fn_with_state(context.clone(), auth::bearer));
    open.merge(guarded)
        .fallback(async || Problem::not_found("there is no such route"))
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(DefaultBodyLimit::max(context.config.max_body_bytes))
        .with_state(context)
}
