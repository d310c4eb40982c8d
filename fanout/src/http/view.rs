//! `/view/register`, `/query/register` and `/view/unregister`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::Shared;
use super::problem::Problem;
use crate::assign::same_query;
use crate::deliver::{Answer, now_text, request_of};
use crate::error::Error;
use crate::registry::Placed;
use crate::scheduler::Context;

/// How long a caller is kept waiting for the store. The work goes on after it.
const ANSWER_MOST: Duration = Duration::from_secs(30);

/// How long a view lives without its client, if the client does not say.
const DEFAULT_TTL: &str = "1h";

/// The table of registered queries.
const QUERY_TABLE: &str = "_00_query";

/// Longest query id.
const ID_MOST: usize = 256;

/// What came of a registration.
enum Outcome {
    /// An SSP has it.
    Taken(Placed),
    /// The SSP says no: its own answer.
    Refused(Answer),
    /// The SSP did not take it: why.
    Failed(String),
    /// No SSP takes views.
    Nobody,
}

/// Has an SSP keep a query's result up to date. 200 means that its edges are stored.
pub(super) async fn register(
    state: Shared,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Response {
    respond(state, body, |id, placed| {
        let view = &placed.view;
        json!({ "query_id": id, "ssp_id": view.ssp_id, "assigned_at": view.assigned_at })
    })
    .await
}

/// The same under its other name, with its other answer.
pub(super) async fn register_query(
    state: Shared,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Response {
    respond(state, body, |_, placed| json!({ "ssp_id": placed.view.ssp_id, "ssp_url": placed.url }))
        .await
}

async fn respond(
    State(context): Shared,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
    answer: impl FnOnce(&str, &Placed) -> Value,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let (given, id, body) = match normal(body) {
        Ok(request) => request,
        Err(field) => {
            let text = format!("Missing or invalid '{field}'");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    // On a task of its own: a caller who hangs up must not leave it half done.
    let work = tokio::spawn(async move { place(&context, &id, body).await });
    match timeout(ANSWER_MOST, work).await {
        Ok(Ok(Ok(Outcome::Taken(placed)))) => Json(answer(&given, &placed)).into_response(),
        Ok(Ok(Ok(Outcome::Refused(answer)))) => relayed(answer),
        Ok(Ok(Ok(Outcome::Failed(reason)))) => {
            let text = format!("Failed to send to SSP: {reason}");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Ok(Ok(Ok(Outcome::Nobody))) => {
            (StatusCode::SERVICE_UNAVAILABLE, "No SSP available").into_response()
        }
        Ok(Ok(Err(error))) => Problem::internal("place a view", &error).into_response(),
        Ok(Err(_)) | Err(_) => {
            let text = format!("Failed to send to SSP: no answer in {ANSWER_MOST:?}");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

/// The assignment is durable before the SSP hears of it.
async fn place(
    context: &Arc<Context>,
    id: &str,
    body: Map<String, Value>,
) -> Result<Outcome, Error> {
    let Some(placed) = context.registry.place(id, body).await? else {
        return Ok(Outcome::Nobody);
    };
    // Its owner has it or gets it with its bootstrap: it need not answer for the view to be kept.
    let known = placed.before.as_ref().is_some_and(|before| {
        before.epoch == placed.view.epoch && same_query(&before.body, &placed.view.body)
    });
    if known && !placed.ready {
        return Ok(Outcome::Taken(placed));
    }
    let answer = context.caller.register(&placed.url, &request_of(&placed.view)).await;
    let reason = match answer {
        Ok(answer) if answer.status.is_success() => {
            context.registry.delivered(id, placed.view.epoch).await?;
            return Ok(Outcome::Taken(placed));
        }
        Ok(answer) if answer.status.is_client_error() => {
            context.registry.take_back(id, &placed).await?;
            return Ok(Outcome::Refused(answer));
        }
        Ok(answer) => format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(reason) => reason,
    };
    tracing::warn!(view = id, ssp_id = placed.view.ssp_id, reason, "the SSP did not take a view");
    if known {
        return Ok(Outcome::Taken(placed));
    }
    context.registry.take_back(id, &placed).await?;
    give_up(context, &placed.url, id, placed.view.epoch);
    Ok(Outcome::Failed(reason))
}

/// Tells an SSP in the background to give up a view that it may have.
fn give_up(context: &Arc<Context>, url: &str, id: &str, epoch: u64) {
    let (caller, url, id) = (context.caller.clone(), url.to_owned(), id.to_owned());
    tokio::spawn(async move {
        if let Err(reason) = caller.unregister(&url, &id, epoch).await {
            tracing::warn!(view = id, reason, "the SSP was not told to give up a view");
        }
    });
}

/// Checks a request and fills in what may be left out; also returns its id as given and as it is kept.
fn normal(
    mut body: Map<String, Value>,
) -> Result<(String, String, Map<String, Value>), &'static str> {
    for (name, other) in [
        ("id", "query_id"),
        ("surql", "surreal_ql"),
        ("surql", "view_plan"),
        ("clientId", "client_id"),
        ("lastActiveAt", "last_active_at"),
    ] {
        if !body.contains_key(name)
            && let Some(value) = body.remove(other)
        {
            body.insert(name.into(), value);
        }
    }
    for field in ["id", "surql", "clientId"] {
        if body.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(field);
        }
    }
    for (field, default) in [("ttl", DEFAULT_TTL.to_owned()), ("lastActiveAt", now_text())] {
        match body.get(field) {
            None | Some(Value::Null) => drop(body.insert(field.into(), Value::String(default))),
            Some(Value::String(_)) => {}
            Some(_) => return Err(field),
        }
    }
    let given = body["id"].as_str().unwrap_or_default().to_owned();
    let id = bare_id(&given).ok_or("id")?;
    body.insert("id".into(), Value::String(id.clone()));
    // Who owns what is ours to say.
    body.remove("epoch");
    Ok((given, id, body))
}

/// The bare key of a query's id: `abc`, `_00_query:abc`, `` _00_query:`abc` `` and `_00_query:⟨abc⟩`
/// are one.
fn bare_id(id: &str) -> Option<String> {
    let key = match id.strip_prefix(QUERY_TABLE).and_then(|rest| rest.strip_prefix(':')) {
        Some(key) => [('`', '`'), ('⟨', '⟩')]
            .into_iter()
            .find_map(|(open, close)| key.strip_prefix(open)?.strip_suffix(close))
            .unwrap_or(key),
        None => id,
    };
    let plain = |c: char| c.is_alphanumeric() || "_-.:".contains(c);
    let good = !key.is_empty() && key.len() <= ID_MOST && key.chars().all(plain);
    good.then(|| key.to_owned())
}

fn relayed(answer: Answer) -> Response {
    let kind = answer.content_type.unwrap_or_else(|| "text/plain; charset=utf-8".into());
    (answer.status, [(header::CONTENT_TYPE, kind)], answer.body).into_response()
}

/// Gives up a view. An unknown one is no error, and the SSP is told in the background.
pub(super) async fn unregister(
    State(context): Shared,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(id) = body.get("id").and_then(Value::as_str).and_then(bare_id) else {
        return (StatusCode::BAD_REQUEST, "Missing or invalid 'id'").into_response();
    };
    match context.registry.remove(&id).await {
        Ok(Some((view, Some(url)))) => give_up(&context, &url, &id, view.epoch),
        Ok(_) => {}
        Err(error) => return Problem::internal("remove a view", &error).into_response(),
    }
    StatusCode::OK.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_an_id_are_one() {
        for id in ["a-b", "_00_query:`a-b`", "_00_query:⟨a-b⟩", "_00_query:a-b"] {
            assert_eq!(bare_id(id).as_deref(), Some("a-b"));
        }
        for id in ["", "_00_query:", "a b", "x'y", "_00_query:[1]"] {
            assert_eq!(bare_id(id), None, "{id}");
        }
    }
}
