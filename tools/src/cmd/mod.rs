//! The subcommands: one file each.

mod database;
mod dev;
mod healthcheck;
mod log;
mod replay;
mod scheduler;
mod schema;
mod ssp;
pub(crate) mod stop;
pub(crate) mod surrealdb;

use anyhow::Result;

use crate::exit::Exit;
use crate::{bench, compose, demo};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Run the scheduler: capture, log, replica, and a feed for every SSP.
    Scheduler(scheduler::Args),
    /// Run an SSP: keep live queries up to date.
    Ssp(ssp::Args),
    /// Run SurrealDB, scheduler and SSP on this machine, for development.
    Dev(dev::Args),
    /// Play a history of real transactions through the whole system, with kills, and check the result.
    Demo(demo::Args),
    /// Look into a log.
    Log(log::Args),
    /// Rebuild a replica from a log, or compare one.
    Replay(replay::Args),
    /// Prepare or check a database.
    Schema(schema::Args),
    /// Ask a service whether it is well.
    Healthcheck(healthcheck::Args),
    /// Run SurrealDB's own server, as linked into this binary.
    #[command(hide = true)]
    Surrealdb(surrealdb::Args),
    /// Measure write to edge and throughput; `just bench` has the log's bench before it.
    #[command(hide = true)]
    Bench(bench::Args),
    /// Try the stack of compose.yaml; `just compose-test` builds the images before it.
    #[command(hide = true)]
    ComposeTest(compose::Args),
    /// The demo's checker.
    #[command(hide = true)]
    DemoCheck(demo::CheckArgs),
}

/// Does it.
pub(crate) async fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Scheduler(args) => scheduler::run(args).await,
        Command::Ssp(args) => ssp::run(args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Log(args) => log::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Schema(args) => schema::run(args).await,
        Command::Healthcheck(args) => healthcheck::run(args).await,
        Command::Surrealdb(args) => surrealdb::run(args),
        Command::Bench(args) => bench::run(args).await,
        Command::ComposeTest(args) => compose::run(args).await,
        Command::DemoCheck(args) => demo::check(args).await,
    }
}
