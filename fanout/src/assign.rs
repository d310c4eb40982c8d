//! Which SSP owns a view. Pure: who is there and how much they have goes in, a choice comes out.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// How an SSP is chosen for a new view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// Whoever owns the fewest views.
    #[default]
    LeastQueries,
    /// Whoever says it has the least to do; of equals, whoever owns the fewest views.
    LeastLoad,
}

/// A view, and who owns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The SSP that owns it.
    pub ssp_id: String,
    /// The ownership's epoch: higher than that of every earlier owner.
    pub epoch: u64,
    /// What was asked for, as it came, with the view's id in it.
    pub body: serde_json::Map<String, Json>,
    /// When it was assigned, seconds since 1970.
    pub assigned_at: u64,
    /// Whether the owner is known to have taken this epoch of it.
    #[serde(default)]
    pub taken: bool,
}

/// Whether two requests ask the same question.
#[must_use]
pub fn same_query(
    one: &serde_json::Map<String, Json>,
    other: &serde_json::Map<String, Json>,
) -> bool {
    ["surql", "params", "auth_id"].iter().all(|field| one.get(*field) == other.get(*field))
}

/// An SSP that takes views.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its id.
    pub ssp_id: String,
    /// How many views it owns.
    pub views: usize,
    /// What it says it has to do.
    pub load: f64,
}

/// One of `candidates`, which come in the order of their ids; `last` was chosen the last time.
#[must_use]
pub fn choose<'a>(
    balance: Balance,
    candidates: &'a [Candidate],
    last: Option<&str>,
) -> Option<&'a Candidate> {
    match balance {
        Balance::RoundRobin => candidates
            .iter()
            .find(|one| last.is_some_and(|last| one.ssp_id.as_str() > last))
            .or_else(|| candidates.first()),
        Balance::LeastQueries => candidates.iter().min_by_key(|one| one.views),
        Balance::LeastLoad => candidates
            .iter()
            .min_by(|a, b| a.load.total_cmp(&b.load).then_with(|| a.views.cmp(&b.views))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        [("a", 3, 0.1), ("b", 1, 0.9), ("c", 2, 0.1)]
            .into_iter()
            .map(|(id, views, load)| Candidate { ssp_id: id.into(), views, load })
            .collect()
    }

    #[test]
    fn each_policy_chooses_by_its_own_figure() {
        let all = candidates();
        let chosen = |balance, last| choose(balance, &all, last).unwrap().ssp_id.clone();
        assert_eq!(chosen(Balance::LeastQueries, None), "b");
        assert_eq!(chosen(Balance::LeastLoad, None), "c");
        assert_eq!(chosen(Balance::RoundRobin, None), "a");
        assert_eq!(chosen(Balance::RoundRobin, Some("a")), "b");
        assert_eq!(chosen(Balance::RoundRobin, Some("c")), "a");
        assert!(choose(Balance::LeastLoad, &[], None).is_none());
    }
}
