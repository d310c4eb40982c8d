//! What was tried, and what went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use revenant_log::Error;

use crate::model::Verdict;

/// How many failures are told; the rest is counted.
const TOLD: usize = 20;

/// Counts; addable.
#[derive(Default)]
pub(crate) struct Tally {
    /// Power cuts and kills, each followed by an opening.
    pub(crate) cuts: u64,
    /// Of these, the ones of lives whose every loss was tried.
    pub(crate) exhaustive: u64,
    /// Of these, the ones inside a recovery.
    pub(crate) nested: u64,
    /// Single flipped bits.
    pub(crate) flips: u64,
    /// Of these, refused at opening; found when read or verified; in bytes that nothing depends on.
    pub(crate) flips_refused: u64,
    pub(crate) flips_found: u64,
    pub(crate) flips_harmless: u64,
    /// Several bits at once: bursts and pairs.
    pub(crate) bursts: u64,
    /// Files cut, zeroed, filled, lost, swapped, doubled or from elsewhere.
    pub(crate) files: u64,
    /// Of these, the ones that erased every frame which knew of what is gone: told by a witness from outside.
    pub(crate) erased: u64,
    /// Flips after a kill, in a log without a mark: two faults at once.
    pub(crate) kill_flips: u64,
    /// Of these, the ones that look like a torn group. None reaches beyond the last group.
    pub(crate) kill_flips_in_last_group: u64,
    /// Calls that failed.
    pub(crate) errors: u64,
    lost: u64,
    invented: u64,
    reordered: u64,
    wrong: u64,
    refused: u64,
    panicked: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Counts what `what` led to.
    pub(crate) fn judge<T>(&mut self, what: impl Fn() -> String, result: Result<T, Verdict>) {
        let Err(verdict) = result else { return };
        match verdict {
            Verdict::Lost(_) => self.lost += 1,
            Verdict::Invented(_) => self.invented += 1,
            Verdict::Reordered(_) => self.reordered += 1,
            Verdict::Wrong(_) => self.wrong += 1,
            Verdict::Refused(_) => self.refused += 1,
        }
        if self.failures.len() < TOLD {
            self.failures.push(format!("{}: {verdict}", what()));
        }
    }

    /// Damage that a log did not notice.
    pub(crate) fn unnoticed(&mut self, what: String) {
        self.judge(|| what.clone(), Err::<(), _>(Verdict::Wrong("unnoticed".into())));
    }

    pub(crate) fn is_clean(&self) -> bool {
        let Self { lost, invented, reordered, wrong, refused, panicked, .. } = self;
        lost + invented + reordered + wrong + refused + panicked == 0
    }

    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.exhaustive += other.exhaustive;
        self.nested += other.nested;
        self.flips += other.flips;
        self.flips_refused += other.flips_refused;
        self.flips_found += other.flips_found;
        self.flips_harmless += other.flips_harmless;
        self.bursts += other.bursts;
        self.files += other.files;
        self.erased += other.erased;
        self.kill_flips += other.kill_flips;
        self.kill_flips_in_last_group += other.kill_flips_in_last_group;
        self.errors += other.errors;
        self.lost += other.lost;
        self.invented += other.invented;
        self.reordered += other.reordered;
        self.wrong += other.wrong;
        self.refused += other.refused;
        self.panicked += other.panicked;
        let room = TOLD.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// Does `job` for every number below `count`, on all cores, and adds what they counted. A panic is
    /// counted, and told with the number.
    pub(crate) fn share(
        &mut self,
        name: &str,
        started: Instant,
        count: u64,
        job: impl Fn(u64, &mut Self) + Sync,
    ) {
        let (next, total) = (AtomicU64::new(0), Mutex::new(Self::default()));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut own = Self::default();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        if catch_unwind(AssertUnwindSafe(|| job(number, &mut own))).is_err() {
                            own.panicked += 1;
                            own.failures.push(format!("{name} {number}: panicked"));
                        }
                    }
                    total.lock().unwrap().add(own);
                });
            }
        });
        let total = total.into_inner().unwrap();
        for failure in &total.failures {
            println!("FAILED {name}: {failure}");
        }
        self.add(total);
        println!(
            "{:>4} s  {name:<42} {:>9} cuts {:>9} flips {:>6} files {:>7} errors so far",
            started.elapsed().as_secs(),
            self.cuts,
            self.flips + self.bursts + self.kill_flips,
            self.files,
            self.errors
        );
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "cuts": self.cuts, "cuts_exhaustive": self.exhaustive, "cuts_in_recovery": self.nested,
            "flips": self.flips, "flips_refused": self.flips_refused,
            "flips_found_in_use": self.flips_found, "flips_harmless": self.flips_harmless,
            "bursts": self.bursts, "files_damaged": self.files,
            "erased_with_every_inner_witness": self.erased,
            "kill_and_flip": self.kill_flips, "kill_and_flip_in_last_group": self.kill_flips_in_last_group,
            "errors_injected": self.errors,
            "lost": self.lost, "invented": self.invented, "reordered": self.reordered,
            "wrong": self.wrong, "refused_though_whole": self.refused, "panicked": self.panicked,
            "failures": self.failures,
        })
    }
}

/// A refusal of a damaged log is right if it names the damage.
pub(crate) fn names_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Unsupported { .. })
}
