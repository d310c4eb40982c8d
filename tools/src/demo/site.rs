//! `Site`: where everything of one demo is. Written to `demo.json` for the checker and for people.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use revenant_surreal::{Db, Target};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::plan::View;

/// How long a service may take to answer a question.
const ANSWER: Duration = Duration::from_secs(30);

/// What SSPs do unless they are told otherwise.
const THROTTLE_MS: u32 = 100;

/// Where everything is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Site {
    /// Data and logs of every process.
    pub(crate) dir: PathBuf,
    /// The database's port.
    pub(crate) database_port: u16,
    /// The scheduler's port.
    pub(crate) scheduler_port: u16,
    /// The SSPs, by id.
    pub(crate) ssps: Vec<SspSite>,
    /// The bearer between them.
    pub(crate) secret: String,
    /// The feed's highest versionstamp when the scheduler first started; later changes must be in the log
    /// one by one, earlier ones as loaded rows.
    pub(crate) loaded_to: u64,
    /// Whether the scheduler trims its log as soon as it may.
    pub(crate) trims: bool,
    /// Between two edge transactions of an SSP, milliseconds.
    pub(crate) throttle_ms: u32,
    /// Every view that was registered.
    pub(crate) views: Vec<View>,
}

/// Where an SSP is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SspSite {
    /// Its id.
    pub(crate) id: String,
    /// Its port.
    pub(crate) port: u16,
}

impl SspSite {
    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        local(self.port)
    }
}

impl Site {
    /// A new site in `dir`, on ports that are free now.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        let ports = free_ports(4)?;
        let ssps = ["ssp-1", "ssp-2"].iter().zip(&ports[2..]);
        let ssps = ssps.map(|(id, port)| SspSite { id: (*id).to_owned(), port: *port });
        Ok(Self {
            dir,
            database_port: ports[0],
            scheduler_port: ports[1],
            ssps: ssps.collect(),
            secret: uuid::Uuid::new_v4().simple().to_string(),
            loaded_to: 0,
            trims: false,
            throttle_ms: THROTTLE_MS,
            views: Vec::new(),
        })
    }

    /// Reads what [`Site::save`] wrote.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("demo.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// Writes `demo.json`.
    pub(crate) fn save(&self) -> Result<()> {
        let path = self.dir.join("demo.json");
        let text = serde_json::to_vec_pretty(self)?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// The scheduler's working directory.
    pub(crate) fn scheduler_dir(&self) -> PathBuf {
        self.dir.join("scheduler")
    }

    /// The log's directory.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.scheduler_dir().join("log")
    }

    /// Where segments are kept that the scheduler may trim.
    pub(crate) fn archive_dir(&self) -> PathBuf {
        self.dir.join("archive")
    }

    /// A directory with the whole log, what was trimmed included.
    pub(crate) fn whole_log_dir(&self) -> PathBuf {
        let archive = self.archive_dir();
        if archive.exists() { archive } else { self.log_dir() }
    }

    /// The replica's directory.
    pub(crate) fn replica_dir(&self) -> PathBuf {
        self.scheduler_dir().join("replica")
    }

    /// What writers were told is committed, a line per transaction.
    pub(crate) fn acks_file(&self) -> PathBuf {
        self.dir.join("acknowledged.jsonl")
    }

    /// Where the scheduler answers.
    pub(crate) fn scheduler_url(&self) -> String {
        local(self.scheduler_port)
    }

    /// Where the database answers.
    pub(crate) fn database_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.database_port)
    }

    /// A connection to the database.
    pub(crate) async fn connect(&self) -> Result<Db> {
        let target = Target {
            url: self.database_url(),
            user: "root".into(),
            password: "root".into(),
            namespace: "main".into(),
            database: "app".into(),
        };
        Db::connect(&target).await.context("connect to the database")
    }

    /// What asks the services.
    pub(crate) fn client(&self) -> Result<Client> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        Ok(Client { http, secret: self.secret.clone() })
    }
}

/// Asks services, with the bearer.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    secret: String,
}

impl Client {
    /// What `url` answers, if that is a success.
    pub(crate) async fn get(&self, url: &str) -> Result<Json> {
        let request = self.http.get(url).bearer_auth(&self.secret);
        let answer = request.send().await.with_context(|| format!("ask {url}"))?;
        let answer = answer.error_for_status()?;
        answer.json().await.with_context(|| format!("understand {url}"))
    }

    /// What `url` answers to `body`: status and text.
    pub(crate) async fn post(&self, url: &str, body: &Json) -> Result<(u16, String)> {
        let request = self.http.post(url).bearer_auth(&self.secret).json(body);
        let answer = request.send().await.with_context(|| format!("ask {url}"))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.unwrap_or_default()))
    }
}

fn local(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Ports that are free now; all are held until all are found, so that none is named twice.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let held = (0..count).map(|_| bind()).collect::<Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
