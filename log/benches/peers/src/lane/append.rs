//! A1: durable appends of callers that each wait for theirs. A2: one producer that waits for all at the end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::body::{BODY_BYTES, body};
use crate::floor::{Floor, Measured, STEADY, median, percentile, steady};
use crate::peer::{ABSENT, Engine, Failure, Peer, Size, ours, runtime};
use crate::syncs;
use crate::table::{Row, Table};
use crate::{MOST_CALLERS, Settings};

/// How long an engine may settle before it is measured.
const WARM_UP: Duration = Duration::from_millis(400);
/// Callers of the lane that compares engines with each other.
pub const MANY: u64 = MOST_CALLERS as u64;
/// How often a void run is repeated.
const ATTEMPTS: usize = 5;

/// What ours must reach: of the floor with one caller, and of each peer with 64.
fn wanted(engine: &str, callers: u64) -> Option<f64> {
    match (engine, callers) {
        ("floor", 1) => Some(0.85),
        ("surrealkv+prealloc", MANY) => Some(1.2),
        ("spacetimedb-commitlog", MANY) => Some(1.5),
        ("raft-engine", MANY) => Some(2.0),
        ("fjall" | "redb", MANY) => Some(5.0),
        _ => None,
    }
}

/// The runs of one engine.
#[derive(Default)]
struct Runs {
    per_s: Vec<f64>,
    of_floor: Vec<f64>,
    /// How many times faster ours was around each run.
    ratios: Vec<f64>,
    took_us: Vec<f64>,
    void: usize,
    failure: Option<String>,
}

impl Runs {
    /// How long appends took, and syncs for each.
    fn summary(&mut self, syncs: Option<f64>) -> (String, serde_json::Value) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| percentile(&mut self.took_us, part));
        let per_ack = syncs.map_or("-".into(), |syncs| format!("{syncs:.3}"));
        let words = format!(
            "p50 {p50:.0} p99 {p99:.0} p99.9 {p999:.0} us, {per_ack} syncs/ack, {} void",
            self.void
        );
        let numbers = json!({ "per_s": median(&mut self.per_s).round(), "p50_us": p50, "p99_us": p99,
            "p999_us": p999, "syncs_per_ack": syncs, "void": self.void });
        (words, numbers)
    }
}

/// Durable appends with `callers` callers, each engine between two measurements of the floor: how near it comes.
pub fn near_floor(
    settings: &Settings,
    engines: &[Engine],
    callers: u64,
    table: &mut Table,
) -> Result<(), Failure> {
    let lane = format!("A1 N={callers}");
    let mut floor = Floor::new(&settings.dir, ours::frame_bytes())?;
    let mut floors = Vec::new();
    let mut runs: Vec<Runs> = engines.iter().map(|_| Runs::default()).collect();
    for _ in 0..settings.rounds {
        for (engine, runs) in engines.iter().zip(&mut runs) {
            if runs.failure.is_none() {
                sandwiched(settings, *engine, callers, &mut floor, &mut floors, runs)?;
            }
        }
    }
    let mine = engines.iter().position(|engine| engine.name == "revenant-log");
    let mine = mine.map(|at| median(&mut runs[at].of_floor.clone())).filter(|ratio| *ratio > 0.0);
    let of = |part: fn(&Measured) -> f64| median(&mut floors.iter().map(part).collect::<Vec<_>>());
    table.add(Row {
        detail: format!(
            "p50 {:.0} p99 {:.0} us, pwrite + fdatasync of {} bytes, written extents",
            of(|floor| floor.p50_us),
            of(|floor| floor.p99_us),
            ours::frame_bytes()
        ),
        ratio: mine,
        wanted: wanted("floor", callers),
        numbers: json!({ "per_s": of(|floor| floor.per_s).round() }),
        ..Row::words(&lane, "floor", format!("{:.0}/s", of(|floor| floor.per_s)))
    });
    for (engine, runs) in engines.iter().zip(&mut runs) {
        if let Some(failure) = &runs.failure {
            table.add(Row::words(&lane, engine.name, format!("not run: {failure}")));
            continue;
        }
        let syncs = syncs::per_append(*engine, callers, &settings.dir);
        let of_floor = median(&mut runs.of_floor);
        let own = engine.name == "revenant-log";
        let durable = if engine.durable { "" } else { ", NOT durable" };
        let (words, mut numbers) = runs.summary(syncs);
        numbers["of_floor"] = json!(of_floor);
        table.add(Row {
            detail: format!("{of_floor:.2} of floor, {words}{durable}"),
            ratio: mine.filter(|_| !own).map(|mine| mine / of_floor),
            wanted: wanted(engine.name, callers),
            numbers,
            ..Row::words(&lane, engine.name, format!("{:.0}/s", median(&mut runs.per_s)))
        });
    }
    Ok(())
}

