//! The compose test: the user's `compose.yaml`, with the database's image exchanged for one that is made from
//! this binary, brought up, written to, bereft of a container now and then, and checked as the demo is.
//!
//! Map: `stack` talks to Docker; the rest is here, and the writers and the checker are the demo's own.

mod stack;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use indicatif::ProgressBar;
use revenant_testdata::history::{Reader, Transaction};
use serde::Serialize;

use self::stack::{Engine, Stack};
use crate::cmd::stop;
use crate::demo::check::{self, Verdict, highest};
use crate::demo::load::{self, Pace};
use crate::demo::site::{Client, Site, SspSite};
use crate::demo::{plan, schema, views, wait};
use crate::exit::Exit;
use crate::out::Out;

/// How long a killed container stays down.
const DOWN: Duration = Duration::from_secs(2);

/// Where the scheduler's container has the log.
const LOG: &str = "/app/data/event_wal.log";

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The directory of `compose.yaml` and `compose.test.yaml`.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The history: JSON lines, plain or zstd. Without it a small one that is part of this program.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Play so many transactions.
    #[arg(long, default_value_t = 300)]
    limit: usize,
    /// Connections that write at the same time.
    #[arg(long, default_value_t = 8)]
    writers: u16,
    /// Views to register.
    #[arg(long, default_value_t = 26)]
    views: usize,
}

/// What the test has to say.
#[derive(Serialize)]
struct Report {
    show: &'static str,
    pass: bool,
    skipped: bool,
    #[serde(flatten)]
    verdict: Verdict,
    killed: Vec<Killed>,
}

/// The same where there is no Docker.
#[derive(Serialize)]
struct Skipped {
    show: &'static str,
    pass: bool,
    skipped: bool,
    reason: String,
}

/// A container that was killed and started again.
#[derive(Serialize)]
struct Killed {
    who: &'static str,
    /// Transactions acknowledged when it died.
    at: usize,
    /// Transactions acknowledged until it was well again.
    meanwhile: usize,
    /// Until it was well again, its time down included.
    back_after_ms: u128,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let engine = match Engine::find().await {
        Ok(engine) => engine,
        Err(error) => return skip(format!("{error:#}")),
    };
    let stop = stop::on_signal()?;
    tokio::select! {
        // Dropping the stack takes everything down.
        done = test(args, engine) => done,
        () = stop.cancelled() => {
            Ok(Exit::CouldNot(anyhow!("interrupted: the stack is taken down, nothing was checked")))
        }
    }
}

