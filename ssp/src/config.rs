//! `Config`: what the service is told, from the documented environment variables. A bad value is
//! refused by name, never repaired; nothing else in the crate reads the environment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::edge::RefMode;
use crate::engine::Budget;

/// The port of an SSP.
const PORT: u16 = 8667;

/// Variables of features that this service does not have; setting one is said at start.
const WITHOUT_EFFECT: [&str; 4] =
    ["SPKY_JOB_CONFIG", "SPKY_CRDT_CACHE_SIZE", "SPKY_CRDT_FIELDS", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// A text that does not show itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where SurrealDB is. The service hands it to nobody: whoever starts it builds the edge sink from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `SPKY_DB_URL`, else `SPKY_DB_WS`; default `ws://127.0.0.1:8000`.
    pub url: String,
    /// `SPKY_DB_USER`; default `root`.
    pub user: String,
    /// `SPKY_DB_PASS`; default `root`.
    pub pass: Secret,
    /// `SPKY_DB_NS`; default `test`.
    pub namespace: String,
    /// `SPKY_DB_NAME`; default `test`.
    pub name: String,
}

/// Everything the service is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `SPKY_SSP_LISTEN_ADDR`; default `0.0.0.0:8667`, and `127.0.0.1:8667` without a secret.
    pub listen: SocketAddr,
    /// `SPKY_AUTH_SECRET`: the bearer that callers send and that we send; `None` accepts any.
    pub secret: Option<Secret>,
    /// Where SurrealDB is.
    pub database: Database,
    /// `SPKY_SCHEDULER_URL`: where the log's feed comes from; default `http://127.0.0.1:9667`.
    pub scheduler: String,
    /// `SPKY_SSP_ID`: identity across restarts; default a new `ssp-<uuid>`.
    pub ssp_id: String,
    /// The URL under which the scheduler reaches us, from `SPKY_SSP_ADVERTISE_ADDR`; `None` derives it
    /// from the address that is listened on.
    pub advertise: Option<String>,
    /// `HEARTBEAT_INTERVAL_MS`; default 5000, 10 to 3,600,000.
    pub heartbeat_interval: Duration,
    /// `TTL_CLEANUP_INTERVAL_SECS`; default 60, 1 to 86,400.
    pub ttl_interval: Duration,
    /// `SPKY_SCHEMA_POLL_SECS`: between two looks at the permissions of tables, while views depend on them; default
    /// 15, 1 to 86,400.
    pub schema_interval: Duration,
    /// `SPKY_SSP_REF_MODE`; default `dedicated`.
    pub ref_mode: RefMode,
    /// `SPKY_SSP_ANON_LIVE_QUERIES`; default false: registrants without `$auth` share the shared table.
    pub anonymous_tables: bool,
    /// `SPKY_SSP_QUERY_UPDATE_THROTTLE_MS`: at most one edge transaction per this time; default 100,
    /// 0 (each change at once) to 60,000.
    pub throttle: Duration,
    /// `SPKY_SSP_FEED_WINDOW_BYTES`: records received and not yet applied; default 32 MiB, 64 KiB to
    /// 1 GiB. A larger transaction is held whole on top of it.
    pub feed_window_bytes: usize,
    /// `SPKY_SSP_OUTBOX_EDGES`: edge changes waiting for SurrealDB before the feed is held back; default
    /// 500,000 (about 200 MB), at least 1.
    pub outbox_edges: usize,
    /// `SPKY_SSP_VIEW_BUDGET_BYTES` and `SPKY_SSP_TEMPLATE_BUDGET_BYTES`: memory of one view, and of all
    /// views that differ in values only; default 256 MiB and 4 GiB, from 64 KiB on. A registration that
    /// would take more is refused.
    pub budget: Budget,
    /// `SPKY_SSP_MAX_BODY_BYTES`: largest request body; default 1 MiB, 1 KiB to 64 MiB.
    pub max_body_bytes: usize,
    /// Variables that are set and have no effect here.
    pub without_effect: Vec<&'static str>,
}

