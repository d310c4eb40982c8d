//! Docker and compose, by their commands. Both generations of compose are understood.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long Docker may take to say that it is there.
const ANSWER_MOST: Duration = Duration::from_secs(10);

/// The variable that the services refuse to run without.
const SECRET: &str = "SPKY_AUTH_SECRET";

/// The images, and how they come to be.
const IMAGES: [&str; 2] = ["revenant:local", "revenant-test/surrealdb:3.3.5"];

/// A Docker engine that answers, and the compose command beside it.
#[derive(Clone)]
pub(super) struct Engine {
    compose: &'static [&'static str],
}

impl Engine {
    /// Looks for both.
    pub(super) async fn find() -> Result<Self> {
        let version = ["docker", "version", "--format", "{{.Server.Version}}"];
        output(&version, None).await.context("ask the Docker engine")?;
        const COMPOSES: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
        for compose in COMPOSES {
            let asked: Vec<_> = compose.iter().copied().chain(["version"]).collect();
            if output(&asked, None).await.is_ok() {
                return Ok(Self { compose });
            }
        }
        bail!("neither `docker compose` nor `docker-compose` can be run")
    }
}

/// The stack of the test. Dropping it takes it down, with its volumes.
pub(super) struct Stack {
    engine: Engine,
    dir: PathBuf,
    project: String,
    secret: String,
}

impl Stack {
    pub(super) fn new(engine: Engine, dir: PathBuf, secret: String) -> Self {
        let project = format!("revenant-test-{}", std::process::id());
        Self { engine, dir, project, secret }
    }

    /// The user's file alone, with its secret and without; and that the images are there.
    pub(super) async fn check_files(&self) -> Result<()> {
        let user = self.compose(&["compose.yaml"], &["config", "-q"]);
        self.run(&user, Some(&self.secret)).await.context("check compose.yaml")?;
        match self.run(&user, None).await {
            Ok(_) => bail!("compose.yaml is accepted without {SECRET}"),
            Err(error) if format!("{error:#}").contains(SECRET) => {}
            Err(error) => return Err(error).context("check compose.yaml without a secret"),
        }
        for image in IMAGES {
            let asked = ["docker", "image", "inspect", "--format", "{{.Id}}", image];
            output(&asked, None)
                .await
                .with_context(|| format!("find {image}; run `just image`"))?;
        }
        Ok(())
    }

    /// Brings services up, all of them by default; on return their dependencies are well.
    pub(super) async fn up(&self, services: &[&str]) -> Result<()> {
        let args: Vec<_> = ["up", "-d"].into_iter().chain(services.iter().copied()).collect();
        self.stack(&args).await.context("bring the stack up").map(drop)
    }

    /// Sends SIGKILL to a service's container; on return it is dead.
    pub(super) async fn kill(&self, service: &str) -> Result<()> {
        let id = self.container(service).await?;
        output(&["docker", "kill", &id], None).await?;
        let state = ["docker", "inspect", "--format", "{{.State.Running}}", &id];
        match output(&state, None).await?.trim() {
            "false" => Ok(()),
            other => bail!("the container of {service} lives on: running is {other}"),
        }
    }

    /// Starts a service's container again.
    pub(super) async fn start(&self, service: &str) -> Result<()> {
        let id = self.container(service).await?;
        output(&["docker", "start", &id], None).await.map(drop)
    }

    /// Copies a directory of a container to `to`, which must not exist.
    pub(super) async fn copy_out(&self, service: &str, from: &str, to: &Path) -> Result<()> {
        let place = format!("{}:{from}", self.container(service).await?);
        let to = to.to_str().context("a path that is text")?;
        output(&["docker", "cp", &place, to], None).await.map(drop)
    }

    /// The last lines of every container's log, for a failure's cause.
    pub(super) async fn last_words(&self) -> String {
        let logs = self.stack(&["logs", "--no-color", "--tail", "10"]).await;
        logs.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Takes everything down. Dropping the stack does the same and cannot say that it failed.
    pub(super) async fn down(&self) -> Result<()> {
        self.stack(&DOWN).await.context("take the stack down").map(drop)
    }

    async fn container(&self, service: &str) -> Result<String> {
        // `-a`: a killed one, too. Compose 1.29 lists it in any case.
        let words = self.stack(&["ps", "-a", "-q", service]).await?;
        let id = words.lines().next().unwrap_or_default().trim().to_owned();
        if id.is_empty() {
            bail!("{service} has no container");
        }
        Ok(id)
    }

    async fn stack(&self, args: &[&str]) -> Result<String> {
        let command = self.compose(&["compose.yaml", "compose.test.yaml"], args);
        self.run(&command, Some(&self.secret)).await
    }

    fn compose(&self, files: &[&str], args: &[&str]) -> Vec<String> {
        let mut words: Vec<String> =
            self.engine.compose.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["-p".to_owned(), self.project.clone()]);
        for file in files {
            words.extend(["-f".to_owned(), self.dir.join(file).display().to_string()]);
        }
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        words
    }

    async fn run(&self, words: &[String], secret: Option<&str>) -> Result<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        output(&words, secret).await
    }
}

/// What is said to compose in the end.
const DOWN: [&str; 5] = ["down", "-v", "--remove-orphans", "-t", "10"];

impl Drop for Stack {
    fn drop(&mut self) {
        let words = self.compose(&["compose.yaml", "compose.test.yaml"], &DOWN);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = command(&words, Some(&self.secret)).output();
        if !done.is_ok_and(|done| done.status.success()) {
            eprintln!("warning: the stack may be up still; end it with: {}", words.join(" "));
        }
    }
}

fn command(words: &[&str], secret: Option<&str>) -> std::process::Command {
    let (program, args) = words.split_first().expect("a command has a name");
    let mut command = std::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).env_remove(SECRET);
    if let Some(secret) = secret {
        command.env(SECRET, secret);
    }
    command
}

/// What a command prints; its own words where it fails.
async fn output(words: &[&str], secret: Option<&str>) -> Result<String> {
    let mut command = tokio::process::Command::from(command(words, secret));
    let running = command.kill_on_drop(true).output();
    let is_question = words.contains(&"version");
    let most = if is_question { ANSWER_MOST } else { Duration::from_secs(600) };
    let done = tokio::time::timeout(most, running).await;
    let done = done.with_context(|| format!("`{}` takes too long", words.join(" ")))?;
    let Output { status, stdout, stderr } =
        done.with_context(|| format!("run `{}`", words.join(" ")))?;
    if !status.success() {
        let words = words.join(" ");
        bail!("`{words}` fails ({status}): {}", String::from_utf8_lossy(&stderr).trim());
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