/// Durable appends of [`MANY`] callers: each peer between two runs of ours, so that both have the same disk and the
/// same machine. A ratio is that of its rate to the mean of ours around it; the median counts.
pub fn side_by_side(
    settings: &Settings,
    engines: &[Engine],
    table: &mut Table,
) -> Result<(), Failure> {
    let lane = format!("A1 N={MANY}");
    let Some(ours) = engines.iter().find(|engine| engine.name == "revenant-log") else {
        return near_floor(settings, engines, MANY, table);
    };
    let peers: Vec<_> = engines.iter().filter(|engine| engine.name != ours.name).collect();
    let measure = |engine: &Engine| run(*engine, MANY, settings.seconds, &settings.dir);
    let (mut mine, mut runs) = (Runs::default(), Vec::new());
    runs.resize_with(peers.len(), Runs::default);
    for _ in 0..settings.rounds {
        let mut before = measure(ours)?;
        for (peer, runs) in peers.iter().zip(&mut runs) {
            for attempt in 1..=ATTEMPTS {
                if runs.failure.is_some() {
                    break;
                }
                let its = measure(peer);
                let after = measure(ours)?;
                let (low, high) = (before.per_s.min(after.per_s), before.per_s.max(after.per_s));
                let around = (low + high) / 2.0;
                before = after;
                mine.per_s.push(before.per_s);
                mine.took_us.append(&mut before.took_us);
                match its {
                    Err(error) => runs.failure = Some(error.to_string()),
                    Ok(its) if high / low <= STEADY => {
                        runs.ratios.push(around / its.per_s);
                        runs.per_s.push(its.per_s);
                        runs.took_us.extend(its.took_us);
                        break;
                    }
                    Ok(_) if attempt == ATTEMPTS => {
                        runs.failure = Some(format!("ours moved in {ATTEMPTS} runs of {ATTEMPTS}"));
                    }
                    Ok(_) => runs.void += 1,
                }
            }
        }
        if peers.is_empty() {
            mine.per_s.push(before.per_s);
            mine.took_us.append(&mut before.took_us);
        }
    }
    let rows = [(ours, &mut mine)].into_iter().chain(peers.into_iter().zip(&mut runs));
    for (engine, runs) in rows {
        if let Some(failure) = &runs.failure {
            table.add(Row::words(&lane, engine.name, format!("not run: {failure}")));
            continue;
        }
        let syncs = syncs::per_append(*engine, MANY, &settings.dir);
        let ratio = (!runs.ratios.is_empty()).then(|| median(&mut runs.ratios));
        let (words, mut numbers) = runs.summary(syncs);
        numbers["ratios"] = json!(runs.ratios);
        let durable = if engine.durable { "" } else { ", NOT durable" };
        table.add(Row {
            detail: format!("{words}{durable}"),
            ratio,
            wanted: wanted(engine.name, MANY),
            numbers,
            ..Row::words(&lane, engine.name, format!("{:.0}/s", median(&mut runs.per_s)))
        });
    }
    Ok(())
}

