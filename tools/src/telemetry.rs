//! Log lines: on standard error, readable on a terminal, as JSON elsewhere. `RUST_LOG` filters them.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`. SurrealDB's client warns when it cannot end the live queries of a connection that
/// is gone, which ended with it.
const DEFAULT: &str = "info,surrealdb=warn,surrealdb::method::live=error,hyper=warn,reqwest=warn";

/// Starts logging for the whole process.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if terminal {
        lines.with_ansi(std::env::var_os("NO_COLOR").is_none()).with_target(false).init();
    } else {
        lines.json().flatten_event(true).init();
    }
}
