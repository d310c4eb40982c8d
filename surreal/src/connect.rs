//! A connection to SurrealDB: over the network, or embedded. Every statement's own error is an error.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use revenant_log::Value;
use surrealdb::Surreal;
use surrealdb::engine::any::{self, Any};
use surrealdb::opt::auth::Root;
use surrealdb::types as sdk;
use tokio::sync::OnceCell;

use crate::convert::{from_sdk, to_sdk};

/// Where the database is, and who we are there.
#[derive(Clone)]
pub struct Target {
    /// `ws://`, `wss://`, `http://` or `https://` (read as the former two), `mem://`, `surrealkv://PATH`.
    pub url: String,
    /// Root user; unused by an embedded database.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Namespace.
    pub namespace: String,
    /// Database.
    pub database: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{} as {}", self.url, self.namespace, self.database, self.user)
    }
}

/// Why the database did not do as it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// It cannot be reached, or is busy: the same may succeed later.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Two transactions met: run it again.
    #[error("transaction conflict: {0}")]
    Conflict(String),
    /// It was reached, and says no.
    #[error("the database refuses: {0}")]
    Refused(String),
}

impl DbError {
    /// The same, saying where.
    fn at(self, url: &str) -> Self {
        let place = |text: String| format!("{url}: {text}");
        match self {
            Self::Unavailable(text) => Self::Unavailable(place(text)),
            Self::Conflict(text) => Self::Conflict(place(text)),
            Self::Refused(text) => Self::Refused(place(text)),
        }
    }
}

/// How long a statement may take before the connection is taken for dead, unless more is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// A signed-in connection, made when it is first needed. Cheap to clone; reconnects by itself.
#[derive(Clone)]
pub struct Db {
    target: Arc<Target>,
    client: Arc<OnceCell<Surreal<Any>>>,
    patience: Duration,
}

impl Db {
    /// A connection that is made by the first who uses it. Nothing is asked of the database yet.
    #[must_use]
    pub fn later(target: Target) -> Self {
        Self { target: Arc::new(target), client: Arc::default(), patience: PATIENCE }
    }

    /// Connects, signs in and selects namespace and database, which an embedded database gets defined.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if nobody answers; [`DbError::Refused`] for a bad address or password.
    pub async fn connect(target: &Target) -> Result<Self, DbError> {
        let db = Self::later(target.clone());
        db.client().await?;
        Ok(db)
    }

    /// A connection of its own to the same place, for traffic that must not hold up other traffic. An
    /// embedded database has only the one.
    #[must_use]
    pub fn beside(&self) -> Self {
        if address(&self.target.url).starts_with("ws") {
            Self::later(self.target.as_ref().clone())
        } else {
            self.clone()
        }
    }

    /// The same connection, for statements that take up to `patience`.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Runs `statements` with `params` bound, and returns the result of each. One that fails fails all.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn run<const N: usize>(
        &self,
        statements: &str,
        params: [(&str, Value); N],
    ) -> Result<Vec<Value>, DbError> {
        let mut variables = sdk::Object::new();
        for (name, value) in params {
            let value = to_sdk(&value).map_err(|error| DbError::Refused(error.to_string()))?;
            variables.insert(name.to_owned(), value);
        }
        self.run_with(statements, variables).await
    }

    /// [`Db::run`] with parameters that are SurrealDB's already.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn run_with(
        &self,
        statements: &str,
        params: sdk::Object,
    ) -> Result<Vec<Value>, DbError> {
        ask(self.client().await?, statements, params, self.patience).await
    }

    /// The rows of `table` as each is created or changed from now on. Ends with the connection.
    ///
    /// # Errors
    /// See [`DbError`].
    pub async fn live(
        &self,
        table: &str,
    ) -> Result<impl Stream<Item = Result<Value, DbError>> + Send + Unpin + use<>, DbError> {
        let statement = format!("LIVE SELECT * FROM {}", quote(table));
        let mut answered = self.client().await?.query(statement).await.map_err(classify)?;
        let rows = answered.stream::<sdk::Value>(0).map_err(classify)?;
        Ok(rows.map(|row| {
            let row = row.map_err(classify)?.data;
            from_sdk(row).map_err(|error| DbError::Refused(error.to_string()))
        }))
    }

    /// The client itself, for what `run` does not cover; connected on return.
    ///
    /// # Errors
    /// As [`Db::connect`], if nobody has connected yet.
    pub async fn client(&self) -> Result<&Surreal<Any>, DbError> {
        self.client.get_or_try_init(|| open(&self.target)).await
    }
}

