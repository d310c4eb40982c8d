//! Records applied, a replica rebuilt from the log, and rows read, each next to redb alone storing and
//! reading the same keys and values: in the same commits in the order in which they came for applying and
//! rebuilding. Prints a line for each, then one line of JSON.
//!
//! `cargo bench -p revenant-replica --bench replica [-- DIR]`; the directory decides which disk is measured.
//! How long opening takes after a kill is measured without a bound: it reads every page on purpose.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use revenant_log::{
    Event, Key, Log, LogConfig, LogId, Op, Record, Seq, SourcePos, Transaction, Value, Witnesses,
    encode_key, encode_value,
};
use revenant_replica::{Replica, ReplicaConfig, rebuild};
use serde_json::{Value as Json, json};

/// Records in all; a third of them create a row, the rest change one.
const RECORDS: u64 = 200_000;
/// Records in one commit: what a follower reads at once when it is behind.
const COMMIT_RECORDS: usize = 20_000;
/// Bytes of text in each row.
const BODY_BYTES: usize = 200;
/// Bytes in front of every stored value: the layout and a hash.
const VALUE_HEAD_BYTES: usize = 17;
/// Measurements of every lane, one after the other; the median counts.
const ROUNDS: usize = 3;
/// A run whose floor moved by more than this says nothing.
const STEADY: f64 = 1.5;
/// What is asked for, as a part of redb's own speed: the replica also decodes, hashes and counts.
const APPLY_LEAST: f64 = 0.7;
const REBUILD_LEAST: f64 = 0.7;
const PAGES_LEAST: f64 = 0.5;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const LOG: LogId = LogId([1; 16]);

type Failure = Box<dyn std::error::Error>;

/// Seconds that one round took.
struct Round {
    bare_write: f64,
    bare_read: f64,
    apply: f64,
    pages: f64,
    rebuild: f64,
    open: f64,
}

fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; a directory is the only other argument.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = given.map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("revenant-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = run(&dir);
    std::fs::remove_dir_all(&dir)?;
    println!("{}", result?);
    Ok(())
}

fn run(dir: &Path) -> Result<Json, Failure> {
    let records = records();
    let pairs: Vec<_> = records.iter().map(stored).collect();
    let log_dir = write_log(dir, &records)?;
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let dir = dir.join(number.to_string());
        std::fs::create_dir_all(&dir)?;
        rounds.push(round(&dir, &records, &pairs, &log_dir)?);
        std::fs::remove_dir_all(&dir)?;
    }
    let median = |pick: fn(&Round) -> f64| {
        let mut seconds: Vec<_> = rounds.iter().map(pick).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let floor = rounds.iter().map(|round| round.bare_write);
    let lowest = floor.clone().fold(f64::INFINITY, f64::min);
    let steady = floor.fold(0.0, f64::max) / lowest <= STEADY;
    let (bare_write, bare_read) = (median(|one| one.bare_write), median(|one| one.bare_read));
    let apply = lane("apply", median(|one| one.apply), bare_write, APPLY_LEAST);
    let rebuild = lane("rebuild", median(|one| one.rebuild), bare_write, REBUILD_LEAST);
    let pages = lane("pages", median(|one| one.pages), bare_read, PAGES_LEAST);
    let open = median(|one| one.open);
    println!("open      {:8.1} ms after a kill, every page read", open * 1e3);
    let lanes = [&apply, &rebuild, &pages];
    Ok(json!({
        "show": "bench-replica",
        "pass": steady && lanes.iter().all(|lane| lane["pass"] == true),
        "records": RECORDS,
        "commit_records": COMMIT_RECORDS,
        "steady": steady,
        "apply": apply,
        "rebuild": rebuild,
        "pages": pages,
        "open_after_kill_ms": open * 1e3,
    }))
}

/// Prints a lane and returns it: seconds for the same work, and bare redb's.
fn lane(name: &str, seconds: f64, bare: f64, least: f64) -> Json {
    let ratio = bare / seconds;
    println!(
        "{name:9} {:8.1} ms   bare redb {:8.1} ms   ratio {ratio:.2}, at least {least:.2} is due",
        seconds * 1e3,
        bare * 1e3
    );
    let per_s = (RECORDS as f64 / seconds).round();
    json!({ "seconds": seconds, "bare_seconds": bare, "records_per_s": per_s, "ratio": ratio,
        "least": least, "pass": ratio >= least })
}

fn round(
    dir: &Path,
    records: &[Record],
    pairs: &[(Vec<u8>, Vec<u8>)],
    log_dir: &Path,
) -> Result<Round, Failure> {
    let (bare_write, bare_read) = bare(&dir.join("bare"), pairs)?;
    let path = dir.join("replica");
    let (apply, pages) = replica(&path, records)?;
    let started = Instant::now();
    let report = rebuild(log_dir, &dir.join("rebuilt"), None, |_| {})?;
    let rebuild = started.elapsed().as_secs_f64();
    assert_eq!(report.seq, RECORDS, "the rebuild has every record");
    let started = Instant::now();
    let (opened, _) = Replica::open(path.with_extension("killed"), LOG, &ReplicaConfig::default())?;
    let open = started.elapsed().as_secs_f64();
    assert_eq!(opened.applied_seq(), Seq(RECORDS), "the checkpoint survives");
    Ok(Round { bare_write, bare_read, apply, pages, rebuild, open })
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

fn records() -> Vec<Record> {
    let mut random = StdRng::seed_from_u64(1);
    let mut keys: Vec<Key> = Vec::new();
    (1..=RECORDS)
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

/// Seconds that applying and reading in pages took. Leaves what a kill after a checkpoint leaves beside it.
fn replica(path: &Path, records: &[Record]) -> Result<(f64, f64), Failure> {
    let (replica, _) = Replica::open(path, LOG, &ReplicaConfig::default())?;
    let started = Instant::now();
    for commit in records.chunks(COMMIT_RECORDS) {
        replica.apply(commit)?;
    }
    let apply = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let snapshot = replica.snapshot()?;
    let mut after = None;
    let mut rows = 0;
    loop {
        let page = snapshot.page("file", after.as_ref(), 5_000, 4 << 20)?;
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        rows += page.len() as u64;
    }
    let pages = started.elapsed().as_secs_f64();
    assert_eq!(rows, snapshot.tables()?[0].rows, "pages give every row once");
    replica.save()?;
    std::fs::copy(path, path.with_extension("killed"))?;
    Ok((apply, pages))
}