/// A value that is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable's value cannot be used.
    #[error("{variable} is {value:?}: {reason}")]
    Bad {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// Why that is no use.
        reason: String,
    },
    /// The file that a `_FILE` variable names cannot be read.
    #[error("{variable}_FILE names {path:?}, which cannot be read: {reason}")]
    File {
        /// The variable, without `_FILE`.
        variable: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// Anyone could write to a public address.
    #[error(
        "SPKY_SSP_LISTEN_ADDR is {listen}, which others can reach, and SPKY_AUTH_SECRET is not set: \
         set it, listen on 127.0.0.1, or set SPKY_ALLOW_NO_AUTH=1"
    )]
    PublicWithoutSecret {
        /// The address.
        listen: SocketAddr,
    },
}

impl Config {
    /// A configuration with every default, for `ssp_id` and the scheduler at `scheduler`, listening on
    /// a free port of 127.0.0.1.
    #[must_use]
    pub fn local(ssp_id: impl Into<String>, scheduler: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            secret: None,
            database: Database {
                url: "ws://127.0.0.1:8000".into(),
                user: "root".into(),
                pass: Secret::new("root"),
                namespace: "test".into(),
                name: "test".into(),
            },
            scheduler: scheduler.into(),
            ssp_id: ssp_id.into(),
            advertise: None,
            heartbeat_interval: Duration::from_millis(5000),
            ttl_interval: Duration::from_secs(60),
            schema_interval: Duration::from_secs(15),
            ref_mode: RefMode::Dedicated,
            anonymous_tables: false,
            throttle: Duration::from_millis(100),
            feed_window_bytes: 32 << 20,
            outbox_edges: 500_000,
            budget: Budget::default(),
            max_body_bytes: 1 << 20,
            without_effect: Vec::new(),
        }
    }

    /// The configuration that the process environment describes.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// The configuration that `lookup` describes, which answers a variable's name with its value. An
    /// empty value counts as unset.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let env = Env { lookup };
        let secret = env.secret("SPKY_AUTH_SECRET")?;
        let listen = env.listen(secret.is_some())?;
        let ssp_id = env.text("SPKY_SSP_ID").unwrap_or_else(|| format!("ssp-{}", Uuid::new_v4()));
        let scheduler =
            env.text("SPKY_SCHEDULER_URL").unwrap_or_else(|| "http://127.0.0.1:9667".into());
        let default = Self::local(check_id(ssp_id)?, base_url("SPKY_SCHEDULER_URL", scheduler)?);
        let interval = env.millis("HEARTBEAT_INTERVAL_MS", 5000, 10, 3_600_000)?;
        let sweep = env.number("TTL_CLEANUP_INTERVAL_SECS", 60, 1, 86_400)?;
        let schema = env.number("SPKY_SCHEMA_POLL_SECS", 15, 1, 86_400)?;
        Ok(Self {
            listen,
            secret,
            database: env.database(default.database)?,
            advertise: env.text("SPKY_SSP_ADVERTISE_ADDR").map(advertised).transpose()?,
            heartbeat_interval: interval,
            ttl_interval: Duration::from_secs(sweep),
            schema_interval: Duration::from_secs(schema),
            ref_mode: env.ref_mode()?,
            anonymous_tables: env.flag("SPKY_SSP_ANON_LIVE_QUERIES")?,
            throttle: env.millis("SPKY_SSP_QUERY_UPDATE_THROTTLE_MS", 100, 0, 60_000)?,
            feed_window_bytes: env.size(
                "SPKY_SSP_FEED_WINDOW_BYTES",
                32 << 20,
                64 << 10,
                1 << 30,
            )?,
            outbox_edges: env.size("SPKY_SSP_OUTBOX_EDGES", 500_000, 1, 1 << 32)?,
            budget: env.budget(default.budget)?,
            max_body_bytes: env.size("SPKY_SSP_MAX_BODY_BYTES", 1 << 20, 1 << 10, 64 << 20)?,
            without_effect: WITHOUT_EFFECT
                .into_iter()
                .filter(|name| env.text(name).is_some())
                .collect(),
            ..default
        })
    }
}

/// The environment, read by type.
struct Env<F> {
    lookup: F,
}

impl<F: Fn(&str) -> Option<String>> Env<F> {
    fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The variable, or what is in the file that `<variable>_FILE` names, less its last line's end.
    fn secret(&self, variable: &'static str) -> Result<Option<Secret>, ConfigError> {
        let Some(path) = self.text(&format!("{variable}_FILE")) else {
            return Ok(self.text(variable).map(Secret));
        };
        if self.text(variable).is_some() {
            let reason = format!("{variable}_FILE is set too; set one of them");
            return Err(ConfigError::Bad { variable, value: "..".into(), reason });
        }
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::File {
            variable,
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(ConfigError::File { variable, path, reason: "it is empty".into() });
        }
        Ok(Some(Secret::new(text)))
    }

