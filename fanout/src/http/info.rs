//! `/info` and `/info/text`: every part of the system as one list.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use revenant_log::value::Datetime;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::health::phase_word;
use crate::backend::Watched;
use crate::member::Member;
use crate::scheduler::Context;

/// What a name contains whose value is not shown.
const HIDDEN: [&str; 8] =
    ["key", "secret", "token", "password", "pass", "auth", "credential", "private"];

/// The list as JSON.
pub(super) async fn json(State(context): Shared) -> Response {
    Json(entities(&context)).into_response()
}

/// The same as text.
pub(super) async fn text(State(context): Shared) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (kind, Value::Array(entities(&context)).to_string()).into_response()
}

fn entities(context: &Context) -> Vec<Value> {
    let now = Instant::now();
    let counts = context.registry.view_counts();
    let (applied, latest) = (context.rows.applied_seq().0, context.log.durable_seq().0);
    let mut all = vec![json!({
        "entity": "scheduler",
        "id": context.config.scheduler_id,
        "ip": context.listening.ip().to_string(),
        "status": phase_word(context),
        "views": counts.values().sum::<usize>(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": now.duration_since(context.begun).as_secs(),
        "last_heartbeat_seconds_ago": null,
        "pending_events": latest.saturating_sub(applied),
        "snapshot_seq": applied,
        "latest_seq": latest,
        "lag": latest.saturating_sub(applied),
        "env": {},
    })];
    for (id, member) in context.registry.members() {
        let views = counts.get(&id).copied().unwrap_or(0);
        all.push(ssp(&id, &member, views, now));
    }
    all.extend(context.backends.all().iter().map(backend));
    all
}

fn ssp(id: &str, member: &Member, views: usize, now: Instant) -> Value {
    let status = match member.stage.word() {
        word @ ("bootstrapping" | "replaying" | "ready") => word,
        _ => "unknown",
    };
    json!({
        "entity": "ssp",
        "id": id,
        "ip": host(&member.registration.url),
        "status": status,
        "views": views,
        "version": member.registration.version,
        "uptime_seconds": now.duration_since(member.since).as_secs(),
        "last_heartbeat_seconds_ago": now.duration_since(member.heard).as_secs(),
        "env": shown(&member.registration.env),
    })
}

fn backend(one: &Watched) -> Value {
    let env = one.backend.env.iter().filter_map(|pair| pair.split_once('='));
    let env: BTreeMap<String, String> =
        env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    json!({
        "entity": "backend",
        "id": one.backend.name,
        "ip": host(&one.backend.url),
        "url": one.backend.url,
        "port": one.backend.port,
        "status": one.condition.word(),
        "healthcheck": one.backend.healthcheck,
        "last_checked": one.checked.map(moment),
        "last_healthy": one.healthy.map(moment),
        "response_time_ms": one.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        "env": shown(&env),
    })
}

fn host(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn shown(env: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    let hidden = |name: &str| {
        let name = name.to_ascii_lowercase();
        HIDDEN.iter().any(|word| name.contains(word))
    };
    let pairs = env.iter();
    pairs.map(|(name, value)| (name.as_str(), if hidden(name) { "****" } else { value })).collect()
}

fn moment(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Datetime { secs, nanos: since.subsec_nanos() }.to_string()
}
