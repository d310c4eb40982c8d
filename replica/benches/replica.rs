//! Records applied, a replica rebuilt from the log, and rows read in pages, each next to redb alone: storing the
//! same keys and values in the same commits in the order in which they came, loading the rows that are left
//! sorted by key through a cursor at the table's end, which is what redb has for that, and reading them. Applying begins with
//! the log's bytes, pages end as the wire's; a loaded file is durable and closed, as a rebuilt one is. Then what
//! opening reads after a kill, of few rows and of many, and how fast records are applied while SSPs bootstrap, next
//! to as many threads that only keep the processors busy. Prints a line for each, then one line of JSON; exits 0 only if
//! all is as it is due.
//!
//! `cargo bench -p revenant-replica --bench replica [-- DIR]`; the directory decides which disk is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, StorageBackend,
    TableDefinition, WriteTransaction,
};
use revenant_log::{
    Event, Key, Log, LogConfig, LogId, Op, RawRecord, Record, Seq, SourcePos, Transaction, Value,
    Witnesses, encode_key, encode_record, encode_value,
};
use revenant_replica::{RebuildConfig, Replica, ReplicaConfig, Scan, rebuild};
use serde_json::{Value as Json, json};

/// Records that are applied; a third of them create a row, the rest change one.
const RECORDS: u64 = 200_000;
/// Records of the log that is rebuilt from: several segments of it.
const REBUILT_RECORDS: u64 = 1_000_000;
/// Records in one commit: what a follower reads at once when it is behind.
const COMMIT_RECORDS: usize = 20_000;
/// Bytes of text in each row.
const BODY_BYTES: usize = 200;
/// Bytes in front of every stored value: the layout and a hash.
const VALUE_HEAD_BYTES: usize = 17;
/// Measurements of every lane, each beside redb's own; the median counts, of ratios that of each measurement's.
const ROUNDS: usize = 5;
/// A run whose floor moved by more than this says nothing.
const STEADY: f64 = 1.5;
/// What is asked for, as a part of redb's own speed: the replica also decodes, hashes and counts.
const APPLY_LEAST: f64 = 0.7;
const REBUILD_LEAST: f64 = 0.7;
const PAGES_LEAST: f64 = 0.5;
/// What opening reads of eight times as many rows, as a multiple.
const OPEN_MOST: f64 = 1.5;
/// SSPs that bootstrap at once, and the rows of each bootstrap.
const SSPS: usize = 8;
const SSP_ROWS: u64 = 1_000_000;
/// Applying meanwhile, as a part of what is applied beside as many threads that do nothing.
const LOADED_LEAST: f64 = 0.8;
/// Resident memory that bootstraps add, above redb's cache.
const MEMORY_MOST: u64 = 256 << 20;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const LOG: LogId = LogId([1; 16]);

type Failure = Box<dyn std::error::Error>;

/// Seconds that one round took.
struct Round {
    bare_write: f64,
    bare_read: f64,
    apply: f64,
    pages: f64,
}

/// Seconds that one round of loading took.
struct Loading {
    bare_load: f64,
    /// Row by row instead.
    bare_insert: f64,
    /// In as many commits as a rebuild takes instead, so that no page is written twice.
    bare_parts: f64,
    rebuild: f64,
}

