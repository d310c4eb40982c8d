//! The floor: what the disk and the machine do of their own, measured next to every run.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A run whose floor moved by more than this is void.
pub const STEADY: f64 = 1.5;
/// How long one measurement of the disk takes.
const LASTS: Duration = Duration::from_millis(400);
const FILE_BYTES: usize = 16 << 20;
/// Bytes written at once while the file is made, as for a segment: the system keeps the file in memory in pieces as
/// large, and small writes to larger ones take longer.
const PIECE_BYTES: usize = 64 << 10;

/// `pwrite` and `fdatasync` of `bytes` bytes, one after the other, on written extents.
pub struct Floor {
    file: File,
    frame: Vec<u8>,
    offset: u64,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Writes, each synced, per second.
    pub per_s: f64,
    /// The middle one, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
}

impl Floor {
    /// Prepares the file.
    pub fn new(dir: &Path, bytes: usize) -> io::Result<Self> {
        let path = dir.join("floor");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        for at in (0..FILE_BYTES).step_by(PIECE_BYTES) {
            file.write_all_at(&[0; PIECE_BYTES], at as u64)?;
        }
        file.sync_all()?;
        Ok(Self { file, frame: vec![1; bytes], offset: 0 })
    }

    /// Measures once.
    pub fn measure(&mut self) -> io::Result<Measured> {
        let (started, mut took) = (Instant::now(), Vec::new());
        while started.elapsed() < LASTS {
            let before = Instant::now();
            self.file.write_all_at(&self.frame, self.offset)?;
            self.file.sync_data()?;
            took.push(before.elapsed().as_secs_f64() * 1e6);
            self.offset =
                (self.offset + self.frame.len() as u64) % (FILE_BYTES - self.frame.len()) as u64;
        }
        let per_s = took.len() as f64 / started.elapsed().as_secs_f64();
        Ok(Measured {
            per_s,
            p50_us: percentile(&mut took, 0.5),
            p99_us: percentile(&mut took, 0.99),
        })
    }
}

/// Whether a run between these two counts.
pub fn steady(before: Measured, after: Measured) -> bool {
    before.per_s.max(after.per_s) / before.per_s.min(after.per_s) <= STEADY
}

/// The value below which `part` of `values` lie.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let at = (values.len() as f64 * part) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// How long it takes to wake a thread that waits, microseconds: the median of many hand-overs and back.
pub fn wake_up() -> f64 {
    const TURNS: usize = 5000;
    let shared = Arc::new((Mutex::new(0usize), Condvar::new()));
    let other = Arc::clone(&shared);
    let answers = std::thread::spawn(move || {
        for turn in 0..TURNS {
            let mut at = other.0.lock().expect("nobody panicked");
            while *at != 2 * turn + 1 {
                at = other.1.wait(at).expect("nobody panicked");
            }
            *at += 1;
            other.1.notify_one();
        }
    });
    let mut took = Vec::with_capacity(TURNS);
    for turn in 0..TURNS {
        let before = Instant::now();
        let mut at = shared.0.lock().expect("nobody panicked");
        *at += 1;
        shared.1.notify_one();
        while *at != 2 * turn + 2 {
            at = shared.1.wait(at).expect("nobody panicked");
        }
        took.push(before.elapsed().as_secs_f64() * 1e6 / 2.0);
    }
    answers.join().expect("it only answers");
    median(&mut took)
}
