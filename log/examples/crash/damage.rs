//! Rot: flipped bits, cut and zeroed and exchanged files, torn tails of every length. A log either gives all
//! it acknowledged, or names the damage and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Dice, Disk, Sim};
use revenant_log::verify::verify_on;
use revenant_log::{Error, Seq, Witnesses};

use crate::cuts::{judge, reopen};
use crate::model::{Model, Verdict, small, transaction};
use crate::tally::{Tally, names_damage};

const HEADER: usize = 4096;
const SECTOR: usize = 512;
/// Bursts and pairs of flips in a round.
const BURSTS: u64 = 50_000;

/// A log on a disk, and what it acknowledged.
struct Held {
    disk: Disk,
    model: Model,
}

fn segment(number: u64) -> PathBuf {
    format!("/log/seg/{number:010}.log").into()
}

/// A log of transactions of `(events, bytes)`; `end` is the last thing done to it.
fn log_of(shapes: &[(u64, usize)], end: impl FnOnce(StepLog)) -> Held {
    let (sim, mut model) = (Sim::default(), Model::default());
    let storage = Arc::new(sim.clone());
    let mut log = StepLog::open(storage, small("/log"), &Witnesses::none()).unwrap().0;
    for (number, &(events, bytes)) in (1..).zip(shapes) {
        let transactions = [transaction(number, events, bytes)];
        model.submit(&transactions);
        log.append(&transactions).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    end(log);
    Held { disk: sim.disk(), model }
}

fn close(log: StepLog) {
    log.close().unwrap();
}

/// One segment of 64 KiB, all but full of frames of many lengths, closed.
fn full() -> Held {
    let cycle = [(1, 0), (2, 90), (3, 700), (4, 1500)];
    let shapes: Vec<_> = cycle.into_iter().cycle().take(26).collect();
    log_of(&shapes, close)
}

/// A sealed segment of some frames, an active one and a spare, closed.
fn sealed() -> Held {
    log_of(&[(1, 20), (2, 700), (3, 1500), (1, 2000), (1, 54_000), (2, 30)], close)
}

/// The same, its sealed segment compressed.
fn compressed() -> Held {
    let shapes = [(1, 20), (2, 700), (3, 1500), (1, 2000), (1, 54_000), (2, 30)];
    log_of(&shapes, |mut log| {
        assert_eq!(log.compress(1).unwrap(), 1);
        close(log);
    })
}

/// What damage led to.
enum Outcome {
    Refused,
    Found,
    Harmless,
}

/// Opens a damaged log: all that it gives must be right, and what it does not give it must name.
fn look(disk: Disk, model: &Model, witnesses: &Witnesses) -> Result<(Outcome, usize), Verdict> {
    let sim = Sim::boot(disk);
    let log = match StepLog::open(Arc::new(sim.clone()), small("/log"), witnesses) {
        Err(error) if names_damage(&error) || matches!(error, Error::Lost { .. }) => {
            let touched = sim.ops() > 0;
            let wrong = || Verdict::Wrong(format!("refused, but changed something: {error}"));
            return if touched { Err(wrong()) } else { Ok((Outcome::Refused, 0)) };
        }
        other => other.map_err(Verdict::Refused)?.0,
    };
    match judge(&log, model) {
        Ok(held) => Ok((Outcome::Harmless, held)),
        Err(Verdict::Refused(error)) if names_damage(&error) => Ok((Outcome::Found, 0)),
        Err(verdict) => Err(verdict),
    }
}

fn flip(tally: &mut Tally, held: &Held, path: &Path, bit: usize) {
    let mut disk = held.disk.clone();
    disk.flip(path, bit / 8, 1 << (bit % 8));
    tally.flips += 1;
    let result = look(disk, &held.model, &Witnesses::none()).map(|(outcome, _)| match outcome {
        Outcome::Refused => tally.flips_refused += 1,
        Outcome::Found => tally.flips_found += 1,
        Outcome::Harmless => tally.flips_harmless += 1,
    });
    tally.judge(|| format!("bit {} of byte {} of {}", bit % 8, bit / 8, path.display()), result);
}

/// Every place of some logs, once.
pub(crate) fn every_place(tally: &mut Tally, started: Instant) {
    let (one, path) = (full(), segment(1));
    let bytes = one.disk.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    assert!(bytes.len() == 64 << 10 && used > 60_000, "the segment is used to {used}");
    tally.share("every bit of a segment of 64 KiB", started, 64 << 10, |byte, tally| {
        for bit in 0..8 {
            flip(tally, &one, &path, usize::try_from(byte).unwrap() * 8 + bit);
        }
    });
    every_bit_of_the_rest(tally, started);
    every_bit_of_a_compressed_one(tally, started);
    every_length(tally, started, &one, &[1]);
    every_length(tally, started, &sealed(), &[1, 2, 3]);
    every_length(tally, started, &compressed(), &[1]);
    every_sector(tally, started, &one, &[1]);
    every_sector(tally, started, &sealed(), &[1, 2, 3]);
    every_sector(tally, started, &compressed(), &[1]);
    exchanged(tally, started);
    torn(tally, started);
    kill_and_flip(tally, started);
}

/// A sealed segment with its footer, which opening does not read but verifying does; the first pages of the
/// active one behind it, and of the spare those that are used and a sector more.
fn every_bit_of_the_rest(tally: &mut Tally, started: Instant) {
    let held = sealed();
    for number in 1..=3 {
        let path = segment(number);
        let bytes = held.disk.bytes(&path).unwrap();
        let used = bytes.iter().rposition(|&byte| byte != 0).unwrap().max(HEADER);
        let is_sealed = bytes.len() < 64 << 10;
        let end = if is_sealed { bytes.len() } else { (used + SECTOR).min(3 * HEADER) };
        assert_eq!(is_sealed, number == 1, "segment {number}");
        let name = format!("every bit of segment {number} of three");
        tally.share(&name, started, end as u64, |byte, tally| {
            for bit in 0..8 {
                let bit = usize::try_from(byte).unwrap() * 8 + bit;
                flip(tally, &held, &path, bit);
                if is_sealed {
                    verify_flip(tally, &held, &path, bit);
                }
            }
        });
    }
}

fn every_bit_of_a_compressed_one(tally: &mut Tally, started: Instant) {
    let (held, path) = (compressed(), segment(1));
    let bytes = held.disk.bytes(&path).unwrap().len();
    tally.share("every bit of a compressed segment", started, bytes as u64, |byte, tally| {
        for bit in 0..8 {
            let bit = usize::try_from(byte).unwrap() * 8 + bit;
            flip(tally, &held, &path, bit);
            verify_flip(tally, &held, &path, bit);
        }
    });
}

/// Verifying names the file of every flip of a sealed segment.
fn verify_flip(tally: &mut Tally, held: &Held, path: &Path, bit: usize) {
    let mut disk = held.disk.clone();
    disk.flip(path, bit / 8, 1 << (bit % 8));
    let report = verify_on(&Sim::boot(disk), Path::new("/log"), &[]).unwrap();
    if !report.findings.iter().any(|finding| finding.path == path) {
        tally.unnoticed(format!("bit {bit} of {} by verify", path.display()));
    }
}

type Judged = fn(&mut Tally, &Held, Disk, &dyn Fn() -> String);

fn damaged(tally: &mut Tally, held: &Held, disk: Disk, what: &dyn Fn() -> String) {
    tally.files += 1;
    let result = look(disk, &held.model, &Witnesses::none());
    tally.judge(what, result);
}

/// As [`damaged`], where everything behind a place may be gone, and with it every frame that knew of it: that
/// is told by a witness from outside, or by nobody.
fn erased(tally: &mut Tally, held: &Held, disk: Disk, what: &dyn Fn() -> String) {
    tally.files += 1;
    let result = look(disk.clone(), &held.model, &Witnesses::none());
    if !matches!(result, Err(Verdict::Lost(_))) {
        return tally.judge(what, result);
    }
    tally.erased += 1;
    let witness = Witnesses::none().with("receipt", Seq(held.model.acked as u64));
    match look(disk, &held.model, &witness) {
        Ok((Outcome::Refused, _)) => {}
        _ => tally.unnoticed(what()),
    }
}

fn every_length(tally: &mut Tally, started: Instant, held: &Held, numbers: &[u64]) {
    for &number in numbers {
        let path = segment(number);
        let bytes = held.disk.bytes(&path).unwrap();
        let name = format!("segment {number} of {} cut at every byte", numbers.len());
        tally.share(&name, started, bytes.len() as u64, |len, tally| {
            let mut disk = held.disk.clone();
            let len = usize::try_from(len).unwrap();
            disk.cut(&path, len);
            let what = || format!("{} cut at {len}", path.display());
            // A header and nothing else is a spare that a crash left unfinished.
            let judged: Judged = if len == HEADER { erased } else { damaged };
            judged(tally, held, disk, &what);
        });
    }
}

/// Each sector alone, and all from each sector on, of zeros, ones, noise, an older and another log's frames.
fn every_sector(tally: &mut Tally, started: Instant, held: &Held, numbers: &[u64]) {
    let foreign = full();
    let other = foreign.disk.bytes(&segment(1)).unwrap();
    for &number in numbers {
        let path = segment(number);
        let bytes = held.disk.bytes(&path).unwrap();
        let sectors = bytes.len().div_ceil(SECTOR);
        let name = format!("sectors of segment {number} of {} overwritten", numbers.len());
        tally.share(&name, started, sectors as u64, |sector, tally| {
            let start = usize::try_from(sector).unwrap() * SECTOR;
            for end in [(start + SECTOR).min(bytes.len()), bytes.len()] {
                for fill in 0..5 {
                    let mut dice = Dice::new(sector);
                    let mut new = bytes.to_vec();
                    for (at, byte) in new.iter_mut().enumerate().take(end).skip(start) {
                        *byte = match fill {
                            0 => 0,
                            1 => 0xff,
                            2 => dice.roll().to_le_bytes()[0],
                            3 => bytes[HEADER + (at - start) % (bytes.len() - HEADER)],
                            _ => other[at],
                        };
                    }
                    let mut disk = held.disk.clone();
                    disk.put(&path, Some(new));
                    let what =
                        || format!("{} from {start} to {end} filled with {fill}", path.display());
                    let judged: Judged = if end == bytes.len() { erased } else { damaged };
                    judged(tally, held, disk, &what);
                }
            }
        });
    }
}

/// The bytes that a segment gets instead of its own.
type Change = (u64, Option<Vec<u8>>);

/// Segments that are missing, exchanged, doubled, from another log or from an older copy.
fn exchanged(tally: &mut Tally, started: Instant) {
    let (held, foreign) = (sealed(), sealed());
    let bytes = |held: &Held, number| held.disk.bytes(&segment(number));
    let mut cases: Vec<(String, Vec<Change>)> = Vec::new();
    for to in 1..=5 {
        cases.push((format!("{to} missing"), vec![(to, None)]));
        for from in 1..=3 {
            cases.push((format!("{from} also as {to}"), vec![(to, bytes(&held, from))]));
            cases
                .push((format!("another log's {from} as {to}"), vec![(to, bytes(&foreign, from))]));
            cases.push((
                format!("{from} and {to} exchanged"),
                vec![(to, bytes(&held, from)), (from, bytes(&held, to))],
            ));
            cases.push((format!("{from} and {to} missing"), vec![(to, None), (from, None)]));
        }
    }
    tally.share("segments missing, doubled, exchanged", started, cases.len() as u64, |n, tally| {
        let (what, changes) = &cases[usize::try_from(n).unwrap()];
        let mut disk = held.disk.clone();
        for (number, bytes) in changes {
            disk.put(&segment(*number), bytes.clone());
        }
        damaged(tally, &held, disk, &|| what.clone());
    });
}

/// A log killed while it wrote a group, torn at every byte; what stands behind is zeros, ones, frames of
/// before, or another log's. It goes on, and is torn there again.
fn torn(tally: &mut Tally, started: Instant) {
    let path = segment(1);
    let group = (20, 2, 200);
    let before = log_of(&[(1, 30), (2, 400), (1, 0)], drop);
    let sim = Sim::boot(before.disk.clone());
    let storage = Arc::new(sim.clone());
    let mut log = StepLog::open(storage, small("/log"), &Witnesses::none()).unwrap().0;
    let opened = sim.disk();
    let end = |disk: &Disk| disk.bytes(&path).unwrap().iter().rposition(|&b| b != 0).unwrap() + 1;
    let from = end(&opened).next_multiple_of(8);
    log.append(&[transaction(group.0, group.1, group.2)]).unwrap();
    let written = sim.disk();
    let until = end(&written);
    let foreign = full();
    let tear = |disk: &Disk, at: usize, fill: u64| {
        let whole = written.bytes(&path).unwrap();
        let other = foreign.disk.bytes(&path).unwrap();
        let mut bytes = disk.bytes(&path).unwrap();
        bytes[from..at].copy_from_slice(&whole[from..at]);
        for (place, byte) in bytes.iter_mut().enumerate().take(until + 2 * SECTOR).skip(at) {
            *byte = match fill {
                0 => 0,
                1 => 0xff,
                2 => whole[HEADER + (place - at)],
                _ => other[place],
            };
        }
        let mut torn = disk.clone();
        torn.put(&path, Some(bytes));
        torn
    };
    tally.share("a group torn at every byte", started, (until - from + 1) as u64, |n, tally| {
        let at = from + usize::try_from(n).unwrap();
        for fill in 0..4 {
            let mut model = before.model.clone();
            model.submit(&[transaction(group.0, group.1, group.2)]);
            let what = || format!("torn at {at}, then filled with {fill}");
            tally.cuts += 1;
            let result = again_and_again(tear(&opened, at, fill), model, tally);
            tally.judge(what, result);
        }
    });
}

/// Opens, appends, kills, three times.
fn again_and_again(mut disk: Disk, mut model: Model, tally: &mut Tally) -> Result<(), Verdict> {
    for round in 0..3 {
        let (recovered, held) = reopen(disk, &model)?;
        model.records.truncate(held);
        model.acked = held;
        let sim = Sim::boot(recovered).recording();
        let storage = Arc::new(sim.clone());
        let (mut log, _) =
            StepLog::open(storage, small("/log"), &Witnesses::none()).map_err(Verdict::Refused)?;
        let more = [transaction(30 + round, 1, 100)];
        model.submit(&more);
        log.append(&more).map_err(Verdict::Refused)?;
        // Right before the sync of that group.
        let history = sim.history();
        disk = history[history.len() - 1].after_power_cut(&mut Dice::new(round));
        tally.cuts += 1;
    }
    reopen(disk, &model).map(|_| ())
}

/// A log that was killed right after an acknowledgement, before a mark or another group: a flip in this group
/// cannot be told from a torn one, but reaches no further, and a witness tells.
fn kill_and_flip(tally: &mut Tally, started: Instant) {
    let path = segment(1);
    let last = (2, 250);
    let before = log_of(&[(1, 20), (2, 700), (1, 300)], drop);
    let held = log_of(&[(1, 20), (2, 700), (1, 300), last], drop);
    let used = |held: &Held| {
        let bytes = held.disk.bytes(&path).unwrap();
        bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1
    };
    let (group, end) = (used(&before), used(&held));
    let acked = Seq(held.model.acked as u64);
    tally.share("kill and flip", started, (end + SECTOR) as u64, |byte, tally| {
        let byte = usize::try_from(byte).unwrap();
        for bit in 0..8 {
            let mut disk = held.disk.clone();
            disk.flip(&path, byte, 1 << bit);
            tally.kill_flips += 1;
            let what =
                || format!("kill, then bit {bit} of byte {byte}, the group is {group}..{end}");
            let mut allowed = held.model.clone();
            if byte >= group {
                allowed.acked = before.model.acked;
            }
            let result = look(disk.clone(), &allowed, &Witnesses::none());
            if let Ok((Outcome::Harmless, found)) = result
                && found < held.model.acked
            {
                tally.kill_flips_in_last_group += 1;
                let witness = Witnesses::none().with("receipt", acked);
                match look(disk, &allowed, &witness) {
                    Ok((Outcome::Refused, _)) => {}
                    _ => tally.unnoticed(what()),
                }
            }
            tally.judge(what, result);
        }
    });
}

/// Bursts of up to 32 bits and pairs of single bits, by seed.
pub(crate) fn seeded(tally: &mut Tally, seed: u64, started: Instant) {
    let (held, path) = (full(), segment(1));
    let bits = 8 * (64 << 10);
    tally.share(&format!("bursts of seed {seed}"), started, BURSTS, |number, tally| {
        let seed = seed.wrapping_mul(BURSTS).wrapping_add(number);
        let mut dice = Dice::new(seed);
        let mut disk = held.disk.clone();
        let mut flip = |bit: u64| {
            disk.flip(&path, usize::try_from(bit / 8).unwrap(), 1 << (bit % 8));
        };
        let first = dice.below(bits - 32);
        flip(first);
        if dice.coin() {
            let len = 1 + dice.below(31);
            (1..len).filter(|_| dice.coin()).for_each(|at| flip(first + at));
            flip(first + len);
        } else {
            flip((first + 1 + dice.below(bits - 1)) % bits);
        }
        tally.bursts += 1;
        let result = look(disk, &held.model, &Witnesses::none());
        tally.judge(|| format!("burst {seed}"), result);
    });
}
