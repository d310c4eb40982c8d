//! The kills: SIGKILL to the scheduler and to SSPs, at seeded moments between 10% and 90% of the load,
//! while writers are active. One meets an SSP during its bootstrap, one between apply and ack.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize as _, Serialize};
use serde_json::Value as Json;

use super::load::Pace;
use super::services::{Services, Who};
use super::site::{Client, Site};
use super::wait;

/// How long one kill is tried.
const TRY_MOST: Duration = Duration::from_secs(120);

/// How long a kill waits for a writer to be heard of.
const ACTIVE_MOST: Duration = Duration::from_secs(10);

/// Longer than an ack waits for company in the scheduler: what is on its way when an SSP is frozen has
/// arrived after it.
const ACKS_ARRIVE: Duration = Duration::from_millis(150);

/// What a kill is to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Whatever it does.
    Anything,
    /// It loads its snapshot.
    Bootstrap,
    /// It has applied records that it has not acknowledged.
    BeforeAck,
}

/// A kill that is due.
struct Due {
    who: Who,
    aim: Aim,
    /// Transactions acknowledged before it.
    at: usize,
    /// How long it stays down.
    down: Duration,
}

/// A kill that was made.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Kill {
    /// Which process.
    pub(super) who: String,
    /// What it did then.
    pub(super) during: &'static str,
    /// How that is known, in figures.
    pub(super) proof: String,
    /// Transactions acknowledged when it died.
    pub(super) at: usize,
    /// Transactions acknowledged while it was down and starting again.
    pub(super) meanwhile: usize,
    /// Until it was ready again, milliseconds.
    pub(super) back_after_ms: u128,
}

