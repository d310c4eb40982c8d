//! SurrealDB's own server as one function.
//!
//! A crate of its own, since the server is generic: whoever names its types compiles all of it again, which
//! takes minutes. Here that happens once, and the binary above only links the result.

// SurrealDB's futures nest deeply.
#![recursion_limit = "512"]

use std::process::ExitCode;

/// Is the server until it ends. Reads the arguments of the process itself, as SurrealDB's binary does.
#[must_use]
pub fn serve() -> ExitCode {
    surrealdb_server::init(surrealdb_server::core::CommunityComposer())
}
