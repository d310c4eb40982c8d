//! `/health` says what is wrong with the log's disk and its archive, and takes it back when it is mended.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use revenant_fanout::Config;
use revenant_log::Key;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use crate::rig::{Life, PATIENCE, quick};
use crate::sim::Sim;

/// The smallest segments.
const SEGMENT: u64 = 64 << 10;

fn small(dir: &Path) -> Config {
    Config { segment_bytes: SEGMENT, ..quick(dir) }
}

fn defined() -> Sim {
    let sim = Sim::new();
    sim.define("a", true);
    sim
}

/// Writes until what was written before is older than capture ever reads again, so that the log may be trimmed.
async fn age(sim: &Sim, config: &Config) {
    for row in 0..8 {
        sim.write(vec![("a", Key::Int(-1), Some(row))]);
        sleep(config.window).await;
    }
}

/// Writes rows until `enough` holds of the log's figures.
async fn write_until(life: &Life, sim: &Sim, enough: impl Fn(&revenant_log::LogStats) -> bool) {
    let (log, begun) = (life.running.log(), Instant::now());
    let mut next = 0;
    while !enough(&log.stats()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", log.stats());
        let rows = next..next + 100;
        next = rows.end;
        sim.write(rows.map(|row| ("a", Key::Int(row), Some(row))).collect());
        sleep(Duration::from_millis(5)).await;
    }
}

fn trouble<'a>(health: &'a Json, what: &str) -> &'a str {
    health["trouble"][what].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_takes_nothing_is_told_and_the_log_is_kept_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder is to be").unwrap();
    let mut config = small(dir.path());
    config.keep = Duration::ZERO;
    config.checkpoint_interval = Duration::from_millis(100);
    config.archive_dir = Some(blocked.join("archive"));
    let sim = defined();
    let life = Life::ready(config.clone(), &sim).await;
    write_until(&life, &sim, |stats| stats.sealed > 1).await;
    age(&sim, &config).await;
    let refused = |health: &Json| !trouble(health, "log_archive").is_empty();
    life.wait_health("nothing is told of the archive", refused).await;
    assert!(config.log_dir.join("seg/0000000001.log").exists());
    assert_eq!(life.running.log().first_seq().0, 1);
    std::fs::remove_file(&blocked).unwrap();
    life.wait_health("it goes on being told", |health| !refused(health)).await;
    let begun = Instant::now();
    while config.log_dir.join("seg/0000000001.log").exists() {
        assert!(begun.elapsed() < PATIENCE, "it is not trimmed");
        sleep(Duration::from_millis(20)).await;
    }
    let folder: PathBuf = blocked.join("archive").join(life.running.log().id().to_string());
    assert!(folder.join("0000000001.log").exists());
    life.stop().await;
}

/// A file system of `bytes` in memory, unmounted when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`: mounting needs root.
    fn new(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(dir.path());
        match mount.status() {
            Ok(status) if status.success() => Some(Self(dir)),
            other => {
                println!("skipped: mount: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_and_capturing_goes_on_by_itself_when_there_is_space() {
    let Some(disk) = Mounted::new(16 << 20) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = Config { log_dir: disk.0.path().join("log"), ..small(dir.path()) };
    let sim = defined();
    let life = Life::ready(config, &sim).await;
    write_until(&life, &sim, |stats| stats.spare_ready).await;
    let taken = disk.0.path().join("taken");
    std::fs::write(&taken, vec![7; 16 << 20]).unwrap_err();
    // Some pages are left, for the state file beside the log, but not a segment.
    let file = std::fs::File::options().write(true).open(&taken).unwrap();
    file.set_len(file.metadata().unwrap().len() - SEGMENT / 2).unwrap();
    drop(file); // else its space is not free when it is removed
    write_until(&life, &sim, |stats| stats.state == "full").await;
    let full = |health: &Json| trouble(health, "log").starts_with("full: ");
    let health = life.wait_health("the full disk is not told", full).await;
    assert_eq!(trouble(&health, "log"), "full: free space, or release the ballast");
    std::fs::remove_file(&taken).unwrap();
    life.wait_health("it stays full", |health| !full(health)).await;
    life.wait_equal(&sim).await;
    assert_eq!(life.running.log().stats().state, "ok");
    life.stop().await;
}
