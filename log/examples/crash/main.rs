//! The log against a disk that crashes, rots and fails: counts what was tried and what went wrong, which
//! must be nothing. The last line is JSON; exits 0 only if all is well.
//!
//! `cargo run -p revenant-log --example crash [-- --for 30m] [--seed N]`: without a duration once through,
//! at least 500,000 crash points and every bit of a segment; with one, on and on with new seeds until the time is over.
// Clippy knows `#[test]` functions as tests, not this program.
#![allow(clippy::unwrap_used)]

mod cuts;
mod damage;
mod errors;
#[allow(dead_code)] // The tests use the rest of it.
#[path = "../../tests/it/model.rs"]
mod model;
mod tally;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tally::Tally;

/// Fewer simulated crash points are no proof.
const LEAST_CUTS: u64 = 500_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Arguments { lasting, seed }) = Arguments::read(&arguments) else {
        eprintln!("usage: crash [--for DURATION, as 90s, 30m or 2h] [--seed N]");
        return ExitCode::from(2);
    };
    let started = Instant::now();
    let mut tally = Tally::default();
    damage::every_place(&mut tally, started);
    cuts::every_small_life(&mut tally, started);
    errors::every_call(&mut tally, seed, started);
    let mut round = 0;
    while tally.cuts < LEAST_CUTS || started.elapsed() < lasting {
        cuts::lives(&mut tally, seed.wrapping_add(round), started);
        damage::seeded(&mut tally, seed.wrapping_add(round), started);
        errors::seeded(&mut tally, seed.wrapping_add(round), started);
        round += 1;
    }
    let pass = tally.is_clean() && tally.cuts >= LEAST_CUTS;
    let mut json = tally.json();
    json["show"] = if lasting.is_zero() { "crash" } else { "crash-full" }.into();
    json["pass"] = pass.into();
    json["seed"] = seed.into();
    json["rounds"] = round.into();
    json["seconds"] = started.elapsed().as_secs().into();
    println!("{json}");
    if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Arguments {
    lasting: Duration,
    seed: u64,
}

impl Arguments {
    fn read(arguments: &[String]) -> Option<Self> {
        let mut read = Self { lasting: Duration::ZERO, seed: 1 };
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if name == "--for" => read.lasting = duration(value)?,
                [name, value] if name == "--seed" => read.seed = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(read)
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(seconds)?))
}