fn main() -> Result<ExitCode, Failure> {
    // Cargo passes `--bench`; a directory is the only other argument.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = given.map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("revenant-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = run(&dir);
    std::fs::remove_dir_all(&dir)?;
    let line = result?;
    println!("{line}");
    Ok(if line["pass"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(dir: &Path) -> Result<Json, Failure> {
    let records = records(RECORDS);
    let pairs: Vec<_> = records.iter().map(stored).collect();
    let records: Vec<_> = records.iter().map(encoded).collect();
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let dir = dir.join(number.to_string());
        std::fs::create_dir_all(&dir)?;
        rounds.push(round(&dir, &records, &pairs)?);
        std::fs::remove_dir_all(&dir)?;
    }
    let applied = rounds.iter().map(|one| (one.apply, one.bare_write));
    let apply = lane("apply", RECORDS, applied, APPLY_LEAST);
    let read = rounds.iter().map(|one| (one.pages, one.bare_read));
    let pages = lane("pages", RECORDS, read, PAGES_LEAST);
    let rebuild = rebuilding(dir)?;
    let steady = steady(rounds.iter().map(|round| round.bare_write)) && rebuild["steady"] == true;
    let open = opening(dir, &records)?;
    let bootstraps = bootstraps(dir)?;
    let lanes = [&apply, &pages, &rebuild, &open, &bootstraps];
    Ok(json!({
        "show": "bench-replica",
        "pass": steady && lanes.iter().all(|lane| lane["pass"] == true),
        "records": RECORDS,
        "rebuilt_records": REBUILT_RECORDS,
        "commit_records": COMMIT_RECORDS,
        "steady": steady,
        "apply": apply,
        "rebuild": rebuild,
        "pages": pages,
        "open_after_kill": open,
        "bootstraps": bootstraps,
    }))
}

/// Prints a lane and returns it, of each round's seconds for the same work, ours and bare redb's.
fn lane(
    name: &str,
    records: u64,
    rounds: impl Iterator<Item = (f64, f64)> + Clone,
    least: f64,
) -> Json {
    let seconds = median(rounds.clone().map(|(ours, _)| ours));
    let bare = median(rounds.clone().map(|(_, bare)| bare));
    let ratio = median(rounds.map(|(ours, bare)| bare / ours));
    println!(
        "{name:9} {:8.1} ms   bare redb {:8.1} ms   ratio {ratio:.2}, at least {least:.2} is due",
        seconds * 1e3,
        bare * 1e3
    );
    let per_s = (records as f64 / seconds).round();
    json!({ "seconds": seconds, "bare_seconds": bare, "records_per_s": per_s, "ratio": ratio,
        "least": least, "pass": ratio >= least })
}

/// The middle one.
fn median(seconds: impl Iterator<Item = f64>) -> f64 {
    let mut seconds: Vec<_> = seconds.collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn steady(floor: impl Iterator<Item = f64> + Clone) -> bool {
    let lowest = floor.clone().fold(f64::INFINITY, f64::min);
    floor.fold(0.0, f64::max) / lowest <= STEADY
}

fn round(
    dir: &Path,
    records: &[(Seq, Vec<u8>)],
    pairs: &[(Vec<u8>, Vec<u8>)],
) -> Result<Round, Failure> {
    let (bare_write, bare_read) = bare(&dir.join("bare"), pairs)?;
    let (apply, pages) = replica(&dir.join("replica"), records)?;
    Ok(Round { bare_write, bare_read, apply, pages })
}

/// A replica from a log, next to redb loading what is left of it, which it finds in memory, sorted.
fn rebuilding(dir: &Path) -> Result<Json, Failure> {
    let records = records(REBUILT_RECORDS);
    let pairs: Vec<_> = records.iter().map(stored).collect();
    let log_dir = write_log(dir, &records)?;
    drop(records);
    let sorted: Sorted<'_> = pairs.iter().map(|(key, value)| (key, value)).collect();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let path = dir.join("loaded");
        let bare_load = load(&path, &sorted, append_sorted)?;
        let bare_insert = load(&path, &sorted, insert_sorted)?;
        let bare_parts = load(&path, &sorted, append_parts)?;
        still();
        let started = Instant::now();
        let report = rebuild(&log_dir, &path, &RebuildConfig::default(), |_| {})?;
        let rebuild = started.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        assert_eq!(report.seq, REBUILT_RECORDS, "the rebuild has every record");
        assert_eq!(report.tables[0].rows, sorted.len() as u64, "and every row");
        rounds.push(Loading { bare_load, bare_insert, bare_parts, rebuild });
    }
    let median_of = |pick: fn(&Loading) -> f64| median(rounds.iter().map(pick));
    let rebuilt = rounds.iter().map(|one| (one.rebuild, one.bare_load));
    let mut found = lane("rebuild", REBUILT_RECORDS, rebuilt, REBUILD_LEAST);
    let seconds = median_of(|one| one.rebuild);
    let inserts = median_of(|one| one.bare_insert);
    let parts = median_of(|one| one.bare_parts);
    println!(
        "          ratio {:.2} to redb's load row by row, {:.1} ms; {:.2} to one in commits of 16 MiB, {:.1} ms",
        inserts / seconds,
        inserts * 1e3,
        parts / seconds,
        parts * 1e3
    );
    found["ratio_to_inserts"] = (inserts / seconds).into();
    found["ratio_to_parts"] = (parts / seconds).into();
    found["rows"] = sorted.len().into();
    found["steady"] = steady(rounds.iter().map(|round| round.bare_load)).into();
    Ok(found)
}

/// Waits until nothing is left to be written, so that no measurement pays for the one before.
fn still() {
    rustix::fs::sync();
}

/// A log of all records, to rebuild from.
fn write_log(dir: &Path, records: &[Record]) -> Result<PathBuf, Failure> {
    let dir = dir.join("log");
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (log, _) = Log::open(LogConfig::new(&dir), Witnesses::none())?;
    runtime.block_on(async {
        for chunk in records.chunks(1_000) {
            let transaction = |record: &Record| Transaction {
                time_us: record.time_us,
                feed_high: record.feed_high,
                events: vec![record.event.clone()],
            };
            log.append(chunk.iter().map(transaction).collect(), None).await?;
        }
        log.close().await
    })?;
    Ok(dir)
}

fn records(count: u64) -> Vec<Record> {
    let mut random = StdRng::seed_from_u64(1);
    let mut keys: Vec<Key> = Vec::new();
    (1..=count)
        .map(|seq| {
            let new = keys.is_empty() || random.random_range(0..3) == 0;
            if new {
                keys.push(Key::String(format!("{:016x}", random.random::<u64>())));
            }
            let key = if new { keys.len() - 1 } else { random.random_range(0..keys.len()) };
            let body = Value::Object(
                [
                    ("n".to_owned(), Value::Int(random.random())),
                    ("text".to_owned(), Value::String("x".repeat(BODY_BYTES))),
                ]
                .into(),
            );
            let event = Event {
                op: if new { Op::Create } else { Op::Update },
                table: "file".into(),
                key: keys[key].clone(),
                version: Some(seq),
                body: Some(body),
                before: None,
                source: SourcePos { versionstamp: seq, ordinal: 0 },
                stale: false,
            };
            Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: seq, event }
        })
        .collect()
}

/// A record as the log holds it.
fn encoded(record: &Record) -> (Seq, Vec<u8>) {
    let mut bytes = Vec::new();
    encode_record(record, &mut bytes);
    (record.seq, bytes)
}

/// Key and value as long and as compressible as the replica stores them.
fn stored(record: &Record) -> (Vec<u8>, Vec<u8>) {
    let event = &record.event;
    let mut key = Vec::new();
    encode_value(&Value::String(event.table.to_string()), &mut key);
    encode_key(&event.key, &mut key);
    let row = (event.source, &event.key, event.version, &event.body);
    let value =
        postcard::to_extend(&row, vec![0; VALUE_HEAD_BYTES]).expect("memory takes any bytes");
    (key, value)
}

/// Seconds that writing and reading took.
fn bare(path: &Path, pairs: &[(Vec<u8>, Vec<u8>)]) -> Result<(f64, f64), Failure> {
    let cache_bytes = ReplicaConfig::default().cache_bytes;
    let database = Database::builder().set_cache_size(cache_bytes).create(path)?;
    let started = Instant::now();
    for commit in pairs.chunks(COMMIT_RECORDS) {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::None)?;
        let mut rows = transaction.open_table(ROWS)?;
        for (key, value) in commit {
            rows.insert(key.as_slice(), value.as_slice())?;
        }
        drop(rows);
        transaction.commit()?;
    }
    let write = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let rows = database.begin_read()?.open_table(ROWS)?;
    let mut bytes = 0;
    for entry in rows.iter()? {
        let (key, value) = entry?;
        bytes += key.value().to_vec().len() + value.value().to_vec().len();
    }
    assert!(bytes > 0, "nothing was read");
    Ok((write, started.elapsed().as_secs_f64()))
}