async fn open(target: &Target) -> Result<Surreal<Any>, DbError> {
    let url = address(&target.url);
    let connecting = async {
        let client = any::connect(url.as_str()).await.map_err(classify)?;
        if url.starts_with("ws") {
            let (username, password) = (target.user.clone(), target.password.clone());
            client.signin(Root { username, password }).await.map_err(classify)?;
        } else {
            define(&client, target).await?;
        }
        let used = client.use_ns(&target.namespace).use_db(&target.database);
        used.await.map_err(classify)?;
        Ok(client)
    };
    let connected = match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(DbError::Unavailable("it does not answer".into())),
    };
    connected.map_err(|error| error.at(&url))
}

async fn define(client: &Surreal<Any>, target: &Target) -> Result<(), DbError> {
    let (namespace, database) = (quote(&target.namespace), quote(&target.database));
    let statements = format!(
        "DEFINE NAMESPACE IF NOT EXISTS {namespace}; USE NS {namespace}; \
         DEFINE DATABASE IF NOT EXISTS {database}"
    );
    ask(client, &statements, sdk::Object::new(), PATIENCE).await.map(|_| ())
}

async fn ask(
    client: &Surreal<Any>,
    statements: &str,
    params: sdk::Object,
    patience: Duration,
) -> Result<Vec<Value>, DbError> {
    let query = client.query(statements).bind(params);
    let answered = match tokio::time::timeout(patience, query).await {
        Ok(answered) => answered.map_err(classify)?,
        Err(_) => return Err(DbError::Unavailable(format!("no answer in {patience:?}"))),
    };
    let mut results = answered;
    let mut errors: Vec<_> = results.take_errors().into_iter().collect();
    errors.sort_by_key(|(index, _)| *index);
    if !errors.is_empty() {
        return Err(worst(errors.into_iter().map(|(_, error)| classify(error))));
    }
    (0..results.num_statements())
        .map(|index| {
            let value: sdk::Value = results.take(index).map_err(classify)?;
            from_sdk(value).map_err(|error| DbError::Refused(error.to_string()))
        })
        .collect()
}

/// `http` is read as the WebSocket of the same server.
fn address(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix("/rpc").unwrap_or(url);
    for (from, to) in [("http://", "ws://"), ("https://", "wss://")] {
        if let Some(rest) = url.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    if url == "mem:" { "mem://".to_owned() } else { url.to_owned() }
}

/// An error of the transaction as a whole says less than the statement that caused it.
fn worst(errors: impl Iterator<Item = DbError>) -> DbError {
    let mut worst: Option<DbError> = None;
    for error in errors {
        let vague = matches!(&error, DbError::Refused(text) if text.contains("failed transaction")
            || text.contains("cancelled transaction") || text.contains("not executed"));
        match &worst {
            Some(DbError::Conflict(_) | DbError::Unavailable(_)) => {}
            Some(_) if vague => {}
            Some(DbError::Refused(text))
                if !text.contains("not executed")
                    && !matches!(error, DbError::Conflict(_) | DbError::Unavailable(_)) => {}
            _ => worst = Some(error),
        }
    }
    worst.unwrap_or_else(|| DbError::Unavailable("no answer".into()))
}

pub(crate) fn classify(error: surrealdb::Error) -> DbError {
    let text = error.to_string();
    let lower = text.to_ascii_lowercase();
    let any = |needles: &[&str]| needles.iter().any(|needle| lower.contains(needle));
    if any(&["conflict", "retry the transaction", "transaction can be retried", "resource busy"]) {
        DbError::Conflict(text)
    } else if any(&[
        "connection",
        "websocket",
        "timed out",
        "timeout",
        "channel",
        "io error",
        "uninitialised",
        "disconnected",
        "broken pipe",
        "shutting down",
        "connect",
    ]) {
        DbError::Unavailable(text)
    } else {
        DbError::Refused(text)
    }
}

/// `name` as SurrealQL writes it, quoted always.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
