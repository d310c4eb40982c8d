//! The receipt: an anchor of the log that is kept outside of it, in the state store, and shown to the log at the next
//! opening. The cursors say how far the log was acknowledged to SSPs; the receipt says it when there are none, and
//! that it is still the same records.

use std::sync::Arc;
use std::time::Duration;

use revenant_log::{EventLog, Seq};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::registry::Registry;

/// Between two receipts: what an older copy of the log that is put back may lack without being noticed. Each costs
/// a sync of the state store.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps a receipt of the log's end again and again until `stop`, and once more then.
pub(crate) async fn keep(log: Arc<dyn EventLog>, registry: &Registry, stop: &CancellationToken) {
    let mut kept = Seq::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(EVERY) => {}
        }
        let end = log.durable_seq();
        if end > kept {
            match take(&log, registry, end).await {
                Ok(()) => kept = end,
                Err(error) => tracing::error!(%error, "keep a receipt of the log"),
            }
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Durable on return.
async fn take(log: &Arc<dyn EventLog>, registry: &Registry, end: Seq) -> Result<(), Error> {
    let log = Arc::clone(log);
    let anchor = tokio::task::spawn_blocking(move || log.anchor(end)).await;
    let anchor = anchor.map_err(|_| Error::Ended("taking a receipt"))??;
    registry.note(|meta| meta.receipt = Some(anchor.to_string())).await
}
