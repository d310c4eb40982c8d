//! `revenant log anchor`: the log's hash at a seq, to be kept elsewhere and given to `verify --anchor`.

use anyhow::{Context as _, Result};
use revenant_log::Seq;
use serde_json::json;

use super::Place;
use crate::exit::Exit;
use crate::out::Out;

/// Arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Up to and with which record; the last one without it.
    #[arg(long, value_name = "SEQ")]
    seq: Option<u64>,
}

pub(super) fn run(place: &Place, args: &Args) -> Result<Exit> {
    let log = place.open()?;
    let seq = args.seq.map_or(log.last_seq(), Seq);
    let anchor = log.anchor(seq).context("read the log")?;
    let mut out = Out::new();
    if place.json {
        let (id, hash) = (log.id().to_string(), anchor.hash.to_string());
        out.json(&json!({"log_id": id, "seq": anchor.seq, "hash": hash}))?;
    } else {
        out.line(format_args!("log {}", log.id()))?;
        out.line(anchor)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
