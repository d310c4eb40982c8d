//! `revenant scheduler`: the scheduler as a service.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use revenant_fanout::{Config, Scheduler};
use revenant_surreal::{Changefeed, Db, FeedPolicy, Target};
use tokio_util::sync::CancellationToken;

use super::{database, stop};
use crate::exit::Exit;

/// Arguments: none, the environment and `sp00ky.yml` say everything.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {}

const HELP: &str = "Environment (a _FILE variant names a file for secrets):
  SPKY_DB_URL or SPKY_DB_WS, SPKY_DB_USER, SPKY_DB_PASS, SPKY_DB_NS, SPKY_DB_NAME   the database
  SPKY_AUTH_SECRET       bearer of every caller; due on a public address
  SPKY_INGEST_HOST, SPKY_INGEST_PORT   where to listen (0.0.0.0:9667; 127.0.0.1 without a secret)
  SPKY_SCHEDULER_ID      name in reports
  SPKY_INGEST_TRANSPORT  changefeed (default) or http
  SPKY_WAL_PATH, SPKY_REPLICA_DB_PATH, SPKY_WAL_SEGMENT_MB, SPKY_WAL_BALLAST_MB,
  SPKY_WAL_SCRUB_MB_PER_S, SPKY_WAL_ARCHIVE_DIR, SPKY_WAL_COMPRESS_LEVEL
  SPKY_LOG_RETENTION_SECS, SPKY_LOG_RETENTION_MAX_MB
  SPKY_SNAPSHOT_UPDATE_INTERVAL_SECS, SPKY_RECONCILE_INTERVAL_SECS, SPKY_SCHEMA_POLL_SECS
  RUST_LOG               which log lines
The file sp00ky.yml in the working directory says the rest; its keys are those of the Sp00ky scheduler.";

pub(crate) async fn run(_: Args) -> Result<Exit> {
    let config = Config::from_env().context("read the settings")?;
    let stop = stop::on_signal()?;
    serve(config, stop).await?;
    Ok(Exit::Done)
}

/// Runs a scheduler until `stop`. It listens before the database answers, and says that it waits.
pub(super) async fn serve(config: Config, stop: CancellationToken) -> Result<()> {
    let target = Target {
        url: config.database.url.clone(),
        user: config.database.user.clone(),
        password: config.database.pass.reveal().to_owned(),
        namespace: config.database.namespace.clone(),
        database: config.database.name.clone(),
    };
    let db = Db::later(target);
    let source = Arc::new(Changefeed::new(db.clone(), FeedPolicy::Define));
    let running = Scheduler::start(config, source, stop.clone()).await;
    let ended = running.context("start the scheduler")?.wait();
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => ended.context("run the scheduler"),
        refused = database::refusal(&db) => {
            stop.cancel();
            ended.await.context("run the scheduler")?;
            Err(refused)
        }
    }
}
