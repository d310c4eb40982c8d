//! Writers: every transaction of the history becomes one transaction of SurrealDB. What is acknowledged is
//! written down, for the checker.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rand::Rng as _;
use revenant_log::{RecordId, Value};
use revenant_surreal::{Db, DbError};
use revenant_testdata::history::{Op, Transaction};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::plan::ending;
use super::site::Site;

/// How often a transaction is tried.
const TRIES: u32 = 400;

/// The longest wait between two tries, milliseconds.
const PAUSE_MOST_MS: u64 = 100;

/// While a kill is due and not made, writers go on at this pace, so that it meets active writers.
const TRICKLE: Duration = Duration::from_millis(100);

/// One transaction. Links first, so that each points at a row that is there.
const STATEMENTS: &str = "
BEGIN;
UPSERT $author SET commits = (commits ?? 0) + 1, first_seen = math::min([first_seen ?? $time, $time]);
UPSERT $commit SET author = $author, time = $time, words = $words, changes = $changes;
FOR $file IN $written {
    LET $row = $file.id;
    UPSERT $row SET last_commit = $commit, last_author = $author, touched = (touched ?? 0) + 1,
        ext = $file.ext, depth = $file.depth;
};
FOR $row IN $deleted { DELETE $row; };
COMMIT;
";

/// What a writer was told is committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ack {
    /// The transaction's name.
    pub(crate) commit: String,
    /// Its author.
    pub(crate) author: String,
    /// Paths that it wrote; each has a changed row.
    pub(crate) written: Vec<String>,
    /// Paths that it deleted, if they were there.
    pub(crate) deleted: Vec<String>,
}

