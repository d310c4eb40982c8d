//! From a client's write to the edge that shows it: the database, the scheduler and one SSP as processes,
//! as the demo starts them.
//!
//! A write's time runs from just before it is sent until a LIVE query on the edge table, which is what
//! clients have, tells another connection of its edge. That is a little later than the edge can be read,
//! never earlier. Writes come at moments of their own, whether or not the one before has arrived.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::{Stream, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use revenant_log::{Key, RecordId, Value};
use revenant_surreal::{Db, DbError};
use serde::Serialize;

use crate::demo::plan::View;
use crate::demo::services::{Service, Services, Who};
use crate::demo::site::{Client, Site};
use crate::demo::{schema, views, wait};

/// The longest pause between two writes; the mean is half of it.
const PAUSE_MOST: Duration = Duration::from_millis(40);

/// How long the last edges may take.
const ARRIVE_MOST: Duration = Duration::from_secs(30);

/// What is written to, and the view that shows it.
const TABLE: &str = "DEFINE TABLE item SCHEMALESS CHANGEFEED 3d INCLUDE ORIGINAL";
const WRITE: &str = "CREATE $id SET lane = $lane, size = 7";
const VIEW: &str = "SELECT * FROM item WHERE lane = 'seen'";

/// What one throttle gave. Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Lane {
    pub(super) throttle_ms: u32,
    pub(super) writes: usize,
    /// Writes whose edge was seen, each once.
    pub(super) seen: usize,
    /// Edges of the view that are stored in the end.
    pub(super) stored: usize,
    /// SurrealDB's own commit of the same write, before any service ran.
    pub(super) commit: Times,
    /// The same commit while the pipeline was at work.
    pub(super) commit_beside: Times,
    pub(super) edge: Times,
    /// The median to the edge in medians of the commit alone.
    pub(super) to_commit: f64,
}

/// Two quantiles, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |hundredths: usize| {
            let index = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
            let time = times.get(index).copied().unwrap_or_default();
            (time.as_secs_f64() * 1e5).round() / 100.0
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// A write that was acknowledged.
struct Written {
    begun: Instant,
    took: Duration,
}

/// Measures with one throttle, from an empty database in `dir`.
pub(super) async fn measure(dir: &Path, throttle_ms: u32, writes: u32) -> Result<Lane> {
    let mut site = Site::new(dir.to_owned())?;
    site.ssps.truncate(1);
    site.throttle_ms = throttle_ms;
    for part in ["logs", "scheduler"] {
        std::fs::create_dir_all(dir.join(part))?;
    }
    let database = Service::start(&site, Who::Database)?;
    wait::database(&site).await?;
    let db = site.connect().await?;
    schema::define(&db).await?;
    db.run(TABLE, []).await.context("define the table")?;
    revenant_surreal::schema::install(&db).await.context("install the schema")?;
    let alone = write_all(&db, "alone", writes).await?;

    let scheduler = Some(Service::start(&site, Who::Scheduler)?);
    let ssps = vec![Service::start(&site, Who::Ssp(0))?];
    let mut services = Services { database, scheduler, ssps };
    let client = site.client()?;
    wait::scheduler(&site, &client).await?;
    wait::ssp(&site, &client, 0).await?;
    let table = register(&site, &client).await?;
    let listener = site.connect().await?;
    let edges = listener.live(&table).await.context("listen to the edges")?;
    let (heard, written) =
        tokio::join!(listen(edges, writes as usize), write_all(&db, "seen", writes));
    let (heard, written) = (heard?, written?);
    services.check(&site)?;
    let stored = stored(&db, &table).await?;
    Ok(lane(throttle_ms, alone, &written, &heard, stored))
}

fn lane(
    throttle_ms: u32,
    alone: HashMap<RecordId, Written>,
    written: &HashMap<RecordId, Written>,
    heard: &HashMap<RecordId, Instant>,
    stored: usize,
) -> Lane {
    let pairs = written.iter().filter_map(|(id, write)| Some((write, heard.get(id)?)));
    let times: Vec<_> = pairs.map(|(write, at)| at.duration_since(write.begun)).collect();
    let commit = Times::of(alone.into_values().map(|write| write.took).collect());
    let (seen, edge) = (times.len(), Times::of(times));
    Lane {
        throttle_ms,
        writes: written.len(),
        seen,
        stored,
        commit,
        commit_beside: Times::of(written.values().map(|write| write.took).collect()),
        edge,
        to_commit: (edge.p50 / commit.p50 * 100.0).round() / 100.0,
    }
}

/// Registers the view; gives the table of its edges.
async fn register(site: &Site, client: &Client) -> Result<String> {
    let view = View {
        id: "bench".into(),
        kind: "eq".into(),
        surql: VIEW.into(),
        params: "{}".into(),
        children: Vec::new(),
    };
    views::register(site, client, &view).await?;
    let answer = client.get(&format!("{}/v1/views/bench", site.ssps[0].url())).await?;
    let table = answer["table"].as_str().context("the SSP names no edge table")?;
    Ok(table.to_owned())
}

/// Writes rows of a lane at moments of their own.
async fn write_all(db: &Db, lane: &str, writes: u32) -> Result<HashMap<RecordId, Written>> {
    let mut random = StdRng::seed_from_u64(u64::from(writes));
    let mut written = HashMap::new();
    for number in 0..writes {
        tokio::time::sleep(PAUSE_MOST.mul_f64(random.random())).await;
        let id = RecordId::new("item", format!("{lane}-{number}"));
        let begun = Instant::now();
        let params = [
            ("id", Value::RecordId(Box::new(id.clone()))),
            ("lane", Value::String(lane.to_owned())),
        ];
        loop {
            match db.run(WRITE, params.clone()).await {
                Ok(_) => break,
                // A client tries again, and its user waits meanwhile.
                Err(DbError::Conflict(_)) => {}
                Err(error) => return Err(error).context("write a row"),
            }
        }
        written.insert(id, Written { begun, took: begun.elapsed() });
    }
    Ok(written)
}

/// When each row's edge was first heard of; ends when `due` were, or none comes any more.
async fn listen(
    mut edges: impl Stream<Item = Result<Value, DbError>> + Unpin,
    due: usize,
) -> Result<HashMap<RecordId, Instant>> {
    let mut heard = HashMap::new();
    while heard.len() < due {
        let Ok(edge) = tokio::time::timeout(ARRIVE_MOST, edges.next()).await else { break };
        let at = Instant::now();
        let Some(edge) = edge else { bail!("the notifications ended") };
        if let Some(Value::RecordId(id)) = edge.context("hear of an edge")?.field("out") {
            heard.entry((**id).clone()).or_insert(at);
        }
    }
    Ok(heard)
}

/// Edges that are stored, each for another row.
async fn stored(db: &Db, table: &str) -> Result<usize> {
    let statement = format!(
        "SELECT VALUE out FROM {} WHERE in = $view",
        revenant_surreal::connect::quote(table)
    );
    let view = RecordId { table: "_00_query".into(), key: Key::from("bench") };
    let rows = db.run(&statement, [("view", Value::RecordId(Box::new(view)))]).await?;
    let Some(Value::Array(rows)) = rows.into_iter().next() else { bail!("no edges") };
    let rows: std::collections::BTreeSet<_> = rows.iter().map(ToString::to_string).collect();
    Ok(rows.len())
}
