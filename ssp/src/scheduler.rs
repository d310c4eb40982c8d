//! `Scheduler`: the calls this service makes to the scheduler, typed. Retrying is the callers' part.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response, StatusCode, redirect};
use revenant_log::wire::{MAX_ITEM_BYTES, SnapshotItem, WireBatch};
use revenant_log::{LogId, Seq};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tokio_util::codec::LengthDelimitedCodec;
use tokio_util::io::StreamReader;

use crate::config::Secret;
use crate::error::Error;

/// How long a call without a stream may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stream may be silent; the feed has a heartbeat every second.
const SILENCE_MOST: Duration = Duration::from_secs(10);

/// Longest part of a scheduler's error text that is repeated.
const REASON_MOST: usize = 500;

/// A client of one scheduler.
#[derive(Clone)]
pub(crate) struct Scheduler {
    client: Client,
    base: String,
    secret: Option<Secret>,
    ssp_id: String,
}

/// The answer to a registration.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Registered {
    /// The seq that a snapshot covers.
    pub(crate) snapshot_seq: u64,
    /// Hashes of the snapshot's tables, where the scheduler has them.
    #[serde(default)]
    pub(crate) table_hashes: BTreeMap<String, String>,
    native: Option<NativeText>,
}

#[derive(Clone, Debug, Deserialize)]
struct NativeText {
    log_id: String,
    epoch: u64,
    #[serde(default)]
    views: Vec<Json>,
}

/// What the native protocol adds to it.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    /// The log that seqs number.
    pub(crate) log_id: LogId,
    /// The registration's epoch.
    pub(crate) epoch: u64,
    /// The views this SSP owns, each in the shape of a registration.
    pub(crate) views: Vec<Json>,
}

/// What a heartbeat says.
#[derive(Debug, Serialize)]
pub(crate) struct Heartbeat {
    pub(crate) ssp_id: String,
    pub(crate) timestamp: u64,
    pub(crate) views: usize,
    pub(crate) cpu_usage: Option<f64>,
    pub(crate) memory_usage: Option<f64>,
    pub(crate) version: &'static str,
    pub(crate) epoch: u64,
    pub(crate) applied_seq: Seq,
    pub(crate) state: &'static str,
}

impl Scheduler {
    pub(crate) fn new(base: &str, secret: Option<Secret>, ssp_id: &str) -> Result<Self, Error> {
        let client = Client::builder()
            .connect_timeout(CALL_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Error::Scheduler {
                url: base.to_owned(),
                reason: format!("cannot be called: {error}"),
            })?;
        Ok(Self { client, base: base.to_owned(), secret, ssp_id: ssp_id.to_owned() })
    }

    /// Announces this SSP at `url`.
    pub(crate) async fn register(&self, url: &str) -> Result<(Registered, Native), Error> {
        let body = json!({
            "ssp_id": self.ssp_id,
            "url": url,
            "version": env!("CARGO_PKG_VERSION"),
            "native": true,
        });
        let answer = self.call(self.post("/ssp/register").json(&body), 0).await?;
        let mut registered: Registered = answer
            .json()
            .await
            .map_err(|error| self.wrong(format!("answers a registration oddly: {error}")))?;
        let Some(native) = registered.native.take() else {
            return Err(self.wrong("has no native feed; this SSP needs a Revenant scheduler"));
        };
        let log_id = LogId::parse(&native.log_id)
            .ok_or_else(|| self.wrong(format!("names an odd log id {:?}", native.log_id)))?;
        Ok((registered, Native { log_id, epoch: native.epoch, views: native.views }))
    }

