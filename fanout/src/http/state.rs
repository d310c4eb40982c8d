//! `/v1/state`, `/admin/reconcile` and `/admin/log/release-ballast`: what an operator or a checker wants to know, to
//! have compared, and to be let go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use revenant_replica::TableReport;
use serde_json::{Value, json};

use super::Shared;
use super::health::{phase_word, troubles};
use super::problem::Problem;
use crate::error::Error;
use crate::rows::Rows;
use crate::scheduler::Context;
use crate::tables::Work;

/// Everything about the scheduler. Reads the rows of the tables that changed since hashes were last asked for.
pub(super) async fn state(State(context): Shared) -> Response {
    let rows = Arc::clone(&context.rows);
    let replica = match tokio::task::spawn_blocking(move || replica(&rows)).await {
        Ok(Ok(replica)) => replica,
        Ok(Err(error)) => json!({ "error": error.to_string() }),
        Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    let stats = context.log.stats();
    Json(json!({
        "scheduler_id": context.config.scheduler_id,
        "state": phase_word(&context),
        "trouble": troubles(&context),
        "log": {
            "id": context.log.id().to_string(),
            "epoch": context.log.epoch(),
            "state": stats.state,
            "first_seq": stats.first_seq,
            "durable_seq": stats.durable_seq,
            "segments": stats.segments,
            "sealed": stats.sealed,
            "bytes": stats.bytes,
            "appends": stats.appends,
            "groups": stats.groups,
            "spare_ready": stats.spare_ready,
            "ballast_bytes": stats.ballast_bytes,
            "scrub": stats.scrub,
            "archived": stats.archived,
            "recovery": stats.recovery,
        },
        "replica": replica,
        "leases": leases(&context),
        "capture": capture(&context),
        "tables": tables(&context),
        "cursors": cursors(&context),
        "views": views(&context),
    }))
    .into_response()
}

fn replica(rows: &Rows) -> Result<Value, Error> {
    let checkpoint_seq = rows.checkpoint_seq();
    let (applied_seq, reports) = rows.table_reports()?;
    let mut tables = BTreeMap::new();
    for TableReport { name, rows, signature, hash } in reports {
        tables.insert(name, json!({ "rows": rows, "signature": signature, "hash": hash }));
    }
    Ok(json!({
        "applied_seq": applied_seq,
        "checkpoint_seq": checkpoint_seq,
        "tables": tables,
    }))
}

/// The snapshots that are being sent.
fn leases(context: &Context) -> Vec<Value> {
    let now = Instant::now();
    let held = context.leases.held().into_iter();
    held.map(|lease| {
        let left_s = lease.deadline.saturating_duration_since(now).as_secs();
        json!({ "id": lease.id, "seq": lease.seq, "ends_in_s": left_s })
    })
    .collect()
}

fn capture(context: &Context) -> Value {
    let health = context.capture.borrow().clone();
    let position = context.journal.position();
    let drift = *context.drift.borrow();
    json!({
        "high": position.high,
        "newest_us": position.newest_us,
        "caught_up": health.caught_up,
        "trouble": health.trouble,
        "lag": context.log.durable_seq().0.saturating_sub(context.rows.applied_seq().0),
        "transactions": position.figures.transactions,
        "duplicates": position.figures.repeated,
        "late": position.figures.late,
        "stale": position.figures.stale,
        "passes": health.passes,
        "sweeps": health.sweeps,
        "gaps": health.gaps,
        "loaded": *context.loaded.borrow(),
        "compared": drift.rows,
        "drift": drift.repaired,
    })
}

fn tables(context: &Context) -> BTreeMap<String, Value> {
    let state_of = |work: &Work| match work {
        Work::Load { .. } => "loading",
        Work::Compare => "comparing",
        Work::Nothing => "captured",
    };
    let tables = context.tables.all().into_iter();
    tables
        .map(|(name, table)| {
            let state = state_of(&table.work);
            (name, json!({ "feed": table.feed, "fix": table.fix, "state": state }))
        })
        .collect()
}

fn cursors(context: &Context) -> Vec<Value> {
    let members = context.registry.members().into_iter();
    members
        .map(|(ssp_id, member)| {
            let cursor = context.registry.cursors.get(&ssp_id);
            json!({
                "ssp_id": ssp_id,
                "acked_seq": cursor.map(|cursor| cursor.acked_seq),
                "applied_seq": member.applied_seq,
                "state": member.stage.word(),
                "epoch": member.registration.epoch,
                "url": member.registration.url,
            })
        })
        .collect()
}

fn views(context: &Context) -> Vec<Value> {
    let views = context.registry.views().into_iter();
    views
        .map(|(id, view)| {
            json!({ "id": id, "ssp_id": view.ssp_id, "epoch": view.epoch, "taken": view.taken })
        })
        .collect()
}

/// Has the rows of all tables compared with the database's.
pub(super) async fn reconcile(State(context): Shared) -> Response {
    match context.tables.compare_all().await {
        Ok(()) => {
            let tables: Vec<String> = context.tables.all().into_keys().collect();
            (StatusCode::ACCEPTED, Json(json!({ "tables": tables }))).into_response()
        }
        Err(error) => Problem::internal("have rows compared", &error).into_response(),
    }
}

/// Lets go of the space that the log holds back for a full disk; it is held again when there is plenty.
pub(super) async fn release_ballast(State(context): Shared) -> Response {
    let log = Arc::clone(&context.log);
    match tokio::task::spawn_blocking(move || log.release_ballast()).await {
        Ok(Ok(bytes)) => Json(json!({ "released_bytes": bytes })).into_response(),
        Ok(Err(error)) => Problem::internal("let go of the ballast", &error.into()).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
