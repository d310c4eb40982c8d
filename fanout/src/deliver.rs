//! The calls from the scheduler to SSPs: views are registered and given up there, and SSPs are asked how
//! they are. A view that changed its owner is delivered until it is taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::{Client, StatusCode, redirect};
use revenant_log::value::Datetime;
use serde_json::{Map, Value as Json, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::assign::View;
use crate::config::Secret;
use crate::error::Error;
use crate::member::{Sign, Stage};
use crate::registry::{Registry, unix_seconds};

/// How long an SSP may take to take in a view. It answers within 20 s itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// How long an SSP may take to say how it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait before views that were not taken are offered again.
const RETRY: Duration = Duration::from_millis(500);

/// Calls at the same time.
const CALLS: usize = 8;

/// Largest answer of an SSP that is relayed.
const ANSWER_MOST: usize = 64 << 10;

/// What an SSP answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Calls SSPs.
#[derive(Clone)]
pub struct Caller {
    client: Client,
    secret: Option<Secret>,
}

impl Caller {
    /// A caller that shows `secret`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(secret: Option<Secret>) -> Result<Self, Error> {
        let client = Client::builder()
            .connect_timeout(PROBE_TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| {
                tracing::error!(%error, "make an HTTP client");
                Error::Ended("the HTTP client")
            })?;
        Ok(Self { client, secret })
    }

    /// Registers a view with the SSP at `url`.
    ///
    /// # Errors
    /// Why no answer came.
    pub async fn register(&self, url: &str, body: &Json) -> Result<Answer, String> {
        self.post(&format!("{url}/view/register"), body).await
    }

    /// Has the SSP at `url` give up epoch `epoch` of view `id`.
    ///
    /// # Errors
    /// Why no answer came.
    pub async fn unregister(&self, url: &str, id: &str, epoch: u64) -> Result<Answer, String> {
        self.post(&format!("{url}/view/unregister"), &json!({ "id": id, "epoch": epoch })).await
    }

    /// Whether the SSP at `url` says that it is ready.
    pub async fn is_ready(&self, url: &str) -> bool {
        let request = self.client.get(format!("{url}/health")).timeout(PROBE_TIMEOUT);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => {
                let health: Result<Json, _> = answer.json().await;
                health.is_ok_and(|health| health["status"] == "ready")
            }
            _ => false,
        }
    }

    async fn post(&self, url: &str, body: &Json) -> Result<Answer, String> {
        let mut request = self.client.post(url).timeout(CALL_TIMEOUT).json(body);
        if let Some(secret) = &self.secret {
            request = request.bearer_auth(secret.reveal());
        }
        let mut answer = request.send().await.map_err(|error| text_of(&error))?;
        let status = answer.status();
        let content_type = answer.headers().get(reqwest::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| text_of(&error))? {
            body.extend_from_slice(&part[..part.len().min(ANSWER_MOST - body.len())]);
        }
        Ok(Answer { status, content_type, body: body.into() })
    }
}

/// An error of the HTTP client with its causes.
fn text_of(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A view as an SSP is asked to take it.
#[must_use]
pub fn request_of(view: &View) -> Json {
    let mut body: Map<String, Json> = view.body.clone();
    body.insert("epoch".into(), json!(view.epoch));
    Json::Object(body)
}

/// A view as an SSP is asked to take it over. Whether its client is alive is known to the database only,
/// so it counts as active now; a dead client's view then expires one `ttl` later.
#[must_use]
pub fn takeover_of(view: &View) -> Json {
    let mut body = request_of(view);
    body["lastActiveAt"] = json!(now_text());
    body
}

/// This moment as SurrealDB writes it.
pub(crate) fn now_text() -> String {
    let secs = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
    Datetime { secs, nanos: 0 }.to_string()
}

/// Keeps views with SSPs that are alive, and asks those that are not ready how they are.
pub struct Delivery {
    /// Who owns what.
    pub registry: Arc<Registry>,
    /// Calls them.
    pub caller: Caller,
    /// After how long an SSP counts as stale.
    pub heartbeat_timeout: Duration,
    /// Between two looks at SSPs that are not ready.
    pub poll_interval: Duration,
    /// After how long silent SSPs without views are forgotten.
    pub forget_after: Duration,
}

impl Delivery {
    /// Runs until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch() => {}
            () = self.deliver() => {}
        }
    }

    /// Looks who became stale and who became ready.
    async fn watch(&self) {
        let every = self.poll_interval.min(self.heartbeat_timeout / 4);
        loop {
            for ssp_id in self.registry.tick(self.heartbeat_timeout) {
                tracing::warn!(ssp_id, timeout = ?self.heartbeat_timeout, "the SSP is silent: stale");
            }
            if let Err(error) = self.registry.forget_silent(self.forget_after).await {
                tracing::error!(%error, "forget silent SSPs");
            }
            self.probe().await;
            sleep(every).await;
        }
    }

    async fn probe(&self) {
        let members = self.registry.members().into_iter();
        let waiting =
            members.filter(|(_, m)| matches!(m.stage, Stage::Bootstrapping | Stage::Replaying));
        stream::iter(waiting)
            .for_each_concurrent(CALLS, async |(ssp_id, member)| {
                let registration = member.registration;
                if self.caller.is_ready(&registration.url).await {
                    let epoch = Some(registration.epoch);
                    if self.registry.heard(&ssp_id, epoch, Sign::Ready).is_err() {
                        tracing::debug!(ssp_id, "it registered anew meanwhile");
                    }
                }
            })
            .await;
    }

    /// Delivers views to their owners.
    async fn deliver(&self) {
        loop {
            match self.registry.reassign().await {
                Ok(0) => {}
                Ok(count) => tracing::warn!(count, "views of silent SSPs were given to others"),
                Err(error) => tracing::error!(%error, "give views to others"),
            }
            let due = self.registry.undelivered();
            stream::iter(due)
                .for_each_concurrent(CALLS, async |(id, view, url)| {
                    self.one(&id, &view, &url).await;
                })
                .await;
            tokio::select! {
                () = self.registry.work() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    async fn one(&self, id: &str, view: &View, url: &str) {
        let outcome = self.caller.register(url, &takeover_of(view)).await;
        let taken = match &outcome {
            Ok(answer) if answer.status.is_success() => true,
            Ok(answer) if answer.status.is_client_error() => {
                let reason = String::from_utf8_lossy(&answer.body);
                let status = answer.status.as_u16();
                tracing::error!(view = id, ssp_id = view.ssp_id, status, %reason, "view refused");
                true
            }
            Ok(answer) => {
                tracing::warn!(view = id, status = answer.status.as_u16(), "delivered later");
                false
            }
            Err(error) => {
                tracing::warn!(view = id, error, "delivered later");
                false
            }
        };
        if taken && let Err(error) = self.registry.delivered(id, view.epoch).await {
            tracing::error!(%error, "note a delivered view");
        }
    }
}