/// Of each key the last value.
type Sorted<'a> = BTreeMap<&'a Vec<u8>, &'a Vec<u8>>;

/// Seconds that loading took; the file is then durable, closed, and removed.
fn load(
    path: &Path,
    sorted: &Sorted<'_>,
    store: fn(&Database, &Sorted<'_>) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    still();
    let started = Instant::now();
    let cache_bytes = ReplicaConfig::default().cache_bytes;
    let database = Database::builder().set_cache_size(cache_bytes).create(path)?;
    store(&database, sorted)?;
    drop(database);
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(seconds)
}

fn append_sorted(database: &Database, sorted: &Sorted<'_>) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    append(&transaction, &mut sorted.iter(), usize::MAX)?;
    Ok(transaction.commit()?)
}

fn append_parts(database: &Database, sorted: &Sorted<'_>) -> Result<(), Failure> {
    let mut rows = sorted.iter();
    loop {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::None)?;
        let more = append(&transaction, &mut rows, 16 << 20)?;
        transaction.commit()?;
        if !more {
            return Ok(database.begin_write()?.commit()?);
        }
    }
}

/// Stores the next of `rows`, until they have so many bytes or there are no more.
fn append<'a>(
    transaction: &WriteTransaction,
    rows: &mut impl Iterator<Item = (&'a &'a Vec<u8>, &'a &'a Vec<u8>)>,
    most_bytes: usize,
) -> Result<bool, Failure> {
    let mut table = transaction.open_table(ROWS)?;
    let mut end = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    let mut bytes = 0;
    for (key, value) in rows {
        end.insert_before(key.as_slice(), value.as_slice())?;
        bytes += key.len() + value.len();
        if bytes >= most_bytes {
            end.close()?;
            return Ok(true);
        }
    }
    end.close()?;
    Ok(false)
}

