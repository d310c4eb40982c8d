//! Live views in process, on one thread: the workloads W1 to W7 at 10 to 1,000,000 views, then what decides:
//! cost against the number of views that a change does not concern, against a parameterised join of
//! differential-dataflow and against upstream's published figures, memory, and what is left after views went.
//! A run whose views differ from the naive evaluation has no number. Prints a table, then one line of JSON.
//!
//! `cargo bench -p revenant-ssp --bench views -- [--quick] [--sizes 10,1000] [--only equal,flat,memory,same,peer]`

mod churn;
mod decide;
mod goals;
mod memory;
mod peer;
mod random;
mod rig;
mod run;
mod workload;

use std::process::ExitCode;

use serde_json::json;

use decide::Scale;
use workload::Kind;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// How many views, unless the caller says otherwise.
const SIZES: [u64; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];

/// The same, where it is to be quick.
const QUICK_SIZES: [u64; 4] = [10, 100, 1_000, 10_000];

/// What a caller asks for.
struct Asked {
    quick: bool,
    sizes: Vec<u64>,
    /// Parts by their word; all when empty.
    only: Vec<String>,
}

impl Asked {
    fn from_args() -> Result<Self, String> {
        let mut asked = Self { quick: false, sizes: SIZES.to_vec(), only: Vec::new() };
        // Cargo passes `--bench`.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            if word == "--quick" {
                (asked.quick, asked.sizes) = (true, QUICK_SIZES.to_vec());
                continue;
            }
            let list = words.next().ok_or_else(|| format!("{word} needs a list"))?;
            let mut items = list.split(',');
            match word.as_str() {
                "--sizes" => {
                    let sizes = items.map(str::parse).collect::<Result<Vec<u64>, _>>();
                    asked.sizes = sizes.map_err(|error| format!("--sizes {list}: {error}"))?;
                    if asked.sizes.contains(&0) {
                        return Err("--sizes: a size is at least 1".into());
                    }
                }
                "--only" => asked.only = items.by_ref().map(str::to_owned).collect(),
                other => {
                    return Err(format!("{other} is not known; --quick, --sizes and --only are"));
                }
            }
        }
        Ok(asked)
    }

    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| part.contains(word.as_str()))
    }
}

fn main() -> ExitCode {
    let asked = match Asked::from_args() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut runs = Vec::new();
    run::head();
    for kind in Kind::ALL.into_iter().filter(|kind| asked.wants(kind.name())) {
        for views in &asked.sizes {
            runs.push(run::run(kind, *views));
        }
    }
    let scale = if asked.quick { Scale::QUICK } else { Scale::FULL };
    let verdicts = decide::all(&scale, |part| asked.wants(part));
    let goals = goals::judged(&runs.iter().flatten().collect::<Vec<_>>());
    let correct = runs.iter().all(|run| run.is_ok());
    let pass = correct && verdicts.iter().all(|verdict| verdict.pass);
    let line = json!({
        "show": "bench-views",
        "pass": pass,
        "correct": correct,
        "quick": asked.quick,
        "runs": runs.into_iter().filter_map(Result::ok).collect::<Vec<_>>(),
        "goals": goals,
        "decided": verdicts.iter().map(decide::Verdict::json).collect::<Vec<_>>(),
    });
    println!("{line}");
    if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
