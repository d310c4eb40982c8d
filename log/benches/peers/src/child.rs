//! Processes of this program's own, for what must be killed, may die or is looked at from outside.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::peer::Failure;

fn command(arguments: &[&str]) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(arguments).stderr(Stdio::null());
    Ok(command)
}

/// What a child prints that ends well.
pub fn output(arguments: &[&str]) -> Result<String, Failure> {
    let output = command(arguments)?.stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, said.trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a child that kills itself when it is done.
pub fn killed(arguments: &[&str]) -> Result<(), Failure> {
    let output = command(arguments)?.stderr(Stdio::piped()).output()?;
    if was_killed(output.status) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, said.trim()).into())
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(9)
}

/// Ends this process as a kill from outside does: nothing is flushed, no destructor runs.
pub fn kill_myself() -> ! {
    let own = rustix::process::getpid();
    match rustix::process::kill_process(own, rustix::process::Signal::KILL) {
        Ok(()) => unreachable!("a process does not outlive its kill"),
        Err(_) => std::process::abort(),
    }
}

/// A child that is talked to, line by line.
pub struct Talk {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// What a child says, or that it does not.
pub enum Said {
    /// A line.
    Line(String),
    /// It ended.
    Ended,
    /// Nothing for too long.
    Nothing,
}

impl Talk {
    /// Starts it.
    pub fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = command(arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no pipe to the child")?;
        let output = child.stdout.take().ok_or("no pipe from the child")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to it; it may be gone, which the next answer tells.
    pub fn say(&mut self, line: &str) {
        drop(writeln!(self.input, "{line}"));
    }

    /// Its next line.
    pub fn hear(&mut self, patience: Duration) -> Said {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Said::Line(line),
            Err(RecvTimeoutError::Disconnected) => Said::Ended,
            Err(RecvTimeoutError::Timeout) => Said::Nothing,
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