fn insert_sorted(database: &Database, sorted: &Sorted<'_>) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    let mut rows = transaction.open_table(ROWS)?;
    for (key, value) in sorted {
        rows.insert(key.as_slice(), value.as_slice())?;
    }
    drop(rows);
    Ok(transaction.commit()?)
}

/// Seconds that applying and reading in pages took.
fn replica(path: &Path, records: &[(Seq, Vec<u8>)]) -> Result<(f64, f64), Failure> {
    let (replica, _) = Replica::open(path, LOG, &ReplicaConfig::default())?;
    let started = Instant::now();
    for commit in records.chunks(COMMIT_RECORDS) {
        apply(&replica, commit)?;
    }
    let applied = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let snapshot = replica.snapshot()?;
    let mut scan = Scan::new("file");
    let mut bytes = 0;
    while let Some(item) = snapshot.next_page(&mut scan, 10_000, 1 << 20)? {
        bytes += item.encode().len();
    }
    let pages = started.elapsed().as_secs_f64();
    assert!(bytes > 0, "nothing was read");
    assert_eq!(scan.rows(), snapshot.tables()?[0].rows, "pages give every row once");
    Ok((applied, pages))
}

/// A file that counts what is read from it.
#[derive(Debug)]
struct Counted(FileBackend, Arc<AtomicU64>);

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.1.fetch_add(out.len() as u64, Ordering::Relaxed);
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// What opening reads of a replica that was killed after a checkpoint, with an eighth of the records and with
/// all.
fn opening(dir: &Path, records: &[(Seq, Vec<u8>)]) -> Result<Json, Failure> {
    let mut found = Vec::new();
    for count in [records.len() / 8, records.len()] {
        let path = dir.join(format!("open-{count}"));
        let (replica, _) = Replica::open(&path, LOG, &ReplicaConfig::default())?;
        for commit in records[..count].chunks(COMMIT_RECORDS) {
            apply(&replica, commit)?;
        }
        replica.save()?;
        let killed = path.with_extension("killed");
        std::fs::copy(&path, &killed)?;
        let file = File::options().read(true).write(true).open(&killed)?;
        let bytes = file.metadata()?.len();
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted(FileBackend::new(file)?, Arc::clone(&read));
        let started = Instant::now();
        let opened = Replica::open_on(counted, LOG, &ReplicaConfig::default())?;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        assert_eq!(opened.applied_seq(), Seq(count as u64), "the checkpoint survives");
        found.push((read.load(Ordering::Relaxed), bytes, ms));
    }
    let ((few, _, few_ms), (many, bytes, many_ms)) = (found[0], found[1]);
    let ratio = many as f64 / few as f64;
    println!(
        "open      {many:8} B read of {bytes}, {many_ms:.1} ms; of an eighth of the rows {few} B, {few_ms:.1} ms: \
         ratio {ratio:.2}, at most {OPEN_MOST:.2} is due"
    );
    Ok(json!({ "read_bytes": many, "file_bytes": bytes, "ms": many_ms, "eighth_read_bytes": few,
        "eighth_ms": few_ms, "ratio": ratio, "most": OPEN_MOST, "pass": ratio <= OPEN_MOST }))
}

fn apply(replica: &Replica, records: &[(Seq, Vec<u8>)]) -> Result<(), Failure> {
    let raw = records.iter().map(|(seq, bytes)| RawRecord::read(*seq, bytes));
    replica.apply(&raw.collect::<Result<Vec<_>, _>>()?)?;
    Ok(())
}

