//! `revenant log stat`: what a range of the log consists of.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::filter::Filter;
use super::{Place, print};
use crate::exit::Exit;
use crate::out::{Out, bytes, time};

/// Arguments.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: Filter,
}

/// Figures of one table and operation.
#[derive(Default)]
struct Count {
    records: u64,
    bytes: u64,
    largest: usize,
}

pub(super) fn run(place: &Place, args: Args) -> Result<Exit> {
    let log = place.open()?;
    let span = args.filter.span(&log);
    let mut counts: BTreeMap<(String, &str), Count> = BTreeMap::new();
    let (mut records, mut transactions, mut all_bytes) = (0u64, 0u64, 0u64);
    let mut times: Option<(i64, i64)> = None;
    for located in log.records(span.from) {
        let located = located.context("read the log")?;
        let record = &located.record;
        if record.seq > span.to {
            break;
        }
        if !args.filter.takes(&span, record) {
            continue;
        }
        let size = located.bytes.len();
        let key = (record.event.table.to_string(), print::word(record.event.op));
        let count = counts.entry(key).or_default();
        count.records += 1;
        count.bytes += size as u64;
        count.largest = count.largest.max(size);
        records += 1;
        all_bytes += size as u64;
        transactions += u64::from(record.ends_transaction);
        let (first, last) = times.unwrap_or((record.time_us, record.time_us));
        times = Some((first.min(record.time_us), last.max(record.time_us)));
    }
    let mut out = Out::new();
    if place.json {
        let by: Vec<_> = counts
            .iter()
            .map(|((table, op), count)| {
                json!({"table": table, "op": op, "records": count.records, "bytes": count.bytes,
                    "largest_bytes": count.largest})
            })
            .collect();
        out.json(&json!({"records": records, "transactions": transactions, "bytes": all_bytes,
            "first_time": times.map(|(first, _)| time(first)),
            "last_time": times.map(|(_, last)| time(last)), "by": by}))?;
    } else {
        for ((table, op), count) in &counts {
            let (records, size) = (count.records, bytes(count.bytes));
            let largest = bytes(count.largest as u64);
            out.line(format_args!(
                "{table:<20} {op:<9} {records:>9} records {size:>12}, largest {largest}"
            ))?;
        }
        let size = bytes(all_bytes);
        out.line(format_args!("{records} records in {transactions} transactions, {size}"))?;
        if let Some((first, last)) = times {
            out.line(format_args!("{} to {}", time(first), time(last)))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
