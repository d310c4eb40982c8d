//! Waiting: for services to answer, and for everything that was written to have arrived everywhere. Each
//! wait has a deadline and says what it waits for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use serde_json::Value as Json;

use super::site::{Client, Site};

/// How long a service may take to come up. Starting again after a kill includes reading the log.
const START_MOST: Duration = Duration::from_secs(60);

/// How long everything may take to arrive once nothing is written any more.
const ARRIVE_MOST: Duration = Duration::from_secs(300);

/// Nothing may move for so long before it counts as arrived: longer than the capture's sweep of its whole
/// window, which is every 5 s.
const STILL: Duration = Duration::from_secs(6);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Until the database takes connections.
pub(crate) async fn database(site: &Site) -> Result<()> {
    let begun = Instant::now();
    loop {
        match site.connect().await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > START_MOST => {
                return Err(error).context("the database does not come up");
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// Until the scheduler answers `/health/ready` with a success.
pub(crate) async fn scheduler(site: &Site, client: &Client) -> Result<()> {
    let url = format!("{}/health/ready", site.scheduler_url());
    until(&url, client, |_| true).await
}

/// Until an SSP says that it is ready.
pub(crate) async fn ssp(site: &Site, client: &Client, index: usize) -> Result<()> {
    let url = format!("{}/v1/state", site.ssps[index].url());
    until(&url, client, |state| state["state"] == "ready").await
}

async fn until(url: &str, client: &Client, well: impl Fn(&Json) -> bool) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = client.get(url).await;
        if answer.as_ref().is_ok_and(&well) {
            return Ok(());
        }
        if begun.elapsed() > START_MOST {
            bail!("{url} does not become well: {answer:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far everything is. Two equal ones with nothing missing, some seconds apart: it has arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    durable_seq: u64,
    missing: Vec<String>,
}

/// Until log, replica, SSPs and their cursors are at the same seq and stay there, or `well` fails.
pub(crate) async fn arrival(
    site: &Site,
    client: &Client,
    mut well: impl FnMut() -> Result<()>,
    bar: &ProgressBar,
) -> Result<()> {
    let begun = Instant::now();
    let mut still: Option<(u64, Instant)> = None;
    loop {
        well()?;
        let position = position(site, client).await;
        bar.set_message(match position.missing.first() {
            Some(missing) => format!("waiting for {missing}"),
            None => format!("everything is at seq {}; watching it", position.durable_seq),
        });
        still = match still {
            _ if !position.missing.is_empty() => None,
            Some((seq, since)) if seq == position.durable_seq => Some((seq, since)),
            _ => Some((position.durable_seq, Instant::now())),
        };
        if still.is_some_and(|(_, since)| since.elapsed() >= STILL) {
            return Ok(());
        }
        if begun.elapsed() > ARRIVE_MOST {
            bail!("after {ARRIVE_MOST:?} still waiting for {}", position.missing.join(", "));
        }
        bar.tick();
        tokio::time::sleep(LOOK_EVERY * 4).await;
    }
}

async fn position(site: &Site, client: &Client) -> Position {
    let mut missing = Vec::new();
    let state = match client.get(&format!("{}/v1/state", site.scheduler_url())).await {
        Ok(state) => state,
        Err(error) => {
            return Position { durable_seq: 0, missing: vec![format!("the scheduler: {error:#}")] };
        }
    };
    let durable_seq = state["log"]["durable_seq"].as_u64().unwrap_or(0);
    let mut due = |what: String, at: &Json| {
        if at.as_u64() != Some(durable_seq) {
            missing.push(format!("{what} at seq {at} of {durable_seq}"));
        }
    };
    due("the replica".into(), &state["replica"]["applied_seq"]);
    for ssp in &site.ssps {
        let cursors = state["cursors"].as_array().map_or(&[][..], Vec::as_slice);
        let cursor = cursors.iter().find(|cursor| cursor["ssp_id"] == ssp.id.as_str());
        let acked = cursor.map_or(&Json::Null, |cursor| &cursor["acked_seq"]);
        due(format!("the cursor of {}", ssp.id), acked);
        let Ok(own) = client.get(&format!("{}/v1/state", ssp.url())).await else {
            due(ssp.id.clone(), &Json::Null);
            continue;
        };
        due(ssp.id.clone(), &own["applied_seq"]);
        due(format!("edges of {}", ssp.id), &own["committed_seq"]);
    }
    Position { durable_seq, missing }
}
