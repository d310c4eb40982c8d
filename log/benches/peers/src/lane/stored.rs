//! O: opening a log after a kill and after a clean stop. S: reading all of it, every checksum verified.
//! R: reading single records. All over the same files, appended in batches of 64.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use crate::Settings;
use crate::body::{BODY_BYTES, bodies};
use crate::child;
use crate::floor::percentile;
use crate::peer::{Engine, Failure, Peer, Size};
use crate::table::{Row, Table};

/// Records of one append while a log is filled.
pub const BATCH: usize = 64;
/// Single records that are read.
const READS: u64 = 200_000;
/// How often a log is opened; the median counts.
const ROUNDS: usize = 3;
/// How often each log is scanned, in turn; the fastest counts, which is the least disturbed.
const SCANS: usize = 7;
/// What each scan does, so that a ratio is not read for more than it is.
const SCANNED: &[(&str, &str)] = &[
    (
        "revenant-log",
        "header CRC and payload CRC (CRC-32) of each frame, every record lent, from the map of sealed segments",
    ),
    ("surrealkv", "sorted tables and memtable merged by key, each value copied"),
    (
        "spacetimedb-commitlog",
        "CRC-32C of each commit, payload copied to memory of its own, records cut by length, not decoded",
    ),
    (
        "raft-engine",
        "each entry by its place in the index in memory, CRC-32 of its block, protobuf decoded",
    ),
    ("okaywal", "recovery is its only scan: CRC-32 of each chunk, copied"),
    ("fjall", "sorted tables and memtable merged by key, checksums of blocks that are not cached"),
    (
        "redb",
        "pages of the tree through its cache, whose checksums it does not look at when it reads",
    ),
];

/// Appends `count` records in batches, durable on return.
pub fn fill(peer: &dyn Peer, count: u64) -> Result<(), Failure> {
    for first in (1..=count).step_by(BATCH) {
        let left = usize::try_from(count + 1 - first)?;
        peer.append_all(first, &bodies(first, left.min(BATCH)))?;
    }
    Ok(())
}

/// Times of an opening, microseconds since the process began with it.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Until the log was open.
    pub open_us: f64,
    /// Until one more record was durable.
    pub append_us: f64,
}

/// Opens the log in `dir` and appends; says how long that took and closes it.
pub fn open_and_append(engine: Engine, dir: &Path, next: u64) -> Result<(), Failure> {
    let started = Instant::now();
    let peer = (engine.open)(dir, Size::Full)?;
    let open_us = started.elapsed().as_secs_f64() * 1e6;
    peer.append_all(next, &bodies(next, 1))?;
    println!("{open_us} {}", started.elapsed().as_secs_f64() * 1e6);
    peer.close()
}

fn opening(engine: Engine, dir: &Path, next: u64) -> Result<Opening, Failure> {
    let path = dir.to_string_lossy();
    let said = child::output(&["open", engine.name, &path, &next.to_string()])?;
    let mut numbers = said.split_whitespace().map(str::parse);
    let mut number = || numbers.next().ok_or("the child said too little")?.map_err(Failure::from);
    Ok(Opening { open_us: number()?, append_us: number()? })
}

/// The lanes of `lanes` that need a filled log.
pub fn run(
    settings: &Settings,
    engines: &[Engine],
    lanes: &[&str],
    table: &mut Table,
) -> Result<(), Failure> {
    let records = settings.records;
    let mut logs = Vec::new();
    for engine in engines.iter().filter(|engine| !engine.service) {
        let home = tempfile::tempdir_in(&settings.dir)?;
        match load(*engine, home.path(), records) {
            Ok(()) => logs.push(Filled { engine: *engine, home }),
            Err(error) => {
                table.add(Row::words(&lanes.join(","), engine.name, format!("not run: {error}")));
            }
        }
    }
    if lanes.contains(&"O") {
        opened(settings, &logs, table)?;
    }
    if lanes.contains(&"S") {
        scanned(&logs, records, table)?;
    }
    if lanes.contains(&"R") {
        single(&logs, records, table)?;
    }
    Ok(())
}

/// An engine's log with all records.
struct Filled {
    engine: Engine,
    home: tempfile::TempDir,
}

impl Filled {
    fn is_ours(&self) -> bool {
        self.engine.name == "revenant-log"
    }
}

