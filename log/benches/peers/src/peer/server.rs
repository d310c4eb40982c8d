//! A server that belongs to the benchmark: started in a directory of its own, stopped when done.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;

/// Where servers put their count of syncs, if it is asked for.
pub const TRACE: &str = "REVENANT_PEERS_TRACE";
/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a program is: on the path, or where Debian puts PostgreSQL's.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .chain(versions.map(|version| version.path().join("bin")))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The program, or why there is none.
pub fn installed(program: &str) -> Result<PathBuf, Failure> {
    find(program).ok_or_else(|| format!("not installed: {program}").into())
}

/// A server that runs.
pub struct Server {
    child: Child,
    pid_file: PathBuf,
}

impl Server {
    /// Starts `program`, which writes its process id to `pid_file`, and waits for `ready`.
    pub fn start<T>(
        program: &Path,
        arguments: &[OsString],
        dir: &Path,
        pid_file: PathBuf,
        mut ready: impl FnMut() -> Result<T, Failure>,
    ) -> Result<(Self, T), Failure> {
        let mut command = match std::env::var_os(TRACE) {
            Some(to) => {
                let mut strace = Command::new(installed("strace")?);
                strace.args(crate::syncs::TRACED).arg("-o").arg(to).arg("--").arg(program);
                strace
            }
            None => Command::new(program),
        };
        let output = File::create(dir.join("server.out"))?;
        let child = command
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut server = Self { child, pid_file };
        let started = Instant::now();
        loop {
            match ready() {
                Ok(connected) => return Ok((server, connected)),
                Err(error) if started.elapsed() > PATIENCE => {
                    return Err(format!("{} does not answer: {error}", program.display()).into());
                }
                Err(_) if server.child.try_wait()?.is_some() => {
                    let said = std::fs::read_to_string(dir.join("server.out"))?;
                    return Err(format!("{} stopped: {said}", program.display()).into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Stops it cleanly.
    pub fn stop(&mut self) -> Result<(), Failure> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let said = std::fs::read_to_string(&self.pid_file)?;
        let pid = said.lines().next().and_then(|line| line.trim().parse().ok());
        kill_process(pid.and_then(Pid::from_raw).ok_or("no process id")?, Signal::INT)?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > PATIENCE {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("a server did not stop: {error}");
        }
    }
}
