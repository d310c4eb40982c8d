//! `revenant`: one binary for the services, the demo and the tools that look into their data.
//!
//! Map: `cmd/` has a file per subcommand; `exit` says how a run ended, `out` prints, `telemetry` logs,
//! `leash` ends children with their starter; `demo/` is the whole system played and checked,
//! `bench/` measures it, `compose/` tries it in containers. Logic of log, replica, scheduler and SSP is in their
//! own crates.

// Futures over SurrealDB's client nest deeply.
#![recursion_limit = "512"]

mod bench;
mod cmd;
mod compose;
mod demo;
mod exit;
mod leash;
mod out;
mod telemetry;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::exit::Exit;

/// The backend of a local-first app on SurrealDB: captures every change, keeps it, and keeps live queries
/// up to date.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = exit::TABLE)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    leash::obey();
    if cmd::surrealdb::is_called_as_server() {
        return cmd::surrealdb::serve();
    }
    let cli = Cli::parse();
    telemetry::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(cmd::run(cli.command)));
    exit::report(result.unwrap_or_else(Exit::from)).into()
}
