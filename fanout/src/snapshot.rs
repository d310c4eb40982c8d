//! The snapshot for one SSP: all rows as of one seq, in pages, for as long as it takes them. It is leased: each page
//! that is taken renews it, and one that nobody takes lets go of the rows.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use revenant_log::{Seq, SnapshotItem};
use revenant_replica::{Lease, Leases, Scan, Snapshot};
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
    /// What keeps the snapshot while it is sent.
    pub leases: Arc<Leases>,
    /// Where the items go, each framed by its length.
    pub items: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

/// How a snapshot was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// To its end.
    Whole,
    /// Nobody takes it any more, or it was not taken in time.
    Cut,
}

impl Receiver {
    /// Sends `snapshot`. Blocks; returns early when nobody receives any more. No row is held while an item waits
    /// to be taken, but by the lease.
    ///
    /// # Errors
    /// The replica fails; the receiver sees a stream that breaks off.
    pub fn send(&self, snapshot: Snapshot, log_epoch: u64) -> Result<Sent, Error> {
        let lease = self.leases.grant(snapshot, Instant::now());
        let sent = self.pages(lease, log_epoch);
        self.leases.end(lease.id);
        sent
    }

    fn pages(&self, lease: Lease, log_epoch: u64) -> Result<Sent, Error> {
        let Some(snapshot) = self.renew(lease) else { return Ok(Sent::Cut) };
        let tables = snapshot.tables()?;
        let begin = SnapshotItem::Begin {
            log_id: snapshot.log_id(),
            epoch: log_epoch,
            seq: snapshot.seq(),
            tables: tables.iter().map(|table| (table.name.clone(), table.rows)).collect(),
        };
        drop(snapshot);
        if !self.item(&begin.encode()) {
            return Ok(Sent::Cut);
        }
        let mut count = 0;
        for table in tables {
            let mut scan = Scan::new(&table.name);
            loop {
                let Some(snapshot) = self.renew(lease) else { return Ok(Sent::Cut) };
                let page = snapshot.next_page(&mut scan, PAGE_ROWS, PAGE_BYTES)?;
                drop(snapshot);
                let Some(page) = page else { break };
                // A long bootstrap counts as life.
                let alive = self.registry.heard(&self.ssp_id, Some(self.epoch), Sign::Alive);
                if alive.is_err() || !self.item(&page.encode()) {
                    return Ok(Sent::Cut);
                }
            }
            count += scan.rows();
        }
        let end = SnapshotItem::End { rows: count };
        Ok(if self.item(&end.encode()) { Sent::Whole } else { Sent::Cut })
    }

    fn renew(&self, lease: Lease) -> Option<Arc<Snapshot>> {
        let renewed = self.leases.renew(lease.id, lease.seq, Instant::now());
        if renewed.is_none() {
            let (ssp_id, seq) = (&self.ssp_id, lease.seq);
            tracing::warn!(ssp_id, %seq, "the lease of its snapshot ended: it has to bootstrap again");
        }
        renewed
    }

    fn item(&self, item: &Bytes) -> bool {
        self.items.blocking_send(Ok(framed(item))).is_ok()
    }
}

/// Ends leases whose readers make no progress. Never returns.
pub async fn watch_leases(leases: &Leases) {
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        for Lease { id, seq: Seq(seq), .. } in leases.expire(Instant::now()) {
            tracing::warn!(id, seq, "nobody takes the snapshot any more: its lease ended");
        }
    }
}

/// Between two looks at the leases.
const WATCH_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
