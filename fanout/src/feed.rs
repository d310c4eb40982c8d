//! The feed to one SSP: batches of records as they stand in the log, for as long as its registration
//! holds. Nothing is buffered per SSP: a slow one reads older records from the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::unfold;
use revenant_log::{DurableSeq, EventLog, Seq, WireBatch};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::member::Sign;
use crate::registry::Registry;

/// Bytes of records in one batch; a larger record travels alone.
pub const BATCH_BYTES: usize = 1 << 20;

/// Between two signs of life on a feed that has nothing to say.
pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Records that lie this far behind the end are read from disk, off the runtime's threads.
const NEAR: u64 = 4096;

/// What a feed is made of.
pub struct Feed {
    log: Arc<dyn EventLog>,
    registry: Arc<Registry>,
    ssp_id: String,
    epoch: u64,
    sent: Seq,
    durable: DurableSeq,
    registrations: watch::Receiver<u64>,
    stop: CancellationToken,
    beat_at: Instant,
}

impl Feed {
    /// The feed of the records after `after` to registration `epoch` of `ssp_id`.
    #[must_use]
    pub fn new(
        log: Arc<dyn EventLog>,
        registry: Arc<Registry>,
        ssp_id: String,
        epoch: u64,
        after: Seq,
        stop: CancellationToken,
    ) -> Self {
        let (durable, registrations) = (log.watch(), registry.watch());
        // The first heartbeat comes at once when there is nothing to send: it says where the end is.
        let beat_at = Instant::now();
        Self { log, registry, ssp_id, epoch, sent: after, durable, registrations, stop, beat_at }
    }

    /// The batches, each framed by its length. Ends when the registration does, or on stop.
    pub fn stream(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
        unfold(self, |mut feed| async {
            let batch = feed.next().await?;
            Some((Ok(framed(&batch.encode())), feed))
        })
    }

    /// The next batch; `None` at the end.
    async fn next(&mut self) -> Option<WireBatch> {
        loop {
            if self.stop.is_cancelled() || self.registry.check(&self.ssp_id, self.epoch).is_err() {
                return None;
            }
            if self.log.durable_seq() > self.sent {
                let batch = self.read().await?;
                self.sent = batch.last_seq();
                if self.sent == self.log.durable_seq() {
                    self.beat_at = self.beat_at.min(Instant::now());
                }
                return Some(batch);
            }
            if self.beat_at <= Instant::now() {
                self.beat_at = Instant::now() + HEARTBEAT;
                return Some(self.heartbeat());
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                durable = self.durable.wait_past(self.sent) => {
                    if durable.is_err() {
                        return None; // the log was closed
                    }
                }
                changed = self.registrations.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                }
                () = sleep_until(self.beat_at) => {}
            }
        }
    }

    async fn read(&self) -> Option<WireBatch> {
        let from = self.sent.next();
        let read = if self.log.durable_seq().0 - self.sent.0 <= NEAR {
            self.log.read(from, BATCH_BYTES)
        } else {
            // What is read of it is a sign that the SSP works through it.
            self.alive();
            let log = Arc::clone(&self.log);
            tokio::task::spawn_blocking(move || log.read(from, BATCH_BYTES)).await.ok()?
        };
        match read {
            Ok(batch) => Some(batch),
            Err(error) => {
                tracing::error!(%error, ssp_id = self.ssp_id, %from, "the feed ends");
                None
            }
        }
    }

    fn alive(&self) {
        if self.registry.heard(&self.ssp_id, Some(self.epoch), Sign::Alive).is_err() {
            tracing::debug!(ssp_id = self.ssp_id, "its registration ended");
        }
    }

    fn heartbeat(&self) -> WireBatch {
        WireBatch {
            log_id: self.log.id(),
            epoch: self.log.epoch(),
            prev_seq: self.sent,
            first_seq: self.sent.next(),
            records: Vec::new(),
        }
    }
}

/// An item with its length before it.
pub(crate) fn framed(item: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(item.len() + 4);
    frame.put_u32_le(u32::try_from(item.len()).expect("an item is far below 4 GiB"));
    frame.put_slice(item);
    frame.freeze()
}
