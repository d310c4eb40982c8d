//! One demo from start to end.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use revenant_testdata::history::{Reader, Transaction};

use super::check::{self, Verdict, highest};
use super::kill::{self, Kill};
use super::load::{self, Pace};
use super::report::{Report, seconds};
use super::services::{Service, Services, Who};
use super::site::{Client, Site};
use super::{Args, archive, plan, schema, tamper, views, wait};
use crate::cmd::stop;
use crate::exit::Exit;

/// The fewest transactions with which kills can meet a load.
const KILLS_FROM: usize = 100;

/// The whole run.
pub(super) async fn run(args: Args) -> Result<Exit> {
    let history = match &args.data {
        Some(path) => Reader::open(path)?,
        None => Reader::small(),
    };
    let history = history.take(args.limit.unwrap_or(usize::MAX)).collect::<Result<Vec<_>, _>>();
    let history = Arc::new(history.context("read the history")?);
    if history.is_empty() {
        return Ok(Exit::Usage("the history is empty".into()));
    }
    let dir = match directory(args.keep.as_deref())? {
        Ok(dir) => dir,
        Err(refused) => return Ok(refused),
    };
    let place = dir.display().to_string();
    let stop = stop::on_signal()?;
    tokio::select! {
        // Dropping the demo kills its processes and waits for them.
        done = play(args, history, dir) => done,
        () = stop.cancelled() => Ok(Exit::CouldNot(anyhow!(
            "interrupted: every process of the demo is ended and nothing was checked; \
             what there is stays in {place}"
        ))),
    }
}

/// The run itself, in an empty directory.
async fn play(args: Args, history: Arc<Vec<Transaction>>, dir: PathBuf) -> Result<Exit> {
    let begun = Instant::now();
    let mut demo = Demo::start(args, history, dir).await?;
    demo.load_before().await?;
    demo.start_services().await?;
    let (kills, load_time) = demo.load().await?;
    let arrival = demo.arrive().await?;
    if let Some(tamper) = demo.args.tamper {
        demo.say(format!("planting a fault: {tamper:?}"));
        let plant = tamper::plant(tamper, &demo.site, &demo.client, &mut demo.services);
        plant.await.context("plant a fault")?;
    }
    let check_begun = Instant::now();
    let verdict = demo.check().await?;
    let check_time = check_begun.elapsed();
    demo.finish(verdict, kills, [load_time, arrival, check_time], begun).await
}

