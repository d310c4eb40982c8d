//! C: the same damage done to every engine's log. A process appends 1,000 records, all acknowledged, stays
//! idle for a moment and is killed; then the last 64 KiB that it wrote are damaged in one way at a time.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::Settings;
use crate::body::{bodies, body};
use crate::child::{self, Said, Talk};
use crate::image::Image;
use crate::lane::check::{Judge, Judged, Outcome, Outcomes, words};
use crate::lane::stored::{BATCH, fill};
use crate::peer::{Engine, Failure, Size};
use crate::table::{Row, Table};

/// Records that were acknowledged.
const ACKED: u64 = 1000;
/// How much of the end is damaged.
const AREA: usize = 64 << 10;
/// How long the writing process is idle before it is killed.
const IDLE: Duration = Duration::from_millis(400);
const PAGE: usize = 4096;

/// One way to damage a log.
#[derive(Clone, Debug)]
enum Damage {
    /// One bit of the log file.
    Flip { offset: usize, bit: u8 },
    /// The log file ends here.
    Cut { offset: usize },
    /// Zeros instead of what was there.
    Zero { offset: usize, len: usize },
    /// A power cut while one more append was under way: only these of its pages reached the disk.
    Torn { pages: u64 },
}

/// The child: appends, is idle, copies its files, appends once more, copies them again, and is killed.
pub fn make_images(engine: Engine, dir: &Path, base: &Path, group: &Path) -> Result<(), Failure> {
    let peer = (engine.open)(dir, Size::Small)?;
    fill(peer.as_ref(), ACKED)?;
    std::thread::sleep(IDLE);
    Image::read(dir)?.write(base)?;
    peer.append_all(ACKED + 1, &bodies(ACKED + 1, BATCH))?;
    Image::read(dir)?.write(group)?;
    child::kill_myself()
}

/// Logs that are files of ours to damage, each format once.
fn embedded(engines: &[Engine]) -> impl Iterator<Item = &Engine> {
    engines.iter().filter(|engine| !engine.service && engine.name != "surrealkv+prealloc")
}

/// All engines.
pub fn run(settings: &Settings, engines: &[Engine], table: &mut Table) -> Result<(), Failure> {
    // Nothing here is about the disk, so that memory serves.
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm } else { &settings.dir };
    for engine in embedded(engines) {
        let home = tempfile::tempdir_in(base)?;
        if let Err(error) = one(settings, *engine, home.path(), table) {
            table.add(Row::words("C", engine.name, format!("not run: {error}")));
        }
    }
    Ok(())
}

fn one(settings: &Settings, engine: Engine, home: &Path, table: &mut Table) -> Result<(), Failure> {
    let path = |name: &str| home.join(name);
    let (live, base, group) = (path("live"), path("base"), path("group"));
    std::fs::create_dir(&live)?;
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    child::killed(&["images", engine.name, &text(&live), &text(&base), &text(&group)])?;
    std::fs::remove_dir_all(&live)?;
    let (base, group) = (Image::read(&base)?, Image::read(&group)?);
    let log = base.holder(&body(ACKED - 1)[8..]).ok_or("the log file was not found")?;
    let end = base.0[log].bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    let mut judge = Judge::new(engine);
    let untouched = {
        base.write(&live)?;
        judge.judge(&live, ACKED)?
    };
    if untouched.outcome != Outcome::Right {
        return Err(format!("the undamaged log is {untouched:?}").into());
    }
    for (name, damages) in damages(settings, end, &base, &group, log) {
        let mut outcomes = Outcomes::new();
        let count = damages.len();
        for damage in damages {
            damaged(&damage, &base, &group, log).write(&live)?;
            *outcomes.entry(judge.judge(&live, ACKED)?.outcome).or_default() += 1;
        }
        // A power cut is not damage: what was acknowledged is all there, so that to refuse is false.
        let torn = name == "torn";
        let bad = |outcome: &Outcome| match outcome {
            Outcome::Right => false,
            Outcome::Refused => torn,
            _ => true,
        };
        let wrong: usize =
            outcomes.iter().filter(|(outcome, _)| bad(outcome)).map(|(_, n)| n).sum();
        let numbers: serde_json::Map<_, _> = outcomes
            .iter()
            .map(|(outcome, n)| (format!("{outcome:?}").to_lowercase(), json!(n)))
            .collect();
        table.add(Row {
            detail: words(&outcomes),
            must: (engine.name == "revenant-log").then_some(wrong == 0),
            numbers: json!(numbers),
            ..Row::words(&format!("C {name}"), engine.name, format!("{wrong} bad of {count}"))
        });
    }
    Ok(())
}

