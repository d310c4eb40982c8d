//! `FakeScheduler`: a log in memory, served as the real one serves it, with faults on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use revenant_log::wire::{SnapshotItem, SnapshotRow, WireBatch};
use revenant_log::{Event, Key, LogId, Op, Record, RecordId, Seq, SourcePos, Value, encode_record};
use serde::Deserialize;
use serde_json::{Value as Body_, json};
use tokio::net::TcpListener;

pub(crate) const LOG: LogId = LogId([0x5a; 16]);

/// What the scheduler knows and how it misbehaves.
pub(crate) struct Inner {
    pub(crate) log_id: LogId,
    pub(crate) records: Vec<Record>,
    pub(crate) snapshot_seq: u64,
    pub(crate) epoch: u64,
    /// What the next registration is assigned.
    pub(crate) views: Vec<Body_>,
    pub(crate) acks: Vec<u64>,
    pub(crate) heartbeats: Vec<Body_>,
    pub(crate) registrations: u32,
    pub(crate) feeds: Vec<u64>,
    pub(crate) relayed: Vec<(String, Body_)>,
    /// Records per batch.
    pub(crate) batch: usize,
    /// Feeds are cut after so many batches.
    pub(crate) cut_after: Option<u32>,
    /// Feeds begin so many records too early.
    pub(crate) repeat: u64,
    /// The next feed leaves out one record.
    pub(crate) gap: bool,
    /// The next snapshot breaks off before its end.
    pub(crate) cut_snapshot: bool,
    /// Acks are not taken.
    pub(crate) deaf: bool,
    /// Nothing is answered but 503.
    pub(crate) cloning: bool,
}

#[derive(Clone)]
pub(crate) struct FakeScheduler {
    inner: Arc<Mutex<Inner>>,
    pub(crate) addr: SocketAddr,
}

impl FakeScheduler {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Inner {
            log_id: LOG,
            records: Vec::new(),
            snapshot_seq: 0,
            epoch: 0,
            views: Vec::new(),
            acks: Vec::new(),
            heartbeats: Vec::new(),
            registrations: 0,
            feeds: Vec::new(),
            relayed: Vec::new(),
            batch: 3,
            cut_after: None,
            repeat: 0,
            gap: false,
            cut_snapshot: false,
            deaf: false,
            cloning: false,
        };
        let this =
            Self { inner: Arc::new(Mutex::new(inner)), addr: listener.local_addr().unwrap() };
        let router = Router::new()
            .route("/ssp/register", post(register))
            .route("/ssp/heartbeat", post(heartbeat))
            .route("/ssp/bootstrap-progress", post(async || StatusCode::OK))
            .route("/v1/snapshot", get(snapshot))
            .route("/v1/feed", get(feed))
            .route("/v1/ack", post(ack))
            .route("/view/register", post(relayed_register))
            .route("/view/unregister", post(relayed_unregister))
            .route("/ingest", post(relayed_ingest))
            .with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Appends a transaction and returns the seq of its last record.
    pub(crate) fn append(&self, events: Vec<Event>) -> u64 {
        let mut inner = self.inner();
        let last = events.len() - 1;
        for (place, event) in events.into_iter().enumerate() {
            let seq = Seq(inner.records.len() as u64 + 1);
            let ends_transaction = place == last;
            inner.records.push(Record { seq, time_us: 0, ends_transaction, feed_high: 0, event });
        }
        inner.records.len() as u64
    }

    /// Appends a transaction that sets row `key` of `t` to `n`, at `version`.
    pub(crate) fn set(&self, key: &str, n: i64, version: u64) -> u64 {
        self.append(vec![row(key, n, version)])
    }

    /// What the chain over the records after `from` should be.
    pub(crate) fn chain(&self, from: u64) -> String {
        let inner = self.inner();
        let mut chain = blake3::Hasher::new();
        chain.update(&inner.log_id.0).update(&from.to_le_bytes());
        let mut chain = chain.finalize();
        for record in inner.records.iter().filter(|record| record.seq.0 > from) {
            let mut next = blake3::Hasher::new();
            next.update(chain.as_bytes()).update(&record.seq.0.to_le_bytes());
            chain = next.update(&encoded(record)).finalize();
        }
        chain.to_hex().to_string()
    }
}

/// Row `key` of `t` becomes `{ n }` at `version`.
pub(crate) fn row(key: &str, n: i64, version: u64) -> Event {
    let body = [("n".to_owned(), Value::Int(n))].into_iter().collect();
    event(Op::Update, key, Some(version), Some(Value::Object(body)))
}

/// Row `key` of `t` with the field `n`, and `o` that links to another row.
pub(crate) fn linked(key: &str, n: i64, version: u64) -> Event {
    let link = Value::RecordId(Box::new(RecordId::new("t", key)));
    let body = [("n".to_owned(), Value::Int(n)), ("o".to_owned(), link)].into_iter().collect();
    event(Op::Update, key, Some(version), Some(Value::Object(body)))
}

/// Row `key` of `t` is deleted.
pub(crate) fn gone(key: &str) -> Event {
    event(Op::Delete, key, None, None)
}

fn event(op: Op, key: &str, version: Option<u64>, body: Option<Value>) -> Event {
    Event {
        op,
        table: "t".into(),
        key: Key::String(key.into()),
        version,
        body,
        before: None,
        source: SourcePos::UNKNOWN,
        stale: false,
    }
}

