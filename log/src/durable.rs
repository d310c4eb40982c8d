//! `DurableSeq`: read or await the highest synced seq.

use tokio::sync::watch;

use crate::error::Error;
use crate::seq::Seq;

/// The highest seq that survives power loss. It never stands inside a transaction and never goes back.
#[derive(Clone, Debug)]
pub struct DurableSeq(pub(crate) watch::Receiver<Seq>);

impl DurableSeq {
    /// The highest durable seq now.
    #[must_use]
    pub fn get(&self) -> Seq {
        *self.0.borrow()
    }

    /// Waits until a seq above `seq` is durable, and returns the highest one. May be cancelled freely.
    ///
    /// # Errors
    /// [`Error::Closed`] when the log is closed first.
    pub async fn wait_past(&mut self, seq: Seq) -> Result<Seq, Error> {
        self.0.wait_for(|durable| *durable > seq).await.map(|seq| *seq).map_err(|_| Error::Closed)
    }
}