/// Where no Docker answers, nothing is tested, and that is no failure of what would be.
fn skip(reason: String) -> Result<Exit> {
    let mut out = Out::new();
    out.line(format_args!(
        "SKIPPED: nothing was tested, since no Docker engine answers: {reason}"
    ))?;
    out.json(&Skipped { show: "compose-test", pass: false, skipped: true, reason })?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn test(args: Args, engine: Engine) -> Result<Exit> {
    let history = match &args.data {
        Some(path) => Reader::open(path)?,
        None => Reader::small(),
    };
    let history = history.take(args.limit).collect::<Result<Vec<_>, _>>();
    let history = Arc::new(history.context("read the history")?);
    let dir = tempfile::Builder::new().prefix("revenant-compose-").tempdir()?;
    let mut site = site(dir.path().to_owned())?;
    std::fs::create_dir_all(site.scheduler_dir())?;
    let stack = Stack::new(engine, args.dir.clone(), site.secret.clone());
    stack.check_files().await?;
    say("compose.yaml is well-formed, and refuses to start without a secret");

    let mut play = Play { args, history, client: site.client()?, killed: Vec::new() };
    let verdict = match play.whole(&stack, &mut site).await {
        Ok(verdict) => verdict,
        Err(error) => {
            say(format_args!("what the containers said last:\n{}", stack.last_words().await));
            return Err(error);
        }
    };
    stack.down().await?;
    say("checked; the stack is taken down");
    report(verdict, play)
}

/// The stack's ports as `compose.yaml` publishes them.
fn site(dir: PathBuf) -> Result<Site> {
    let ssp = |id: &str, port| SspSite { id: id.to_owned(), port };
    Ok(Site {
        database_port: 8666,
        scheduler_port: 9667,
        ssps: vec![ssp("ssp-01", 8667), ssp("ssp-02", 8668)],
        ..Site::new(dir)?
    })
}

/// A history on its way into the stack.
struct Play {
    args: Args,
    history: Arc<Vec<Transaction>>,
    client: Client,
    killed: Vec<Killed>,
}

impl Play {
    async fn whole(&mut self, stack: &Stack, site: &mut Site) -> Result<Verdict> {
        self.bring_up(stack, site).await?;
        self.load(stack, site).await?;
        say("waiting until everything has arrived everywhere");
        wait::arrival(site, &self.client, || Ok(()), &ProgressBar::hidden()).await?;
        stack.copy_out("scheduler", LOG, &site.log_dir()).await?;
        check::in_a_process(site).await
    }

    fn before(&self) -> usize {
        self.history.len() / 10
    }

    /// The database with a tenth of the history, then everything else, then the views.
    async fn bring_up(&self, stack: &Stack, site: &mut Site) -> Result<()> {
        stack.up(&["surrealdb"]).await?;
        wait::database(site).await?;
        let db = site.connect().await?;
        schema::define(&db).await?;
        revenant_surreal::schema::install(&db).await.context("install the schema")?;
        let pace = Pace::new(0);
        load::play(site, &self.history, self.before(), self.args.writers, &pace).await?;
        site.loaded_to = highest(&db).await?;
        stack.up(&[]).await?;
        wait::scheduler(site, &self.client).await?;
        for index in 0..site.ssps.len() {
            wait::ssp(site, &self.client, index).await?;
        }
        site.views = plan::views(&self.history, self.args.views);
        site.save()?;
        for view in &site.views {
            views::register(site, &self.client, view).await?;
        }
        say(format_args!("the stack is up, with {} views", site.views.len()));
        Ok(())
    }

    /// The rest of the history, while an SSP and then the scheduler die and come back.
    async fn load(&mut self, stack: &Stack, site: &Site) -> Result<()> {
        let total = self.history.len();
        let pace = Pace::new(self.before());
        let writers = load::play(site, &self.history, total, self.args.writers, &pace);
        let client = &self.client;
        let killer = async {
            let mut killed = Vec::new();
            let kills = [("ssp-1", total * 3 / 10), ("scheduler", total * 6 / 10)];
            for (index, (who, at)) in kills.into_iter().enumerate() {
                // Writers wait for the kill that is due, and go on slowly while it is made.
                let next = kills.get(index + 1).map_or(total * 9 / 10, |(_, at)| *at);
                pace.bound(at, next);
                while pace.acknowledged() < at {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let kill = kill(stack, site, client, &pace, who).await;
                killed.push(kill.with_context(|| format!("kill {who}"))?);
            }
            pace.bound(usize::MAX, usize::MAX);
            anyhow::Ok(killed)
        };
        let ((), killed) = tokio::try_join!(writers, killer)?;
        self.killed = killed;
        Ok(())
    }
}

async fn kill(
    stack: &Stack,
    site: &Site,
    client: &Client,
    pace: &Pace,
    who: &'static str,
) -> Result<Killed> {
    let (at, begun) = (pace.acknowledged(), Instant::now());
    stack.kill(who).await?;
    tokio::time::sleep(DOWN).await;
    stack.start(who).await?;
    match who {
        "scheduler" => wait::scheduler(site, client).await?,
        _ => wait::ssp(site, client, 0).await?,
    }
    let meanwhile = pace.acknowledged() - at;
    say(format_args!("killed {who} after {at} transactions; {meanwhile} more until it was back"));
    Ok(Killed { who, at, meanwhile, back_after_ms: begun.elapsed().as_millis() })
}

fn report(mut verdict: Verdict, play: Play) -> Result<Exit> {
    let due = play.history.len() as u64;
    if verdict.transactions != due {
        let text = format!("{} of {due} transactions were acknowledged", verdict.transactions);
        verdict.findings.push(text);
    }
    let pass = verdict.is_clean() && verdict.transactions == due;
    let mut out = Out::new();
    out.line(format_args!(
        "{} transactions, {} log records, {} views with {} edges: {}",
        verdict.transactions,
        verdict.log_records,
        verdict.views,
        verdict.edges,
        verdict.faults()
    ))?;
    for finding in &verdict.findings {
        out.line(format_args!("  ! {finding}"))?;
    }
    let killed = play.killed;
    out.json(&Report { show: "compose-test", pass, skipped: false, verdict, killed })?;
    out.flush()?;
    Ok(if pass { Exit::Done } else { Exit::Found })
}

fn say(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
