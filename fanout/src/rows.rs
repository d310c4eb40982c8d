//! `Rows`: the replica, kept up with the log by a thread of its own, and opened anew when it fails.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use revenant_log::{EventLog, Seq};
use revenant_replica::{HashCache, Pace, Replica, ReplicaConfig, Snapshot, TableReport, follow};
use tokio::sync::watch;

use crate::error::Error;

/// Wait before the replica is opened anew.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

/// The replica and its thread.
pub struct Rows {
    shared: Arc<Shared>,
    hashes: HashCache,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    path: PathBuf,
    log: Arc<dyn EventLog>,
    pace: Pace,
    stop: AtomicBool,
    replica: Mutex<Option<Arc<Replica>>>,
    applied: watch::Sender<Seq>,
    trouble: Mutex<Option<String>>,
}

impl Rows {
    /// Opens the replica in `path` and starts to follow `log`.
    ///
    /// # Errors
    /// [`Error::Replica`]: no file can be made, or another process has it.
    pub fn open(path: PathBuf, log: Arc<dyn EventLog>, pace: Pace) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            path,
            log,
            pace,
            stop: AtomicBool::new(false),
            replica: Mutex::new(None),
            applied: watch::Sender::new(Seq::ZERO),
            trouble: Mutex::new(None),
        });
        shared.reopen()?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("replica".into())
            .spawn(move || for_thread.run())
            .map_err(|source| Error::Io {
                action: "start a thread for",
                path: shared.path.clone(),
                source,
            })?;
        Ok(Self { shared, hashes: HashCache::default(), thread: Mutex::new(Some(thread)) })
    }

    /// All rows as of now, held still. Blocks for a moment.
    ///
    /// # Errors
    /// [`Error::Replica`]; [`Error::Ended`] while it is opened anew.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        match self.shared.replica() {
            Some(replica) => Ok(replica.snapshot()?),
            None => Err(Error::Ended("the replica")),
        }
    }

    /// Every table with its hash, as of one seq. Blocks for as long as it takes to read the tables that changed since
    /// the last call.
    ///
    /// # Errors
    /// As [`Rows::snapshot`].
    pub fn table_reports(&self) -> Result<(Seq, Vec<TableReport>), Error> {
        let snapshot = self.snapshot()?;
        Ok((snapshot.seq(), self.hashes.reports(&snapshot)?))
    }

    /// The hashes that are known as of now, by table. Reads no row.
    ///
    /// # Errors
    /// As [`Rows::snapshot`].
    pub fn known_hashes(&self) -> Result<(Seq, BTreeMap<String, String>), Error> {
        let snapshot = self.snapshot()?;
        Ok((snapshot.seq(), self.hashes.known(&snapshot)?))
    }

    /// Has the hashes known that are not, unless somebody computes hashes already. Blocks for as long as that takes.
    ///
    /// # Errors
    /// As [`Rows::snapshot`].
    pub fn learn_hashes(&self) -> Result<(), Error> {
        Ok(self.hashes.fill(&self.snapshot()?)?)
    }

    /// The last seq that the rows contain.
    #[must_use]
    pub fn applied_seq(&self) -> Seq {
        *self.shared.applied.borrow()
    }

    /// Waits until the rows contain `seq`.
    pub async fn wait_for(&self, seq: Seq) {
        let mut applied = self.shared.applied.subscribe();
        if applied.wait_for(|applied| *applied >= seq).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The last seq of a checkpoint that was verified: the log may be trimmed up to it.
    #[must_use]
    pub fn checkpoint_seq(&self) -> Seq {
        self.shared.replica().map_or(Seq::ZERO, |replica| replica.checkpoint_seq())
    }

    /// Why the replica is not kept up; `None` when it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }

    /// Checkpoints once more and stops. Blocks.
    pub fn close(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the replica's thread failed");
        }
        *lock(&self.shared.replica) = None;
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn replica(&self) -> Option<Arc<Replica>> {
        lock(&self.replica).clone()
    }

    fn reopen(&self) -> Result<(), Error> {
        *lock(&self.replica) = None;
        let (replica, report) =
            Replica::open(&self.path, self.log.id(), &ReplicaConfig::default())?;
        if let Some((aside, reason)) = report.moved_aside {
            tracing::warn!(aside = %aside.display(), reason, "the replica is built anew");
        }
        self.applied.send_replace(replica.applied_seq());
        *lock(&self.replica) = Some(Arc::new(replica));
        Ok(())
    }

    fn run(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let outcome = match self.replica() {
                Some(replica) => {
                    let told = |seq| {
                        self.applied.send_replace(seq);
                    };
                    follow(&replica, &self.log, self.pace, &self.stop, told).map_err(Error::from)
                }
                None => self.reopen(),
            };
            let Err(error) = outcome else { continue };
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "the replica is opened anew");
            *lock(&self.trouble) = Some(cause.unwrap_or_else(|| error.to_string()));
            *lock(&self.replica) = None;
            std::thread::sleep(REOPEN_WAIT);
            if let Err(error) = self.reopen() {
                tracing::error!(%error, "open the replica");
            } else {
                *lock(&self.trouble) = None;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
