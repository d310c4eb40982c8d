//! `/view/register` and `/view/unregister`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::Shared;
use super::problem::{Problem, not_ready};
use crate::registration::{Registration, bare_id};
use crate::service::Context;
use crate::session::Session;
use crate::status::State as Stage;
use crate::views::Refusal;

/// How long a caller is kept waiting for the database. The work goes on after it.
const ANSWER_MOST: Duration = Duration::from_secs(20);

/// Takes in a view. 200 means that its row and its edges are stored.
pub(super) async fn register(
    State(context): Shared,
    body: Result<Json<Value>, JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let session = match ready(&context) {
        Ok(session) => session,
        Err(state) => return not_ready(state),
    };
    let registration = match Registration::from_json(&body) {
        Ok(registration) => registration,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    if registration.epoch.is_none() {
        return relay(&context, &body).await;
    }
    // On a task of its own: a caller who hangs up must not leave it half done.
    let work = tokio::spawn(async move { session.views.register(registration).await });
    answer(timeout(ANSWER_MOST, work).await)
}

/// Gives up a view. An unknown one is no error.
pub(super) async fn unregister(
    State(context): Shared,
    body: Result<Json<Value>, JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let session = match ready(&context) {
        Ok(session) => session,
        Err(state) => return not_ready(state),
    };
    let Some(id) = body.get("id").and_then(Value::as_str).and_then(bare_id) else {
        return (StatusCode::BAD_REQUEST, "Missing or invalid 'id'").into_response();
    };
    let epoch = body.get("epoch").and_then(Value::as_u64);
    let work = tokio::spawn(async move { session.views.unregister(&id, epoch).await });
    answer(timeout(ANSWER_MOST, work).await)
}

/// A registration that did not come through the scheduler is passed on to it, which remembers it
/// durably and calls back with an epoch.
async fn relay(context: &Arc<Context>, body: &Value) -> Response {
    let body = Bytes::from(body.to_string());
    match context.scheduler.relay("/view/register", body).await {
        Ok((status, _)) if status.is_success() => StatusCode::OK.into_response(),
        Ok(answer) => answer.into_response(),
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem::new(status, "scheduler_unreachable", error.to_string()).into_response()
        }
    }
}

fn ready(context: &Context) -> Result<Arc<Session>, Stage> {
    let state = context.status.state();
    match context.session() {
        Some(session) if state == Stage::Ready => Ok(session),
        _ => Err(state),
    }
}

type Worked =
    Result<Result<Result<(), Refusal>, tokio::task::JoinError>, tokio::time::error::Elapsed>;

fn answer(worked: Worked) -> Response {
    let refusal = match worked {
        Ok(Ok(Ok(()))) => return StatusCode::OK.into_response(),
        Ok(Ok(Err(refusal))) => refusal,
        Ok(Err(_)) => Refusal::Ended,
        Err(_) => Refusal::Unavailable(format!("no answer in {ANSWER_MOST:?}")),
    };
    let text = refusal.to_string();
    match refusal {
        Refusal::Invalid(message) => (StatusCode::BAD_REQUEST, message).into_response(),
        Refusal::TooLarge(_) => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "over_budget", text).into_response()
        }
        Refusal::Fenced => Problem::new(StatusCode::CONFLICT, "fenced", text).into_response(),
        Refusal::Unavailable(_) | Refusal::Refused(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Refusal::Ended => not_ready(Stage::Bootstrapping),
    }
}
