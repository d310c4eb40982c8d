//! `revenant log ...`: looks into a log directory without touching it, beside a running writer or not.

mod anchor;
mod dump;
mod filter;
mod ls;
mod print;
pub(crate) mod range;
mod stat;
mod tail;
mod verify;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use revenant_log::ReadOnlyLog;

use crate::exit::Exit;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which log, and for whom to print.
#[derive(clap::Args)]
struct Place {
    /// The log's directory.
    #[arg(long, global = true, default_value = "data/log", env = "REVENANT_LOG_DIR")]
    dir: PathBuf,
    /// Print JSON, a line per item.
    #[arg(long, global = true)]
    json: bool,
}

impl Place {
    fn open(&self) -> Result<ReadOnlyLog> {
        ReadOnlyLog::open(&self.dir).context("open the log")
    }
}

#[derive(clap::Subcommand)]
enum Command {
    /// List segments.
    Ls,
    /// Print records.
    Dump(dump::Args),
    /// Print the last records, and then what follows.
    Tail(tail::Args),
    /// Count records and bytes by table and operation.
    Stat(stat::Args),
    /// Print the log's hash at a seq. Kept elsewhere, it tells whether a record up to there was changed.
    Anchor(anchor::Args),
    /// Read every byte and say what is damaged: file, offset and seq.
    Verify(verify::Args),
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let place = args.place;
    match args.command {
        Command::Ls => ls::run(&place),
        Command::Dump(args) => dump::run(&place, args),
        Command::Tail(args) => tail::run(&place, args).await,
        Command::Stat(args) => stat::run(&place, args),
        Command::Anchor(args) => anchor::run(&place, &args),
        Command::Verify(args) => verify::run(&place, &args),
    }
}
