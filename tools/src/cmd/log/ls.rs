//! `revenant log ls`: a line per segment.

use anyhow::Result;
use serde_json::json;

use super::Place;
use crate::exit::Exit;
use crate::out::{Out, bytes, time};

pub(super) fn run(place: &Place) -> Result<Exit> {
    let log = place.open()?;
    let mut out = Out::new();
    if !place.json {
        out.line(format_args!("log {} in {}", log.id(), place.dir.display()))?;
        out.line(format_args!(
            "{:>8}  {:>21}  {:>8}  {:>10}  {:<6}  first commit",
            "segment", "seqs", "records", "bytes", "state"
        ))?;
    }
    for segment in log.segments() {
        let state = serde_json::to_value(segment.state)?;
        let state = state.as_str().unwrap_or_default();
        if place.json {
            out.json(&json!({
                "segment": segment.number,
                "path": segment.path,
                "state": state,
                "first_seq": segment.first_seq,
                "last_seq": segment.last_seq,
                "records": segment.records(),
                "bytes": segment.bytes,
                "compressed": segment.compressed,
                "first_time": segment.times_us.map(|(first, _)| time(first)),
                "last_time": segment.times_us.map(|(_, last)| time(last)),
            }))?;
            continue;
        }
        out.line(format_args!(
            "{:>8}  {:>10}..{:<9}  {:>8}  {:>10}  {:<6}  {}",
            segment.number,
            segment.first_seq.to_string(),
            segment.last_seq.to_string(),
            segment.records(),
            bytes(segment.bytes),
            state,
            segment.times_us.map_or(String::new(), |(first, _)| time(first)),
        ))?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