/// Every group is one `fdatasync`, and nothing else is.
pub fn groups(settings: &Settings, table: &mut Table) -> Result<(), Failure> {
    let home = tempfile::tempdir_in(&settings.dir)?;
    let ours = Arc::new(ours::open_counted(home.path(), Size::Full)?);
    let opened = ours.syncs.data.load(Ordering::Relaxed);
    append_each(Arc::clone(&ours) as Arc<dyn Peer>, MOST_CALLERS as u64, 200)?;
    let syncs = ours.syncs.data.load(Ordering::Relaxed) - opened;
    let stats = ours.log.stats();
    ours.close()?;
    table.add(Row {
        detail: format!("{} appends in {} groups", stats.appends, stats.groups),
        must: Some(syncs == stats.groups),
        numbers: json!({ "syncs": syncs, "groups": stats.groups, "appends": stats.appends }),
        ..Row::words(
            "A1 groups",
            "revenant-log",
            format!("{:.2} fdatasync/group", syncs as f64 / stats.groups as f64),
        )
    });
    Ok(())
}

/// One run between two measurements of the floor, repeated while the floor moves.
fn sandwiched(
    settings: &Settings,
    engine: Engine,
    callers: u64,
    floor: &mut Floor,
    floors: &mut Vec<Measured>,
    runs: &mut Runs,
) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        let before = floor.measure()?;
        let run = match run(engine, callers, settings.seconds, &settings.dir) {
            Ok(run) => run,
            Err(error) => {
                runs.failure = Some(error.to_string());
                return Ok(());
            }
        };
        let after = floor.measure()?;
        if steady(before, after) {
            runs.per_s.push(run.per_s);
            runs.of_floor.push(run.per_s / ((before.per_s + after.per_s) / 2.0));
            runs.took_us.extend(run.took_us);
            floors.extend([before, after]);
            return Ok(());
        }
        runs.void += 1;
    }
    runs.failure = Some(format!("the floor moved in {ATTEMPTS} runs of {ATTEMPTS}"));
    Ok(())
}

struct Run {
    per_s: f64,
    took_us: Vec<f64>,
}

fn run(engine: Engine, callers: u64, seconds: f64, dir: &Path) -> Result<Run, Failure> {
    let home = tempfile::tempdir_in(dir)?;
    let peer = (engine.open)(home.path(), Size::Full)?;
    let course = Course::new(Arc::clone(&peer), u64::MAX);
    let mut lasted = Duration::ZERO;
    let took_us = course.with_callers(callers, || {
        std::thread::sleep(WARM_UP);
        course.measuring.store(true, Ordering::Relaxed);
        let started = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        course.measuring.store(false, Ordering::Relaxed);
        lasted = started.elapsed();
        course.stop.store(true, Ordering::Relaxed);
    })?;
    peer.close()?;
    Ok(Run { per_s: took_us.len() as f64 / lasted.as_secs_f64(), took_us })
}

/// Appends `each` records with each of `callers` callers.
pub fn append_each(peer: Arc<dyn Peer>, callers: u64, each: u64) -> Result<(), Failure> {
    Course::new(peer, each).with_callers(callers, || ()).map(drop)
}

/// Callers in closed loops.
struct Course {
    peer: Arc<dyn Peer>,
    next: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
    /// Appends of each caller at most.
    limit: u64,
}

impl Course {
    fn new(peer: Arc<dyn Peer>, limit: u64) -> Arc<Self> {
        let (measuring, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { peer, next: AtomicU64::new(1), measuring, stop, limit })
    }

    /// Runs the callers until `conduct` has stopped them or each has made its appends; how long each append
    /// took while it was measured, microseconds. Callers are tasks on the runtime's two workers where the
    /// engine is asynchronous, and threads where it blocks.
    fn with_callers(
        self: &Arc<Self>,
        callers: u64,
        conduct: impl FnOnce(),
    ) -> Result<Vec<f64>, Failure> {
        let mut took = Vec::new();
        if self.is_async() {
            let tasks: Vec<_> =
                (0..callers).map(|caller| runtime().spawn(Arc::clone(self).task(caller))).collect();
            conduct();
            for task in tasks {
                took.extend(runtime().block_on(task)??);
            }
        } else {
            let thread = |caller| {
                let course = Arc::clone(self);
                std::thread::spawn(move || course.thread(caller))
            };
            let threads: Vec<_> = (0..callers).map(thread).collect();
            conduct();
            for thread in threads {
                took.extend(thread.join().map_err(|_| "a caller panicked")??);
            }
        }
        Ok(took)
    }