    fn number(
        &self,
        variable: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, ConfigError> {
        let Some(value) = self.text(variable) else { return Ok(default) };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(bad(variable, value, format!("a whole number from {least} to {most} is due"))),
        }
    }

    fn millis(
        &self,
        variable: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<Duration, ConfigError> {
        self.number(variable, default, least, most).map(Duration::from_millis)
    }

    fn size(
        &self,
        variable: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<usize, ConfigError> {
        let number = self.number(variable, default, least, most)?;
        usize::try_from(number)
            .map_err(|_| bad(variable, number.to_string(), "this machine cannot count that far"))
    }

    fn budget(&self, default: Budget) -> Result<Budget, ConfigError> {
        let bytes = |variable, default| self.size(variable, default as u64, 64 << 10, 1 << 44);
        Ok(Budget {
            view_bytes: bytes("SPKY_SSP_VIEW_BUDGET_BYTES", default.view_bytes)?,
            template_bytes: bytes("SPKY_SSP_TEMPLATE_BUDGET_BYTES", default.template_bytes)?,
        })
    }

    fn flag(&self, variable: &'static str) -> Result<bool, ConfigError> {
        match self.text(variable).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(bad(variable, value, "1, 0, true or false is due")),
        }
    }

    fn ref_mode(&self) -> Result<RefMode, ConfigError> {
        match self.text("SPKY_SSP_REF_MODE").as_deref() {
            None | Some("dedicated") => Ok(RefMode::Dedicated),
            Some("single") => Ok(RefMode::Single),
            Some(value) => Err(bad("SPKY_SSP_REF_MODE", value, "dedicated or single is due")),
        }
    }

    fn listen(&self, has_secret: bool) -> Result<SocketAddr, ConfigError> {
        const VARIABLE: &str = "SPKY_SSP_LISTEN_ADDR";
        let Some(value) = self.text(VARIABLE) else {
            let ip = if has_secret { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
            return Ok(SocketAddr::new(IpAddr::V4(ip), PORT));
        };
        let listen: SocketAddr = value
            .parse()
            .map_err(|_| bad(VARIABLE, value, "an address with a port is due: 0.0.0.0:8667"))?;
        if has_secret || listen.ip().is_loopback() || self.flag("SPKY_ALLOW_NO_AUTH")? {
            return Ok(listen);
        }
        Err(ConfigError::PublicWithoutSecret { listen })
    }

    fn database(&self, default: Database) -> Result<Database, ConfigError> {
        let url = self.text("SPKY_DB_URL").or_else(|| self.text("SPKY_DB_WS"));
        Ok(Database {
            url: url.unwrap_or(default.url),
            user: self.text("SPKY_DB_USER").unwrap_or(default.user),
            pass: self.secret("SPKY_DB_PASS")?.unwrap_or(default.pass),
            namespace: self.text("SPKY_DB_NS").unwrap_or(default.namespace),
            name: self.text("SPKY_DB_NAME").unwrap_or(default.name),
        })
    }
}

fn bad(variable: &'static str, value: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Bad { variable, value: value.into(), reason: reason.into() }
}

/// An id that fits into a record key, a header and a log line.
fn check_id(id: String) -> Result<String, ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if id.len() <= 128 && id.chars().all(plain) {
        return Ok(id);
    }
    Err(bad("SPKY_SSP_ID", id, "up to 128 letters, digits, '-', '_', '.' and ':' are due"))
}

/// An `http` or `https` URL, less its final slash.
fn base_url(variable: &'static str, value: String) -> Result<String, ConfigError> {
    match reqwest::Url::parse(&value) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(value.trim_end_matches('/').to_owned())
        }
        _ => Err(bad(variable, value, "a URL with http:// or https:// is due")),
    }
}

/// The URL of an advertised `host:port`; a whole URL is taken as it is.
fn advertised(value: String) -> Result<String, ConfigError> {
    let url = if value.contains("://") { value } else { format!("http://{value}") };
    base_url("SPKY_SSP_ADVERTISE_ADDR", url)
}
