//! The clone: reads the rows of tables that are not in the log yet, page by page and several tables at once, and
//! appends them as `load` records, while the capture goes on. How far it came is durable after every page.
//!
//! The feed is read from before the first page on, so whatever a page does not show is in the feed, and
//! what it shows too early comes again. A row that changed while its page was read is left to the feed:
//! see [`crate::journal`].

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use revenant_log::Op;
use tokio::sync::watch;

use crate::capture::Passes;
use crate::error::Error;
use crate::journal::{Found, Journal};
use crate::reconcile::Reconciler;
use crate::source::Source;
use crate::tables::{Tables, Work};

/// Tables worked on at once: while one's page is on its way, others' are appended.
const TABLES_AT_ONCE: usize = 4;

/// Does for every table what is left to do.
pub struct Cloner {
    /// Where rows are read.
    pub source: Arc<dyn Source>,
    /// Where they go.
    pub journal: Arc<Journal>,
    /// What is to be done.
    pub tables: Arc<Tables>,
    /// Compares rows.
    pub reconciler: Arc<Reconciler>,
    /// The capture, where there is one.
    pub passes: Option<Passes>,
    /// Rows of a page.
    pub page_rows: usize,
    /// Rows loaded since the start.
    pub loaded: watch::Sender<u64>,
}

impl Cloner {
    /// Looks which tables there are and works until nothing is left to do.
    ///
    /// # Errors
    /// The source, the log or the store fails; what was done stays done.
    pub async fn work(&self) -> Result<(), Error> {
        self.tables.found(&self.source.tables().await?).await?;
        loop {
            let work = self.tables.work();
            if work.is_empty() {
                return Ok(());
            }
            // A table that fails lets the others come to an end, so that no reading is left open.
            let works = work.into_iter().map(|(table, work)| self.one(table, work));
            let done: Vec<_> = stream::iter(works).buffer_unordered(TABLES_AT_ONCE).collect().await;
            done.into_iter().collect::<Result<(), _>>()?;
        }
    }

    async fn one(&self, table: String, work: Work) -> Result<(), Error> {
        match work {
            Work::Load { after } => self.load(&table, after).await,
            Work::Compare => {
                self.reconciler.table(&table).await?;
                self.compared(&table).await
            }
            Work::Nothing => Ok(()),
        }
    }

    async fn load(&self, table: &str, mut after: Option<revenant_log::Key>) -> Result<(), Error> {
        let name: Arc<str> = Arc::from(table);
        let mut count = 0;
        loop {
            let time_us = self.source.now().await?.time_us;
            let reading = self.journal.begin_reading().await;
            let rows = match self.source.rows(table, after.as_ref(), self.page_rows).await {
                Ok(rows) => rows,
                Err(error) => {
                    self.journal.abandon(reading).await;
                    return Err(error.into());
                }
            };
            // Changes that the page already shows are appended before it, not after.
            if let Some(passes) = &self.passes {
                passes.whole().await;
            }
            let last = rows.len() < self.page_rows;
            after = rows.last().map(|row| row.key.clone()).or(after);
            let found = rows.into_iter().map(|row| Found {
                table: Arc::clone(&name),
                key: row.key.clone(),
                row: Some(row),
            });
            let loaded = self.journal.settle(reading, Op::Load, time_us, found.collect()).await?;
            count += loaded;
            self.loaded.send_modify(|all| *all += loaded as u64);
            if last {
                tracing::info!(table, rows = count, "loaded");
                return self.tables.progress(table, Work::Nothing).await;
            }
            self.tables.progress(table, Work::Load { after: after.clone() }).await?;
        }
    }

    /// A compared table is done with, and forgotten if it is gone.
    async fn compared(&self, table: &str) -> Result<(), Error> {
        let there = self.source.tables().await?.iter().any(|found| found.name == table);
        if there {
            self.tables.progress(table, Work::Nothing).await
        } else {
            self.tables.forget(table).await
        }
    }
}
