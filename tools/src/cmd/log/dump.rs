//! `revenant log dump`: records of a range. On a terminal it stops after 50 and says so; in a pipe never.

use anyhow::{Context as _, Result};

use super::filter::Filter;
use super::{Place, print};
use crate::exit::Exit;
use crate::out::Out;

/// A screenful.
const ON_TERMINAL: u64 = 50;

/// Arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Stop after so many.
    #[arg(short = 'n', long)]
    limit: Option<u64>,
    /// Do not stop after a screenful.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

pub(super) fn run(place: &Place, args: Args) -> Result<Exit> {
    let log = place.open()?;
    let span = args.filter.span(&log);
    let screen = Out::is_terminal() && !args.all && args.limit.is_none();
    let mut left = args.limit.unwrap_or(if screen { ON_TERMINAL } else { u64::MAX });
    let mut out = Out::new();
    for located in log.records(span.from) {
        let located = located.context("read the log")?;
        if located.record.seq > span.to {
            break;
        }
        if !args.filter.takes(&span, &located.record) {
            continue;
        }
        if left == 0 {
            if screen {
                out.flush()?;
                eprintln!("stopped after {ON_TERMINAL} records: -n N or --all prints more");
            }
            break;
        }
        left -= 1;
        print::record(&mut out, place.json, &located)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