/// Makes every kill, in order. Writers slow down while one is due, and never pass 90% before the last.
pub(super) async fn all(
    site: &Site,
    client: &Client,
    services: &mut Services,
    pace: &Arc<Pace>,
    total: usize,
    seed: u64,
) -> Result<Vec<Kill>> {
    let hard_to = total * 9 / 10;
    let dues = plan(total, seed);
    let mut kills = Vec::new();
    for (index, due) in dues.iter().enumerate() {
        let free_to = dues.get(index + 1).map_or(hard_to, |next| next.at);
        pace.bound(free_to.min(hard_to), hard_to);
        while pace.acknowledged() < due.at {
            services.check(site)?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kill = make(site, client, services, pace, due).await;
        kills.push(kill.with_context(|| format!("kill {}", due.who.name(site)))?);
    }
    pace.bound(usize::MAX, usize::MAX);
    Ok(kills)
}

/// Five kills at even distances, each up to half a distance late.
fn plan(total: usize, seed: u64) -> Vec<Due> {
    let mut random = StdRng::seed_from_u64(seed);
    let first = random.random_range(0..2);
    let order = [
        (Who::Scheduler, Aim::Anything),
        (Who::Ssp(first), Aim::BeforeAck),
        (Who::Ssp(1 - first), Aim::Bootstrap),
        (Who::Scheduler, Aim::Anything),
        (Who::Ssp(1 - first), Aim::Anything),
    ];
    let step = total * 13 / 100;
    let mut dues = Vec::new();
    for (index, (who, aim)) in order.into_iter().enumerate() {
        let late = random.random_range(0..=step / 2);
        let at = total * 12 / 100 + step * index + late;
        let down = Duration::from_millis(random.random_range(50..800));
        dues.push(Due { who, aim, at, down });
    }
    dues
}

async fn make(
    site: &Site,
    client: &Client,
    services: &mut Services,
    pace: &Pace,
    due: &Due,
) -> Result<Kill> {
    let (during, proof) = match (due.who, due.aim) {
        (Who::Ssp(index), Aim::BeforeAck) => {
            ("apply, before ack", before_ack(site, client, services, index).await?)
        }
        (Who::Ssp(index), Aim::Bootstrap) => {
            ("bootstrap", bootstrapping(site, client, services, index).await?)
        }
        _ => ("work", at_work(services, pace, due.who).await?),
    };
    let (at, begun) = (pace.acknowledged(), Instant::now());
    tokio::time::sleep(due.down).await;
    services.get(due.who)?.restart(site, due.who)?;
    match due.who {
        Who::Ssp(index) => wait::ssp(site, client, index).await?,
        _ => wait::scheduler(site, client).await?,
    }
    Ok(Kill {
        who: due.who.name(site),
        during,
        proof,
        at,
        meanwhile: pace.acknowledged() - at,
        back_after_ms: begun.elapsed().as_millis(),
    })
}

/// Kills while writers are active.
async fn at_work(services: &mut Services, pace: &Pace, who: Who) -> Result<String> {
    let (before, begun) = (pace.acknowledged(), Instant::now());
    while pace.acknowledged() == before && begun.elapsed() < ACTIVE_MOST {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (count, took) = (pace.acknowledged() - before, begun.elapsed().as_millis());
    services.get(who)?.kill()?;
    Ok(format!("writers had {count} transactions acknowledged in the {took} ms before"))
}

/// Freezes the SSP and kills it if what it has applied is not acknowledged at the scheduler by then.
async fn before_ack(
    site: &Site,
    client: &Client,
    services: &mut Services,
    index: usize,
) -> Result<String> {
    let begun = Instant::now();
    let url = format!("{}/v1/state", site.ssps[index].url());
    while begun.elapsed() < TRY_MOST {
        let Ok(state) = client.get(&url).await else { continue };
        let Some(applied) = state["applied_seq"].as_u64() else { continue };
        let ssp = services.get(Who::Ssp(index))?;
        ssp.freeze()?;
        tokio::time::sleep(ACKS_ARRIVE).await;
        let acked = acked(site, client, index).await;
        let ssp = services.get(Who::Ssp(index))?;
        match acked {
            Ok(acked) if acked < applied => {
                ssp.kill()?;
                return Ok(format!(
                    "it said that it had applied seq {applied}; frozen, its cursor stood at {acked}"
                ));
            }
            _ => ssp.thaw()?,
        }
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    bail!("it was never found between apply and ack")
}

async fn acked(site: &Site, client: &Client, index: usize) -> Result<u64> {
    let state = client.get(&format!("{}/v1/state", site.scheduler_url())).await?;
    let cursors = state["cursors"].as_array().map_or(&[][..], Vec::as_slice);
    let of_ssp = |cursor: &&Json| cursor["ssp_id"] == site.ssps[index].id.as_str();
    let cursor = cursors.iter().find(of_ssp).context("it has no cursor")?;
    cursor["acked_seq"].as_u64().context("its cursor has no seq")
}

/// Kills the SSP, starts it, and kills it again in the middle of its snapshot: it said itself how many rows
/// it had loaded of how many, and, frozen then, has not asked the scheduler for anything that comes later.
async fn bootstrapping(
    site: &Site,
    client: &Client,
    services: &mut Services,
    index: usize,
) -> Result<String> {
    let begun = Instant::now();
    let mut tries = 0;
    while begun.elapsed() < TRY_MOST {
        tries += 1;
        let ssp = services.get(Who::Ssp(index))?;
        ssp.kill()?;
        ssp.restart(site, Who::Ssp(index))?;
        if let Some(Loading { seq, rows, rows_due }) =
            loading(site, client, services, index).await?
        {
            services.get(Who::Ssp(index))?.freeze()?;
            if stage(site, client, index).await? == "bootstrapping" {
                services.get(Who::Ssp(index))?.kill()?;
                return Ok(format!(
                    "it said that it had loaded {rows} of {rows_due} rows of the snapshot as of seq \
                     {seq}; frozen, the scheduler had it bootstrapping (try {tries})"
                ));
            }
            services.get(Who::Ssp(index))?.thaw()?;
        }
        wait::ssp(site, client, index).await?;
    }
    bail!("it was not met in the middle of its snapshot in {tries} tries")
}

/// How far an SSP says that its snapshot is.
#[derive(serde::Deserialize)]
struct Loading {
    seq: u64,
    rows: u64,
    rows_due: u64,
}

/// Asks the SSP without a pause until it is in the middle of its snapshot; `None` when it is past it.
async fn loading(
    site: &Site,
    client: &Client,
    services: &mut Services,
    index: usize,
) -> Result<Option<Loading>> {
    let url = format!("{}/v1/state", site.ssps[index].url());
    loop {
        let Ok(state) = client.get(&url).await else {
            // It does not listen yet.
            services.get(Who::Ssp(index))?.check(site)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        if state["state"] != "bootstrapping" {
            return Ok(None);
        }
        let loading = Loading::deserialize(&state["loading"]).ok();
        if loading.as_ref().is_some_and(|loading| loading.rows < loading.rows_due) {
            return Ok(loading);
        }
    }
}

/// Where the scheduler has an SSP in its life.
async fn stage(site: &Site, client: &Client, index: usize) -> Result<String> {
    let parts = client.get(&format!("{}/info", site.scheduler_url())).await?;
    let parts = parts.as_array().map_or(&[][..], Vec::as_slice);
    let part = parts.iter().find(|part| part["id"] == site.ssps[index].id.as_str());
    let status = part.and_then(|part| part["status"].as_str());
    status.map(str::to_owned).context("the scheduler does not know it")
}
