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
use crate::floor::{median, percentile};
use crate::peer::{ABSENT, Engine, Failure, Peer, Size};
use crate::table::{Row, Table};

/// Records of one append while a log is filled.
pub const BATCH: usize = 64;
/// Single records that are read.
const READS: u64 = 200_000;
/// How often a log is opened and scanned; the median counts.
const ROUNDS: usize = 3;

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
    let mut mine = Mine::default();
    for engine in engines.iter().filter(|engine| !engine.service) {
        if let Err(error) = one(settings, *engine, lanes, &mut mine, table) {
            table.add(Row::words(&lanes.join(","), engine.name, format!("not run: {error}")));
        }
    }
    Ok(())
}

/// What ours measured, for the ratios.
#[derive(Default)]
struct Mine {
    open_us: Option<f64>,
    scan_bytes_per_s: Option<f64>,
    read_us: Option<f64>,
}

fn one(
    settings: &Settings,
    engine: Engine,
    lanes: &[&str],
    mine: &mut Mine,
    table: &mut Table,
) -> Result<(), Failure> {
    let own = engine.name == "revenant-log";
    let home = tempfile::tempdir_in(&settings.dir)?;
    let records = settings.records;
    load(engine, home.path(), records)?;
    if lanes.contains(&"O") {
        let (killed, clean) = openings(engine, home.path(), records)?;
        let mut detail = format!(
            "first append after {:.1} ms killed, {:.1} ms clean",
            killed.append_us / 1e3,
            clean.append_us / 1e3
        );
        if own {
            mine.open_us = Some(killed.open_us);
            table.add(constant(settings, engine, killed, clean)?);
            detail += ", at most one segment of 64 MiB read";
        }
        table.add(Row {
            detail,
            ratio: mine.open_us.filter(|_| !own).map(|mine| killed.open_us / mine),
            numbers: json!({ "killed_us": killed.open_us, "clean_us": clean.open_us,
                "killed_append_us": killed.append_us, "clean_append_us": clean.append_us }),
            ..Row::words(
                "O",
                engine.name,
                format!("{:.1} killed, {:.1} clean ms", killed.open_us / 1e3, clean.open_us / 1e3),
            )
        });
    }
    if lanes.contains(&"S") {
        let rate = scans(engine, home.path(), records)?;
        if own {
            mine.scan_bytes_per_s = Some(rate);
        }
        table.add(Row {
            ratio: mine.scan_bytes_per_s.filter(|_| !own).map(|mine| mine / rate),
            wanted: (engine.name == "spacetimedb-commitlog").then_some(5.0),
            numbers: json!({ "bytes_per_s": rate }),
            detail: if engine.name == "okaywal" { "recovery is its only scan" } else { "" }.into(),
            ..Row::words("S", engine.name, format!("{:.2} GB/s", rate / 1e9))
        });
    }
    if lanes.contains(&"R") {
        let row = match reads(engine, home.path(), records) {
            Ok((p50, p99)) => {
                if own {
                    mine.read_us = Some(p50);
                }
                Row {
                    ratio: mine.read_us.filter(|_| !own).map(|mine| p50 / mine),
                    wanted: (engine.name == "raft-engine").then_some(3.0),
                    numbers: json!({ "p50_us": p50, "p99_us": p99 }),
                    ..Row::words("R", engine.name, format!("p50 {p50:.2} p99 {p99:.2} us"))
                }
            }
            Err(error) if error.to_string() == ABSENT => Row::words("R", engine.name, ABSENT),
            Err(error) => return Err(error),
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

fn scans(engine: Engine, dir: &Path, records: u64) -> Result<f64, Failure> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        // Opened anew, so that checksums are verified every time.
        let peer = (engine.open)(dir, Size::Full)?;
        let started = Instant::now();
        let (mut seen, mut sum) = (0u64, 0u64);
        peer.scan(&mut |number, body| {
            seen += 1;
            sum ^= number ^ u64::from(body[BODY_BYTES - 1]);
        })?;
        let took = started.elapsed().as_secs_f64();
        black_box(sum);
        peer.close()?;
        if seen < records {
            return Err(format!("{seen} records of {records} were seen").into());
        }
        rates.push(seen as f64 * BODY_BYTES as f64 / took);
    }
    Ok(median(&mut rates))
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