    /// Says that this SSP is alive.
    pub(crate) async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), Error> {
        let request = self.post("/ssp/heartbeat").json(heartbeat);
        self.call(request, heartbeat.epoch).await.map(drop)
    }

    /// Acks `seq`.
    pub(crate) async fn ack(&self, epoch: u64, seq: Seq) -> Result<(), Error> {
        let body = json!({ "ssp_id": self.ssp_id, "epoch": epoch, "seq": seq });
        self.call(self.post("/v1/ack").json(&body), epoch).await.map(drop)
    }

    /// Says how far a bootstrap is.
    pub(crate) async fn progress(
        &self,
        tables_done: usize,
        tables_total: usize,
        rows_loaded: u64,
    ) -> Result<(), Error> {
        let body = json!({
            "ssp_id": self.ssp_id,
            "tables_done": tables_done,
            "tables_total": tables_total,
            "rows_loaded": rows_loaded,
        });
        self.call(self.post("/ssp/bootstrap-progress").json(&body), 0).await.map(drop)
    }

    /// Says that a view is gone for good.
    pub(crate) async fn forget_view(&self, view: &str) -> Result<(), Error> {
        let body = json!({ "id": format!("_00_query:{view}") });
        self.call(self.post("/view/unregister").json(&body), 0).await.map(drop)
    }

    /// Passes a JSON body on and its answer, whatever it is, back.
    pub(crate) async fn relay(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let request = self.post(path).header(CONTENT_TYPE, "application/json").body(body);
        let answer = request.send().await.map_err(|error| self.unreachable(text_of(&error)))?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(|error| self.unreachable(text_of(&error)))?;
        Ok((status, body))
    }

    /// Opens the stream of a snapshot's rows.
    pub(crate) async fn snapshot(
        &self,
        epoch: u64,
    ) -> Result<impl Stream<Item = Result<SnapshotItem, Error>> + Unpin + use<>, Error> {
        let query = [("ssp_id", self.ssp_id.clone()), ("epoch", epoch.to_string())];
        let frames = self.stream("/v1/snapshot", &query, epoch).await?;
        let this = self.clone();
        Ok(frames.map(move |frame| {
            SnapshotItem::decode(&frame?.freeze())
                .map_err(|error| this.unreachable(format!("a snapshot item is damaged: {error}")))
        }))
    }

    /// Opens the feed of the records after `after`.
    pub(crate) async fn feed(
        &self,
        epoch: u64,
        after: Seq,
    ) -> Result<impl Stream<Item = Result<(WireBatch, usize), Error>> + Unpin + use<>, Error> {
        let query = [
            ("ssp_id", self.ssp_id.clone()),
            ("epoch", epoch.to_string()),
            ("after", after.to_string()),
        ];
        let frames = self.stream("/v1/feed", &query, epoch).await?;
        let this = self.clone();
        Ok(frames.map(move |frame| {
            let frame = frame?.freeze();
            let bytes = frame.len();
            let batch = WireBatch::decode(&frame)
                .map_err(|error| this.unreachable(format!("a batch is damaged: {error}")))?;
            Ok((batch, bytes))
        }))
    }

    async fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
        epoch: u64,
    ) -> Result<impl Stream<Item = Result<BytesMut, Error>> + Unpin + use<>, Error> {
        let request = self.authorised(self.client.get(format!("{}{path}", self.base)).query(query));
        let answer = tokio::time::timeout(CALL_TIMEOUT, request.send())
            .await
            .map_err(|_| self.unreachable("no answer".into()))?
            .map_err(|error| self.unreachable(text_of(&error)))?;
        let answer = self.accepted(answer, epoch).await?;
        let bytes = answer.bytes_stream().map(|part| part.map_err(std::io::Error::other));
        let frames = LengthDelimitedCodec::builder()
            .little_endian()
            .max_frame_length(MAX_ITEM_BYTES)
            .new_read(StreamReader::new(bytes));
        let frames = unbroken(frames);
        let this = self.clone();
        Ok(frames.map(move |frame| frame.map_err(|reason| this.unreachable(reason))).boxed())
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.authorised(self.client.post(format!("{}{path}", self.base))).timeout(CALL_TIMEOUT)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.secret {
            Some(secret) => request.bearer_auth(secret.reveal()),
            None => request,
        }
    }

    async fn call(&self, request: RequestBuilder, epoch: u64) -> Result<Response, Error> {
        let answer = request.send().await.map_err(|error| self.unreachable(text_of(&error)))?;
        self.accepted(answer, epoch).await
    }

    /// Sorts an answer by what is to be done about it.
    async fn accepted(&self, answer: Response, epoch: u64) -> Result<Response, Error> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let mut text = answer.text().await.unwrap_or_default();
        text.truncate(text.floor_char_boundary(REASON_MOST));
        let reason = format!("it answers {status} {text}");
        Err(match status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Error::Fenced { epoch, reason },
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                self.unreachable(reason)
            }
            _ => self.wrong(format!("refuses: {reason}")),
        })
    }

    fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Scheduler { url: self.base.clone(), reason: reason.into() }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::Unreachable { url: self.base.clone(), reason }
    }
}

/// The frames of a stream; silence and a broken stream end it with the reason.
fn unbroken<S>(frames: S) -> impl Stream<Item = Result<BytesMut, String>>
where
    S: Stream<Item = std::io::Result<BytesMut>> + Unpin,
{
    futures_util::stream::unfold(Some(frames), |frames| async {
        let mut frames = frames?;
        match tokio::time::timeout(SILENCE_MOST, frames.next()).await {
            Err(_) => Some((Err(format!("nothing came for {SILENCE_MOST:?}")), None)),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some((Err(format!("the stream broke: {error}")), None)),
            Ok(Some(Ok(frame))) => Some((Ok(frame), Some(frames))),
        }
    })
}

/// An error of the HTTP client with its causes, without the URL that the caller names anyway.
fn text_of(error: &reqwest::Error) -> String {
    let mut text = String::from("the request failed");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
