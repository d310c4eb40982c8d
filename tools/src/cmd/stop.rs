//! When a service is told to stop.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM and Ctrl-C cancel. A second signal does not wait: the process ends at once.
pub(crate) fn on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        for patience in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !patience {
                std::process::exit(130);
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(token)
}