/// An empty directory, which stays.
fn directory(keep: Option<&Path>) -> Result<Result<PathBuf, Exit>> {
    let dir = match keep {
        Some(dir) => std::path::absolute(dir)?,
        None => tempfile::Builder::new().prefix("revenant-demo-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        let text = format!("{} is not empty; name a directory that is", dir.display());
        return Ok(Err(Exit::Refused(text)));
    }
    std::fs::create_dir_all(dir.join("logs"))?;
    std::fs::create_dir_all(dir.join("scheduler"))?;
    Ok(Ok(dir))
}

/// A demo under way.
struct Demo {
    args: Args,
    history: Arc<Vec<Transaction>>,
    site: Site,
    client: Client,
    services: Services,
    bar: ProgressBar,
    conflicts: usize,
}

impl Demo {
    /// The database is up, with its schema.
    async fn start(args: Args, history: Arc<Vec<Transaction>>, dir: PathBuf) -> Result<Self> {
        let mut site = Site::new(dir)?;
        // A fault is planted in a whole log.
        site.trims = args.tamper.is_none();
        let client = site.client()?;
        let bar = ProgressBar::new(history.len() as u64);
        if args.json || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(ProgressStyle::with_template(
            "{elapsed_precise} {bar:30} {pos}/{len} {per_sec} eta {eta} {msg}",
        )?);
        let database = Service::start(&site, Who::Database)?;
        let services = Services { database, scheduler: None, ssps: Vec::new() };
        let demo = Self { args, history, site, client, services, bar, conflicts: 0 };
        let (count, dir) = (demo.history.len(), demo.site.dir.display());
        demo.say(format!("playing {count} transactions; data and logs are in {dir}"));
        demo.bar.set_message("waiting for the database");
        wait::database(&demo.site).await?;
        let db = demo.site.connect().await?;
        schema::define(&db).await?;
        revenant_surreal::schema::install(&db).await.context("install the schema")?;
        Ok(demo)
    }

    /// Says something that stays on the screen.
    fn say(&self, text: impl AsRef<str>) {
        if self.args.json {
            return;
        }
        if self.bar.is_hidden() {
            eprintln!("{}", text.as_ref());
        } else {
            self.bar.println(text);
        }
    }

    /// The part of the history that is there before the scheduler is.
    fn before(&self) -> usize {
        self.history.len() / 10
    }

    async fn load_before(&mut self) -> Result<()> {
        self.bar.set_message("loading before the scheduler starts");
        let pace = Pace::new(0);
        load::play(&self.site, &self.history, self.before(), self.args.writers, &pace).await?;
        self.bar.set_position(self.before() as u64);
        self.site.loaded_to = highest(&self.site.connect().await?).await?;
        self.site.save()?;
        self.say(format!("loaded {} transactions before the scheduler starts", self.before()));
        Ok(())
    }

    async fn start_services(&mut self) -> Result<()> {
        self.bar.set_message("starting the scheduler");
        self.services.scheduler = Some(Service::start(&self.site, Who::Scheduler)?);
        for index in 0..self.site.ssps.len() {
            self.services.ssps.push(Service::start(&self.site, Who::Ssp(index))?);
        }
        wait::scheduler(&self.site, &self.client).await?;
        for index in 0..self.site.ssps.len() {
            wait::ssp(&self.site, &self.client, index).await?;
        }
        self.site.views = plan::views(&self.history, self.args.views);
        self.site.save()?;
        self.bar.set_message("registering views");
        for view in &self.site.views[..self.site.views.len() / 2] {
            views::register(&self.site, &self.client, view).await?;
        }
        self.say("scheduler and SSPs are ready; the first half of the views is registered");
        Ok(())
    }

    /// Writers, kills and registrations at the same time.
    async fn load(&mut self) -> Result<(Vec<Kill>, Duration)> {
        let (begun, total) = (Instant::now(), self.history.len());
        let pace = Pace::new(self.before());
        let kill = !self.args.no_kill && total >= KILLS_FROM;
        if !self.args.no_kill && !kill {
            self.say(format!("fewer than {KILLS_FROM} transactions: nothing is killed"));
        }
        self.bar.set_message("loading");
        let from = self.before();
        let Self { args, history, site, client, services, bar, .. } = self;
        let writers = load::play(site, history, total, args.writers, &pace);
        let killer = async {
            if !kill {
                return Ok(Vec::new());
            }
            kill::all(site, client, services, &pace, total, args.seed).await
        };
        let late = &site.views[site.views.len() / 2..];
        let registering = async {
            for (index, view) in late.iter().enumerate() {
                // From the start of the load to four fifths of it.
                let at = from + (total - from) * 4 * index / (5 * late.len());
                while pace.acknowledged() < at {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                views::register(site, client, view).await?;
            }
            anyhow::Ok(())
        };
        let watching = async {
            while pace.acknowledged() < total {
                bar.set_position(pace.acknowledged() as u64);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        let loading = async {
            tokio::try_join!(
                async { writers.await.map(|()| begun.elapsed()) },
                killer,
                registering,
                watching
            )
        };
        let (load_time, kills, (), ()) = archive::beside(site, loading).await?;
        self.bar.set_position(total as u64);
        for kill in &kills {
            self.say(format!("killed {} during {} at {}", kill.who, kill.during, kill.at));
        }
        let conflicts = pace.conflicts();
        self.say(format!("loaded everything in {load_time:.1?}; {conflicts} retries on conflict"));
        self.conflicts = conflicts;
        Ok((kills, load_time))
    }

    async fn arrive(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.say("waiting until everything has arrived everywhere");
        let Self { site, client, services, bar, .. } = self;
        let arrived = wait::arrival(site, client, || services.check(site), bar);
        archive::beside(site, arrived).await?;
        self.services.check(&self.site)?;
        Ok(begun.elapsed())
    }

    /// The checker, as a process of its own.
    async fn check(&self) -> Result<Verdict> {
        self.bar.set_message("checking");
        check::in_a_process(&self.site).await
    }

    async fn finish(
        mut self,
        verdict: Verdict,
        kills: Vec<Kill>,
        [load, arrival, check]: [Duration; 3],
        begun: Instant,
    ) -> Result<Exit> {
        let peak = |service: &Service| service.peak_bytes();
        let ssp_rss_bytes = self.services.ssps.iter().map(peak).max().unwrap_or(0);
        let scheduler_rss_bytes = self.services.scheduler.as_ref().map_or(0, peak);
        for service in &mut self.services.ssps {
            service.stop().await?;
        }
        if let Some(scheduler) = &mut self.services.scheduler {
            scheduler.stop().await?;
        }
        self.services.database.stop().await?;
        archive::put_back(&self.site)?;
        self.bar.finish_and_clear();
        let due = self.history.len() as u64;
        let mut verdict = verdict;
        if verdict.transactions != due {
            let text = format!("{} of {due} transactions were acknowledged", verdict.transactions);
            verdict.findings.push(text);
        }
        let mut maintained = true;
        for (kind, (all, incremental)) in &verdict.kinds {
            if incremental < all && !plan::RUN_AGAIN.contains(&kind.as_str()) {
                maintained = false;
                let text =
                    format!("{incremental} of {all} views of the kind {kind} are incremental");
                verdict.findings.push(text);
            }
        }
        let pass = verdict.is_clean() && verdict.transactions == due && maintained;
        let history = self.history.iter();
        let history_changes = history.map(|transaction| transaction.changes.len() as u64).sum();
        let played = (self.history.len() - self.before()) as f64;
        let report = Report {
            show: "demo",
            pass,
            history_changes,
            verdict,
            kills: kills.len(),
            killed: kills,
            writers: self.args.writers,
            conflicts: self.conflicts,
            seed: self.args.seed,
            tamper: self.args.tamper,
            load_seconds: seconds(load),
            transactions_per_second: (played / load.as_secs_f64()).round(),
            arrival_seconds: seconds(arrival),
            check_seconds: seconds(check),
            elapsed_seconds: seconds(begun.elapsed()),
            scheduler_rss_bytes,
            ssp_rss_bytes,
            dir: self.site.dir.display().to_string(),
        };
        report.print(self.args.json, &self.site.dir)?;
        Ok(if pass { Exit::Done } else { Exit::Found })
    }
}
