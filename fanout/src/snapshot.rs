//! The snapshot for one SSP: all rows as of one seq, in pages, for as long as it takes them. It is leased: each page
//! that is taken renews it, and one that nobody takes lets go of the rows.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use revenant_log::{Seq, SnapshotItem};
use revenant_replica::{Lease, Leases, Scan, Snapshot};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;

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
    /// Where the items go, each framed by its length. Holds at least two.
    pub items: mpsc::Sender<Item>,
}

/// What is sent: an item's bytes.
pub type Item = Result<Bytes, std::io::Error>;

/// How a snapshot was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// To its end.
    Whole,
    /// It was not taken in time, and the receiver was told so.
    Ended,
    /// Nobody receives it any more, or nobody may.
    Left,
}

/// Why sending stops early.
enum Stop {
    /// The lease ended.
    Late,
    Left,
    Failed(Error),
}

impl From<revenant_replica::Error> for Stop {
    fn from(error: revenant_replica::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Receiver {
    /// Sends `snapshot`. Blocks, for at most a lease's term at a time; returns early when nobody receives any more. No
    /// row is held while an item waits to be taken, but by the lease.
    ///
    /// # Errors
    /// The replica fails; the receiver sees a stream that breaks off.
    ///
    /// # Panics
    /// Outside of a runtime's thread for blocking work.
    pub fn send(&self, snapshot: Snapshot, log_epoch: u64) -> Result<Sent, Error> {
        // Whoever takes nothing for too long leaves no room, but is to find a reason when he comes back.
        let Ok(last_word) = self.items.clone().try_reserve_owned() else { return Ok(Sent::Left) };
        let lease = self.leases.grant(snapshot, Instant::now());
        let sent = self.pages(lease, log_epoch);
        self.leases.end(lease.id);
        match sent {
            Ok(()) => Ok(Sent::Whole),
            Err(Stop::Left) => Ok(Sent::Left),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Late) => {
                let (ssp_id, seq, term) = (&self.ssp_id, lease.seq, self.leases.term());
                tracing::warn!(ssp_id, %seq, "the lease of its snapshot ended: it has to bootstrap again");
                let reason = format!(
                    "nothing of it was taken for {} s: bootstrap again",
                    term.as_secs_f64()
                );
                last_word.send(Ok(framed(&SnapshotItem::Ended { reason }.encode())));
                Ok(Sent::Ended)
            }
        }
    }

    fn pages(&self, lease: Lease, log_epoch: u64) -> Result<(), Stop> {
        let snapshot = self.renew(lease)?;
        let tables = snapshot.tables()?;
        let begin = SnapshotItem::Begin {
            log_id: snapshot.log_id(),
            epoch: log_epoch,
            seq: snapshot.seq(),
            tables: tables.iter().map(|table| (table.name.clone(), table.rows)).collect(),
        };
        drop(snapshot);
        self.item(&begin.encode())?;
        let mut count = 0;
        for table in tables {
            let mut scan = Scan::new(&table.name);
            loop {
                let snapshot = self.renew(lease)?;
                let page = snapshot.next_page(&mut scan, PAGE_ROWS, PAGE_BYTES)?;
                drop(snapshot);
                let Some(page) = page else { break };
                // A long bootstrap counts as life.
                let alive = self.registry.heard(&self.ssp_id, Some(self.epoch), Sign::Alive);
                alive.map_err(|_| Stop::Left)?;
                self.item(&page.encode())?;
            }
            count += scan.rows();
        }
        self.item(&SnapshotItem::End { rows: count }.encode())
    }

    fn renew(&self, lease: Lease) -> Result<Arc<Snapshot>, Stop> {
        self.leases.renew(lease.id, lease.seq, Instant::now()).ok_or(Stop::Late)
    }

    /// Waits for room as long as the lease can last.
    fn item(&self, item: &Bytes) -> Result<(), Stop> {
        let sent = self.items.send_timeout(Ok(framed(item)), self.leases.term());
        Handle::current().block_on(sent).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => Stop::Late,
            SendTimeoutError::Closed(_) => Stop::Left,
        })
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
