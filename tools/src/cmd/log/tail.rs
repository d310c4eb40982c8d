//! `revenant log tail`: the last records, and with `-f` what follows, across segments.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result};
use revenant_log::{Located, ReadOnlyLog, Seq};

use super::filter::Only;
use super::{Place, print};
use crate::exit::Exit;
use crate::out::Out;

/// How often the directory is looked at while following.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    only: Only,
    /// How many to begin with.
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// Go on as records are appended, until interrupted.
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(place: &Place, args: Args) -> Result<Exit> {
    let mut log = place.open()?;
    let mut out = Out::new();
    for located in last(&log, &args)? {
        print::record(&mut out, place.json, &located)?;
    }
    out.flush()?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        let next = log.last_seq().next();
        tokio::time::sleep(LOOK_EVERY).await;
        log = place.open()?;
        for located in log.records(next) {
            let located = located.context("read the log")?;
            if args.only.takes(&located.record) {
                print::record(&mut out, place.json, &located)?;
            }
        }
        out.flush()?;
    }
}

/// The last records that are asked for. Looks back ever further until there are enough.
fn last(log: &ReadOnlyLog, args: &Args) -> Result<VecDeque<Located>> {
    let (first, end) = (log.first_seq().0, log.last_seq().0);
    let mut back = (args.lines as u64).max(1);
    loop {
        let from = (end + 1).saturating_sub(back).max(first);
        let mut found = VecDeque::new();
        for located in log.records(Seq(from)) {
            let located = located.context("read the log")?;
            if args.only.takes(&located.record) {
                found.push_back(located);
            }
            if found.len() > args.lines {
                found.pop_front();
            }
        }
        if found.len() >= args.lines || from <= first {
            return Ok(found);
        }
        back = back.saturating_mul(16);
    }
}
