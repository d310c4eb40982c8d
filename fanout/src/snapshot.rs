//! The snapshot for one SSP: all rows as of one seq, in pages, for as long as its registration holds.

use std::sync::Arc;

use bytes::Bytes;
use revenant_log::{SnapshotItem, SnapshotRow};
use revenant_replica::{Row, Snapshot};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::feed::framed;
use crate::member::Sign;
use crate::registry::Registry;

/// Bytes of rows in one page.
const PAGE_BYTES: usize = 1 << 20;

/// Rows in one page.
const PAGE_ROWS: usize = 10_000;

/// What a snapshot is sent to.
pub struct Receiver {
    /// Who is registered.
    pub registry: Arc<Registry>,
    /// The SSP.
    pub ssp_id: String,
    /// Its registration.
    pub epoch: u64,
    /// Where the items go, each framed by its length.
    pub items: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

impl Receiver {
    /// Sends `snapshot`. Blocks; returns early when nobody receives any more.
    ///
    /// # Errors
    /// The replica fails; the receiver sees a stream that breaks off.
    pub fn send(&self, snapshot: &Snapshot, log_epoch: u64) -> Result<(), Error> {
        let tables = snapshot.tables()?;
        let begin = SnapshotItem::Begin {
            log_id: snapshot.log_id(),
            epoch: log_epoch,
            seq: snapshot.seq(),
            tables: tables.iter().map(|table| (table.name.clone(), table.rows)).collect(),
        };
        if !self.item(&begin) {
            return Ok(());
        }
        let mut count = 0;
        for table in tables {
            let mut after = None;
            loop {
                let page = snapshot.page(&table.name, after.as_ref(), PAGE_ROWS, PAGE_BYTES)?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                count += page.len() as u64;
                let rows = page.into_iter().map(row).collect();
                let item = SnapshotItem::Rows { table: table.name.clone(), rows };
                // A long bootstrap counts as life.
                let alive = self.registry.heard(&self.ssp_id, Some(self.epoch), Sign::Alive);
                if alive.is_err() || !self.item(&item) {
                    return Ok(());
                }
            }
        }
        self.item(&SnapshotItem::End { rows: count });
        Ok(())
    }

    fn item(&self, item: &SnapshotItem) -> bool {
        self.items.blocking_send(Ok(framed(&item.encode()))).is_ok()
    }
}

fn row(row: Row) -> SnapshotRow {
    SnapshotRow { key: row.key, version: row.version, body: row.body }
}
