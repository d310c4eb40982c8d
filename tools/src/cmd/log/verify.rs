//! `revenant log verify`: reads every byte; exits 1 naming file, offset and seq of what is damaged.

use anyhow::{Context as _, Result};
use revenant_log::{Anchor, verify_anchors};
use serde_json::json;

use super::Place;
use crate::exit::Exit;
use crate::out::{Out, bytes};

/// Arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print the log's hash at its last seq, as `log anchor` does.
    #[arg(long)]
    chain: bool,
    /// What `log anchor` printed before: the log must have this hash at this seq. Can be repeated.
    #[arg(long = "anchor", value_name = "SEQ:HASH")]
    anchors: Vec<Anchor>,
}

pub(super) fn run(place: &Place, args: &Args) -> Result<Exit> {
    let report = verify_anchors(&place.dir, &args.anchors).context("read the log")?;
    let whole = report.findings.is_empty();
    let mut out = Out::new();
    if place.json {
        let mut json = serde_json::to_value(&report)?;
        json["status"] = json!(if whole { "ok" } else { "corrupt" });
        json["exit"] = json!(i32::from(!whole));
        out.json(&json)?;
    } else {
        for finding in &report.findings {
            out.line(format_args!(
                "CORRUPT {} at offset {} (seq {}): {}",
                finding.path.display(),
                finding.offset,
                finding.seq,
                finding.reason
            ))?;
        }
        if report.torn_bytes > 0 {
            let torn = bytes(report.torn_bytes);
            out.line(format_args!(
                "torn tail of {torn}: normal after a crash or beside a running writer"
            ))?;
        }
        if args.chain && whole {
            out.line(Anchor { seq: report.last_seq, hash: report.chain })?;
        }
        if !args.anchors.is_empty() {
            out.line(format_args!("{} of {} anchors met", report.anchors, args.anchors.len()))?;
        }
        out.line(format_args!(
            "{}: {} segments ({} sealed), {} frames, {} records, {} transactions, seqs {}..{}, {}",
            if whole { "ok" } else { "corrupt" },
            report.segments,
            report.sealed,
            report.frames,
            report.records,
            report.transactions,
            report.first_seq,
            report.last_seq,
            bytes(report.bytes),
        ))?;
    }
    out.flush()?;
    Ok(if whole { Exit::Done } else { Exit::Found })
}
