//! The peer: differential-dataflow's published crate, in a workspace of its own, on the workload W1.

use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// What the peer needed, in microseconds per change, one change per step; and the (view, row) pairs that it
/// had at the end.
pub(crate) struct Peer {
    pub(crate) micros: f64,
    pub(crate) pairs: u64,
}

/// Builds the peer, unless it is built, and runs it.
///
/// # Errors
/// It could not be built or did not come to an end; the text says why.
pub(crate) fn run(views: u64, rows: u64, changes: u64) -> Result<Peer, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/Cargo.toml");
    let arguments = [views, rows, changes].map(|number| number.to_string());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--release", "--manifest-path", manifest, "--"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the peer ended with {}", output.status));
    }
    let line: Json = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("the peer did not print one line of JSON: {error}"))?;
    match (line["micros_per_change"].as_f64(), line["pairs"].as_u64()) {
        (Some(micros), Some(pairs)) => Ok(Peer { micros, pairs }),
        _ => Err(format!("the peer printed {line}")),
    }
}