fn encoded(record: &Record) -> Bytes {
    let mut bytes = Vec::new();
    encode_record(record, &mut bytes);
    bytes.into()
}

fn frame(item: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(item.len() + 4);
    frame.put_u32_le(u32::try_from(item.len()).unwrap());
    frame.put_slice(item);
    frame.freeze()
}

type Fake = State<FakeScheduler>;

async fn register(State(fake): Fake) -> Response {
    let mut inner = fake.inner();
    if inner.cloning {
        let text = "Scheduler is still cloning database";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    inner.epoch += 1;
    inner.registrations += 1;
    let native = json!({
        "log_id": inner.log_id.to_string(), "epoch": inner.epoch, "ack_seq": 0, "views": inner.views,
    });
    let body = json!({ "snapshot_seq": inner.snapshot_seq, "native": native });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

async fn heartbeat(State(fake): Fake, Json(body): Json<Body_>) -> StatusCode {
    let mut inner = fake.inner();
    let current = body["epoch"] == inner.epoch;
    inner.heartbeats.push(body);
    if current { StatusCode::OK } else { StatusCode::CONFLICT }
}

async fn ack(State(fake): Fake, Json(body): Json<Body_>) -> StatusCode {
    let mut inner = fake.inner();
    if body["epoch"] != inner.epoch {
        return StatusCode::CONFLICT;
    }
    if inner.deaf {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let seq = body["seq"].as_u64().unwrap();
    assert!(inner.acks.last().is_none_or(|last| *last <= seq), "acks never move back");
    inner.acks.push(seq);
    StatusCode::NO_CONTENT
}

async fn relayed_register(State(fake): Fake, Json(body): Json<Body_>) -> Response {
    fake.inner().relayed.push(("/view/register".into(), body));
    Json(json!({ "query_id": "q", "ssp_id": "ssp-1", "assigned_at": 0 })).into_response()
}

async fn relayed_unregister(State(fake): Fake, Json(body): Json<Body_>) {
    fake.inner().relayed.push(("/view/unregister".into(), body));
}

async fn relayed_ingest(State(fake): Fake, Json(body): Json<Body_>) {
    fake.inner().relayed.push(("/ingest".into(), body));
}

#[derive(Deserialize)]
struct Position {
    epoch: u64,
    after: Option<u64>,
}

async fn snapshot(State(fake): Fake, Query(position): Query<Position>) -> Response {
    let mut inner = fake.inner();
    if position.epoch != inner.epoch {
        return StatusCode::CONFLICT.into_response();
    }
    let mut rows: BTreeMap<Key, SnapshotRow> = BTreeMap::new();
    for record in inner.records.iter().filter(|record| record.seq.0 <= inner.snapshot_seq) {
        let Event { key, version, body, .. } = record.event.clone();
        match body {
            Some(body) => drop(rows.insert(key.clone(), SnapshotRow { key, version, body })),
            None => drop(rows.remove(&key)),
        }
    }
    let count = rows.len() as u64;
    let begin = SnapshotItem::Begin {
        log_id: inner.log_id,
        epoch: 1,
        seq: Seq(inner.snapshot_seq),
        tables: vec![("t".into(), count)],
    };
    let mut items = vec![begin];
    items.push(SnapshotItem::Rows { table: "t".into(), rows: rows.into_values().collect() });
    if !std::mem::take(&mut inner.cut_snapshot) {
        items.push(SnapshotItem::End { rows: count });
    }
    let frames: Vec<_> = items.iter().map(|item| Ok::<_, String>(frame(&item.encode()))).collect();
    Body::from_stream(stream::iter(frames)).into_response()
}

async fn feed(State(fake): Fake, Query(position): Query<Position>) -> Response {
    let mut inner = fake.inner();
    if position.epoch != inner.epoch {
        return StatusCode::CONFLICT.into_response();
    }
    let after = position.after.unwrap();
    inner.feeds.push(after);
    let (left, from) = (inner.cut_after, after.saturating_sub(inner.repeat));
    drop(inner);
    let batches = stream::unfold((fake, from, left), move |(fake, from, left)| async move {
        if fake.inner().epoch != position.epoch || left == Some(0) {
            return None;
        }
        if let Some((batch, last)) = next_batch(&fake, from) {
            let left = left.map(|left| left - 1);
            return Some((Ok::<_, String>(frame(&batch.encode())), (fake, last, left)));
        }
        // The real scheduler sends a heartbeat a second.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let batch = batch_of(&fake.inner(), from, Vec::new());
        Some((Ok(frame(&batch.encode())), (fake, from, left)))
    });
    Body::from_stream(batches).into_response()
}

fn next_batch(fake: &FakeScheduler, from: u64) -> Option<(WireBatch, u64)> {
    let mut inner = fake.inner();
    let skip = u64::from(inner.records.len() as u64 > from + 1 && std::mem::take(&mut inner.gap));
    let first = usize::try_from(from + skip).unwrap();
    let records: Vec<Bytes> =
        inner.records.get(first..)?.iter().take(inner.batch).map(encoded).collect();
    if records.is_empty() {
        return None;
    }
    let batch = batch_of(&inner, from + skip, records);
    let last = batch.last_seq().0;
    Some((batch, last))
}

fn batch_of(inner: &Inner, prev: u64, records: Vec<Bytes>) -> WireBatch {
    let (prev_seq, first_seq) = (Seq(prev), Seq(prev + 1));
    WireBatch { log_id: inner.log_id, epoch: 1, prev_seq, first_seq, records }
}
