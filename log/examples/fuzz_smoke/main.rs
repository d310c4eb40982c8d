//! Every decoder of the log on changed bytes of the corpus, by seed, with the toolchain at hand: at least 10
//! million decodings. A finding is a panic; it is kept as a file, to be put into the corpus. The last line is
//! JSON; exits 0 only without findings.
//!
//! `cargo run -p revenant-log --example fuzz_smoke [-- --seed N]`

#[path = "../../fuzz/decoders.rs"]
mod decoders;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use decoders::{DECODERS, Decoder};
use revenant_log::storage::sim::Dice;

/// Decodings in all; the rest of the targets share what opening whole segments, which takes longer, leaves.
const LEAST: u64 = 10_000_000;
const SEGMENTS: u64 = 30_000;
/// More findings of one decoder say nothing new.
const MOST_FINDINGS: usize = 5;
/// Inputs do not grow beyond this.
const MOST_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(1),
        ["--seed", seed] => seed.parse().ok(),
        _ => None,
    };
    let Some(seed) = seed else {
        eprintln!("usage: fuzz_smoke [--seed N]");
        return ExitCode::from(2);
    };
    match run(seed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fuzz_smoke: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(seed: u64) -> std::io::Result<bool> {
    let started = Instant::now();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus/log");
    let results: Vec<std::io::Result<Tried>> = std::thread::scope(|scope| {
        let (segments, others): (Vec<_>, Vec<_>) =
            DECODERS.iter().partition(|one| ["segment", "compressed"].contains(&one.name));
        let each = LEAST / others.len() as u64 + 1;
        let corpus = &corpus;
        let one = scope.spawn(move || {
            segments.iter().map(|decoder| fuzz(decoder, corpus, seed, SEGMENTS)).collect::<Vec<_>>()
        });
        let other = scope.spawn(move || {
            others.iter().map(|decoder| fuzz(decoder, corpus, seed, each)).collect::<Vec<_>>()
        });
        [one, other].into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let (mut total, mut findings, mut by) = (0, 0, serde_json::Map::new());
    let decoders = results.len();
    for result in results {
        let tried = result?;
        println!(
            "{:>9} decodings of {:<10} {} findings",
            tried.count,
            tried.name,
            tried.findings.len()
        );
        for path in &tried.findings {
            println!("FOUND {}", path.display());
        }
        total += tried.count;
        findings += tried.findings.len();
        by.insert(tried.name.to_owned(), tried.count.into());
    }
    let pass = findings == 0 && total >= LEAST && decoders == DECODERS.len();
    let json = serde_json::json!({
        "show": "fuzz-smoke", "pass": pass, "decodings": total, "findings": findings, "by": by,
        "seed": seed, "seconds": started.elapsed().as_secs(),
    });
    println!("{json}");
    Ok(pass)
}

struct Tried {
    name: &'static str,
    count: u64,
    findings: Vec<PathBuf>,
}

fn fuzz(decoder: &Decoder, corpus: &Path, seed: u64, least: u64) -> std::io::Result<Tried> {
    let mut seeds = Vec::new();
    let folder = corpus.join(decoder.name);
    let mut paths: Vec<_> = fs::read_dir(&folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        seeds.push(fs::read(path)?);
    }
    let mut tried = Tried { name: decoder.name, count: 0, findings: Vec::new() };
    let mut dice = Dice::new(seed);
    let mut first = seeds.clone().into_iter();
    while tried.count < least && tried.findings.len() < MOST_FINDINGS {
        // The corpus as it is, then changed.
        let input = first.next().unwrap_or_else(|| changed(&seeds, &mut dice));
        match catch_unwind(|| (decoder.run)(&input)) {
            Ok(count) => tried.count += count,
            Err(_) => {
                let name = format!("{}-{:08x}", decoder.name, crc32fast::hash(&input));
                let path = std::env::temp_dir().join(name);
                fs::write(&path, &input)?;
                tried.findings.push(path);
            }
        }
    }
    Ok(tried)
}

/// A member of the corpus with a few changes: bits, bytes, numbers that are borders, parts cut, repeated or
/// taken from another member.
fn changed(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const BORDERS: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0xffff_ffff, 1 << 63, u64::MAX];
    let pick = |dice: &mut Dice, count: usize| -> usize {
        usize::try_from(dice.below(count.max(1) as u64)).unwrap_or(0)
    };
    let mut bytes = seeds[pick(dice, seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = pick(dice, bytes.len());
        match dice.below(8) {
            _ if bytes.is_empty() => bytes.push(dice.roll().to_le_bytes()[0]),
            0 | 1 => bytes[at] ^= 1 << dice.below(8),
            2 => bytes[at] = dice.roll().to_le_bytes()[0],
            3 => {
                let border = BORDERS[pick(dice, BORDERS.len())].to_le_bytes();
                let len = [1, 2, 4, 8][pick(dice, 4)].min(bytes.len() - at);
                bytes[at..at + len].copy_from_slice(&border[..len]);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + pick(dice, 32)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let end = (at + pick(dice, 64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = &seeds[pick(dice, seeds.len())];
                let from = pick(dice, other.len());
                let end = (from + pick(dice, 64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}
