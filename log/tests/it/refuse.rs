//! What a refused open, and every look without a writer, leaves behind: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use revenant_log::{Error, Log, ReadOnlyLog, Seq, Witnesses, verify};

use crate::model::{small, transaction};

/// All that is under `dir`: names, bytes, and when they were last changed.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, SystemTime, SystemTime)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let changed = SystemTime::UNIX_EPOCH
                + std::time::Duration::new(
                    u64::try_from(std::os::unix::fs::MetadataExt::ctime(&meta)).unwrap(),
                    u32::try_from(std::os::unix::fs::MetadataExt::ctime_nsec(&meta)).unwrap(),
                );
            let bytes = meta.is_file().then(|| fs::read(&path).unwrap());
            all.insert(path.clone(), (bytes, meta.modified().unwrap(), changed));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

/// A log with a sealed segment, closed cleanly by a process that is gone.
fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    for number in 1..=12 {
        runtime.block_on(log.append(vec![transaction(number, 2, 3000)], None)).unwrap();
    }
    runtime.block_on(log.close()).unwrap();
    fs::write(dir.path().join("LOCK"), "4194305\n").unwrap();
    dir
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// Opening `dir` must fail as `expected` says and change nothing; without its lock file too.
fn refused(dir: &Path, witnesses: &Witnesses, expected: impl Fn(&Error) -> bool) {
    for _ in 0..2 {
        let before = listing(dir);
        let error = Log::open(small(dir), witnesses.clone()).err().expect("refused");
        assert!(expected(&error), "{error:?}");
        assert_eq!(listing(dir), before, "{error}");
        fs::remove_file(dir.join("LOCK")).unwrap_or_default();
    }
}

#[test]
fn a_refused_open_of_a_damaged_log_changes_nothing() {
    let dir = closed();
    flip(&dir.path().join("seg/0000000002.log"), 4096 + 200);
    refused(dir.path(), &Witnesses::none(), |error| matches!(error, Error::Corrupt { .. }));
}

#[test]
fn a_refused_open_of_a_newer_log_changes_nothing() {
    let dir = closed();
    let path = dir.path().join("seg/0000000002.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] = 9;
    let crc = crc32fast::hash(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    refused(dir.path(), &Witnesses::none(), |error| matches!(error, Error::Unsupported { .. }));
}

#[test]
fn a_refused_open_of_a_log_without_its_first_segment_changes_nothing() {
    let dir = closed();
    fs::remove_file(dir.path().join("seg/0000000001.log")).unwrap();
    refused(dir.path(), &Witnesses::none(), |error| matches!(error, Error::Corrupt { .. }));
}

#[test]
fn a_refused_open_of_a_log_that_lost_its_end_changes_nothing() {
    let dir = closed();
    let witnesses = Witnesses::none().with("receipt", Seq(25));
    refused(dir.path(), &witnesses, |error| matches!(error, Error::Lost { .. }));
}

#[test]
fn a_log_that_a_witness_expects_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let witnesses = Witnesses::none().with("receipt", Seq(1));
    let missing = dir.path().join("missing");
    let refused = Log::open(small(&missing), witnesses).err();
    assert!(matches!(refused, Some(Error::Lost { .. })), "{refused:?}");
    assert_eq!(listing(dir.path()).len(), 0);
}

#[test]
fn an_open_beside_another_process_changes_nothing() {
    let dir = closed();
    let lock = dir.path().join("LOCK");
    let mut owner = Command::new("flock")
        .args([lock.as_os_str(), "sh".as_ref(), "-c".as_ref(), "echo held; read line".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock is part of util-linux");
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let before = listing(dir.path());
    let error = Log::open(small(dir.path()), Witnesses::none()).err().expect("refused");
    assert!(matches!(&error, Error::Locked { owner, .. } if owner == "4194305"), "{error:?}");
    assert_eq!(listing(dir.path()), before);
    drop(owner.stdin.take());
    owner.wait().unwrap();
    drop(Log::open(small(dir.path()), Witnesses::none()).unwrap());
    assert_eq!(fs::read_to_string(lock).unwrap(), format!("{}\n", std::process::id()));
}

#[test]
fn looking_changes_nothing_in_a_whole_or_a_damaged_log() {
    for damage in [None, Some(4096 + 200)] {
        let dir = closed();
        if let Some(offset) = damage {
            flip(&dir.path().join("seg/0000000001.log"), offset);
        }
        let before = listing(dir.path());
        let whole = verify(dir.path()).unwrap().findings.is_empty();
        assert_eq!(whole, damage.is_none());
        let log = ReadOnlyLog::open(dir.path()).unwrap();
        assert_eq!(log.records(Seq::FIRST).all(|record| record.is_ok()), damage.is_none());
        assert_eq!(listing(dir.path()), before);
    }
}
