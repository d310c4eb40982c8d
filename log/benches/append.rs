//! Durable appends per second with 1 and with 64 callers, next to the floor of the same run: a loop of
//! `pwrite` and `fdatasync` of the same bytes on written extents. Prints one line of JSON.
//!
//! `cargo bench -p revenant-log --bench append [-- DIR]`; the directory decides which disk is measured.

use std::fs::OpenOptions;
use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use revenant_log::chain::RecordHash;
use revenant_log::frame::RECORDS_HEADER_BYTES;
use revenant_log::{
    ChainHash, Event, Key, Log, LogConfig, Op, SourcePos, Transaction, Value, Witnesses,
    encode_parts,
};

/// How long each lane runs: long enough that a slow sync here and there does not decide.
const LANE: Duration = Duration::from_secs(3);
/// Bytes of the value in each record.
const BODY_BYTES: usize = 200;
/// A run whose floor moved by more than this says nothing.
const STEADY: f64 = 1.5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
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

fn run(dir: &Path) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let floor_before = floor(&dir.join("floor"))?;
    let one = appends(&dir.join("one"), 1)?;
    let floor_between = floor(&dir.join("floor"))?;
    let many = appends(&dir.join("many"), 64)?;
    let floor_after = floor(&dir.join("floor"))?;
    let floors = [floor_before, floor_between, floor_after];
    let lowest = floors.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = floors.iter().copied().fold(0.0, f64::max);
    let mean = floors.iter().sum::<f64>() / 3.0;
    Ok(serde_json::json!({
        "bench": "append",
        "record_bytes": record_bytes(),
        "floor_per_s": floors.map(f64::round),
        "steady": highest / lowest <= STEADY,
        "callers_1": { "appends_per_s": one.per_s.round(), "syncs_per_append": one.syncs_per_append,
            "to_floor": one.per_s / mean },
        "chain": chain(many.per_s),
        "callers_64": { "appends_per_s": many.per_s.round(), "syncs_per_append": many.syncs_per_append,
            "to_floor": many.per_s / mean },
    }))
}

fn event() -> Event {
    Event {
        op: Op::Update,
        table: Arc::from("file"),
        key: Key::from("src/main.rs"),
        version: Some(7),
        body: Some(Value::String("x".repeat(BODY_BYTES))),
        before: None,
        source: SourcePos { versionstamp: 1 << 40, ordinal: 0 },
        stale: false,
    }
}

fn record_bytes() -> usize {
    let mut bytes = Vec::new();
    encode_parts(0, true, 0, &event(), &mut bytes);
    bytes.len()
}

/// Writes and syncs of a frame's worth of bytes, one after the other, per second.
fn floor(path: &Path) -> io::Result<f64> {
    const FILE_BYTES: usize = 16 << 20;
    // As a segment is made: the system keeps a file in memory in pieces as large as the writes that made it.
    const PIECE_BYTES: usize = 64 << 10;
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    for at in (0..FILE_BYTES).step_by(PIECE_BYTES) {
        file.write_all_at(&[0; PIECE_BYTES], at as u64)?;
    }
    file.sync_all()?;
    let frame = vec![1; (RECORDS_HEADER_BYTES + 4 + record_bytes()).next_multiple_of(8)];
    let (started, mut count, mut offset) = (Instant::now(), 0u32, 0);
    while started.elapsed() < LANE {
        file.write_all_at(&frame, offset)?;
        file.sync_data()?;
        count += 1;
        offset = (offset + frame.len() as u64) % (FILE_BYTES - frame.len()) as u64;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// What the audit chain costs a record: the hash of its bytes, by the caller, and the link, by the writer;
/// and which part of the machine's time that is at `per_s` appends of one record.
fn chain(per_s: f64) -> serde_json::Value {
    const ROUNDS: u32 = 200_000;
    let mut record = Vec::new();
    encode_parts(0, true, 0, &event(), &mut record);
    let timed = |mut step: Box<dyn FnMut()>| {
        let started = Instant::now();
        (0..ROUNDS).for_each(|_| step());
        started.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
    };
    let (hash, mut link) = (RecordHash::of(&record), ChainHash::START);
    let hashing = timed(Box::new(move || {
        black_box(RecordHash::of(black_box(&record)));
    }));
    let linking = timed(Box::new(move || link = black_box(link.then(black_box(hash)))));
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    serde_json::json!({
        "record_ns": hashing.round(), "link_ns": linking.round(),
        "part_of_64_callers": (hashing + linking) * per_s / cores / 1e9,
        "part_of_writer": linking * per_s / 1e9,
    })
}

struct Lane {
    per_s: f64,
    syncs_per_append: f64,
}

fn appends(dir: &Path, callers: usize) -> Result<Lane, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(async {
        let (log, _) = Log::open(LogConfig::new(dir), Witnesses::none())?;
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move {
                    while started.elapsed() < LANE {
                        let transaction =
                            Transaction { time_us: 0, feed_high: 0, events: vec![event()] };
                        log.append(vec![transaction], None).await?;
                    }
                    Ok::<_, revenant_log::Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let seconds = started.elapsed().as_secs_f64();
        let stats = log.stats();
        log.close().await?;
        let (appends, groups) = (stats.appends as f64, stats.groups as f64);
        Ok(Lane { per_s: appends / seconds, syncs_per_append: groups / appends })
    })
}
