//! How many transactions per second a demo without kills plays, and whether everything was right in the end.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::leash;

/// Connections that write at the same time, as in the demo on the large history.
const WRITERS: &str = "16";

/// What the demo said, of which this is a part.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Throughput {
    pub(super) pass: bool,
    pub(super) transactions: u64,
    pub(super) writers: u16,
    pub(super) transactions_per_second: f64,
    pub(super) findings: Vec<String>,
}

/// Plays `limit` transactions in `dir`.
pub(super) async fn measure(dir: &Path, data: Option<&Path>, limit: usize) -> Result<Throughput> {
    let mut demo = Command::new(std::env::current_exe().context("find this program's file")?);
    demo.args(["demo", "--json", "--no-kill", "--writers", WRITERS]);
    demo.arg("--limit").arg(limit.to_string()).arg("--keep").arg(dir.join("demo"));
    if let Some(data) = data {
        demo.arg("--data").arg(data);
    }
    leash::tie(&mut demo);
    demo.stdin(Stdio::null());
    let mut demo = tokio::process::Command::from(demo);
    let done = demo.kill_on_drop(true).output().await.context("run the demo")?;
    serde_json::from_slice(&done.stdout).with_context(|| {
        let words = String::from_utf8_lossy(&done.stderr);
        format!("the demo did not report ({}): {}", done.status, words.trim())
    })
}
