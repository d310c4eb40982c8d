//! `Tables`: which tables are captured, and how far each was cloned or compared, durably.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use revenant_log::Key;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::Error;
use crate::source::SourceTable;
use crate::store::{Change, Store};

/// What is known of a captured table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// Whether its changes are in the feed.
    pub feed: bool,
    /// Where they are not: the statement that would put them there.
    #[serde(default)]
    pub fix: Option<String>,
    /// What is still to be done for it.
    pub work: Work,
}

/// What is still to be done for a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Its rows after this key are to be loaded.
    Load {
        /// The last key loaded.
        after: Option<Key>,
    },
    /// Its rows are to be compared with the replica's.
    Compare,
    /// Nothing: the feed says what changes.
    Nothing,
}

/// The captured tables.
pub struct Tables {
    store: Arc<Store>,
    inner: Mutex<BTreeMap<String, TableState>>,
    look: Notify,
}

impl Tables {
    /// The tables that were kept.
    #[must_use]
    pub fn new(store: Arc<Store>, kept: BTreeMap<String, TableState>) -> Self {
        Self { store, inner: Mutex::new(kept), look: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, TableState>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at which tables there are.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Waits until someone asked for a look.
    pub async fn asked(&self) {
        self.look.notified().await;
    }

    /// All tables by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, TableState> {
        self.inner().clone()
    }

    /// The table `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<TableState> {
        self.inner().get(name).cloned()
    }

    /// Every table with work to do, by name.
    #[must_use]
    pub fn work(&self) -> Vec<(String, Work)> {
        let inner = self.inner();
        let due = inner.iter().filter(|(_, state)| state.work != Work::Nothing);
        due.map(|(name, state)| (name.clone(), state.work.clone())).collect()
    }

    /// Whether a table was never loaded whole.
    #[must_use]
    pub fn loading(&self) -> bool {
        self.inner().values().any(|state| matches!(state.work, Work::Load { .. }))
    }

    /// Takes note of the tables that the source has now. A new one is to be loaded; the rows of one that
    /// is gone are to be compared, which finds that they are gone.
    ///
    /// # Errors
    /// The store fails.
    pub async fn found(&self, tables: &[SourceTable]) -> Result<(), Error> {
        let mut changed = Vec::new();
        {
            let mut inner = self.inner();
            for table in tables {
                let work = match inner.get(&table.name) {
                    None => Work::Load { after: None },
                    // What changed before it came into the feed was not heard.
                    Some(known) if !known.feed && table.feed && known.work == Work::Nothing => {
                        Work::Compare
                    }
                    Some(known) => known.work.clone(),
                };
                let state = TableState { feed: table.feed, fix: table.fix.clone(), work };
                if inner.get(&table.name) != Some(&state) {
                    say(&table.name, &state);
                    inner.insert(table.name.clone(), state.clone());
                    changed.push(Change::Table(table.name.clone(), Some(state)));
                }
            }
            for (name, state) in inner.iter_mut() {
                let gone = !tables.iter().any(|table| table.name == *name);
                if gone && state.work != Work::Compare {
                    tracing::warn!(table = name, "the table is gone");
                    state.work = Work::Compare;
                    changed.push(Change::Table(name.clone(), Some(state.clone())));
                }
            }
        }
        if changed.is_empty() { Ok(()) } else { self.store.keep(changed).await }
    }

    /// Notes what is left to do for a table.
    ///
    /// # Errors
    /// The store fails.
    pub async fn progress(&self, name: &str, work: Work) -> Result<(), Error> {
        let change = {
            let mut inner = self.inner();
            let Some(state) = inner.get_mut(name) else { return Ok(()) };
            state.work = work;
            Change::Table(name.to_owned(), Some(state.clone()))
        };
        self.store.keep(vec![change]).await
    }

    /// Forgets a table that is gone.
    ///
    /// # Errors
    /// The store fails.
    pub async fn forget(&self, name: &str) -> Result<(), Error> {
        self.inner().remove(name);
        self.store.keep(vec![Change::Table(name.to_owned(), None)]).await
    }

    /// Has the rows of every table compared, which also loads what was not loaded yet.
    ///
    /// # Errors
    /// The store fails.
    pub async fn compare_all(&self) -> Result<(), Error> {
        let changes: Vec<Change> = {
            let mut inner = self.inner();
            inner
                .iter_mut()
                .map(|(name, state)| {
                    state.work = Work::Compare;
                    Change::Table(name.clone(), Some(state.clone()))
                })
                .collect()
        };
        self.look();
        if changes.is_empty() { Ok(()) } else { self.store.keep(changes).await }
    }
}

fn say(table: &str, state: &TableState) {
    match (&state.fix, state.feed) {
        (_, true) => tracing::info!(table, "captured from the feed"),
        (Some(fix), false) => tracing::warn!(
            table,
            fix,
            "not in the feed: its changes are only known if they are posted to /ingest; run the statement"
        ),
        (None, false) => tracing::warn!(table, "not in the feed"),
    }
}
