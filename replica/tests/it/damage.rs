//! Files that cannot be used are moved aside, and never served.

use std::io::{Seek as _, SeekFrom, Write as _};

use revenant_log::{LogId, Seq};
use revenant_replica::{Error, Replica, ReplicaConfig};

use crate::model::{LOG, records, rows, stream};

#[test]
fn a_damaged_or_foreign_file_is_moved_aside_and_the_replica_starts_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica.redb");
    let config = ReplicaConfig::default();
    std::fs::write(&path, b"this is no database, but somebody may want it back").unwrap();
    let (replica, report) = Replica::open(&path, LOG, &config).unwrap();
    let (aside, _) = report.moved_aside.unwrap();
    assert!(std::fs::read(aside).unwrap().starts_with(b"this is no database"));
    assert_eq!(replica.applied_seq(), Seq::ZERO);
    replica.apply(&records(&stream(2, 10).transactions, Seq::FIRST)).unwrap();
    replica.checkpoint().unwrap();
    drop(replica);
    let other = LogId([9; 16]);
    let (replica, report) = Replica::open(&path, other, &config).unwrap();
    assert!(report.moved_aside.unwrap().1.contains(&LOG.to_string()));
    assert!(rows(&replica.snapshot().unwrap(), 9).is_empty());
}

#[test]
fn flipped_bytes_never_give_wrong_rows() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let config = ReplicaConfig::default();
    let (replica, _) = Replica::open(&whole, LOG, &config).unwrap();
    let stream = stream(4, 200);
    replica.apply(&records(&stream.transactions, Seq::FIRST)).unwrap();
    let seq = replica.checkpoint().unwrap();
    drop(replica);
    let bytes = std::fs::read(&whole).unwrap();
    let mut noticed = 0;
    for flip in 0..60 {
        let path = dir.path().join(format!("flip-{flip}"));
        std::fs::write(&path, &bytes).unwrap();
        let offset = flip * 9973 % bytes.len();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(offset as u64)).unwrap();
        file.write_all(&[bytes[offset] ^ 0x10]).unwrap();
        drop(file);
        let opened = std::panic::catch_unwind(|| Replica::open(&path, LOG, &config));
        let Ok(Ok((replica, report))) = opened else { continue };
        if report.moved_aside.is_some() {
            noticed += 1;
            assert_eq!(replica.applied_seq(), Seq::ZERO);
        } else {
            assert_eq!(replica.applied_seq(), seq, "offset {offset}");
            assert_eq!(rows(&replica.snapshot().unwrap(), 9), stream.rows[&seq], "offset {offset}");
        }
    }
    println!("flips noticed: {noticed} of 60, the others hit unused space");
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica.redb");
    let (_replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
    let second = Replica::open(&path, LOG, &ReplicaConfig::default());
    assert!(matches!(second.err(), Some(Error::Locked(_))));
    assert!(path.exists());
}
