//! The log in a process of its own, on a real file system: failed and killed at every system call (`strace`), and cut
//! off together with its file system as by a power failure (`ext4`, `xfs`). What it acknowledged is checked by this
//! process, which then opens the log. The last line is JSON; exits 0 only if nothing is wrong and no required tier
//! was skipped.
//!
//! `cargo run -p revenant-log --example power [-- --require TIER... --cuts N --seed N]`. `ext4` and `xfs` need root.
// Clippy knows `#[test]` functions as tests, not this program.
#![allow(clippy::unwrap_used)]

mod child;
mod cuts;
#[allow(dead_code)] // The tests use the rest of it.
#[path = "../../tests/it/model.rs"]
mod model;
mod tally;
mod traced;

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use tally::Tally;

const TIERS: [&str; 3] = ["strace", "ext4", "xfs"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, appends] = arguments.as_slice()
        && mode == "child"
    {
        child::live(Path::new(dir), appends.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let Some(asked) = Arguments::read(&arguments) else {
        eprintln!("usage: power [--require strace|ext4|xfs]... [--cuts N] [--seed N]");
        return ExitCode::from(2);
    };
    let mut tally = Tally::default();
    let mut tiers = serde_json::Map::new();
    let mut missing = false;
    for tier in TIERS {
        let ran = match tier {
            "strace" => traced::run(&mut tally),
            file_system => cuts::run(file_system, &asked, &mut tally),
        };
        let told = match ran {
            Ok(figures) => {
                println!("{tier}: ran, {figures}");
                figures
            }
            Err(why) => {
                println!("{tier}: skipped, {why}");
                missing |= asked.required.iter().any(|one| one == tier);
                json!({ "skipped": why })
            }
        };
        tiers.insert(tier.to_owned(), told);
    }
    let pass = tally.is_clean() && !missing;
    let mut report = tally.json();
    report["show"] = "power".into();
    report["seed"] = asked.seed.into();
    report["tiers"] = tiers.into();
    report["pass"] = pass.into();
    println!("{report}");
    if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was asked for.
pub(crate) struct Arguments {
    required: Vec<String>,
    /// Power cuts on each file system.
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
}

impl Arguments {
    fn read(arguments: &[String]) -> Option<Self> {
        let mut read = Self { required: Vec::new(), cuts: 20, seed: 1 };
        for pair in arguments.chunks(2) {
            match pair {
                [name, tier] if name == "--require" && TIERS.contains(&tier.as_str()) => {
                    read.required.push(tier.clone());
                }
                [name, value] if name == "--cuts" => read.cuts = value.parse().ok()?,
                [name, value] if name == "--seed" => read.seed = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(read)
    }
}
