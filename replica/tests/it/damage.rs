//! Files that cannot be used are moved aside, and never served.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::{io, panic};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::StorageBackend;
use revenant_log::{LogId, Seq, SnapshotItem};
use revenant_replica::{Error, Proof, Replica, ReplicaConfig, Scan};

use crate::model::{LOG, Rows, Stream, apply, records, rows, stream};

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
    apply(&replica, &records(&stream(2, 10).transactions, Seq::FIRST)).unwrap();
    replica.checkpoint().unwrap();
    drop(replica);
    let other = LogId([9; 16]);
    let (replica, report) = Replica::open(&path, other, &config).unwrap();
    assert!(report.moved_aside.unwrap().1.contains(&LOG.to_string()));
    assert!(rows(&replica.snapshot().unwrap(), 9).is_empty());
}

/// A replica that was checkpointed half way and at the end, as bytes, less what was never used.
fn written(dir: &Path, stream: &Stream) -> Vec<u8> {
    let path = dir.join("whole");
    let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
    let all = records(&stream.transactions, Seq::FIRST);
    let middle = stream.rows.keys().nth(stream.rows.len() / 2).unwrap();
    for end in [usize::try_from(middle.0).unwrap(), all.len()] {
        apply(&replica, &all[..end]).unwrap();
        replica.checkpoint().unwrap();
    }
    drop(replica);
    std::fs::read(path).unwrap()
}

/// A file in memory with one bit flipped.
#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn flipped(bytes: &[u8], bit: usize) -> Self {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Self(Mutex::new(bytes))
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        // redb may panic on damage, also in the middle of a write.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let read = bytes.get(offset..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // A length that comes from damage must not take all memory.
        let len = usize::try_from(len).ok().filter(|len| *len <= 64 << 20);
        self.bytes().resize(len.ok_or(io::ErrorKind::StorageFull)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut bytes = self.bytes();
        let place = bytes.get_mut(offset..).and_then(|bytes| bytes.get_mut(..data.len()));
        place.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}

/// What is flipped: every bit of the header and of the page after it, then bits anywhere in use.
fn bits(used: usize) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(1);
    let anywhere = (0..RANDOM_FLIPS).map(|_| random.random_range(0..used * 8));
    (0..2 * PAGE_BYTES * 8).chain(anywhere).collect()
}

const PAGE_BYTES: usize = 4096;
const RANDOM_FLIPS: usize = 100_000;

/// Every so many flips that were not noticed are written to, and every so many that were go through a file.
const SAMPLE: usize = 64;

#[test]
fn flipped_bits_are_noticed_or_harmless_and_never_give_wrong_rows() {
    let dir = tempfile::tempdir().unwrap();
    let work = Damaged::new(dir.path());
    silence_panics();
    let bits = bits(work.used);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let noticed: usize = std::thread::scope(|scope| {
        let (work, bits) = (&work, &bits);
        let count = |thread| {
            let own = bits.iter().enumerate().skip(thread).step_by(threads);
            own.filter(|(index, bit)| work.flip(**bit, index % SAMPLE == 0)).count()
        };
        let threads: Vec<_> =
            (0..threads).map(|thread| spawn_quiet(scope, move || count(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("noticed: {noticed} of {}; the others hit space that is not used", bits.len());
    assert!(noticed > 1_000);
}

/// A replica's bytes to be damaged, and what should be in it.
struct Damaged {
    dir: PathBuf,
    stream: Stream,
    bytes: Vec<u8>,
    /// Bytes up to the last one that is not zero.
    used: usize,
}

impl Damaged {
    fn stream() -> Stream {
        stream(4, 100)
    }

    fn new(dir: &Path) -> Self {
        let stream = Self::stream();
        let bytes = written(dir, &stream);
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        Self { dir: dir.to_owned(), stream, bytes, used }
    }

    /// Opens the replica with `bit` flipped; whether that was noticed.
    fn flip(&self, bit: usize, closer: bool) -> bool {
        let memory = Memory::flipped(&self.bytes, bit);
        let Ok(replica) = Replica::open_on(memory, LOG, &CONFIG) else {
            if closer {
                self.flip_file(bit);
            }
            return true;
        };
        // A flip in redb's newest commit may give the one before it: older, but whole.
        let found = rows(&replica.snapshot().unwrap(), 99);
        let applied = replica.applied_seq();
        assert_eq!(Some(&found), self.stream.rows.get(&applied), "bit {bit}");
        if closer {
            self.write_on(&replica, bit);
        }
        false
    }

    /// Goes on with a replica in which a flip was not noticed.
    fn write_on(&self, replica: &Replica, bit: usize) {
        let mut more = stream(5, 20);
        let mut all = records(&self.stream.transactions, Seq::FIRST);
        let next = all.last().unwrap().seq.next();
        all.extend(records(&std::mem::take(&mut more.transactions), next));
        apply(replica, &all).unwrap_or_else(|error| panic!("bit {bit}: {error:?}"));
        replica.checkpoint().unwrap_or_else(|error| panic!("bit {bit}: {error:?}"));
    }

    /// The same through a file: it is kept, and the log builds the rows anew.
    fn flip_file(&self, bit: usize) {
        let path = self.dir.join(format!("flipped-{bit}"));
        let flipped = Memory::flipped(&self.bytes, bit).0.into_inner().unwrap();
        std::fs::write(&path, flipped).unwrap();
        let (replica, report) = Replica::open(&path, LOG, &CONFIG).unwrap();
        let (aside, reason) = report.moved_aside.unwrap_or_else(|| panic!("bit {bit}"));
        assert!(aside.exists() && !reason.is_empty(), "bit {bit}");
        assert_eq!(replica.applied_seq(), Seq::ZERO, "bit {bit}");
        apply(&replica, &records(&self.stream.transactions, Seq::FIRST)).unwrap();
        let (_, last) = self.stream.rows.last_key_value().unwrap();
        assert_eq!(rows(&replica.snapshot().unwrap(), 99), *last, "bit {bit}");
        drop(replica);
        std::fs::remove_file(aside).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}

/// Nothing to keep: each replica is read once.
const CONFIG: ReplicaConfig = ReplicaConfig { cache_bytes: 1 << 20, proof: Proof::AtOpen };

/// Threads of this name may panic inside redb by the thousand.
const QUIET: &str = "quiet";

fn spawn_quiet<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    Builder::new().name(QUIET.into()).spawn_scoped(scope, work).unwrap()
}

/// Prints no panic of redb on threads that are [`QUIET`]; the replica makes errors of them.
fn silence_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let inside = |file: &str| file.contains("redb") || file.starts_with("/rustc");
        let redb = info.location().is_some_and(|location| inside(location.file()));
        if !(redb && std::thread::current().name() == Some(QUIET)) {
            print(info);
        }
    }));
}

/// Where a child finds the file to damage, and where it writes which flip it is at.
const CHILD_DIR: &str = "REVENANT_DAMAGE_DIR";
/// The first flip that a child takes.
const CHILD_FROM: &str = "REVENANT_DAMAGE_FROM";
/// Flips that are tried on files that are opened unproven.
const UNPROVEN_FLIPS: usize = 400;

/// redb may panic twice on a damaged page that nobody looked at before, which ends the process; so the files
/// are opened by a child, and a child that dies at one is followed by one that opens it again.
#[test]
fn damage_in_a_file_that_is_opened_unproven_gives_no_wrong_row_and_is_noticed_by_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    drop(Damaged::new(dir.path()));
    let (mut from, mut deaths) = (0, 0);
    while from < UNPROVEN_FLIPS {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "damage::child_of_the_test_above", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_FROM, from.to_string())
            .output()
            .unwrap();
        if child.status.success() {
            break;
        }
        let text = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.code().is_none(), "a child found something wrong: {text}");
        let at: usize = std::fs::read_to_string(dir.path().join("at")).unwrap().parse().unwrap();
        let path = dir.path().join(format!("unproven-{at}"));
        let (_, report) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
        assert!(report.moved_aside.is_some(), "flip {at} ends the process again and again: {text}");
        (from, deaths) = (at + 1, deaths + 1);
    }
    println!("{deaths} of {UNPROVEN_FLIPS} flips ended a process");
}

