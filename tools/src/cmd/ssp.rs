//! `revenant ssp`: an SSP as a service.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use revenant_ssp::{Config, Ssp};
use revenant_surreal::{Db, Edges, Rerun, Target};
use tokio_util::sync::CancellationToken;

use super::{database, stop};
use crate::exit::Exit;

/// Arguments: none, the environment says everything.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {}

const HELP: &str = "Environment (a _FILE variant names a file for secrets):
  SPKY_DB_URL or SPKY_DB_WS, SPKY_DB_USER, SPKY_DB_PASS, SPKY_DB_NS, SPKY_DB_NAME   the database
  SPKY_SCHEDULER_URL        where the log's feed comes from
  SPKY_AUTH_SECRET          bearer of every caller and to the scheduler; due on a public address
  SPKY_SSP_LISTEN_ADDR      where to listen (0.0.0.0:8667; 127.0.0.1 without a secret)
  SPKY_SSP_ADVERTISE_ADDR   host:port under which the scheduler reaches us
  SPKY_SSP_ID               identity across restarts
  SPKY_SSP_REF_MODE         dedicated (default) or single
  SPKY_SSP_QUERY_UPDATE_THROTTLE_MS, HEARTBEAT_INTERVAL_MS, TTL_CLEANUP_INTERVAL_SECS
  RUST_LOG                  which log lines";

pub(crate) async fn run(_: Args) -> Result<Exit> {
    let config = Config::from_env().context("read the settings")?;
    let stop = stop::on_signal()?;
    serve(config, stop).await?;
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
