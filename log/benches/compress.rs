//! What compressing sealed segments gives and costs: how much smaller they get at each level, how fast, and how fast a
//! log is then walked and read at random places, next to the same log as it was. Prints one line of JSON.
//!
//! `cargo bench -p revenant-log --bench compress [-- LOG]`: of a copy of the log in that directory, or of rows made
//! up of words, dates and numbers.
// Clippy knows `#[test]` functions as tests, not this program.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use revenant_log::step::StepLog;
use revenant_log::storage::fs::Fs;
use revenant_log::storage::sim::Dice;
use revenant_log::value::Datetime;
use revenant_log::{
    Event, Key, LogConfig, Op, ReadOnlyLog, SegmentUse, Seq, SourcePos, Transaction, Value,
    Witnesses,
};
use serde_json::{Value as Json, json};

const LEVELS: [i32; 4] = [1, 3, 9, 19];
const SEGMENT: u64 = 16 << 20;
/// Sealed segments of the made-up log.
const SEGMENTS: usize = 4;
const POINT_READS: u64 = 20_000;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = std::env::temp_dir().join(format!("revenant-compress-{}", std::process::id()));
    let plain = base.join("plain");
    match given {
        Some(log) => copy(Path::new(&log), &plain),
        None => make(&plain),
    }
    let before = measure(&plain, 0);
    let levels = LEVELS.map(|level| {
        let dir = base.join(level.to_string());
        copy(&plain, &dir);
        measure(&dir, level)
    });
    fs::remove_dir_all(&base).unwrap();
    println!("{}", json!({ "bench": "compress", "plain": before, "levels": levels }));
}

/// Compresses the log at `level`, if it is not 0, and reads it.
fn measure(dir: &Path, level: i32) -> Json {
    let before = sealed(dir);
    let config = LogConfig { segment_bytes: SEGMENT, ring_bytes: 0, ..LogConfig::new(dir) };
    let (mut log, _) = StepLog::open(Arc::new(Fs), config, &Witnesses::none()).unwrap();
    let started = Instant::now();
    let segments = if level > 0 { log.compress(level).unwrap() } else { 0 };
    let seconds = started.elapsed().as_secs_f64();
    let last = ReadOnlyLog::open(dir).unwrap().segments().iter().rev().find_map(|one| {
        (one.state == SegmentUse::Sealed && one.records() > 0).then_some(one.last_seq)
    });
    let last = last.expect("a segment is sealed");
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    // The second walk counts: the first reads the disk.
    let walks = [0, 1].map(|_| {
        let (started, mut bytes) = (Instant::now(), 0);
        let mut reader = log.reader(log.first_seq());
        while reader.next_seq() <= last {
            let frame = reader.next_frame().unwrap().unwrap();
            bytes += frame.map(|(_, record)| record.len() as u64).sum::<u64>();
        }
        megabytes(bytes) / started.elapsed().as_secs_f64()
    });
    let (mut dice, first) = (Dice::new(7), log.first_seq().0);
    let started = Instant::now();
    for _ in 0..POINT_READS {
        let seq = Seq(first + dice.below(last.0 - first + 1));
        assert_eq!(log.read(seq, 1).unwrap().first_seq, seq);
    }
    let micros = started.elapsed().as_secs_f64() * 1e6 / POINT_READS as f64;
    let after = sealed(dir);
    json!({
        "level": level,
        "segments": segments,
        "ratio": round(before as f64 / after as f64),
        "compressed_and_proven_mb_per_s": round(if level > 0 { megabytes(before) / seconds } else { 0.0 }),
        "walk_mb_per_s": round(walks[1]),
        "random_read_us": round(micros),
    })
}

/// Bytes of the sealed segments of the log in `dir`.
fn sealed(dir: &Path) -> u64 {
    let log = ReadOnlyLog::open(dir).unwrap();
    let sealed = log.segments().iter().filter(|one| one.state == SegmentUse::Sealed);
    sealed.map(|one| one.bytes).sum()
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("seg")).unwrap();
    for entry in fs::read_dir(from.join("seg")).unwrap() {
        let from: PathBuf = entry.unwrap().path();
        fs::copy(&from, to.join("seg").join(from.file_name().unwrap())).unwrap();
    }
}

/// A log of updates of rows, twenty in a transaction and one transaction in an append, as a feed gives them.
fn make(dir: &Path) {
    let config = LogConfig { segment_bytes: SEGMENT, ..LogConfig::new(dir) };
    let (mut log, _) = StepLog::open(Arc::new(Fs), config, &Witnesses::none()).unwrap();
    let (mut dice, mut number) = (Dice::new(1), 0);
    let seg = dir.join("seg");
    while fs::read_dir(&seg).unwrap().count() <= SEGMENTS + 1 {
        number += 1;
        let events = (0..20).map(|ordinal| event(number, ordinal, &mut dice)).collect();
        let time_us = 1_700_000_000_000_000 + i64::try_from(number).unwrap() * 700;
        log.append(&[Transaction { time_us, feed_high: number, events }]).unwrap();
        log.keep().unwrap();
    }
    log.close().unwrap();
}

fn event(number: u64, ordinal: u32, dice: &mut Dice) -> Event {
    const WORDS: &[&str] = &[
        "ada", "river", "stone", "paper", "seven", "cloud", "winter", "engine", "letter", "copper",
        "garden", "signal", "harbour", "lantern", "meadow", "orbit", "quarry", "saddle", "timber",
        "valley", "window", "yellow", "bridge", "candle", "desert", "fabric", "glacier", "hollow",
    ];
    let mut words = |count: u64| -> String {
        let word = |_| WORDS[usize::try_from(dice.below(WORDS.len() as u64)).unwrap()];
        (0..count).map(word).collect::<Vec<_>>().join(" ")
    };
    let (name, text) = (words(2), words(18));
    let secs = 1_700_000_000 + i64::try_from(dice.below(30_000_000)).unwrap();
    let fields = BTreeMap::from([
        ("name".to_owned(), Value::String(name)),
        ("text".to_owned(), Value::String(text)),
        ("changed".to_owned(), Value::Datetime(Datetime { secs, nanos: 0 })),
        ("score".to_owned(), Value::Int(dice.roll().cast_signed() >> 40)),
        ("done".to_owned(), Value::Bool(dice.coin())),
    ]);
    Event {
        op: Op::Update,
        table: Arc::from("task"),
        key: Key::Int(dice.below(1 << 20).cast_signed()),
        version: Some(number),
        body: Some(Value::Object(fields)),
        before: None,
        source: SourcePos { versionstamp: number << 16, ordinal },
        stale: false,
    }
}
