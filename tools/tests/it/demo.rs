//! A demo that is interrupted leaves no process behind.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::rig::{Process, revenant, wait_until};

/// A demo whose services are started, on the small history.
fn demo(dir: &Path) -> Process {
    let keep = dir.to_str().unwrap();
    let mut command = revenant(&["demo", "--json", "--no-kill", "--keep", keep]);
    let demo = Process::start(command.stderr(Stdio::piped()));
    wait_until("database, scheduler and two SSPs run", || children(&demo).len() == 4);
    demo
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(i32::try_from(process.0.id()).unwrap()).unwrap()
}

/// Process ids of what it started and of what is left of that.
fn children(process: &Process) -> Vec<i32> {
    let mark = format!("REVENANT_ENDS_WITH={}", process.0.id());
    let ids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id = entry.ok()?.file_name().to_str()?.parse::<i32>().ok()?;
        let environment = std::fs::read(format!("/proc/{id}/environ")).ok()?;
        let marked = environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes());
        marked.then_some(id)
    });
    ids.collect()
}

#[test]
fn an_interrupted_demo_ends_its_processes_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = demo(dir.path());
    kill_process(pid(&demo), Signal::TERM).unwrap();
    let ended = demo.0.wait().unwrap();
    let words = std::io::read_to_string(demo.0.stderr.take().unwrap()).unwrap();
    assert_eq!(ended.code(), Some(3), "{words}");
    assert!(words.contains("interrupted: every process of the demo is ended"), "{words}");
    assert_eq!(children(&demo), Vec::<i32>::new());
}

#[test]
fn the_processes_of_a_killed_demo_end_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let demo = demo(dir.path());
    kill_process(pid(&demo), Signal::KILL).unwrap();
    wait_until("no process is left", || children(&demo).is_empty());
}