/// Records applied per second while nobody else works, while threads are busy with nothing, and while SSPs read
/// all rows.
fn bootstraps(dir: &Path) -> Result<Json, Failure> {
    let (replica, _) = Replica::open(dir.join("many"), LOG, &ReplicaConfig::default())?;
    let mut writer = Writer { replica: &replica, next: 1, random: StdRng::seed_from_u64(2) };
    while writer.next <= SSP_ROWS {
        writer.write(20_000, |_, next| next)?;
    }
    replica.save()?;
    // Pages of the file are in redb's cache as far as they fit, and its buffers have their size.
    read_all(&replica)?;
    let alone = writer.rate(&[], |_| Ok(()))?;
    let before = resident_bytes()?;
    let highest = AtomicU64::new(before);
    let loaded = writer.rate(&[(); SSPS], |_| {
        let read = read_all(&replica);
        highest.fetch_max(resident_bytes()?, Ordering::Relaxed);
        read
    })?;
    let grown = highest.into_inner().saturating_sub(before);
    let busy_for = loaded.1;
    let busy = writer.rate(&[(); SSPS], |_| {
        let started = Instant::now();
        let mut sum = 0u64;
        while started.elapsed() < busy_for {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        Ok(())
    })?;
    let ratio = loaded.0 / busy.0;
    let rows_per_s = SSPS as f64 * SSP_ROWS as f64 / loaded.1.as_secs_f64();
    println!(
        "bootstrap {SSPS} SSPs at once, {rows_per_s:.0} rows/s in all; {:.0} records/s applied meanwhile, {:.0} beside \
         busy threads, {:.0} alone: ratio {ratio:.2}, at least {LOADED_LEAST:.2} is due; {} MiB more memory, at most {} is due",
        loaded.0,
        busy.0,
        alone.0,
        grown >> 20,
        MEMORY_MOST >> 20
    );
    Ok(json!({ "ssps": SSPS, "rows_each": SSP_ROWS, "rows_per_s": rows_per_s,
        "applied_per_s": loaded.0, "beside_busy_threads_per_s": busy.0, "alone_per_s": alone.0,
        "ratio": ratio, "least": LOADED_LEAST, "memory_bytes": grown, "memory_most_bytes": MEMORY_MOST,
        "pass": ratio >= LOADED_LEAST && grown <= MEMORY_MOST }))
}

/// Reads all rows as an SSP is sent them.
fn read_all(replica: &Replica) -> Result<(), Failure> {
    let snapshot = replica.snapshot()?;
    let mut scan = Scan::new("file");
    while let Some(item) = snapshot.next_page(&mut scan, 10_000, 1 << 20)? {
        std::hint::black_box(item.encode());
    }
    assert_eq!(scan.rows(), SSP_ROWS, "every row once");
    Ok(())
}

fn resident_bytes() -> Result<u64, Failure> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4096)
}

/// Writes rows of one table.
struct Writer<'a> {
    replica: &'a Replica,
    next: u64,
    random: StdRng,
}

impl Writer<'_> {
    /// Applies `count` records in one commit, each of the row that `pick` says.
    fn write(&mut self, count: u64, pick: impl Fn(&mut StdRng, u64) -> u64) -> Result<(), Failure> {
        let mut records = Vec::new();
        for seq in self.next..self.next + count {
            let row = pick(&mut self.random, seq);
            let body = [("text".to_owned(), Value::String("y".repeat(100)))];
            let event = Event {
                op: Op::Update,
                table: "file".into(),
                key: Key::String(format!("{row:016x}")),
                version: Some(seq),
                body: Some(Value::Object(body.into())),
                before: None,
                source: SourcePos { versionstamp: seq, ordinal: 0 },
                stale: false,
            };
            let record =
                Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: seq, event };
            records.push(encoded(&record));
        }
        self.next += count;
        apply(self.replica, &records)
    }

    /// Records applied per second while threads do `work`, or for [`ALONE`] without any; and how long that took.
    fn rate(
        &mut self,
        threads: &[()],
        work: impl Fn(()) -> Result<(), Failure> + Sync,
    ) -> Result<(f64, Duration), Failure> {
        let (started, first) = (Instant::now(), self.next);
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = threads
                .iter()
                .map(|()| scope.spawn(move || work(()).map_err(|error| error.to_string())))
                .collect();
            loop {
                self.write(2_000, |random, _| random.random_range(1..=SSP_ROWS))?;
                let done = match threads.is_empty() {
                    true => started.elapsed() >= ALONE,
                    false => threads.iter().all(|thread| thread.is_finished()),
                };
                if done {
                    break;
                }
            }
            for thread in threads {
                thread.join().map_err(|_| "a thread failed")??;
            }
            let took = started.elapsed();
            Ok(((self.next - first) as f64 / took.as_secs_f64(), took))
        })
    }
}

/// How long applying alone is measured.
const ALONE: Duration = Duration::from_secs(2);
