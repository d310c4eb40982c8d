//! Every system call by which the log changes the disk, failed or made the process's last, one after the other, by
//! strace. A call is not made short: strace can only pretend that it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::tally::Tally;

const CALLS: [&str; 9] =
    ["openat", "pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "mkdir", "fchmod", "chmod"];
const FAULTS: [&str; 3] = ["error=EIO", "error=ENOSPC", "signal=KILL"];
/// Enough to roll and to trim a few times.
const APPENDS: &str = "110";

/// A process that takes longer hangs, seconds.
const LONGEST: &str = "60";

/// Figures, or why it cannot run here.
pub(crate) fn run(tally: &mut Tally) -> Result<Value, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let counts = counts(dir.path())?;
    let mut runs = 0;
    for (call, count) in &counts {
        for fault in FAULTS {
            for when in 1..=*count {
                let log = dir.path().join("log");
                let inject = format!("inject={call}:{fault}:when={when}");
                let output = traced(&log, &["-e", &format!("trace={call}"), "-e", &inject])?;
                runs += 1;
                if output.status.code() == Some(124) {
                    tally.hung(&inject);
                } else {
                    tally.judge(&inject, &log, &String::from_utf8_lossy(&output.stdout));
                }
                drop(std::fs::remove_dir_all(&log)); // there is none where the first call fails
            }
        }
    }
    Ok(json!({ "runs": runs, "calls": counts }))
}

/// How often one thread makes each call in a life that nobody disturbs; strace counts by thread.
fn counts(dir: &Path) -> Result<BTreeMap<String, u64>, String> {
    let (log, trace) = (dir.join("log"), dir.join("trace"));
    let trace_calls = format!("trace={}", CALLS.join(","));
    let output = traced(&log, &["-o", &trace.to_string_lossy(), "-e", &trace_calls])?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !told.contains(&format!("ack {APPENDS}\n")) {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("strace does not work here: {}", why.trim()));
    }
    let text = std::fs::read_to_string(&trace).map_err(|error| error.to_string())?;
    let mut by_thread: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.contains(" resumed>")) {
        if let Some((thread, rest)) = line.split_once(' ')
            && let Some((call, _)) = rest.trim_start().split_once('(')
            && CALLS.contains(&call)
        {
            *by_thread.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in by_thread {
        let known: &mut u64 = most.entry(call.to_owned()).or_default();
        *known = count.max(*known);
    }
    drop(std::fs::remove_dir_all(&log));
    Ok(most)
}

fn traced(log: &Path, options: &[&str]) -> Result<std::process::Output, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LONGEST, "strace", "-f", "-qq", "--seccomp-bpf"]);
    if !options.contains(&"-o") {
        command.args(["-o", "/dev/null"]);
    }
    command.args(options).arg(program).arg("child").arg(log).arg(APPENDS);
    command.output().map_err(|error| format!("timeout: {error}"))
}
