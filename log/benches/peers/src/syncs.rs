//! How many syncs an engine makes for each acknowledgement, counted by `strace` around a run of its own.

use std::path::Path;
use std::process::Command;

use crate::peer::server::{TRACE, find};
use crate::peer::{Engine, Failure};

/// What strace is asked for: a count of every call that makes data durable.
pub const TRACED: &[&str] =
    &["-f", "-q", "-c", "--seccomp-bpf", "-e", "trace=fsync,fdatasync,msync,sync_file_range"];
/// Appends of each caller in a counted run.
const APPENDS: u64 = 400;

/// Syncs per acknowledged append with that many callers; `None` where strace is not installed or not allowed.
pub fn per_append(engine: Engine, callers: u64, dir: &Path) -> Option<f64> {
    find("strace")?;
    let run = |appends: u64| counted(engine, callers, appends, dir).ok();
    let opened = run(0)?;
    let appends = if callers == 1 { APPENDS } else { APPENDS / 8 };
    let all = run(appends)?;
    Some(all.saturating_sub(opened) as f64 / (appends * callers) as f64)
}

fn counted(engine: Engine, callers: u64, appends: u64, dir: &Path) -> Result<u64, Failure> {
    let home = tempfile::tempdir_in(dir)?;
    let to = tempfile::NamedTempFile::new_in(dir)?;
    let own = std::env::current_exe()?;
    let (callers, appends) = (callers.to_string(), appends.to_string());
    let arguments = ["child", "append", engine.name, &callers, &appends];
    let status = if engine.service {
        Command::new(own).args(arguments).arg(home.path()).env(TRACE, to.path()).status()?
    } else {
        let mut strace = Command::new("strace");
        strace.args(TRACED).arg("-o").arg(to.path()).arg("--");
        strace.arg(own).args(arguments).arg(home.path()).status()?
    };
    if !status.success() {
        return Err(format!("{} under strace: {status}", engine.name).into());
    }
    let table = std::fs::read_to_string(to.path())?;
    let calls = |line: &str| -> Option<u64> {
        let name = line.split_whitespace().last()?;
        let known = ["fsync", "fdatasync", "msync", "sync_file_range"].contains(&name);
        known.then(|| line.split_whitespace().nth(3)?.parse().ok()).flatten()
    };
    Ok(table.lines().filter_map(calls).sum())
}