fn damages(
    settings: &Settings,
    end: usize,
    base: &Image,
    group: &Image,
    log: usize,
) -> Vec<(&'static str, Vec<Damage>)> {
    let start = end.saturating_sub(AREA);
    let area = end - start;
    // Spread evenly, unless all are asked for; the odd step meets every bit of a byte.
    let spread = |all: usize| {
        let step = (all / settings.damages).max(1) | 1;
        (0..all).step_by(if settings.every_bit { 1 } else { step })
    };
    let flips = spread(area * 8)
        .map(|at| Damage::Flip { offset: start + at / 8, bit: (at % 8) as u8 })
        .collect();
    let cuts = spread(area).map(|at| Damage::Cut { offset: start + at }).collect();
    let blocks = |len: usize| {
        (start / len..end.div_ceil(len)).map(move |block| Damage::Zero { offset: block * len, len })
    };
    let zeros = blocks(512).chain(blocks(PAGE)).collect();
    let pages = changed(&base.0[log].bytes, &group.0[log].bytes).len();
    // All subsets of few pages, and as many subsets of many.
    let subsets = 1u64 << pages.min(6);
    let mask = if pages >= 64 { u64::MAX } else { (1 << pages) - 1 };
    let torn = (0..subsets)
        .map(|subset| {
            let mixed = subset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3;
            Damage::Torn { pages: if pages <= 6 { subset } else { mixed & mask } }
        })
        .collect();
    vec![("flip", flips), ("cut", cuts), ("zero", zeros), ("torn", torn)]
}

/// Pages that differ.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    let page = |bytes: &[u8], at: usize| {
        let start = (at * PAGE).min(bytes.len());
        bytes[start..(start + PAGE).min(bytes.len())].to_vec()
    };
    let pages = before.len().max(after.len()).div_ceil(PAGE);
    (0..pages).filter(|&at| page(before, at) != page(after, at)).collect()
}

fn damaged(damage: &Damage, base: &Image, group: &Image, log: usize) -> Image {
    let mut image = base.clone();
    let bytes = &mut image.0[log].bytes;
    match *damage {
        Damage::Flip { offset, bit } => bytes[offset] ^= 1 << bit,
        Damage::Cut { offset } => bytes.truncate(offset),
        Damage::Zero { offset, len } => {
            let end = (offset + len).min(bytes.len());
            bytes[offset..end].fill(0);
        }
        Damage::Torn { pages } => {
            let after = &group.0[log].bytes;
            let changed = changed(bytes, after);
            bytes.resize(after.len(), 0);
            for (index, page) in changed.into_iter().enumerate() {
                if pages >> index.min(63) & 1 == 1 {
                    let range = page * PAGE..((page + 1) * PAGE).min(after.len());
                    bytes[range.clone()].copy_from_slice(&after[range]);
                }
            }
        }
    }
    image
}

/// E: a disk that fills up, gets space again, and is gone on with. F: a sync that fails once.
pub mod faults {
    use super::*;

