//! `Config`: what the scheduler is told, from the documented environment variables and `sp00ky.yml`. A bad
//! value is refused by name, never repaired; nothing else in the crate reads the environment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_yaml_ng::{Mapping, Value as Yaml};
use thiserror::Error;
use uuid::Uuid;

use crate::assign::Balance;

/// Names under which the settings file is looked for in the working directory.
pub const FILE_NAMES: [&str; 3] = ["sp00ky.yml", "sp00ky.yaml", "sp00ky.json"];

/// The port of a scheduler.
const PORT: u16 = 9667;

/// Keys of the file that belong to the command line tool that shares it.
const OTHER_KEYS: [&str; 17] = [
    "mode",
    "slug",
    "surrealdb",
    "schema",
    "buckets",
    "clientTypes",
    "version",
    "logLevel",
    "refMode",
    "anonymousLiveQueries",
    "sync",
    "apps",
    "deployment",
    "schedules",
    "workflows",
    "retention",
    "backends",
];

/// Settings that upstream documents and that nothing here depends on.
const WITHOUT_EFFECT: [&str; 3] = ["heartbeat_interval_ms", "bootstrap_chunk_size", "job_tables"];

/// Variables of features that this scheduler does not have; setting one is said at start.
const VARIABLES_WITHOUT_EFFECT: [&str; 7] = [
    "S3_ENDPOINT",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_BUCKET",
    "S3_REGION",
    "SPKY_BOOTSTRAP_PAGE_SIZE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

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

/// Where SurrealDB is. The scheduler does not connect: whoever starts it builds the source from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// `SPKY_DB_URL`, else `SPKY_DB_WS`, else `db.url`; default `ws://localhost:8000`.
    pub url: String,
    /// `SPKY_DB_USER`, `db.username`; default `root`.
    pub user: String,
    /// `SPKY_DB_PASS`, `db.password`; default `root`.
    pub pass: Secret,
    /// `SPKY_DB_NS`, `db.namespace`; default `sp00ky`.
    pub namespace: String,
    /// `SPKY_DB_NAME`, `db.database`; default `sp00ky`.
    pub name: String,
}

/// How changes come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// They are read from the database's feed; what is posted only rings the doorbell.
    #[default]
    Changefeed,
    /// They are posted.
    Http,
}

/// A service whose health is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The path that says how it is.
    #[serde(default)]
    pub healthcheck: Option<String>,
    /// Its port, where the URL does not say it.
    #[serde(default)]
    pub port: Option<u16>,
    /// Its environment, for display.
    #[serde(default)]
    pub env: Vec<String>,
}

