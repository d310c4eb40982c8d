//! The reconciler: compares the replica's rows with the source's, page by page, and appends what the
//! feed failed to tell as `reconcile` records.
//!
//! A difference may be a change on its way. So it counts only when it is still there after everything
//! visible was captured and applied, and its row was left alone meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use revenant_log::{Key, Op, Value};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::capture::Passes;
use crate::error::Error;
use crate::journal::{Found, Journal, Reading};
use crate::rows::Rows;
use crate::source::{Source, SourceRow};

/// How long a difference must last: longer than a change takes to become visible.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes of replica rows compared at once.
const PAGE_BYTES: usize = 32 << 20;

/// What comparing found since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Tables compared.
    pub tables: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differed and were put right.
    pub repaired: u64,
}

/// Compares rows.
pub struct Reconciler {
    /// Where rows are right.
    pub source: Arc<dyn Source>,
    /// Where corrections go.
    pub journal: Arc<Journal>,
    /// What is compared.
    pub rows: Arc<Rows>,
    /// The capture, where there is one.
    pub passes: Option<Passes>,
    /// Rows of a page.
    pub page_rows: usize,
    /// What was found.
    pub drift: watch::Sender<Drift>,
}

/// A part of a table: after a key, up to and with another.
#[derive(Clone, Copy)]
struct Span<'a> {
    table: &'a str,
    after: Option<&'a Key>,
    last: Option<&'a Key>,
}

impl Reconciler {
    /// Compares all rows of `table`. Returns how many were put right.
    ///
    /// # Errors
    /// The source, the log or the replica fails; what was put right stays so.
    pub async fn table(&self, table: &str) -> Result<usize, Error> {
        let mut repaired = 0;
        let mut after: Option<Key> = None;
        loop {
            let reading = self.journal.begin_reading().await;
            let page = self.page(&reading, table, after.as_ref()).await;
            let (found, last) = match page {
                Ok(page) => page,
                Err(error) => {
                    self.journal.abandon(reading).await;
                    return Err(error);
                }
            };
            let time_us = self.source.now().await?.time_us;
            repaired += self.journal.settle(reading, Op::Reconcile, time_us, found).await?;
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        if repaired > 0 {
            tracing::warn!(table, rows = repaired, "rows differed from the database: put right");
        }
        self.drift.send_modify(|drift| {
            drift.tables += 1;
            drift.repaired += repaired as u64;
        });
        Ok(repaired)
    }

    /// Puts one row right, if it differs.
    ///
    /// # Errors
    /// As [`Reconciler::table`].
    pub async fn row(&self, table: &str, key: &Key) -> Result<bool, Error> {
        let reading = self.journal.begin_reading().await;
        let found = match self.confirm(&reading, table, vec![key.clone()]).await {
            Ok(found) => found,
            Err(error) => {
                self.journal.abandon(reading).await;
                return Err(error);
            }
        };
        let time_us = self.source.now().await?.time_us;
        Ok(self.journal.settle(reading, Op::Reconcile, time_us, found).await? > 0)
    }

    /// What is wrong in one page, and where the next begins.
    async fn page(
        &self,
        reading: &Reading,
        table: &str,
        after: Option<&Key>,
    ) -> Result<(Vec<Found>, Option<Key>), Error> {
        let rows = self.source.rows(table, after, self.page_rows).await?;
        let whole = rows.len() < self.page_rows;
        let last = rows.last().map(|row| row.key.clone()).filter(|_| !whole);
        self.drift.send_modify(|drift| drift.rows += rows.len() as u64);
        self.caught_up().await;
        let span = Span { table, after, last: last.as_ref() };
        let suspects = self.differing(span, &rows)?;
        if suspects.is_empty() {
            return Ok((Vec::new(), last));
        }
        sleep(SETTLE).await;
        Ok((self.confirm(reading, table, suspects).await?, last))
    }

    /// Waits until everything visible is in the replica.
    async fn caught_up(&self) {
        if let Some(passes) = &self.passes {
            passes.whole().await;
        }
        self.rows.wait_for(self.journal.log().durable_seq()).await;
    }

    /// The keys at which the replica differs from `rows`.
    fn differing(&self, span: Span<'_>, rows: &[SourceRow]) -> Result<Vec<Key>, Error> {
        let snapshot = self.rows.snapshot()?;
        let mut wanted: BTreeMap<&Key, &Value> =
            rows.iter().map(|row| (&row.key, &row.body)).collect();
        let mut differing = Vec::new();
        let mut after = span.after.cloned();
        loop {
            let page =
                snapshot.page(span.table, after.as_ref(), self.page_rows.max(1), PAGE_BYTES)?;
            let Some(end) = page.last() else { break };
            after = Some(end.key.clone());
            for row in page {
                if span.last.is_some_and(|last| row.key > *last) {
                    differing.extend(wanted.into_keys().cloned());
                    return Ok(differing);
                }
                let same = wanted.remove(&row.key).is_some_and(|body| body.identical(&row.body));
                if !same {
                    differing.push(row.key);
                }
            }
        }
        differing.extend(wanted.into_keys().cloned());
        Ok(differing)
    }

    /// Reads the suspects once more, and keeps those that differ still and were left alone.
    async fn confirm(
        &self,
        reading: &Reading,
        table: &str,
        suspects: Vec<Key>,
    ) -> Result<Vec<Found>, Error> {
        let name: Arc<str> = Arc::from(table);
        let mut rows = Vec::with_capacity(suspects.len());
        for key in suspects {
            let row = self.source.row(table, &key).await?;
            rows.push(Found { table: Arc::clone(&name), key, row });
        }
        self.caught_up().await;
        let snapshot = self.rows.snapshot()?;
        let mut wrong = Vec::new();
        for found in rows {
            let kept = snapshot.get(table, &found.key)?;
            let same = match (&kept, &found.row) {
                (Some(kept), Some(row)) => kept.body.identical(&row.body),
                (None, None) => true,
                _ => false,
            };
            if !same && !self.journal.touched(reading, table, &found.key).await {
                wrong.push(found);
            }
        }
        Ok(wrong)
    }
}
