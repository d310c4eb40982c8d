//! The connection that a service is given: waited for, and the wait said once in a while.

use std::time::Duration;

use anyhow::{Result, anyhow};
use revenant_surreal::{Db, DbError, Target};
use tokio_util::sync::CancellationToken;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(250);

/// Tries between two log lines.
const SAY_EVERY: u32 = 20;

/// Connects as soon as the database answers. `None`: told to stop before that.
///
/// # Errors
/// The database answers and refuses: a wrong password or address.
pub(crate) async fn connect(target: &Target, stop: &CancellationToken) -> Result<Option<Db>> {
    let db = Db::later(target.clone());
    tokio::select! {
        () = stop.cancelled() => Ok(None),
        reached = reach(&db) => reached.map(|()| Some(db)),
    }
}

/// Returns only if the database answers and refuses us, for a service that waits for it meanwhile.
pub(crate) async fn refusal(db: &Db) -> anyhow::Error {
    match reach(db).await {
        Ok(()) => std::future::pending().await,
        Err(refused) => refused,
    }
}

/// Tries until the database answers.
async fn reach(db: &Db) -> Result<()> {
    let mut tries = 0;
    loop {
        let error = match db.client().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let DbError::Refused(reason) = &error {
            return Err(anyhow!("connect to {:?}: {reason}", db.target()));
        }
        if tries % SAY_EVERY == 0 {
            tracing::warn!(database = db.target().url, %error, "waiting for the database");
        }
        tries += 1;
        tokio::time::sleep(AGAIN).await;
    }
}