#[test]
#[ignore = "a part of the test above, which runs it in a process of its own"]
fn child_of_the_test_above() {
    let dir = PathBuf::from(std::env::var_os(CHILD_DIR).unwrap());
    let from: usize = std::env::var(CHILD_FROM).unwrap().parse().unwrap();
    let bytes = std::fs::read(dir.join("whole")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let stream = Damaged::stream();
    let mut random = StdRng::seed_from_u64(2);
    let bits: Vec<_> = (0..UNPROVEN_FLIPS).map(|_| random.random_range(0..used * 8)).collect();
    for (index, bit) in bits.into_iter().enumerate().skip(from) {
        std::fs::write(dir.join("at"), index.to_string()).unwrap();
        let path = dir.join(format!("unproven-{index}"));
        let flipped = Memory::flipped(&bytes, bit).0.into_inner().unwrap();
        std::fs::write(&path, flipped).unwrap();
        let (replica, report) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
        let sound = unproven_rows(&replica).is_ok_and(|rows| {
            let due = &stream.rows[&replica.applied_seq()];
            assert_eq!(rows, *due, "flip {index}, bit {bit}");
            replica.checkpoint().is_ok()
        });
        assert!(sound || report.moved_aside.is_none(), "flip {index}: a new file is sound");
        drop(replica);
        if !sound {
            // The next open looks at every page, so that it is sound, or new.
            let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default()).unwrap();
            let rows = unproven_rows(&replica).unwrap();
            assert_eq!(rows, stream.rows[&replica.applied_seq()], "flip {index}, bit {bit}");
        }
        for file in std::fs::read_dir(&dir).unwrap() {
            let file = file.unwrap().path();
            if file.file_name().unwrap().to_string_lossy().starts_with("unproven-") {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
}

/// All rows as an SSP is sent them.
fn unproven_rows(replica: &Replica) -> Result<Rows, Error> {
    let snapshot = replica.snapshot()?;
    let mut rows = Rows::new();
    for stat in snapshot.tables()? {
        let mut scan = Scan::new(&stat.name);
        while let Some(item) = snapshot.next_page(&mut scan, 99, 1 << 20)? {
            let Ok(SnapshotItem::Rows { table, rows: page }) = SnapshotItem::decode(&item.encode())
            else {
                panic!("no rows")
            };
            for row in page {
                rows.insert((table.clone(), row.key), (row.version, row.body.to_string()));
            }
        }
    }
    Ok(rows)
}

#[test]
fn a_bit_that_flips_while_the_file_is_open_is_an_error_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(6, 100);
    let bytes = written(dir.path(), &stream);
    let whole = stream.rows.values().next_back().unwrap();
    let needle = bytes.windows(6).rposition(|bytes| bytes == b"a/b.go").unwrap();
    let path = dir.path().join("whole");
    // Without a cache every page is read from the file again.
    let (replica, _) =
        Replica::open(&path, LOG, &ReplicaConfig { cache_bytes: 0, ..CONFIG }).unwrap();
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
