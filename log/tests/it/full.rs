//! The log on a disk without space.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use revenant_log::ballast::BALLAST_FILE;
use revenant_log::step::StepLog;
use revenant_log::storage::Storage as _;
use revenant_log::storage::sim::Sim;
use revenant_log::{Error, ErrorKind, Log, LogConfig, ReadOnlyLog, Seq, Witnesses, verify};

use crate::model::{Model, decode, small, transaction};

const SEGMENT: u64 = 64 << 10;

fn check(log: &Log, model: &Model) {
    let read = |from| decode(&log.read(from, 100_000).unwrap());
    model.check(read, log.first_seq(), log.durable_seq());
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Appends until the disk is full; the transaction after the last that was acknowledged.
async fn fill(log: &Log, model: &mut Model, mut number: u64) -> u64 {
    loop {
        let sent = vec![transaction(number, 2, 3000)];
        match log.append(sent.clone(), None).await {
            Ok(_) => model.submit(&sent),
            Err(error) => {
                assert!(matches!(error, Error::Full { bytes: SEGMENT, .. }), "{error}");
                assert_eq!(error.kind(), ErrorKind::Retry);
                return number;
            }
        }
        model.ack();
        number += 1;
    }
}

/// Appends the same until the log takes it.
async fn append_at_last(log: &Log, model: &mut Model, number: u64) {
    let sent = vec![transaction(number, 2, 3000)];
    model.submit(&sent);
    let begun = Instant::now();
    while let Err(error) = log.append(sent.clone(), None).await {
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60), "appends never go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    model.ack();
}

/// A full log goes on when `free` has made space, and holds what was acknowledged and nothing else.
async fn fills_and_goes_on(log: &Log, free: impl AsyncFnOnce()) -> Model {
    let mut model = Model::default();
    let number = fill(log, &mut model, 1).await;
    until("full", || log.stats().state == "full").await;
    assert_eq!(fill(log, &mut model, number).await, number, "still full");
    check(log, &model);
    free().await;
    append_at_last(log, &mut model, number).await;
    until("ok", || log.stats().state == "ok").await;
    check(log, &model);
    model
}

#[tokio::test]
async fn a_log_on_a_full_disk_resumes_when_space_returns() {
    let sim = Sim::default();
    sim.limit(3 * SEGMENT + 100);
    let open = || Log::open_on(Arc::new(sim.clone()), small("/log"), Witnesses::none()).unwrap().0;
    let log = open();
    let model = fills_and_goes_on(&log, async || sim.limit(8 * SEGMENT)).await;
    log.close().await.unwrap();
    check(&open(), &model);
}

#[tokio::test]
async fn a_trim_makes_the_space_that_a_full_log_waits_for() {
    let sim = Sim::default();
    sim.limit(4 * SEGMENT + 10_000);
    let (log, _) = Log::open_on(Arc::new(sim.clone()), small("/log"), Witnesses::none()).unwrap();
    let trim = async || {
        until("sealed", || log.stats().sealed >= 2).await;
        let report = log.trim(log.durable_seq()).await.unwrap();
        assert!(report.segments.len() >= 2, "{report:?}");
    };
    fills_and_goes_on(&log, trim).await;
}

#[test]
fn a_segment_that_there_is_no_space_for_leaves_no_file() {
    let sim = Sim::default();
    sim.limit(SEGMENT + SEGMENT / 2);
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    assert!(matches!(log.keep(), Err(Error::Full { bytes: SEGMENT, .. })));
    let files = || sim.list(Path::new("/log/seg")).unwrap();
    assert_eq!(files(), ["0000000001.log"]);
    sim.limit(2 * SEGMENT);
    log.keep().unwrap();
    assert_eq!(files().len(), 2);
}

#[test]
fn a_trim_on_a_full_disk_needs_no_room_for_another_segment() {
    let sim = Sim::default();
    let config = LogConfig { frame_bytes: 1 << 10, ..small("/log") };
    let (mut log, _) = StepLog::open(Arc::new(sim.clone()), config, &Witnesses::none()).unwrap();
    let mut number = 0;
    let mut append = |log: &mut StepLog, bytes| {
        number += 1;
        log.append(&[transaction(number, 1, bytes)])
    };
    while sim.disk().bytes("/log/seg/0000000003.log".as_ref()).is_none() {
        append(&mut log, 3000).unwrap();
        log.keep().unwrap();
    }
    append(&mut log, 10).unwrap();
    log.keep().unwrap();
    sim.limit(sim.used() + 10_000);
    // Fill the last segment to where nothing but a mark fits, and then to where that does not.
    while append(&mut log, 3000).is_ok() {
        log.keep().unwrap_or_default();
    }
    while append(&mut log, 10).is_ok() {}
    for _ in 0..20 {
        log.idle().unwrap();
    }
    assert!(matches!(append(&mut log, 10), Err(Error::Full { .. })));
    log.trim(log.durable_seq()).unwrap();
    assert!(log.first_seq() > Seq::FIRST, "nothing was trimmed");
    log.keep().unwrap();
    append(&mut log, 3000).unwrap();
    let (first, last) = (log.first_seq(), log.durable_seq());
    drop(log);
    let again = Sim::boot(sim.disk().after_kill());
    let (log, _) = StepLog::open(Arc::new(again), small("/log"), &Witnesses::none()).unwrap();
    assert_eq!((log.first_seq(), log.durable_seq()), (first, last));
}

#[tokio::test]
async fn a_released_ballast_lets_appends_go_on_and_is_made_again() {
    const BALLAST: u64 = 100_000;
    let sim = Sim::default();
    let room = 5 * SEGMENT + BALLAST;
    sim.limit(room);
    let config = LogConfig { ballast_bytes: BALLAST, ..small("/log") };
    let (log, _) = Log::open_on(Arc::new(sim.clone()), config, Witnesses::none()).unwrap();
    until("made", || log.stats().ballast_bytes == BALLAST).await;
    let release = async || {
        assert_eq!(log.release_ballast().unwrap(), BALLAST);
        assert_eq!(log.release_ballast().unwrap(), 0, "it is gone");
    };
    fills_and_goes_on(&log, release).await;
    assert_eq!(log.stats().ballast_bytes, 0, "there is no space for it");
    sim.limit(2 * room);
    until("made again", || log.stats().ballast_bytes == BALLAST).await;
    let path = Path::new("/log").join(BALLAST_FILE);
    assert_eq!(sim.disk().bytes(&path).unwrap().len() as u64, BALLAST);
}

#[test]
fn a_torn_log_that_finds_no_space_for_its_copy_says_what_is_missing_and_opens_later() {
    let sim = Sim::default();
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    log.append(&[transaction(1, 1, 100)]).unwrap();
    drop(log);
    let mut disk = sim.disk();
    let path = Path::new("/log/seg/0000000001.log");
    let end = disk.bytes(path).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    disk.flip(path, end + 100, 1);
    let sim = Sim::boot(disk);
    sim.limit(sim.used());
    let open = || StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    for _ in 0..3 {
        let error = open().err().unwrap();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(error.to_string().contains("quarantine"), "{error}");
    }
    sim.limit(sim.used() + 4 * SEGMENT);
    let (log, report) = open().unwrap();
    assert_eq!((log.durable_seq(), report.clean), (Seq(1), false));
}

/// A file system of `bytes` in memory, unmounted when dropped. `None`: this needs root.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("skipped: mount: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "cannot unmount");
    }
}

#[tokio::test]
async fn a_log_on_a_small_file_system_fills_it_and_goes_on() {
    let Some(disk) = Small::mount(6 * SEGMENT) else { return };
    let dir = disk.0.path().join("log");
    let taken = disk.0.path().join("taken");
    std::fs::write(&taken, vec![7; 100_000]).unwrap();
    let config = LogConfig { ballast_bytes: 4096, ..small(&dir) };
    let (log, _) = Log::open(config.clone(), Witnesses::none()).unwrap();
    let free = async || std::fs::remove_file(&taken).unwrap();
    let mut model = fills_and_goes_on(&log, free).await;
    let next = model.records.last().unwrap().0 + 1;
    let next = fill(&log, &mut model, next).await;
    log.close().await.unwrap();
    drop(log);
    // Full to the last byte, it is opened all the same, to look at it and to write.
    std::fs::write(&taken, vec![7; 100_000]).unwrap_err();
    let seen = ReadOnlyLog::open(&dir).unwrap();
    assert_eq!(seen.last_seq().0, model.records.len() as u64);
    assert!(verify(&dir).unwrap().findings.is_empty());
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    check(&log, &model);
    assert_eq!(fill(&log, &mut model, next).await, next);
}
