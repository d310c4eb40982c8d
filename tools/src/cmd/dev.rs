//! `revenant dev`: database, scheduler and SSP for development, ended together by one Ctrl-C.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use revenant_surreal::{Db, Target, schema};
use tokio::process::{Child, Command};

use super::{database, scheduler, ssp, stop, surrealdb};
use crate::exit::Exit;
use crate::leash;

/// How long the database may take to end.
const STOP_MOST: Duration = Duration::from_secs(8);

/// Where everything listens.
const DATABASE: &str = "127.0.0.1:8666";
const SCHEDULER: &str = "127.0.0.1:9667";
const SSP: &str = "127.0.0.1:8667";

/// Namespace and database of development.
const PLACE: &str = "main";

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Keep the database in memory: it is empty at the next start, and so is everything else.
    #[arg(long)]
    memory: bool,
    /// Where everything is kept.
    #[arg(long, default_value = "revenant-dev", conflicts_with = "memory")]
    data: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let stop = stop::on_signal()?;
    let temporary = args.memory.then(tempfile::tempdir).transpose()?;
    let dir = temporary.as_ref().map_or(args.data.as_path(), tempfile::TempDir::path);
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let store = if args.memory {
        "memory".to_owned()
    } else {
        format!("surrealkv://{}", dir.join("surrealdb").display())
    };
    let mut server = start(&store)?;
    let target = Target {
        url: format!("ws://{DATABASE}"),
        user: "root".into(),
        password: "root".into(),
        namespace: PLACE.into(),
        database: PLACE.into(),
    };
    let prepared = tokio::select! {
        ended = server.wait() => bail!("the database ended: {}; is {DATABASE} taken?", ended?),
        prepared = prepare(&target, &stop) => prepared?,
    };
    if !prepared {
        return Ok(Exit::Done);
    }
    let services = tokio::spawn(services(dir.to_owned(), target, stop.clone()));
    print_next(dir);
    let stop_server = stop.clone();
    tokio::select! {
        done = services => done.context("run the services")??,
        ended = server.wait() => {
            stop_server.cancel();
            bail!("the database ended: {}", ended?);
        }
    }
    end(server).await?;
    Ok(Exit::Done)
}

fn start(store: &str) -> Result<Child> {
    let args =
        ["start", "--user", "root", "--pass", "root", "--no-banner", "--log", "warn", "--bind"];
    let mut command = surrealdb::command(args.into_iter().chain([DATABASE, store]))?;
    leash::tie(&mut command);
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    // Ctrl-C is for us; the database ends after those who write to it.
    command.process_group(0);
    command.spawn().context("start the database")
}

async fn prepare(target: &Target, stop: &tokio_util::sync::CancellationToken) -> Result<bool> {
    let Some(db) = database::connect(target, stop).await? else { return Ok(false) };
    let place = format!(
        "DEFINE NAMESPACE IF NOT EXISTS {PLACE}; USE NS {PLACE}; DEFINE DATABASE IF NOT EXISTS {PLACE}"
    );
    db.run(&place, []).await.context("define namespace and database")?;
    let db = Db::connect(target).await?;
    schema::install(&db).await.context("install the schema")?;
    Ok(true)
}

async fn services(
    dir: PathBuf,
    target: Target,
    stop: tokio_util::sync::CancellationToken,
) -> Result<()> {
    let mut fanout = revenant_fanout::Config::local(&dir);
    fanout.scheduler_id = "scheduler-dev".into();
    fanout.listen = SCHEDULER.parse()?;
    fanout.database.url.clone_from(&target.url);
    fanout.database.namespace.clone_from(&target.namespace);
    fanout.database.name.clone_from(&target.database);
    let mut ssp = revenant_ssp::Config::local("ssp-1", format!("http://{SCHEDULER}"));
    ssp.listen = SSP.parse()?;
    ssp.database.url.clone_from(&target.url);
    ssp.database.namespace.clone_from(&target.namespace);
    ssp.database.name.clone_from(&target.database);
    // One that fails ends the other.
    let guard = stop.clone().drop_guard();
    let scheduler = async {
        let done = scheduler::serve(fanout, stop.clone()).await;
        stop.cancel();
        done
    };
    let ssp = async {
        let done = ssp::serve(ssp, stop.clone()).await;
        stop.cancel();
        done
    };
    let (one, other) = tokio::join!(scheduler, ssp);
    drop(guard);
    one.and(other)
}

fn print_next(dir: &std::path::Path) {
    eprintln!(
        "SurrealDB  ws://{DATABASE} (root, root; namespace {PLACE}, database {PLACE})
scheduler  http://{SCHEDULER}
SSP        http://{SSP}
data       {}

next: connect any SurrealDB client to ws://{DATABASE} and define tables;
      revenant schema check --db {PLACE}
      curl http://{SCHEDULER}/health
      Ctrl-C ends all three",
        dir.display()
    );
}

/// Ends the database, by force if it takes too long.
async fn end(mut server: Child) -> Result<()> {
    if let Some(pid) = server.id().and_then(|id| i32::try_from(id).ok())
        && let Some(pid) = rustix::process::Pid::from_raw(pid)
    {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    match tokio::time::timeout(STOP_MOST, server.wait()).await {
        Ok(ended) => ended.map(|_| ()).context("wait for the database"),
        Err(_) => server.kill().await.context("end the database"),
    }
}
