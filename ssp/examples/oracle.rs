//! Random queries on random histories for some minutes: the engine against the naive evaluation after every
//! batch, counted by construct of the language. Prints the least case of whatever differs.
#![allow(clippy::unwrap_used, reason = "a judge that cannot go on panics")]
#![allow(dead_code, reason = "tests use more of what is shared with them")]

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use revenant_testdata::tally::{Outcome, Tally};

#[path = "../tests/it/case.rs"]
mod case;
#[path = "../tests/it/world.rs"]
mod world;

use case::Played;

/// Failures that are made smaller and shown.
const SHOWN_MOST: usize = 3;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip_while(|word| word != "--minutes").skip(1);
    let minutes = arguments.next().and_then(|minutes| minutes.parse().ok()).unwrap_or(10.0);
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let (mut tally, mut seed) = (Tally::default(), 0);
    while Instant::now() < end {
        judge(seed, &mut tally);
        seed += 1;
    }
    println!("{seed} seeds\n{tally}\n{}", tally.json("oracle-naive"));
    if tally.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judge(seed: u64, tally: &mut Tally) {
    let Played { case, asked } = Played::random(seed, 60);
    let Ok(world) = panic::catch_unwind(AssertUnwindSafe(|| case.play())) else {
        tally.mismatches += 1;
        if tally.mismatches <= SHOWN_MOST {
            println!("seed {seed} fails; the least case that does:\n{}", case.shrink());
        }
        return;
    };
    for (view, query) in asked {
        let (batches, rows) = world.compared.get(&view).copied().unwrap_or_default();
        let maintained = !world.beyond.contains(&view);
        tally.add(&query.constructs, Outcome { maintained, batches, rows });
    }
}
