//! `/v1/snapshot`, `/v1/feed` and `/v1/ack`: the native way of an SSP through bootstrap, replay and live.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use revenant_log::Seq;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Shared;
use super::problem::Problem;
use crate::feed::Feed;
use crate::member::Sign;
use crate::snapshot::Receiver;

/// Pages of a snapshot that are ready before the SSP takes them.
const PAGES_AHEAD: usize = 2;
/// Room for these, and for a last word.
const ITEMS: usize = PAGES_AHEAD + 1;

#[derive(Deserialize)]
pub(super) struct Position {
    ssp_id: String,
    epoch: u64,
    after: Option<Seq>,
}

/// All rows as of one seq.
pub(super) async fn snapshot(
    State(context): Shared,
    position: Result<Query<Position>, QueryRejection>,
) -> Response {
    let Position { ssp_id, epoch, .. } = match position {
        Ok(Query(position)) => position,
        Err(rejection) => return rejection.into_response(),
    };
    if let Err(turned) = context.registry.heard(&ssp_id, Some(epoch), Sign::Alive) {
        return Problem::from(turned).into_response();
    }
    let (items, outbox) = mpsc::channel(ITEMS);
    let (registry, leases) = (Arc::clone(&context.registry), Arc::clone(&context.leases));
    let receiver = Receiver { registry, ssp_id, epoch, leases, items };
    let rows = Arc::clone(&context.rows);
    let log_epoch = context.log.epoch();
    tokio::task::spawn_blocking(move || {
        let sent = rows.snapshot().and_then(|snapshot| receiver.send(snapshot, log_epoch));
        if let Err(error) = sent {
            tracing::error!(%error, ssp_id = receiver.ssp_id, "the snapshot breaks off");
        }
    });
    streamed(stream::unfold(outbox, |mut outbox| async { Some((outbox.recv().await?, outbox)) }))
}

/// The records after `after`, for ever.
pub(super) async fn feed(
    State(context): Shared,
    position: Result<Query<Position>, QueryRejection>,
) -> Response {
    let Position { ssp_id, epoch, after } = match position {
        Ok(Query(position)) => position,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(after) = after else {
        return (StatusCode::BAD_REQUEST, "Missing or invalid 'after'").into_response();
    };
    if let Err(turned) = context.registry.heard(&ssp_id, Some(epoch), Sign::Alive) {
        return Problem::from(turned).into_response();
    }
    let (first, durable) = (context.log.first_seq(), context.log.durable_seq());
    if after.next() < first {
        let detail = format!("records up to {} are trimmed: bootstrap again", first.prev());
        return Problem::new(StatusCode::CONFLICT, "trimmed", detail).into_response();
    }
    if after > durable {
        let detail = format!("the log ends at seq {durable}: bootstrap again");
        return Problem::new(StatusCode::CONFLICT, "ahead", detail).into_response();
    }
    let (log, registry) = (Arc::clone(&context.log), Arc::clone(&context.registry));
    let feed = Feed::new(log, registry, ssp_id, epoch, after, context.stop.clone());
    streamed(feed.stream())
}

fn streamed(items: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, Body::from_stream(items)).into_response()
}

#[derive(Deserialize)]
pub(super) struct Ack {
    ssp_id: String,
    epoch: u64,
    seq: Seq,
}

/// Takes an ack; 204 means that the cursor is durable.
pub(super) async fn ack(
    State(context): Shared,
    body: Result<Json<Ack>, JsonRejection>,
) -> Response {
    let Ack { ssp_id, epoch, seq } = match body {
        Ok(Json(ack)) => ack,
        Err(rejection) => return rejection.into_response(),
    };
    let durable = context.log.durable_seq();
    if seq > durable {
        let detail = format!("seq {seq} is not in the log, which ends at {durable}");
        return Problem::new(StatusCode::BAD_REQUEST, "ahead", detail).into_response();
    }
    // Only an SSP that takes views has edges to speak of.
    if let Err(turned) = context.registry.heard(&ssp_id, Some(epoch), Sign::Ready) {
        return Problem::from(turned).into_response();
    }
    match context.registry.cursors.ack(&ssp_id, epoch, seq).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => Problem::internal("keep a cursor", &error).into_response(),
    }
}