    fn is_async(&self) -> bool {
        // A future that is never polled appends nothing.
        self.peer.append_async(0, 0, &body(0)).is_some()
    }

    async fn task(self: Arc<Self>, caller: u64) -> Result<Vec<f64>, Failure> {
        let mut took = Vec::new();
        for _ in 0..self.limit {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let before = Instant::now();
            self.peer.append_async(caller, number, &body(number)).ok_or(ABSENT)?.await?;
            if self.measuring.load(Ordering::Relaxed) {
                took.push(before.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(took)
    }

    fn thread(&self, caller: u64) -> Result<Vec<f64>, Failure> {
        let mut took = Vec::new();
        for _ in 0..self.limit {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let before = Instant::now();
            self.peer.append(caller, number, &body(number))?;
            if self.measuring.load(Ordering::Relaxed) {
                took.push(before.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(took)
    }
}

/// One producer that waits for its records at the end, next to `write` of 64 KiB pieces.
pub fn poured(settings: &Settings, engines: &[Engine], table: &mut Table) -> Result<(), Failure> {
    const LANE: &str = "A2";
    let count = settings.records;
    let bytes = count as f64 * BODY_BYTES as f64;
    let pour = |engine: Engine| -> Result<f64, Failure> {
        let home = tempfile::tempdir_in(&settings.dir)?;
        let peer = (engine.open)(home.path(), Size::Full)?;
        let started = Instant::now();
        peer.pour(1, count)?;
        let took = started.elapsed().as_secs_f64();
        peer.close()?;
        Ok(bytes / took / 1e6)
    };
    let raw = raw_writes(&settings.dir, bytes as usize)?;
    let mut mine = None;
    for engine in engines.iter().filter(|engine| !engine.service) {
        match pour(*engine) {
            Ok(rate) => {
                let own = engine.name == "revenant-log";
                if own {
                    mine = Some(rate);
                    table.add(Row {
                        ratio: Some(rate / raw),
                        numbers: json!({ "mb_per_s": raw }),
                        detail: "write of 64 KiB pieces and one fdatasync, written extents".into(),
                        ..Row::words(LANE, "floor", format!("{raw:.0} MB/s"))
                    });
                }
                table.add(Row {
                    ratio: mine.filter(|_| !own).map(|mine| mine / rate),
                    numbers: json!({ "mb_per_s": rate }),
                    detail: if own { "durable as it goes" } else { "one sync at the end" }.into(),
                    ..Row::words(
                        LANE,
                        engine.name,
                        format!("{rate:.0} MB/s, {:.0}/s", rate * 1e6 / BODY_BYTES as f64),
                    )
                });
            }
            Err(error) => {
                table.add(Row::words(LANE, engine.name, format!("not run: {error}")));
            }
        }
    }
    Ok(())
}

fn raw_writes(dir: &Path, bytes: usize) -> Result<f64, Failure> {
    use std::os::unix::fs::FileExt as _;
    let file = tempfile::tempfile_in(dir)?;
    let piece = vec![1; 64 << 10];
    let pieces = bytes / piece.len();
    let write = || -> Result<f64, Failure> {
        let started = Instant::now();
        for at in 0..pieces {
            file.write_all_at(&piece, (at * piece.len()) as u64)?;
        }
        file.sync_data()?;
        Ok(started.elapsed().as_secs_f64())
    };
    write()?; // the extents
    Ok((pieces * piece.len()) as f64 / write()? / 1e6)
}
