//! Our log next to its peers, on the same disk in the same minutes: one table, then one line of JSON.
//!
//! `cargo run --release -- [--lanes A1,A2] [--engines a,b] [--rounds N] [--seconds S] [--records N] [--dir DIR]`

mod body;
mod child;
mod floor;
mod image;
mod lane;
mod peer;
mod syncs;
mod table;
mod tried;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use peer::{ENGINES, Engine, Failure, Size};
use table::Table;

/// Most callers of any lane.
pub const MOST_CALLERS: usize = 64;
/// Every lane, in the order they run.
const LANES: &[&str] = &["A1", "A2", "S", "R", "T", "O", "C", "E", "F"];

/// What a run is asked for.
pub struct Settings {
    /// Everything is written below it; it decides which disk is measured.
    pub dir: PathBuf,
    /// Runs of each engine; the median counts.
    pub rounds: usize,
    /// How long a run of A1 takes.
    pub seconds: f64,
    /// Records of the lanes that need many.
    pub records: u64,
    /// Flips and cuts of lane C.
    pub damages: usize,
    /// Every bit and every place to cut at instead.
    pub every_bit: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == "child" => child(rest).map(|()| true),
        _ => compare(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the lanes that were asked for.
fn compare(arguments: &[String]) -> Result<bool, Failure> {
    let given = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let lanes = given("--lanes").unwrap_or_else(|| LANES.join(","));
    let lanes: Vec<&str> = lanes.split(',').collect();
    if let Some(unknown) = lanes.iter().find(|lane| !LANES.contains(lane)) {
        return Err(format!("no lane {unknown}; there are {}", LANES.join(", ")).into());
    }
    let engines: Vec<Engine> = match given("--engines") {
        None => ENGINES.to_vec(),
        Some(names) => names
            .split(',')
            .map(|name| peer::named(name).ok_or_else(|| format!("no engine {name}")))
            .collect::<Result<_, _>>()?,
    };
    let base = given("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let home = tempfile::tempdir_in(base)?;
    // A server that runs as another user must be able to enter.
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let settings = Settings {
        dir: home.path().to_owned(),
        rounds: given("--rounds").map_or(Ok(3), |rounds| rounds.parse())?,
        seconds: given("--seconds").map_or(Ok(1.5), |seconds| seconds.parse())?,
        records: given("--records").map_or(Ok(1 << 19), |records| records.parse())?,
        damages: given("--damages").map_or(Ok(500), |damages| damages.parse())?,
        every_bit: arguments.iter().any(|argument| argument == "--every-bit"),
    };
    for engine in &engines {
        println!("# {}: {}", engine.name, engine.note);
    }
    let mut table = Table::default();
    let asked = |lane: &str| lanes.contains(&lane);
    if asked("A1") {
        lane::append::near_floor(&settings, &engines, 1, &mut table)?;
        tried::print("A1 N=1", &mut table);
        lane::append::side_by_side(&settings, &engines, &mut table)?;
        tried::print("A1 N=64", &mut table);
    }
    if asked("A1") && engines.iter().any(|engine| engine.name == "revenant-log") {
        lane::append::groups(&settings, &mut table)?;
    }
    if asked("A2") {
        lane::append::poured(&settings, &engines, &mut table)?;
    }
    if asked("O") || asked("S") || asked("R") {
        lane::stored::run(&settings, &engines, &lanes, &mut table)?;
        if asked("S") {
            tried::print("S", &mut table);
        }
    }
    if asked("T") {
        lane::tail::run(&settings, &mut table)?;
    }
    if asked("C") {
        lane::damage::run(&settings, &engines, &mut table)?;
    }
    if asked("E") {
        lane::damage::faults::full(&settings, &engines, &mut table)?;
    }
    if asked("F") {
        lane::damage::faults::sync_fails(&settings, &engines, &mut table)?;
    }
    let (line, pass) = table.finish(&lanes.join(","));
    println!("{line}");
    Ok(pass)
}

/// What runs in a process of its own.
fn child(arguments: &[String]) -> Result<(), Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what, name, rest @ ..] = arguments.as_slice() else {
        return Err("which engine?".into());
    };
    let engine = peer::named(name).ok_or_else(|| format!("no engine {name}"))?;
    match (*what, rest) {
        ("append", [callers, each, dir]) => {
            let peer = (engine.open)(Path::new(dir), Size::Full)?;
            lane::append::append_each(Arc::clone(&peer), callers.parse()?, each.parse()?)?;
            peer.close()
        }
        ("load", [dir, records]) => {
            let peer = (engine.open)(Path::new(dir), Size::Full)?;
            lane::stored::fill(peer.as_ref(), records.parse()?)?;
            child::kill_myself()
        }
        ("open", [dir, next]) => {
            lane::stored::open_and_append(engine, Path::new(dir), next.parse()?)
        }
        ("images", [dir, base, group]) => {
            lane::damage::make_images(engine, Path::new(dir), Path::new(base), Path::new(group))
        }
        ("judge", []) => lane::check::serve(engine),
        ("fill-disk", [dir]) => lane::damage::faults::fill_disk(engine, Path::new(dir)),
        ("append-when-told", [dir]) => {
            lane::damage::faults::append_when_told(engine, Path::new(dir))
        }
        other => Err(format!("not understood: {other:?}").into()),
    }
}