/// Everything the scheduler is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `SPKY_SCHEDULER_ID`; default a new `scheduler-<uuid>`.
    pub scheduler_id: String,
    /// `ingest_host` and `ingest_port`, or `SPKY_INGEST_HOST` and `SPKY_INGEST_PORT`; default
    /// `0.0.0.0:9667`, and `127.0.0.1:9667` without a secret.
    pub listen: SocketAddr,
    /// `SPKY_AUTH_SECRET`: the bearer that callers send and that we send; `None` accepts any.
    pub secret: Option<Secret>,
    /// `SPKY_COMPAT_OPEN_SSP`: `/ssp/*` is open to callers without the bearer.
    pub open_ssp: bool,
    /// Where SurrealDB is.
    pub database: Database,
    /// `SPKY_INGEST_TRANSPORT`; default `changefeed`.
    pub transport: Transport,
    /// `wal_path`, `SPKY_WAL_PATH`: the log's directory; default `./data/event_wal.log`. The state is kept
    /// in a file of the same name with `.state`.
    pub log_dir: PathBuf,
    /// `replica_db_path`, `SPKY_REPLICA_DB_PATH`: the replica's directory; default `./data/replica`.
    pub replica_dir: PathBuf,
    /// `SPKY_WAL_SEGMENT_MB`: size of a segment of the log; default 64, 1 to 4096.
    pub segment_bytes: u64,
    /// `SPKY_WAL_BALLAST_MB`: space held back in the log's directory, to be let go with
    /// `POST /admin/log/release-ballast` when the disk is full; default 0, none, to 1,048,576.
    pub ballast_bytes: u64,
    /// `SPKY_WAL_SCRUB_MB_PER_S`: how fast sealed segments are read again, once a day, to find what rotted; default
    /// 2 (16 GiB in 2.3 hours, hardly noticed by any disk), 0 for never, to 1024.
    pub scrub_bytes_per_s: u64,
    /// `SPKY_WAL_ARCHIVE_DIR`: segments are copied there before they are trimmed, and are not trimmed where that
    /// fails; default none.
    pub archive_dir: Option<PathBuf>,
    /// `SPKY_WAL_COMPRESS_LEVEL`: at which level of zstd segments that are no longer written are compressed in the
    /// background, 1 to 19; default 0, they stay as they are. A build older than log format 1.1 refuses a log with
    /// compressed segments.
    pub compress_level: i32,
    /// `SPKY_LOG_RETENTION_SECS`: records younger than this are kept in any case; default 86,400 (a day),
    /// 0 to ten years.
    pub keep: Duration,
    /// `SPKY_LOG_RETENTION_MAX_MB`: a longer log gives up the SSPs that hold it; default 16,384.
    pub max_log_bytes: u64,
    /// `load_balance`, `SPKY_LOAD_BALANCE`; default `least_queries`.
    pub balance: Balance,
    /// `heartbeat_timeout_ms`, `SPKY_HEARTBEAT_TIMEOUT_MS`: after it a silent SSP is stale; default
    /// 15,000, 100 to 3,600,000.
    pub heartbeat_timeout: Duration,
    /// `ssp_poll_interval_ms`, `SPKY_SSP_POLL_INTERVAL_MS`: between two looks at an SSP that is not ready;
    /// default 500, 10 to 600,000. (Upstream's 3,000 would keep a new SSP idle for as long.)
    pub poll_interval: Duration,
    /// `snapshot_update_interval_secs`, `SPKY_SNAPSHOT_UPDATE_INTERVAL_SECS`: between two checkpoints of
    /// the replica; default 10, 1 to 86,400. It bounds what is replayed after a crash. (Upstream's 300 are between
    /// two copies of everything; a checkpoint writes what changed.)
    pub checkpoint_interval: Duration,
    /// `bootstrap_timeout_secs`: default 120. An SSP that is silent for longer while it bootstraps is
    /// forgotten if it owns nothing, like any other that is silent for ten times the heartbeat timeout.
    pub bootstrap_timeout: Duration,
    /// `max_buffer_per_ssp`: records an SSP may be behind before a warning; default 10,000.
    pub lag_warning: u64,
    /// `health_check_interval_secs`: between two looks at the backends; default 15, 1 to 86,400.
    pub backend_interval: Duration,
    /// `SPKY_BACKENDS` or `SPKY_SCHEDULER_BACKENDS`: services whose health is watched.
    pub backends: Vec<Backend>,
    /// `SPKY_CAPTURE_WINDOW_MS`: how long a change may take to become visible; default 10,000, 1,000 to
    /// 600,000. Everything so young is read again and again.
    pub window: Duration,
    /// `SPKY_CLONE_PAGE_ROWS`: rows read at once from a table; default 1000, 1 to 100,000.
    pub page_rows: usize,
    /// `SPKY_SCHEMA_POLL_SECS`: between two looks at which tables there are; default 15, 1 to 86,400.
    pub schema_interval: Duration,
    /// `SPKY_RECONCILE_INTERVAL_SECS`: between two comparisons of all rows; default 3600, 0 for never.
    pub reconcile_interval: Option<Duration>,
    /// `SPKY_MAX_BODY_BYTES`: largest request body; default 4 MiB, 1 KiB to 64 MiB.
    pub max_body_bytes: usize,
    /// Settings that were given and have no effect, and keys of the file that are not known.
    pub remarks: Vec<String>,
}

/// A value that is refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable's or key's value cannot be used.
    #[error("{setting} is {value:?}: {reason}")]
    Bad {
        /// The variable or the key.
        setting: String,
        /// What it holds.
        value: String,
        /// Why that is no use.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{setting} names {path:?}, which cannot be read: {reason}")]
    File {
        /// Who names it.
        setting: String,
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Anyone could write to a public address.
    #[error(
        "the scheduler would listen on {listen}, which others can reach, and SPKY_AUTH_SECRET is not set: \
         set it, set ingest_host to 127.0.0.1, or set SPKY_ALLOW_NO_AUTH=1"
    )]
    PublicWithoutSecret {
        /// The address.
        listen: SocketAddr,
    },
}

