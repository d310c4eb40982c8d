//! Segments that a trim removes go to the archive first, or stay.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use revenant_log::{Archive, DirArchive, Error, Log, LogConfig, Sealed, Seq, Witnesses, verify};

use crate::model::{small, transaction};

/// A log of `segments` sealed segments in `dir`.
async fn sealed(config: LogConfig, segments: usize) -> Log {
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    let (begun, mut number) = (Instant::now(), 0);
    while log.stats().sealed < segments {
        assert!(begun.elapsed() < Duration::from_secs(60), "segments are not sealed");
        number += 1;
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
    }
    log
}

/// Takes segments up to a number.
#[derive(Debug)]
struct UpTo(Mutex<(u64, Vec<u64>)>);

impl Archive for UpTo {
    fn take(&self, segment: &Sealed<'_>) -> io::Result<()> {
        assert!(segment.path.exists() && segment.first_seq <= segment.last_seq);
        let mut inner = self.0.lock().unwrap();
        if segment.number > inner.0 {
            return Err(io::Error::other("the archive is full"));
        }
        inner.1.push(segment.number);
        Ok(())
    }
}

#[tokio::test]
async fn a_segment_that_the_archive_refuses_stays_with_all_behind_it_and_is_offered_again() {
    let dir = tempfile::tempdir().unwrap();
    let archive = Arc::new(UpTo(Mutex::new((2, Vec::new()))));
    let config = LogConfig { archive: Some(archive.clone()), ..small(dir.path()) };
    let log = sealed(config, 4).await;
    let refused = log.trim(log.durable_seq()).await.unwrap_err();
    assert!(
        matches!(&refused, Error::NotArchived { path, .. } if path.ends_with("0000000003.log"))
    );
    let path = |number: u64| dir.path().join(format!("seg/{number:010}.log"));
    assert_eq!([1, 2, 3, 4].map(|number| path(number).exists()), [false, false, true, true]);
    let stats = log.stats();
    assert_eq!((stats.archived, stats.archive_error.as_deref()), (2, Some("the archive is full")));
    assert!(log.read(log.first_seq(), 1).is_ok());
    archive.0.lock().unwrap().0 = u64::MAX;
    let report = log.trim(log.durable_seq()).await.unwrap();
    assert_eq!(report.segments[..2], [3, 4]);
    assert_eq!(archive.0.lock().unwrap().1[..4], [1, 2, 3, 4]);
    assert_eq!(log.stats().archive_error, None);
    log.close().await.unwrap();
}

#[tokio::test]
async fn an_archive_and_the_log_together_are_the_whole_log() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let archive = DirArchive::new(to.path().join("deep/archive"));
    let config = LogConfig { archive: Some(Arc::new(archive)), ..small(dir.path()) };
    let log = sealed(config.clone(), 4).await;
    let folder = to.path().join("deep/archive").join(log.id().to_string());
    // A copy that was cut short, and a whole one whose trim was.
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("0000000001.part"), "torn").unwrap();
    std::fs::copy(dir.path().join("seg/0000000002.log"), folder.join("0000000002.log")).unwrap();
    let last = log.durable_seq();
    assert!(log.trim(last).await.unwrap().segments.len() >= 4);
    assert!(log.first_seq() > Seq::FIRST);
    log.close().await.unwrap();
    drop(log);
    for file in std::fs::read_dir(&folder).unwrap() {
        let from: PathBuf = file.unwrap().path();
        assert_eq!(from.extension().unwrap(), "log");
        std::fs::copy(&from, dir.path().join("seg").join(from.file_name().unwrap())).unwrap();
    }
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.first_seq, report.last_seq), (Seq::FIRST, last));
}

#[tokio::test]
async fn a_damaged_segment_is_not_archived_and_not_removed() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config =
        LogConfig { archive: Some(Arc::new(DirArchive::new(to.path()))), ..small(dir.path()) };
    let log = sealed(config, 2).await;
    let path = dir.path().join("seg/0000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let refused = log.trim(log.durable_seq()).await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("damaged at offset"), "{why}");
    assert!(path.exists());
    log.close().await.unwrap();
}
