//! How long something took, counted by buckets, so that any number of observations takes the same space.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Upper bounds of the buckets, microseconds; the last bucket has none. From the fastest disks with power-loss
/// protection to those that stall.
pub const BOUNDS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// Observations by bucket.
#[derive(Default)]
pub(crate) struct Latency {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    pub(crate) fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|&bound| bound < micros);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> LatencyStats {
        LatencyStats {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatencyStats {
    /// Observations in each bucket of [`BOUNDS_US`], and above the last bound.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All of them together, microseconds.
    pub sum_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_counted_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let latency = Latency::default();
        for micros in [0, 50, 51, 1_000_000, 1_000_001] {
            latency.note(Duration::from_micros(micros));
        }
        let stats = latency.stats();
        assert_eq!((stats.counts[0], stats.counts[1]), (2, 1));
        assert_eq!((stats.counts[12], stats.counts[13], stats.sum_us), (1, 1, 2_000_102));
    }
}