    /// Bytes of the small disk, and of what is taken off it again.
    const DISK: &str = "size=96m";
    const BALLAST: u64 = 40 << 20;
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The child of E: appends until it cannot, and tries again when told to.
    pub fn fill_disk(engine: Engine, dir: &Path) -> Result<(), Failure> {
        let peer = (engine.open)(dir, Size::Small)?;
        let mut acked = 0;
        let append = |acked: &mut u64| -> Result<(), Failure> {
            peer.append_all(*acked + 1, &bodies(*acked + 1, BATCH))?;
            *acked += BATCH as u64;
            println!("acked {acked}");
            Ok(())
        };
        let full = loop {
            if let Err(error) = append(&mut acked) {
                break error;
            }
        };
        println!("full {}", full.to_string().replace('\n', " "));
        let mut lines = std::io::stdin().lock().lines();
        lines.next().transpose()?;
        for _ in 0..20 {
            match append(&mut acked) {
                Ok(()) => {
                    println!("resumed");
                    break;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
        println!("done");
        lines.next().transpose()?;
        child::kill_myself()
    }

    /// Lane E.
    pub fn full(settings: &Settings, engines: &[Engine], table: &mut Table) -> Result<(), Failure> {
        for engine in embedded(engines) {
            let home = tempfile::tempdir_in(&settings.dir)?;
            let disk = Disk::mount(home.path());
            let row = match disk.and_then(|disk| full_one(*engine, &disk)) {
                Ok((resumed, acked, Judged { outcome, reason })) => Row {
                    detail: format!("{acked} acked; killed and opened again: {outcome:?} {reason}"),
                    must: (engine.name == "revenant-log")
                        .then_some(resumed && outcome == Outcome::Right),
                    numbers: json!({ "resumed": resumed, "acked": acked,
                        "after": format!("{outcome:?}").to_lowercase() }),
                    ..Row::words(
                        "E",
                        engine.name,
                        if resumed { "goes on by itself" } else { "needs a restart" },
                    )
                },
                Err(error) => Row::words("E", engine.name, format!("not run: {error}")),
            };
            table.add(row);
        }
        Ok(())
    }

    fn full_one(engine: Engine, disk: &Disk) -> Result<(bool, u64, Judged), Failure> {
        let ballast = disk.0.join("ballast");
        std::fs::write(&ballast, vec![1; usize::try_from(BALLAST)?])?;
        let dir = disk.0.join("log");
        std::fs::create_dir(&dir)?;
        let mut talk = Talk::start(&["fill-disk", engine.name, &dir.to_string_lossy()])?;
        let (mut acked, mut freed, mut resumed) = (0, false, false);
        loop {
            match talk.hear(PATIENCE) {
                Said::Line(line) if line.starts_with("acked ") => acked = line[6..].parse()?,
                Said::Line(line) if line.starts_with("full") => {
                    std::fs::remove_file(&ballast)?;
                    freed = true;
                    talk.say("go on");
                }
                Said::Line(line) if line == "resumed" => resumed = true,
                Said::Line(_) | Said::Ended => break,
                // It hangs: a restart must help it.
                Said::Nothing if freed => break,
                Said::Nothing => {
                    std::fs::remove_file(&ballast)?;
                    freed = true;
                }
            }
        }
        drop(talk);
        if !freed {
            std::fs::remove_file(&ballast)?;
        }
        Ok((resumed, acked, Judge::new(engine).judge(&dir, acked)?))
    }

    /// A small disk in memory.
    struct Disk(PathBuf);

    impl Disk {
        fn mount(at: &Path) -> Result<Self, Failure> {
            let done = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", DISK, "tmpfs"])
                .arg(at)
                .output()?;
            if !done.status.success() {
                return Err("a small disk cannot be mounted here".into());
            }
            Ok(Self(at.to_owned()))
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            match std::process::Command::new("umount").arg("-l").arg(&self.0).status() {
                Ok(status) if status.success() => {}
                other => eprintln!("{} is still mounted: {other:?}", self.0.display()),
            }
        }
    }

    /// The child of F: one append while syncs fail, some after.
    pub fn append_when_told(engine: Engine, dir: &Path) -> Result<(), Failure> {
        let peer = (engine.open)(dir, Size::Small)?;
        fill(peer.as_ref(), ACKED)?;
        let mut next = ACKED + 1;
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            line?;
            match peer.append_all(next, &bodies(next, BATCH)) {
                Ok(()) => println!("acked"),
                Err(error) => println!("error {}", error.to_string().replace('\n', " ")),
            }
            next += BATCH as u64;
        }
        child::kill_myself()
    }

    /// Lane F.
    pub fn sync_fails(
        settings: &Settings,
        engines: &[Engine],
        table: &mut Table,
    ) -> Result<(), Failure> {
        for engine in embedded(engines) {
            let home = tempfile::tempdir_in(&settings.dir)?;
            let row = match sync_fails_one(*engine, home.path()) {
                Ok((during, after)) => {
                    let stops = during != Answer::Acked && after != Answer::Acked;
                    Row {
                        detail: format!("while syncs fail: {during:?}, after: {after:?}"),
                        must: (engine.name == "revenant-log").then_some(stops),
                        numbers: json!({ "during": format!("{during:?}"), "after": format!("{after:?}") }),
                        ..Row::words(
                            "F",
                            engine.name,
                            match (during, after) {
                                (Answer::Acked, _) => "ACKS UNSYNCED",
                                (_, Answer::Acked) => "ACKS AFTER IT",
                                (Answer::Hangs, _) | (_, Answer::Hangs) => "hangs",
                                _ => "stops",
                            },
                        )
                    }
                }
                Err(error) => Row::words("F", engine.name, format!("not run: {error}")),
            };
            table.add(row);
        }
        Ok(())
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Answer {
        Acked,
        Error,
        Died,
        Hangs,
    }

    fn sync_fails_one(engine: Engine, dir: &Path) -> Result<(Answer, Answer), Failure> {
        let mut talk = Talk::start(&["append-when-told", engine.name, &dir.to_string_lossy()])?;
        match talk.hear(PATIENCE) {
            Said::Line(line) if line == "ready" => {}
            _ => return Err("it did not start".into()),
        }
        let mut strace = std::process::Command::new("strace")
            .args(["-f", "-p", &talk.id().to_string(), "-o", "/dev/null"])
            .args(["-e", "trace=fsync,fdatasync,msync,sync_file_range"])
            .args(["-e", "inject=fsync,fdatasync,msync,sync_file_range:error=EIO"])
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        // It says when it is attached.
        let mut said = String::new();
        let stderr = strace.stderr.take().ok_or("no pipe from strace")?;
        std::io::BufReader::new(stderr).read_line(&mut said)?;
        if !said.contains("attached") {
            return Err(format!("syncs cannot be made to fail here: {}", said.trim()).into());
        }
        let mut answer = || {
            talk.say("append");
            match talk.hear(PATIENCE / 4) {
                Said::Line(line) if line == "acked" => Answer::Acked,
                Said::Line(_) => Answer::Error,
                Said::Ended => Answer::Died,
                Said::Nothing => Answer::Hangs,
            }
        };
        let during = answer();
        let id = i32::try_from(strace.id())?;
        let pid = rustix::process::Pid::from_raw(id).ok_or("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        strace.wait()?;
        let after = if during == Answer::Died { Answer::Died } else { answer() };
        Ok((during, after))
    }
}
