//! The demo: a real history through the whole system, every part a process of its own, killed and
//! restarted under load, and then checked by yet another process.
//!
//! Map: `plan` makes up views and kills from the history and a seed; `site` is where everything is;
//! `services` starts, kills and restarts processes; `schema` and `load` talk to SurrealDB; `kill` and
//! `wait` decide when; `archive` keeps what is trimmed; `tamper` plants a fault; `check/` judges; `report` prints.

mod archive;
pub(crate) mod check;
mod kill;
pub(crate) mod load;
pub(crate) mod plan;
mod report;
mod run;
pub(crate) mod schema;
pub(crate) mod services;
pub(crate) mod site;
mod tamper;
pub(crate) mod views;
pub(crate) mod wait;

use std::path::PathBuf;

use anyhow::Result;

pub(crate) use check::{Args as CheckArgs, run as check};

use crate::exit::Exit;

/// Arguments.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The history: JSON lines, plain or zstd. Without it a small one that is part of this program.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Views to register.
    #[arg(long, default_value_t = 48)]
    views: usize,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    writers: u16,
    /// Kill nothing.
    #[arg(long)]
    no_kill: bool,
    /// Play only so many transactions.
    #[arg(long)]
    limit: Option<usize>,
    /// Keep everything in this directory, which must be empty or absent. Default: a new one under the
    /// system's directory for temporary files.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// What decides which process dies when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plant one fault behind the services' back: the demo must then fail.
    #[arg(long, value_enum)]
    tamper: Option<tamper::Tamper>,
    /// Print one line of JSON instead of the report.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    run::run(args).await
}