impl Config {
    /// Every default, with its data in `dir`, listening on a free port of 127.0.0.1.
    #[must_use]
    pub fn local(dir: &Path) -> Self {
        Self {
            scheduler_id: format!("scheduler-{}", Uuid::new_v4()),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            secret: None,
            open_ssp: false,
            database: Database {
                url: "ws://localhost:8000".into(),
                user: "root".into(),
                pass: Secret::new("root"),
                namespace: "sp00ky".into(),
                name: "sp00ky".into(),
            },
            transport: Transport::Changefeed,
            log_dir: dir.join("event_wal.log"),
            replica_dir: dir.join("replica"),
            segment_bytes: 64 << 20,
            ballast_bytes: 0,
            scrub_bytes_per_s: 2 << 20,
            archive_dir: None,
            compress_level: 0,
            keep: Duration::from_secs(86_400),
            max_log_bytes: 16 << 30,
            balance: Balance::LeastQueries,
            heartbeat_timeout: Duration::from_millis(15_000),
            poll_interval: Duration::from_millis(500),
            checkpoint_interval: Duration::from_secs(10),
            bootstrap_timeout: Duration::from_secs(120),
            lag_warning: 10_000,
            backend_interval: Duration::from_secs(15),
            backends: Vec::new(),
            window: Duration::from_secs(10),
            page_rows: 1000,
            schema_interval: Duration::from_secs(15),
            reconcile_interval: Some(Duration::from_secs(3600)),
            max_body_bytes: 4 << 20,
            remarks: Vec::new(),
        }
    }