/// Lane O.
fn opened(settings: &Settings, logs: &[Filled], table: &mut Table) -> Result<(), Failure> {
    let mut mine = None;
    for log in logs {
        let (killed, clean) = openings(log.engine, log.home.path(), settings.records)?;
        let mut detail = format!(
            "first append after {:.1} ms killed, {:.1} ms clean",
            killed.append_us / 1e3,
            clean.append_us / 1e3
        );
        if log.is_ours() {
            mine = Some(killed.open_us);
            table.add(constant(settings, log.engine, killed, clean)?);
            detail += ", at most one segment of 64 MiB read";
        }
        table.add(Row {
            detail,
            ratio: mine.filter(|_| !log.is_ours()).map(|mine| killed.open_us / mine),
            numbers: json!({ "killed_us": killed.open_us, "clean_us": clean.open_us,
                "killed_append_us": killed.append_us, "clean_append_us": clean.append_us }),
            ..Row::words(
                "O",
                log.engine.name,
                format!("{:.1} killed, {:.1} clean ms", killed.open_us / 1e3, clean.open_us / 1e3),
            )
        });
    }
    Ok(())
}

/// Lane S: each log in turn, round by round, next to the checksum alone over as many bytes in memory. Twice
/// after each opening: `S first` maps files or fills caches, `S` finds them as the first left them.
fn scanned(logs: &[Filled], records: u64, table: &mut Table) -> Result<(), Failure> {
    let mut best = vec![[0f64; 2]; logs.len()];
    let mut failed: Vec<Option<Failure>> = logs.iter().map(|_| None).collect();
    let mut checksum = 0f64;
    for _ in 0..SCANS {
        checksum = checksum.max(checksums(records));
        for (at, log) in logs.iter().enumerate() {
            if failed[at].is_some() {
                continue;
            }
            match scan_twice(log.engine, log.home.path(), records) {
                Ok(rates) => (0..2).for_each(|i| best[at][i] = best[at][i].max(rates[i])),
                Err(error) => failed[at] = Some(error),
            }
        }
    }
    let mine = logs.iter().position(Filled::is_ours).filter(|&at| failed[at].is_none());
    for (turn, lane) in ["S first", "S"].into_iter().enumerate() {
        let mine = mine.map(|at| best[at][turn]);
        table.add(Row {
            detail: "crc32fast over the same number of bytes in memory, 64 KiB at a time".into(),
            ratio: mine.map(|mine| mine / checksum),
            wanted: mine.filter(|_| turn == 1).map(|_| 0.5),
            numbers: json!({ "bytes_per_s": checksum }),
            ..Row::words(lane, "checksum alone", format!("{:.2} GB/s", checksum / 1e9))
        });
        for ((log, rates), failure) in logs.iter().zip(&best).zip(&failed) {
            let name = log.engine.name;
            if let Some(error) = failure {
                table.add(Row::words(lane, name, format!("not run: {error}")));
                continue;
            }
            let does = SCANNED.iter().find(|(engine, _)| name.starts_with(engine));
            table.add(Row {
                ratio: mine.filter(|_| !log.is_ours()).map(|mine| mine / rates[turn]),
                wanted: (turn == 1 && name == "spacetimedb-commitlog").then_some(5.0),
                numbers: json!({ "bytes_per_s": rates[turn] }),
                detail: does.map_or("", |(_, does)| does).into(),
                ..Row::words(lane, name, format!("{:.2} GB/s", rates[turn] / 1e9))
            });
        }
    }
    Ok(())
}

/// Bytes per second of the checksum that ours uses.
fn checksums(records: u64) -> f64 {
    let bytes = vec![0x5a; records as usize * BODY_BYTES];
    let started = Instant::now();
    for piece in bytes.chunks(64 << 10) {
        black_box(crc32fast::hash(black_box(piece)));
    }
    bytes.len() as f64 / started.elapsed().as_secs_f64()
}

