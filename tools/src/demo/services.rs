//! The processes: started, killed, stopped, looked at. Each writes its log lines to a file of its own.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::site::Site;
use crate::cmd::surrealdb;
use crate::leash;

/// How long a process may take to end after SIGTERM.
const STOP_MOST: Duration = Duration::from_secs(10);

/// A process of the demo.
pub(crate) struct Service {
    name: String,
    child: Child,
    /// The most memory that any of its lives had resident, bytes.
    peak_bytes: u64,
    starts: u32,
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// SurrealDB.
    Database,
    /// The scheduler.
    Scheduler,
    /// An SSP, by its place in [`Site::ssps`].
    Ssp(usize),
}

impl Who {
    /// Its name in reports and of its log file.
    pub(crate) fn name(self, site: &Site) -> String {
        match self {
            Self::Database => "surrealdb".into(),
            Self::Scheduler => "scheduler".into(),
            Self::Ssp(index) => site.ssps[index].id.clone(),
        }
    }

    fn command(self, site: &Site) -> Result<Command> {
        let mut command = match self {
            Self::Database => {
                let bind = format!("127.0.0.1:{}", site.database_port);
                let path = format!("surrealkv://{}", site.dir.join("surrealdb").display());
                let user = ["--user", "root", "--pass", "root", "--no-banner", "--log", "warn"];
                let args = ["start", "--bind", &bind, &path].into_iter().chain(user);
                return surrealdb::command(args);
            }
            Self::Scheduler => {
                let mut command = own("scheduler")?;
                command
                    .current_dir(site.scheduler_dir())
                    .env("SPKY_SCHEDULER_ID", "scheduler-1")
                    .env("SPKY_INGEST_HOST", "127.0.0.1")
                    .env("SPKY_INGEST_PORT", site.scheduler_port.to_string())
                    .env("SPKY_WAL_PATH", site.log_dir())
                    .env("SPKY_REPLICA_DB_PATH", site.replica_dir())
                    // Small segments, so that sealing and reading sealed ones happens.
                    .env("SPKY_WAL_SEGMENT_MB", "4");
                if site.trims {
                    // Nothing is kept for its age, and the replica is soon somewhere to start from.
                    command
                        .env("SPKY_LOG_RETENTION_SECS", "0")
                        .env("SPKY_SNAPSHOT_UPDATE_INTERVAL_SECS", "5");
                }
                command
            }
            Self::Ssp(index) => {
                let ssp = &site.ssps[index];
                let mut command = own("ssp")?;
                command
                    .current_dir(&site.dir)
                    .env("SPKY_SSP_ID", &ssp.id)
                    .env("SPKY_SSP_LISTEN_ADDR", format!("127.0.0.1:{}", ssp.port))
                    .env("SPKY_SSP_ADVERTISE_ADDR", format!("127.0.0.1:{}", ssp.port))
                    .env("SPKY_SCHEDULER_URL", site.scheduler_url())
                    .env("SPKY_SSP_QUERY_UPDATE_THROTTLE_MS", site.throttle_ms.to_string())
                    .env("HEARTBEAT_INTERVAL_MS", "1000");
                command
            }
        };
        command
            .env("SPKY_DB_WS", site.database_url())
            .env("SPKY_DB_USER", "root")
            .env("SPKY_DB_PASS", "root")
            .env("SPKY_DB_NS", "main")
            .env("SPKY_DB_NAME", "app")
            .env("SPKY_AUTH_SECRET", &site.secret);
        Ok(command)
    }
}

/// This program again, with nothing of our environment that could configure it.
fn own(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program's file")?);
    command.arg(subcommand);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPKY_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

impl Service {
    /// Starts `who`.
    pub(crate) fn start(site: &Site, who: Who) -> Result<Self> {
        let name = who.name(site);
        let child = spawn(site, who, &name)?;
        Ok(Self { name, child, peak_bytes: 0, starts: 1 })
    }

    /// Starts it again after it died.
    pub(crate) fn restart(&mut self, site: &Site, who: Who) -> Result<()> {
        self.child = spawn(site, who, &self.name)?;
        self.starts += 1;
        Ok(())
    }

    /// Sends SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.note_memory();
        self.signal(Signal::KILL)?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// Sends SIGTERM and waits until it has ended; kills it when it does not.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.note_memory();
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_MOST {
                return self.kill();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Holds it still.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Fails if it ended by itself.
    pub(crate) fn check(&mut self, site: &Site) -> Result<()> {
        self.note_memory();
        if let Some(status) = self.child.try_wait()? {
            let file = log_file(site, &self.name);
            bail!("{} ended by itself ({status}); see {}", self.name, file.display());
        }
        Ok(())
    }

    /// The most memory it had resident so far, bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    fn note_memory(&mut self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let line = |text: String| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let kib = status.ok().and_then(line).unwrap_or(0);
        self.peak_bytes = self.peak_bytes.max(kib * 1024);
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }
}

impl Drop for Service {
    /// Nothing outlives the demo.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A stopped process ends only by SIGKILL, and there is nobody left to tell of a failure.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn log_file(site: &Site, name: &str) -> std::path::PathBuf {
    site.dir.join("logs").join(format!("{name}.log"))
}

fn spawn(site: &Site, who: Who, name: &str) -> Result<Child> {
    let file = log_file(site, name);
    let log = OpenOptions::new().create(true).append(true).open(&file);
    let log = log.with_context(|| format!("open {}", file.display()))?;
    let mut command = who.command(site)?;
    leash::tie(&mut command);
    // Ctrl-C is for the demo, which ends them all.
    command.process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| format!("start {name}"))
}

/// All processes of a demo.
pub(crate) struct Services {
    /// SurrealDB.
    pub(crate) database: Service,
    /// The scheduler, once it was started.
    pub(crate) scheduler: Option<Service>,
    /// The SSPs, once they were started.
    pub(crate) ssps: Vec<Service>,
}

impl Services {
    /// The running service `who`.
    pub(crate) fn get(&mut self, who: Who) -> Result<&mut Service> {
        match who {
            Who::Database => Some(&mut self.database),
            Who::Scheduler => self.scheduler.as_mut(),
            Who::Ssp(index) => self.ssps.get_mut(index),
        }
        .context("it was not started")
    }

    /// Fails if one of them ended by itself.
    pub(crate) fn check(&mut self, site: &Site) -> Result<()> {
        self.database.check(site)?;
        let services = self.scheduler.iter_mut().chain(&mut self.ssps);
        services.into_iter().try_for_each(|service| service.check(site))
    }
}
