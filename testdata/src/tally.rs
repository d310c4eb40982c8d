//! `Tally`: per construct of the language, how many random queries had it, how many of them were maintained,
//! and how much of them was compared. Both judges of views fill it, the naive evaluation and SurrealDB.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::json;

use crate::queries::CONSTRUCTS;

/// Fewest queries with a construct for a verdict.
const ASKED_LEAST: usize = 500;

/// Least share of them that has to be maintained, in percent.
const MAINTAINED_LEAST: usize = 90;

/// Counts by construct.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    constructs: BTreeMap<&'static str, Counts>,
    /// Results that were not what they had to be.
    pub mismatches: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    asked: usize,
    maintained: usize,
    batches: usize,
    rows: usize,
}

/// What became of one query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The engine kept it to the end.
    pub maintained: bool,
    /// Batches after which its rows were compared.
    pub batches: usize,
    /// Rows that were compared.
    pub rows: usize,
}

impl Tally {
    /// Counts a query.
    pub fn add(&mut self, constructs: &BTreeSet<&'static str>, outcome: Outcome) {
        for construct in constructs {
            let counts = self.constructs.entry(construct).or_default();
            counts.asked += 1;
            counts.maintained += usize::from(outcome.maintained);
            counts.batches += outcome.batches;
            counts.rows += outcome.rows;
        }
    }

    /// Whether every construct was asked often enough, was mostly maintained, and nothing differed.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.mismatches == 0
            && CONSTRUCTS.iter().all(|construct| self.counts(construct).is_enough())
    }

    /// One line of JSON under the name `show`.
    #[must_use]
    pub fn json(&self, show: &str) -> String {
        let least = |count: fn(&Counts) -> usize| {
            CONSTRUCTS.iter().map(|construct| count(&self.counts(construct))).min()
        };
        json!({
            "show": show,
            "pass": self.passes(),
            "constructs": CONSTRUCTS.len(),
            "asked_least": least(|counts| counts.asked),
            "maintained_percent_least": least(Counts::percent),
            "batches": self.constructs.values().map(|counts| counts.batches).sum::<usize>(),
            "rows": self.constructs.values().map(|counts| counts.rows).sum::<usize>(),
            "mismatches": self.mismatches,
        })
        .to_string()
    }

    fn counts(&self, construct: &str) -> Counts {
        self.constructs.get(construct).copied().unwrap_or_default()
    }
}

impl Counts {
    fn percent(&self) -> usize {
        (self.maintained * 100).checked_div(self.asked).unwrap_or(0)
    }

    fn is_enough(&self) -> bool {
        self.asked >= ASKED_LEAST && self.percent() >= MAINTAINED_LEAST
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, kept) = ("queries", "maintained");
        writeln!(f, "{:26} {asked:>8} {kept:>11} {:>9} {:>10}", "construct", "batches", "rows")?;
        for construct in CONSTRUCTS {
            let counts = self.counts(construct);
            let Counts { asked, batches, rows, .. } = counts;
            let percent = counts.percent();
            writeln!(f, "{construct:26} {asked:>8} {percent:>10}% {batches:>9} {rows:>10}")?;
        }
        writeln!(f, "{} results differed", self.mismatches)
    }
}
