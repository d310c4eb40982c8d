//! `Store`: what the scheduler must not forget, in a redb file of its own beside the log: registrations,
//! cursors, assignments, and how far each table was cloned.
//!
//! One thread commits. What waits for it is committed together; an ack may wait a little, so that many
//! share one sync.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use revenant_log::{Anchor, LogId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::assign::View;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::member::Registration;
use crate::tables::TableState;

/// How long an ack waits for company. Well below the 250 ms within which an ack is to be durable.
const COALESCE: Duration = Duration::from_millis(50);

/// Name, then JSON: it changes shape more easily than it grows.
type Rows = TableDefinition<'static, &'static str, &'static [u8]>;

const META: Rows = TableDefinition::new("meta");
const MEMBERS: Rows = TableDefinition::new("members");
const CURSORS: Rows = TableDefinition::new("cursors");
const VIEWS: Rows = TableDefinition::new("views");
const TABLES: Rows = TableDefinition::new("tables");
const META_KEY: &str = "meta";

/// The layout of the file.
const LAYOUT: u32 = 1;

/// Facts of which there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// See [`LAYOUT`].
    layout: u32,
    /// The log that seqs refer to, as hex.
    pub log_id: Option<String>,
    /// The source's clock when the capture first began.
    pub begun_us: Option<i64>,
    /// Rows and views were offered once: every table was loaded.
    #[serde(default)]
    pub offered: bool,
    /// An anchor of the log, `SEQ:HASH`, as it was when this was kept.
    #[serde(default)]
    pub receipt: Option<String>,
    /// The highest epoch given to a registration or an ownership.
    pub last_epoch: u64,
}

impl Meta {
    /// Whether the state belongs to `log`; a new state belongs to any.
    #[must_use]
    pub fn is_of(&self, log: LogId) -> bool {
        self.log_id.as_ref().is_none_or(|id| *id == log.to_string())
    }

    /// The receipt; `path` is the file's.
    ///
    /// # Errors
    /// [`Error::Store`]: it is none.
    pub(crate) fn receipt(&self, path: &Path) -> Result<Option<Anchor>, Error> {
        let parse =
            |text: &String| text.parse().map_err(|reason: String| failed("read", path, &reason));
        self.receipt.as_ref().map(parse).transpose()
    }
}

/// Everything that was kept.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Facts of which there is one.
    pub meta: Meta,
    /// Registrations by SSP.
    pub members: BTreeMap<String, Registration>,
    /// Cursors by SSP.
    pub cursors: BTreeMap<String, Cursor>,
    /// Views by id.
    pub views: BTreeMap<String, View>,
    /// Tables by name.
    pub tables: BTreeMap<String, TableState>,
}

/// One thing to keep; `None` forgets.
#[derive(Clone, Debug)]
pub enum Change {
    /// The facts.
    Meta(Meta),
    /// A registration.
    Member(String, Option<Registration>),
    /// A cursor.
    Cursor(String, Option<Cursor>),
    /// A view.
    View(String, Option<View>),
    /// A table.
    Table(String, Option<TableState>),
}

/// How soon a change is to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    Now,
    Soon,
}

struct Request {
    changes: Vec<Change>,
    haste: Haste,
    done: oneshot::Sender<Result<(), String>>,
}