    /// The configuration that the process environment and the settings file in the working directory
    /// describe.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        let file = FILE_NAMES.iter().map(Path::new).find(|path| path.is_file());
        let text = file.map(|path| (path.display().to_string(), read(path.display(), path)));
        let text = match text {
            Some((name, text)) => Some((name, text?)),
            None => None,
        };
        let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
        Self::from_parts(|name| std::env::var(name).ok(), file)
    }

    /// The configuration that `lookup`, which answers a variable's name with its value, and the settings
    /// file (its name and its text) describe. An empty value counts as unset; a variable wins over a key.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn from_parts(
        lookup: impl Fn(&str) -> Option<String>,
        file: Option<(&str, &str)>,
    ) -> Result<Self, ConfigError> {
        let settings = Settings { lookup, file: parse(file)? };
        let default = Self::local(Path::new("./data"));
        let secret = settings.secret("SPKY_AUTH_SECRET", None)?;
        let s = &settings;
        let millis = |variable, key, default, least, most| {
            s.number(variable, key, default, least, most).map(Duration::from_millis)
        };
        let secs = |variable, key, default, least, most| {
            s.number(variable, key, default, least, most).map(Duration::from_secs)
        };
        let reconcile = secs("SPKY_RECONCILE_INTERVAL_SECS", "", 3600, 0, 31_536_000)?;
        Ok(Self {
            scheduler_id: s.text("SPKY_SCHEDULER_ID", "").unwrap_or(default.scheduler_id),
            listen: s.listen(secret.is_some())?,
            secret,
            open_ssp: s.flag("SPKY_COMPAT_OPEN_SSP")?,
            database: s.database(default.database)?,
            transport: s.transport()?,
            log_dir: s.path("SPKY_WAL_PATH", "wal_path", default.log_dir),
            replica_dir: s.path("SPKY_REPLICA_DB_PATH", "replica_db_path", default.replica_dir),
            segment_bytes: s.number("SPKY_WAL_SEGMENT_MB", "", 64, 1, 4096)? << 20,
            ballast_bytes: s.number("SPKY_WAL_BALLAST_MB", "", 0, 0, 1 << 20)? << 20,
            scrub_bytes_per_s: s.number("SPKY_WAL_SCRUB_MB_PER_S", "", 2, 0, 1024)? << 20,
            archive_dir: s.text("SPKY_WAL_ARCHIVE_DIR", "").map(PathBuf::from),
            compress_level: i32::try_from(s.number("SPKY_WAL_COMPRESS_LEVEL", "", 0, 0, 19)?)
                .expect("at most 19"),
            keep: secs("SPKY_LOG_RETENTION_SECS", "", 86_400, 0, 315_360_000)?,
            max_log_bytes: s.number("SPKY_LOG_RETENTION_MAX_MB", "", 16_384, 1, 1 << 40)? << 20,
            balance: s.balance()?,
            heartbeat_timeout: millis(
                "SPKY_HEARTBEAT_TIMEOUT_MS",
                "heartbeat_timeout_ms",
                15_000,
                100,
                3_600_000,
            )?,
            poll_interval: millis(
                "SPKY_SSP_POLL_INTERVAL_MS",
                "ssp_poll_interval_ms",
                500,
                10,
                600_000,
            )?,
            checkpoint_interval: secs(
                "SPKY_SNAPSHOT_UPDATE_INTERVAL_SECS",
                "snapshot_update_interval_secs",
                10,
                1,
                86_400,
            )?,
            bootstrap_timeout: secs(
                "SPKY_BOOTSTRAP_TIMEOUT_SECS",
                "bootstrap_timeout_secs",
                120,
                1,
                86_400,
            )?,
            lag_warning: s.number("", "max_buffer_per_ssp", 10_000, 1, u64::MAX >> 1)?,
            backend_interval: secs("", "health_check_interval_secs", 15, 1, 86_400)?,
            backends: s.backends()?,
            window: millis("SPKY_CAPTURE_WINDOW_MS", "", 10_000, 1_000, 600_000)?,
            page_rows: s.size("SPKY_CLONE_PAGE_ROWS", 1000, 1, 100_000)?,
            schema_interval: secs("SPKY_SCHEMA_POLL_SECS", "", 15, 1, 86_400)?,
            reconcile_interval: (!reconcile.is_zero()).then_some(reconcile),
            max_body_bytes: s.size("SPKY_MAX_BODY_BYTES", 4 << 20, 1 << 10, 64 << 20)?,
            remarks: s.remarks(),
        })
    }

    /// The file in which the scheduler's state is kept.
    #[must_use]
    pub fn state_path(&self) -> PathBuf {
        beside(&self.log_dir, ".state")
    }

    /// The file that keeps a second scheduler away.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        beside(&self.log_dir, ".lock")
    }

    /// The replica's file.
    #[must_use]
    pub fn replica_path(&self) -> PathBuf {
        self.replica_dir.join("rows.redb")
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn read(setting: impl fmt::Display, path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        setting: setting.to_string(),
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn parse(file: Option<(&str, &str)>) -> Result<Mapping, ConfigError> {
    let Some((name, text)) = file else { return Ok(Mapping::new()) };
    let bad = |reason: String| ConfigError::File {
        setting: "the working directory".into(),
        path: name.into(),
        reason,
    };
    match serde_yaml_ng::from_str(text).map_err(|error| bad(error.to_string()))? {
        Yaml::Mapping(mapping) => Ok(mapping),
        Yaml::Null => Ok(Mapping::new()),
        _ => Err(bad("keys with values are due".into())),
    }
}

fn bad(setting: &str, value: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Bad { setting: setting.into(), value: value.into(), reason: reason.into() }
}

/// The environment and the file, read by type. An empty name stands for "cannot be set there".
struct Settings<F> {
    lookup: F,
    file: Mapping,
}

impl<F: Fn(&str) -> Option<String>> Settings<F> {
    fn variable(&self, name: &str) -> Option<String> {
        if name.is_empty() {
            return None;
        }
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn key(&self, key: &str) -> Option<&Yaml> {
        let mut parts = key.split('.').filter(|part| !part.is_empty());
        let mut value = self.file.get(parts.next()?)?;
        for part in parts {
            value = value.get(part)?;
        }
        (!value.is_null()).then_some(value)
    }

    /// The setting's value as text, and the name under which it was found.
    fn find<'a>(&self, variable: &'a str, key: &'a str) -> Option<(&'a str, String)> {
        if let Some(value) = self.variable(variable) {
            return Some((variable, value));
        }
        let text = match self.key(key)? {
            Yaml::String(text) => text.clone(),
            Yaml::Number(number) => number.to_string(),
            Yaml::Bool(flag) => flag.to_string(),
            other => format!("{other:?}"),
        };
        (!text.is_empty()).then_some((key, text))
    }

    fn text(&self, variable: &str, key: &str) -> Option<String> {
        self.find(variable, key).map(|(_, text)| text)
    }

    fn path(&self, variable: &str, key: &str, default: PathBuf) -> PathBuf {
        self.text(variable, key).map_or(default, PathBuf::from)
    }

    fn number(
        &self,
        variable: &str,
        key: &str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, ConfigError> {
        let Some((name, value)) = self.find(variable, key) else { return Ok(default) };
        match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(bad(name, value, format!("a whole number from {least} to {most} is due"))),
        }
    }

    fn size(
        &self,
        variable: &str,
        default: u64,
        least: u64,
        most: u64,
    ) -> Result<usize, ConfigError> {
        let number = self.number(variable, "", default, least, most)?;
        usize::try_from(number)
            .map_err(|_| bad(variable, number.to_string(), "this machine cannot count that far"))
    }

    fn flag(&self, variable: &str) -> Result<bool, ConfigError> {
        match self.variable(variable).as_deref() {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(value) => Err(bad(variable, value, "1, 0, true or false is due")),
        }
    }

    /// The variable, or what is in the file that `<variable>_FILE` names, less its last line's end.
    fn secret(&self, variable: &str, key: Option<&str>) -> Result<Option<Secret>, ConfigError> {
        let file = format!("{variable}_FILE");
        let Some(path) = self.variable(&file) else {
            return Ok(self.text(variable, key.unwrap_or_default()).map(Secret));
        };
        if self.variable(variable).is_some() {
            return Err(bad(variable, "..", format!("{file} is set too; set one of them")));
        }
        let text = read(&file, Path::new(&path))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            let reason = "it is empty".into();
            return Err(ConfigError::File { setting: file, path, reason });
        }
        Ok(Some(Secret::new(text)))
    }

    fn listen(&self, has_secret: bool) -> Result<SocketAddr, ConfigError> {
        let port = self.number("SPKY_INGEST_PORT", "ingest_port", PORT.into(), 0, 65_535)?;
        let port = u16::try_from(port).expect("it is in bounds");
        let Some((name, host)) = self.find("SPKY_INGEST_HOST", "ingest_host") else {
            let ip = if has_secret { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
            return Ok(SocketAddr::new(IpAddr::V4(ip), port));
        };
        let ip: IpAddr = match host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            text => text
                .trim_matches(['[', ']'])
                .parse()
                .map_err(|_| bad(name, text, "an address is due: 0.0.0.0 or 127.0.0.1"))?,
        };
        let listen = SocketAddr::new(ip, port);
        if has_secret || ip.is_loopback() || self.flag("SPKY_ALLOW_NO_AUTH")? {
            return Ok(listen);
        }
        Err(ConfigError::PublicWithoutSecret { listen })
    }

    fn transport(&self) -> Result<Transport, ConfigError> {
        const VARIABLE: &str = "SPKY_INGEST_TRANSPORT";
        match self.find(VARIABLE, "sync.transport") {
            None => Ok(Transport::Changefeed),
            Some((_, value)) if value == "changefeed" => Ok(Transport::Changefeed),
            Some((_, value)) if value == "http" => Ok(Transport::Http),
            Some((name, value)) => Err(bad(name, value, "changefeed or http is due")),
        }
    }

    fn balance(&self) -> Result<Balance, ConfigError> {
        match self.find("SPKY_LOAD_BALANCE", "load_balance") {
            None => Ok(Balance::default()),
            Some((_, value)) if value == "round_robin" => Ok(Balance::RoundRobin),
            Some((_, value)) if value == "least_queries" => Ok(Balance::LeastQueries),
            Some((_, value)) if value == "least_load" => Ok(Balance::LeastLoad),
            Some((name, value)) => {
                Err(bad(name, value, "round_robin, least_queries or least_load is due"))
            }
        }
    }

    fn database(&self, default: Database) -> Result<Database, ConfigError> {
        let url = self.variable("SPKY_DB_URL").or_else(|| self.text("SPKY_DB_WS", "db.url"));
        Ok(Database {
            url: url.unwrap_or(default.url),
            user: self.text("SPKY_DB_USER", "db.username").unwrap_or(default.user),
            pass: self.secret("SPKY_DB_PASS", Some("db.password"))?.unwrap_or(default.pass),
            namespace: self.text("SPKY_DB_NS", "db.namespace").unwrap_or(default.namespace),
            name: self.text("SPKY_DB_NAME", "db.database").unwrap_or(default.name),
        })
    }

    fn backends(&self) -> Result<Vec<Backend>, ConfigError> {
        let Some((name, text)) =
            self.find("SPKY_BACKENDS", "").or_else(|| self.find("SPKY_SCHEDULER_BACKENDS", ""))
        else {
            return Ok(Vec::new());
        };
        serde_json::from_str(&text).map_err(|error| {
            bad(name, "..", format!("a JSON array of {{name, url, healthcheck}} is due: {error}"))
        })
    }

    fn remarks(&self) -> Vec<String> {
        const KNOWN: [&str; 12] = [
            "db",
            "load_balance",
            "heartbeat_timeout_ms",
            "replica_db_path",
            "wal_path",
            "ingest_host",
            "ingest_port",
            "snapshot_update_interval_secs",
            "max_buffer_per_ssp",
            "bootstrap_timeout_secs",
            "ssp_poll_interval_ms",
            "health_check_interval_secs",
        ];
        let mut remarks = Vec::new();
        for key in self.file.keys() {
            let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
            if WITHOUT_EFFECT.contains(&key.as_str()) {
                remarks.push(format!("{key} has no effect here"));
            } else if !KNOWN.contains(&key.as_str()) && !OTHER_KEYS.contains(&key.as_str()) {
                remarks.push(format!("{key} is not known and ignored"));
            }
        }
        for name in VARIABLES_WITHOUT_EFFECT {
            if self.variable(name).is_some() {
                remarks.push(format!("{name} has no effect here"));
            }
        }
        remarks
    }
}
