//! Processes that end with the one that started them, however that one ends: by SIGKILL, too.
//!
//! The starter names itself in the child's environment; the child, which is this program again, asks the
//! system to be killed when its parent is gone.

use std::process::Command;

use rustix::process::{Pid, getppid};

/// Names the starter's process id.
const VARIABLE: &str = "REVENANT_ENDS_WITH";

/// Has the process that `command` starts end with this one. For this program only; others ignore it.
///
/// To be started from a thread that lives as long as the process: the system counts the thread's end.
pub(crate) fn tie(command: &mut Command) {
    command.env(VARIABLE, std::process::id().to_string());
}

/// Ends this process with its starter, if it was started so. To be called first of all.
pub(crate) fn obey() {
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let Some(starter) = text.parse().ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = ask_to_be_killed() {
        eprintln!("warning: this process may outlive its starter: {error}");
    }
    // It may have ended before we asked.
    if getppid() != Some(starter) {
        eprintln!("error: process {text}, which started this one, is gone");
        std::process::exit(3);
    }
}

#[cfg(target_os = "linux")]
fn ask_to_be_killed() -> std::io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
fn ask_to_be_killed() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
