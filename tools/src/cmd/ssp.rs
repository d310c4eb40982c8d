//! `revenant ssp`: an SSP as a service; `revenant ssp explain`: what a view of a running one is made of.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use revenant_ssp::{Config, Ssp};
use revenant_surreal::{Db, Edges, Rerun, Target};
use tokio_util::sync::CancellationToken;

use super::{database, stop};
use crate::exit::Exit;
use crate::out::Out;

/// How long an SSP may take to answer.
const ANSWER_MOST: Duration = Duration::from_secs(15);

/// Arguments. For the service there are none, the environment says everything.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    ask: Option<Ask>,
}

/// What to ask a running SSP.
#[derive(clap::Subcommand)]
enum Ask {
    /// How a view is kept up to date, and what it costs; or why a record is or is not in it.
    Explain(Explain),
}

#[derive(clap::Args)]
struct Explain {
    /// The view: the key of its `_00_query` row.
    view: String,
    /// A record, as `table:key`: which condition lets it in, or keeps it out.
    #[arg(long, value_name = "RECORD")]
    why: Option<String>,
    /// Where the SSP listens.
    #[arg(long, default_value = "http://127.0.0.1:8667")]
    url: String,
}

const HELP: &str = "Environment (a _FILE variant names a file for secrets):
  SPKY_DB_URL or SPKY_DB_WS, SPKY_DB_USER, SPKY_DB_PASS, SPKY_DB_NS, SPKY_DB_NAME   the database
  SPKY_SCHEDULER_URL        where the log's feed comes from
  SPKY_AUTH_SECRET          bearer of every caller and to the scheduler; due on a public address
  SPKY_SSP_LISTEN_ADDR      where to listen (0.0.0.0:8667; 127.0.0.1 without a secret)
  SPKY_SSP_ADVERTISE_ADDR   host:port under which the scheduler reaches us
  SPKY_SSP_ID               identity across restarts
  SPKY_SSP_REF_MODE         dedicated (default) or single
  SPKY_SSP_VIEW_BUDGET_BYTES, SPKY_SSP_TEMPLATE_BUDGET_BYTES   memory of a view, and of all of one shape
  SPKY_SSP_QUERY_UPDATE_THROTTLE_MS, HEARTBEAT_INTERVAL_MS, TTL_CLEANUP_INTERVAL_SECS
  SPKY_SCHEMA_POLL_SECS     between two looks at the permissions of tables (15)
  RUST_LOG                  which log lines";

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let config = Config::from_env().context("read the settings")?;
    if let Some(Ask::Explain(asked)) = args.ask {
        return explain(&asked, &config).await;
    }
    let stop = stop::on_signal()?;
    serve(config, stop).await?;
    Ok(Exit::Done)
}

/// Prints what the SSP says, as JSON.
async fn explain(asked: &Explain, config: &Config) -> Result<Exit> {
    let mut url = reqwest::Url::parse(&asked.url).with_context(|| format!("read {}", asked.url))?;
    let Ok(mut path) = url.path_segments_mut() else {
        return Ok(Exit::Usage(format!("{} is no address of an SSP", asked.url)));
    };
    path.pop_if_empty().extend(["v1", "views", &asked.view]);
    match &asked.why {
        Some(record) => path.extend(["why", record]),
        None => path.push("explain"),
    };
    drop(path);
    let client = reqwest::Client::builder().timeout(ANSWER_MOST).no_proxy().build()?;
    let mut request = client.get(url.clone());
    if let Some(secret) = &config.secret {
        request = request.bearer_auth(secret.reveal());
    }
    let answer = request.send().await.with_context(|| format!("ask {url}"))?;
    let status = answer.status();
    let text = answer.text().await.with_context(|| format!("read the answer of {url}"))?;
    if !status.is_success() {
        anyhow::bail!("{url}: {status} {text}");
    }
    let body: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("read the answer of {url}"))?;
    let mut out = Out::new();
    out.line(format_args!("{body:#}"))?;
    out.flush()?;
    Ok(Exit::Done)
}

/// Runs an SSP until `stop`. It listens before the database answers, and says that it waits.
pub(super) async fn serve(config: Config, stop: CancellationToken) -> Result<()> {
    let target = Target {
        url: config.database.url.clone(),
        user: config.database.user.clone(),
        password: config.database.pass.reveal().to_owned(),
        namespace: config.database.namespace.clone(),
        database: config.database.name.clone(),
    };
    let db = Db::later(target);
    let (sink, requery) = (Arc::new(Edges::new(db.clone())), Arc::new(Rerun::new(db.clone())));
    let running = Ssp::start(config, sink, requery, stop.clone()).await;
    let stopped = running.context("start the SSP")?.stopped();
    tokio::pin!(stopped);
    tokio::select! {
        () = &mut stopped => Ok(()),
        refused = database::refusal(&db) => {
            stop.cancel();
            stopped.await;
            Err(refused)
        }
    }
}
