//! Pushed events are claims: they are sent before the commit, which may yet fail. So the row is read a
//! moment later, and if it is not as claimed, a `reconcile` record says how it is.

use std::sync::Arc;
use std::time::Duration;

use revenant_log::{Key, Seq};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::capture::micros;
use crate::error::Error;
use crate::journal::Journal;
use crate::post::Post;
use crate::reconcile::Reconciler;
use crate::registry::unix_seconds;

/// When a claim is looked at: soon, and once more for a commit that took long.
const LOOKS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// Claims that may wait to be looked at. Beyond it the comparison of all rows finds what is wrong.
const WAITING_MOST: usize = 100_000;

/// Wait before a claim is looked at again when the database did not answer.
const RETRY: Duration = Duration::from_secs(1);

type Claim = (Instant, Arc<str>, Key);

/// Takes pushed events in.
pub struct Claims {
    journal: Arc<Journal>,
    waiting: mpsc::Sender<Claim>,
    inbox: Mutex<mpsc::Receiver<Claim>>,
}

impl Claims {
    /// Nothing claimed yet.
    #[must_use]
    pub fn new(journal: Arc<Journal>) -> Self {
        let (waiting, inbox) = mpsc::channel(WAITING_MOST);
        Self { journal, waiting, inbox: Mutex::new(inbox) }
    }

    /// Appends a pushed event; durable on return.
    ///
    /// # Errors
    /// The log refuses.
    pub async fn push(&self, post: Post) -> Result<Seq, Error> {
        let claim = (Instant::now(), Arc::clone(&post.table), post.key.clone());
        let time_us = micros(Duration::from_secs(unix_seconds()));
        let seq = self.journal.push(time_us, post.into_event()).await?;
        if self.waiting.try_send(claim).is_err() {
            tracing::warn!(
                "too many claims wait: the next comparison of all rows looks at this one"
            );
        }
        Ok(seq)
    }

    /// Looks at claims until `stop`.
    pub async fn run(&self, reconciler: &Reconciler, stop: &CancellationToken) {
        let mut inbox = self.inbox.lock().await;
        let mut again = std::collections::VecDeque::<Claim>::new();
        loop {
            let second = again.front().map(|(at, ..)| *at + LOOKS[1]);
            let claim = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(second.unwrap_or_else(Instant::now)), if second.is_some() => {
                    let (_, table, key) = again.pop_front().expect("it is there");
                    settle(reconciler, &table, &key).await;
                    continue;
                }
                claim = inbox.recv() => claim,
            };
            let Some(claim) = claim else { return };
            sleep_until(claim.0 + LOOKS[0]).await;
            settle(reconciler, &claim.1, &claim.2).await;
            again.push_back(claim);
        }
    }
}

async fn settle(reconciler: &Reconciler, table: &str, key: &Key) {
    while let Err(error) = reconciler.row(table, key).await {
        tracing::warn!(%error, table, "a claim is looked at later");
        sleep(RETRY).await;
    }
}
