//! The bench: how long a write takes from a client's hands to the edge of a live query, and how many
//! transactions per second the demo plays; next to what SurrealDB takes for the same write, and to what the
//! log's own bench measured just before. Verdicts rest on correctness and ratios, not on figures.
//!
//! Map: `edge` measures write to edge, `throughput` runs a demo, `report` judges and prints.

mod edge;
mod report;
mod throughput;

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};

use self::report::{Appends, Report};
use crate::cmd::stop;
use crate::exit::Exit;

/// Throttles that are measured, milliseconds.
const THROTTLES_MS: [u32; 2] = [0, 100];

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The line of JSON that the log's bench printed; `-` reads it from standard input.
    #[arg(long, value_name = "FILE")]
    appends: PathBuf,
    /// The history that the demo plays. Without it the small one that is part of this program.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Transactions that the demo plays.
    #[arg(long, default_value_t = 4000)]
    limit: usize,
    /// Writes that are measured with each throttle, and as many without the pipeline.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    writes: u32,
    /// Where data is kept meanwhile; decides which disk is measured. Default: the system's directory for
    /// temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let stop = stop::on_signal()?;
    tokio::select! {
        done = measure(args) => done,
        () = stop.cancelled() => Ok(Exit::CouldNot(anyhow!("interrupted"))),
    }
}

async fn measure(args: Args) -> Result<Exit> {
    let appends = appends(&args)?;
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut edges = Vec::new();
    for throttle_ms in THROTTLES_MS {
        let dir = tempfile::Builder::new().prefix("revenant-bench-").tempdir_in(&base);
        let dir = dir.with_context(|| format!("make a directory in {}", base.display()))?;
        let lane = edge::measure(dir.path(), throttle_ms, args.writes).await;
        edges.push(lane.with_context(|| format!("measure with a throttle of {throttle_ms} ms"))?);
    }
    let dir = tempfile::Builder::new().prefix("revenant-bench-").tempdir_in(&base)?;
    let demo = throughput::measure(dir.path(), args.data.as_deref(), args.limit).await?;
    let report = Report::new(appends, edges, demo);
    report.print()?;
    Ok(if report.pass { Exit::Done } else { Exit::Found })
}

fn appends(args: &Args) -> Result<Appends> {
    let mut text = String::new();
    if args.appends.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).context("read standard input")?;
    } else {
        let path = &args.appends;
        text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    }
    let line = text.lines().rev().find(|line| line.starts_with('{'));
    let line = line.context("the log's bench printed no line of JSON; run it alone to see why")?;
    serde_json::from_str(line).context("understand what the log's bench printed")
}