/// Lane R.
fn single(logs: &[Filled], records: u64, table: &mut Table) -> Result<(), Failure> {
    let mut mine = None;
    for log in logs {
        let name = log.engine.name;
        let row = match reads(log.engine, log.home.path(), records) {
            Ok((p50, p99)) => {
                if log.is_ours() {
                    mine = Some(p50);
                }
                Row {
                    ratio: mine.filter(|_| !log.is_ours()).map(|mine| p50 / mine),
                    wanted: (name == "raft-engine").then_some(3.0),
                    numbers: json!({ "p50_us": p50, "p99_us": p99 }),
                    ..Row::words("R", name, format!("p50 {p50:.2} p99 {p99:.2} us"))
                }
            }
            Err(error) => Row::words("R", name, error.to_string()),
        };
        table.add(row);
    }
    Ok(())
}

/// Fills a log in a process that is killed at the end.
fn load(engine: Engine, dir: &Path, records: u64) -> Result<(), Failure> {
    child::killed(&["load", engine.name, &dir.to_string_lossy(), &records.to_string()])
}

/// Opens it after the kill, and then a few times after a clean stop.
fn openings(engine: Engine, dir: &Path, records: u64) -> Result<(Opening, Opening), Failure> {
    let killed = opening(engine, dir, records + 1)?;
    let mut clean = (0..ROUNDS as u64)
        .map(|round| opening(engine, dir, records + 2 + round))
        .collect::<Result<Vec<_>, _>>()?;
    clean.sort_by(|a, b| a.open_us.total_cmp(&b.open_us));
    Ok((killed, clean[ROUNDS / 2]))
}

/// A log of four times the size must open in the same time, but for noise.
fn constant(
    settings: &Settings,
    engine: Engine,
    killed: Opening,
    clean: Opening,
) -> Result<Row, Failure> {
    let home = tempfile::tempdir_in(&settings.dir)?;
    let records = settings.records * 4;
    load(engine, home.path(), records)?;
    let (killed_4, clean_4) = openings(engine, home.path(), records)?;
    let (a, b) = (killed.open_us.max(clean.open_us), killed_4.open_us.max(clean_4.open_us));
    Ok(Row {
        detail: "opening time of a log / of one four times as large".into(),
        ratio: Some(a / b),
        wanted: Some(0.5),
        numbers: json!({ "killed_us": killed_4.open_us, "clean_us": clean_4.open_us }),
        ..Row::words(
            "O x4",
            engine.name,
            format!("{:.1} killed, {:.1} clean ms", killed_4.open_us / 1e3, clean_4.open_us / 1e3),
        )
    })
}

/// Bytes of bodies per second, all of them read right after opening and then again.
fn scan_twice(engine: Engine, dir: &Path, records: u64) -> Result<[f64; 2], Failure> {
    let peer = (engine.open)(dir, Size::Full)?;
    let rates = [scan(peer.as_ref(), records)?, scan(peer.as_ref(), records)?];
    peer.close()?;
    Ok(rates)
}

fn scan(peer: &dyn Peer, records: u64) -> Result<f64, Failure> {
    let started = Instant::now();
    let (mut seen, mut sum) = (0u64, 0u64);
    peer.scan(&mut |number, body| {
        seen += 1;
        sum ^= number ^ u64::from(body[BODY_BYTES - 1]);
    })?;
    let took = started.elapsed().as_secs_f64();
    black_box(sum);
    if seen < records {
        return Err(format!("{seen} records of {records} were seen").into());
    }
    Ok(seen as f64 * BODY_BYTES as f64 / took)
}

fn reads(engine: Engine, dir: &Path, records: u64) -> Result<(f64, f64), Failure> {
    let peer: Arc<dyn Peer> = (engine.open)(dir, Size::Full)?;
    if let Err(error) = peer.get(1, &mut |_| ()) {
        peer.close()?;
        return Err(error);
    }
    peer.scan(&mut |_, body| {
        black_box(body);
    })?;
    let mut took = Vec::new();
    let mut state = 0x9e37_79b9u64;
    let started = Instant::now();
    // Slow ones are given up after a while: a median needs no more.
    while (took.len() as u64) < READS && started.elapsed().as_secs() < 3 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 33) % records + 1;
        let before = Instant::now();
        let mut right = false;
        let found = peer.get(number, &mut |body| right = body[..8] == number.to_be_bytes())?;
        took.push(before.elapsed().as_secs_f64() * 1e6);
        if !found || !right {
            return Err(format!("record {number} was not read").into());
        }
    }
    peer.close()?;
    Ok((percentile(&mut took, 0.5), percentile(&mut took, 0.99)))
}
