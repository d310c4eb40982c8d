//! `Seq`: the number of an event in the log. It knows nothing of files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An event's number in the log.
///
/// - The first event is 1; 0 means "before the first".
/// - Numbers are contiguous and never reused, not even after a trim.
/// - As a bound (`*_seq`) it is inclusive: "up to and with".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The first event.
    pub const FIRST: Self = Self(1);

    /// The seq right after this one.
    ///
    /// # Panics
    /// After `u64::MAX` events, which a log at a million events a second reaches in 584,000 years.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a log ends before 2^64 events"))
    }

    /// The seq right before this one; the one before 0 is 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
