//! The peer: differential-dataflow's published crate, in a workspace of its own, on the workload W1.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value as Json;

/// A peer that holds the workload's views and rows, and waits to be told of changes. It ends with this.
pub(crate) struct Peer {
    process: Child,
    /// `None` once it is to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// What a round of changes came to.
pub(crate) struct Round {
    /// What the peer needed for a change, one change per step.
    pub(crate) micros: f64,
    /// The (view, row) pairs that it has after it.
    pub(crate) pairs: u64,
}

impl Peer {
    /// Builds the peer, unless it is built, and starts it. On return it has taken in its rows.
    ///
    /// # Errors
    /// It could not be built or does not answer; the text says why.
    pub(crate) fn start(views: u64, rows: u64) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/Cargo.toml");
        let mut process = Command::new(cargo)
            .args(["run", "--quiet", "--release", "--manifest-path", manifest, "--"])
            .args([views, rows].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("start cargo: {error}"))?;
        let to = process.stdin.take();
        let from = process.stdout.take().ok_or("the peer has no output")?;
        let mut peer = Self { process, to, from: BufReader::new(from) };
        peer.answer()?;
        Ok(peer)
    }

    /// Has it take in so many further changes.
    ///
    /// # Errors
    /// It does not answer; the text says why.
    pub(crate) fn round(&mut self, changes: u64) -> Result<Round, String> {
        let to = self.to.as_mut().ok_or("the peer is to end")?;
        writeln!(to, "{changes}").map_err(|error| format!("ask the peer: {error}"))?;
        let line = self.answer()?;
        match (line["micros_per_change"].as_f64(), line["pairs"].as_u64()) {
            (Some(micros), Some(pairs)) => Ok(Round { micros, pairs }),
            _ => Err(format!("the peer printed {line}")),
        }
    }

    fn answer(&mut self) -> Result<Json, String> {
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(|error| format!("hear the peer: {error}"))?;
        serde_json::from_str(&line)
            .map_err(|error| format!("the peer printed no line of JSON but {line:?}: {error}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Without input it ends by itself.
        self.to = None;
        if let Err(error) = self.process.wait() {
            eprintln!("the peer: {error}");
        }
    }
}
