//! `revenant healthcheck URL`: for containers without a shell. 0 when the URL answers with a 2xx.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::exit::Exit;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to ask.
    #[arg(default_value = "http://127.0.0.1:9667/health/ready")]
    url: String,
    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 2.5)]
    timeout: f64,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let Ok(timeout) = Duration::try_from_secs_f64(args.timeout) else {
        return Ok(Exit::Usage(format!("--timeout {} is no time", args.timeout)));
    };
    let client = reqwest::Client::builder().timeout(timeout).no_proxy().build()?;
    let answer = client.get(&args.url).send().await;
    let answer = answer.with_context(|| format!("ask {}", args.url))?;
    if answer.status().is_success() {
        return Ok(Exit::Done);
    }
    eprintln!("{}: {}", args.url, answer.status());
    Ok(Exit::Found)
}
