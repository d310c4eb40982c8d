//! Files that cannot be used are moved aside, and never served.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use revenant_log::{LogId, Seq};
use revenant_replica::{Error, Replica, ReplicaConfig};

use crate::model::{LOG, Stream, records, rows, stream};

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

/// A replica of `count` transactions that was checkpointed half way and at the end, as bytes.
fn written(dir: &Path, stream: &Stream) -> Vec<u8> {
    let path = dir.join("whole");
    let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
    let all = records(&stream.transactions, Seq::FIRST);
    let middle = stream.rows.keys().nth(stream.rows.len() / 2).unwrap();
    for end in [usize::try_from(middle.0).unwrap(), all.len()] {
        replica.apply(&all[..end]).unwrap();
        replica.checkpoint().unwrap();
    }
    drop(replica);
    std::fs::read(path).unwrap()
}

#[test]
fn flipped_bits_never_give_wrong_rows() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(4, 100);
    let bytes = written(dir.path(), &stream);
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut random = StdRng::seed_from_u64(1);
    let path = dir.path().join("flipped");
    let mut noticed = 0;
    for flip in 0..FLIPS {
        // Every bit of the header first, then anywhere.
        let bit = if flip < 320 * 8 { flip } else { random.random_range(0..used * 8) };
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        let (replica, report) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
        // A flip in redb's newest commit may give the one before it: older, but whole.
        let found = rows(&replica.snapshot().unwrap(), 9);
        let applied = replica.applied_seq();
        assert_eq!(Some(&found), stream.rows.get(&applied), "bit {bit}");
        if let Some((aside, _)) = report.moved_aside {
            noticed += 1;
            assert_eq!(applied, Seq::ZERO);
            std::fs::remove_file(aside).unwrap();
        }
        drop(replica);
        std::fs::remove_file(&path).unwrap();
    }
    println!("flips noticed: {noticed} of {FLIPS}, the others hit space that is not used");
}

/// Enough for every bit of the header, and seconds.
const FLIPS: usize = 4_000;

#[test]
fn a_bit_that_flips_while_the_file_is_open_is_an_error_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(6, 100);
    let bytes = written(dir.path(), &stream);
    let whole = stream.rows.values().next_back().unwrap();
    let needle = bytes.windows(6).rposition(|bytes| bytes == b"a/b.go").unwrap();
    let path = dir.path().join("whole");
    // Without a cache every page is read from the file again.
    let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig { cache_bytes: 0 }).unwrap();
    let snapshot = replica.snapshot().unwrap();
    assert_eq!(rows(&snapshot, 9), *whole);
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all_at(b"A", needle as u64)
        .unwrap();
    let read: Result<Vec<_>, _> =
        ["commit", "file"].iter().map(|table| snapshot.page(table, None, 99, 1 << 20)).collect();
    match read {
        Err(error) => assert!(matches!(error, Error::Damaged(_)), "{error}"),
        Ok(pages) => assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), whole.len()),
    }
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