/// How far the load is, and how far it may go.
pub(crate) struct Pace {
    next: AtomicUsize,
    acknowledged: AtomicUsize,
    conflicts: AtomicUsize,
    free_to: AtomicUsize,
    hard_to: AtomicUsize,
    /// Each author writes one transaction at a time, as people do; what different authors write still meets.
    authors: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Pace {
    /// From transaction `from` on, without bounds.
    pub(crate) fn new(from: usize) -> Arc<Self> {
        Arc::new(Self {
            next: AtomicUsize::new(from),
            acknowledged: AtomicUsize::new(from),
            conflicts: AtomicUsize::new(0),
            free_to: AtomicUsize::new(usize::MAX),
            hard_to: AtomicUsize::new(usize::MAX),
            authors: Mutex::default(),
        })
    }

    /// Transactions acknowledged so far, of all.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Tries that met another transaction.
    pub(crate) fn conflicts(&self) -> usize {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Full speed up to `free_to`, then a trickle up to `hard_to`, then waiting.
    pub(crate) fn bound(&self, free_to: usize, hard_to: usize) {
        self.hard_to.store(hard_to, Ordering::Release);
        self.free_to.store(free_to, Ordering::Release);
    }

    /// The author's turn to write.
    fn turn(&self, author: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut authors = self.authors.lock().unwrap_or_else(PoisonError::into_inner);
        authors.entry(author.to_owned()).or_default().clone()
    }

    /// The next transaction below `end`, when it may begin.
    async fn take(&self, end: usize) -> Option<usize> {
        loop {
            let next = self.next.load(Ordering::Acquire);
            if next >= end {
                return None;
            }
            let (free_to, hard_to) =
                (self.free_to.load(Ordering::Acquire), self.hard_to.load(Ordering::Acquire));
            if next >= free_to {
                tokio::time::sleep(TRICKLE).await;
            }
            if next >= hard_to && next >= self.hard_to.load(Ordering::Acquire) {
                continue;
            }
            let taken =
                self.next.compare_exchange(next, next + 1, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                return Some(next);
            }
        }
    }
}

/// Plays `history` from where `pace` is up to `end` with so many writers; all are acknowledged on return.
pub(crate) async fn play(
    site: &Site,
    history: &Arc<Vec<Transaction>>,
    end: usize,
    writers: u16,
    pace: &Arc<Pace>,
) -> Result<()> {
    let (acks, mut heard) = mpsc::channel::<Ack>(1024);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(site.acks_file());
    let mut file = std::io::BufWriter::new(file.context("open the acknowledgements' file")?);
    let keeper = tokio::spawn(async move {
        while let Some(ack) = heard.recv().await {
            serde_json::to_writer(&mut file, &ack)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    });
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let db = site.connect().await?;
        let (history, pace, acks) = (history.clone(), pace.clone(), acks.clone());
        tasks.spawn(async move {
            while let Some(index) = pace.take(end).await {
                let turn = pace.turn(&history[index].author);
                let writing = turn.lock().await;
                let ack = write(&db, &history[index], &pace).await?;
                drop(writing);
                acks.send(ack).await.context("note an acknowledgement")?;
                pace.acknowledged.fetch_add(1, Ordering::AcqRel);
            }
            anyhow::Ok(())
        });
    }
    drop(acks);
    while let Some(done) = tasks.join_next().await {
        done.context("run a writer")??;
    }
    keeper.await?.context("write the acknowledgements' file")
}

/// Commits one transaction.
async fn write(db: &Db, transaction: &Transaction, pace: &Pace) -> Result<Ack> {
    let (written, deleted) = outcome(transaction);
    let commit = RecordId::new("commit", transaction.commit.as_str());
    for try_number in 0..TRIES {
        let params = [
            ("author", id(RecordId::new("author", transaction.author.as_str()))),
            ("commit", id(commit.clone())),
            ("time", Value::Int(transaction.time)),
            ("words", Value::Int(transaction.words)),
            ("changes", Value::Int(i64::try_from(transaction.changes.len())?)),
            ("written", Value::Array(written.iter().map(|path| file(path)).collect())),
            ("deleted", Value::Array(deleted.iter().map(|path| id(file_id(path))).collect())),
        ];
        let error = match db.run(STATEMENTS, params).await {
            Ok(_) => return Ok(ack(transaction, written, deleted)),
            Err(error) => error,
        };
        match error {
            DbError::Conflict(_) => {
                pace.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            DbError::Unavailable(_) => {
                // Perhaps it was committed and the answer lost.
                let there =
                    db.run("SELECT VALUE id FROM $commit", [("commit", id(commit.clone()))]);
                if matches!(there.await?.first(), Some(Value::Array(rows)) if !rows.is_empty()) {
                    return Ok(ack(transaction, written, deleted));
                }
            }
            other => return Err(other).with_context(|| format!("commit {}", transaction.commit)),
        }
        let most = (2 << try_number.min(6)).min(PAUSE_MOST_MS);
        let pause = rand::rng().random_range(0..=most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    bail!("transaction {} met others {TRIES} times", transaction.commit)
}

fn ack(transaction: &Transaction, written: Vec<String>, deleted: Vec<String>) -> Ack {
    let (commit, author) = (transaction.commit.clone(), transaction.author.clone());
    Ack { commit, author, written, deleted }
}

/// What a transaction leaves of each path: written, or deleted.
fn outcome(transaction: &Transaction) -> (Vec<String>, Vec<String>) {
    let last: BTreeMap<_, _> =
        transaction.changes.iter().map(|change| (change.path.clone(), change.op)).collect();
    let (deleted, written): (Vec<_>, Vec<_>) =
        last.into_iter().partition(|(_, op)| *op == Op::Delete);
    let paths = |changes: Vec<(String, Op)>| changes.into_iter().map(|(path, _)| path).collect();
    (paths(written), paths(deleted))
}

/// A file's row.
pub(crate) fn file_id(path: &str) -> RecordId {
    RecordId::new("file", path)
}

fn file(path: &str) -> Value {
    let depth = i64::try_from(path.matches('/').count()).unwrap_or(i64::MAX);
    Value::Object(
        [
            ("id".to_owned(), id(file_id(path))),
            ("ext".to_owned(), Value::String(ending(path))),
            ("depth".to_owned(), Value::Int(depth)),
        ]
        .into(),
    )
}

fn id(id: RecordId) -> Value {
    Value::RecordId(Box::new(id))
}
