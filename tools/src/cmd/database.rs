//! The connection that a service is given: waited for, and the wait said once in a while.

use std::time::Duration;

use anyhow::{Result, bail};
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
    let mut tries = 0;
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            connected = Db::connect(target) => match connected {
                Ok(db) => return Ok(Some(db)),
                Err(error) => error,
            },
        };
        if let DbError::Refused(reason) = &error {
            bail!("connect to {target:?}: {reason}");
        }
        if tries % SAY_EVERY == 0 {
            tracing::warn!(database = target.url, %error, "waiting for the database");
        }
        tries += 1;
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
