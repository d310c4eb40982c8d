//! Each SSP against the log: what it applied since its bootstrap, hashed record by record in its own
//! process, is what the log holds, once and in order.

use anyhow::{Context as _, Result};
use revenant_log::{ReadOnlyLog, Seq};
use serde_json::Value as Json;

use super::{Fault, Verdict};

pub(super) fn check(log: &ReadOnlyLog, states: &[Json], verdict: &mut Verdict) -> Result<()> {
    for state in states {
        let name = state["ssp_id"].as_str().unwrap_or("an SSP");
        let number = |field: &str| state[field].as_u64().with_context(|| format!("no {field}"));
        let (from, to) = (number("bootstrap_seq")?, number("applied_seq")?);
        if to != log.last_seq().0 {
            verdict.fault(Fault::Lost, || {
                format!("{name} applied up to seq {to}, the log ends at {}", log.last_seq())
            });
        }
        let (chain, transactions) = chain(log, from, to)?;
        if state["chain"].as_str() != Some(chain.as_str()) {
            verdict.fault(Fault::OutOfOrder, || {
                format!("{name} did not apply seqs {} to {to} as the log has them", from + 1)
            });
        }
        if number("transactions")? != transactions {
            verdict.fault(Fault::OutOfOrder, || {
                format!("{name} applied {} transactions of {transactions}", state["transactions"])
            });
        }
        verdict.incremental += state["counts"]["incremental"].as_u64().unwrap_or(0);
        verdict.requeried += state["counts"]["requery"].as_u64().unwrap_or(0);
    }
    Ok(())
}

/// The hash over the log's identity, the bootstrap's seq, and every record after it.
fn chain(log: &ReadOnlyLog, from: u64, to: u64) -> Result<(String, u64)> {
    let mut first = blake3::Hasher::new();
    first.update(&log.id().0).update(&from.to_le_bytes());
    let (mut chain, mut transactions) = (first.finalize(), 0);
    for located in log.records(Seq(from + 1)) {
        let located = located?;
        if located.record.seq.0 > to {
            break;
        }
        let mut next = blake3::Hasher::new();
        next.update(chain.as_bytes()).update(&located.record.seq.0.to_le_bytes());
        chain = next.update(&located.bytes).finalize();
        transactions += u64::from(located.record.ends_transaction);
    }
    Ok((chain.to_hex().to_string(), transactions))
}