/// The file and its thread.
pub struct Store {
    path: PathBuf,
    requests: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the file, or creates it, and reads everything.
    ///
    /// # Errors
    /// [`Error::Store`]: it is damaged, of another layout, or cannot be made.
    pub fn open(path: &Path) -> Result<(Self, Saved), Error> {
        let database = Database::builder()
            .set_cache_size(4 << 20)
            .create(path)
            .map_err(|error| failed("open", path, &error))?;
        let saved = load(&database, path)?;
        if ![0, LAYOUT].contains(&saved.meta.layout) {
            let reason = format!("layout {}, this build reads {LAYOUT}", saved.meta.layout);
            return Err(Error::Store { action: "open", path: path.to_owned(), reason });
        }
        let (requests, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("state-store".into())
            .spawn(move || commit_all(&database, &inbox))
            .map_err(|source| Error::Io {
                action: "start a thread for",
                path: path.to_owned(),
                source,
            })?;
        let store = Self {
            path: path.to_owned(),
            requests: Mutex::new(Some(requests)),
            thread: Mutex::new(Some(thread)),
        };
        Ok((store, saved))
    }

    /// Keeps `changes`, all or none; durable on return. Changes handed over earlier are durable then, too.
    ///
    /// # Errors
    /// [`Error::Store`]: whether they were kept is unknown.
    pub async fn keep(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.send(changes, Haste::Now).await
    }

    /// As [`Store::keep`], but waits a moment for others to share the sync.
    ///
    /// # Errors
    /// As [`Store::keep`].
    pub async fn keep_soon(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.send(changes, Haste::Soon).await
    }

    async fn send(&self, changes: Vec<Change>, haste: Haste) -> Result<(), Error> {
        let failed =
            |reason: String| Error::Store { action: "write", path: self.path.clone(), reason };
        let (done, result) = oneshot::channel();
        let request = Request { changes, haste, done };
        let sent = match &*lock(&self.requests) {
            Some(requests) => requests.send(request).is_ok(),
            None => false,
        };
        if !sent {
            return Err(failed("it is closed".into()));
        }
        match result.await {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(failed("its thread ended".into())),
        }
    }

    /// Commits what was handed over and lets go of the file.
    pub fn close(&self) {
        drop(lock(&self.requests).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the state store's thread failed");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn failed(action: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::Store { action, path: path.to_owned(), reason: reason.to_string() }
}

fn load(database: &Database, path: &Path) -> Result<Saved, Error> {
    let open = |error: &dyn std::fmt::Display| failed("read", path, error);
    // Reading a table that was never written is an error, so all are made first.
    let transaction = database.begin_write().map_err(|error| open(&error))?;
    for table in [META, MEMBERS, CURSORS, VIEWS, TABLES] {
        transaction.open_table(table).map_err(|error| open(&error))?;
    }
    transaction.commit().map_err(|error| open(&error))?;
    let mut meta: BTreeMap<String, Meta> = rows(database, META).map_err(|e| open(&e))?;
    Ok(Saved {
        meta: meta.remove(META_KEY).unwrap_or_default(),
        members: rows(database, MEMBERS).map_err(|e| open(&e))?,
        cursors: rows(database, CURSORS).map_err(|e| open(&e))?,
        views: rows(database, VIEWS).map_err(|e| open(&e))?,
        tables: rows(database, TABLES).map_err(|e| open(&e))?,
    })
}

fn rows<T: DeserializeOwned>(
    database: &Database,
    table: Rows,
) -> Result<BTreeMap<String, T>, String> {
    let text = |error: redb::Error| error.to_string();
    let transaction = database.begin_read().map_err(|error| text(error.into()))?;
    let table = transaction.open_table(table).map_err(|error| text(error.into()))?;
    let mut found = BTreeMap::new();
    for entry in table.iter().map_err(|error| text(error.into()))? {
        let (name, bytes) = entry.map_err(|error| text(error.into()))?;
        let row = serde_json::from_slice(bytes.value())
            .map_err(|error| format!("row {:?}: {error}", name.value()))?;
        found.insert(name.value().to_owned(), row);
    }
    Ok(found)
}

fn commit_all(database: &Database, inbox: &Receiver<Request>) {
    while let Ok(first) = inbox.recv() {
        let until = Instant::now() + COALESCE;
        let mut hurry = first.haste == Haste::Now;
        let mut waiting = vec![first];
        loop {
            let wait = if hurry { Duration::ZERO } else { until - Instant::now().min(until) };
            match inbox.recv_timeout(wait) {
                Ok(request) => {
                    hurry |= request.haste == Haste::Now;
                    waiting.push(request);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let changes = waiting.iter().flat_map(|request| &request.changes);
        let result = commit(database, changes).map_err(|error| error.to_string());
        for request in waiting {
            if request.done.send(result.clone()).is_err() {
                tracing::trace!("nobody waits for the commit any more");
            }
        }
    }
}

fn commit<'a>(
    database: &Database,
    changes: impl Iterator<Item = &'a Change>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for change in changes {
        match change {
            Change::Meta(meta) => {
                let meta = Meta { layout: LAYOUT, ..meta.clone() };
                put(&transaction, META, META_KEY, Some(&meta))?;
            }
            Change::Member(name, row) => put(&transaction, MEMBERS, name, row.as_ref())?,
            Change::Cursor(name, row) => put(&transaction, CURSORS, name, row.as_ref())?,
            Change::View(name, row) => put(&transaction, VIEWS, name, row.as_ref())?,
            Change::Table(name, row) => put(&transaction, TABLES, name, row.as_ref())?,
        }
    }
    transaction.commit()?;
    Ok(())
}

fn put<T: Serialize>(
    transaction: &redb::WriteTransaction,
    table: Rows,
    name: &str,
    row: Option<&T>,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(table)?;
    match row {
        Some(row) => {
            let bytes = serde_json::to_vec(row).expect("our rows are JSON");
            table.insert(name, bytes.as_slice())?;
        }
        None => drop(table.remove(name)?),
    }
    Ok(())
}
