//! Goals for a quiet machine: absolute figures, printed beside what decides.

use serde_json::{Value as Json, json};

/// A figure of one run, and what is wanted of it.
struct Goal {
    workload: &'static str,
    views: u64,
    field: &'static str,
    what: &'static str,
    wanted: f64,
    /// More is better.
    least: bool,
}

const fn goal(
    workload: &'static str,
    views: u64,
    (field, what): (&'static str, &'static str),
    wanted: f64,
    least: bool,
) -> Goal {
    Goal { workload, views, field, what, wanted, least }
}

const RATE: (&str, &str) = ("changes_per_s", "changes/s");

const GOALS: [Goal; 7] = [
    goal("W1 equal", 1_000_000, RATE, 300_000.0, true),
    goal("W1 equal", 1_000_000, ("p99_us", "us, the 99th percentile"), 20.0, false),
    goal("W2 window", 100_000, RATE, 150_000.0, true),
    goal("W3 nested", 10_000, RATE, 20_000.0, true),
    goal("W5 hot row", 10_000, ("edges_per_s", "edges/s"), 1_000_000.0, true),
    goal("W7 churn", 1_000_000, ("register_p99_us", "us to register"), 20.0, false),
    goal("W7 churn", 1_000_000, ("drop_p99_us", "us to drop"), 20.0, false),
];

/// Prints the goals whose runs there were, and returns them.
pub(crate) fn judged(runs: &[&Json]) -> Vec<Json> {
    let judged = |goal: &Goal| {
        let of = |run: &&&Json| run["workload"] == goal.workload && run["views"] == goal.views;
        let figure = runs.iter().find(of)?[goal.field].as_f64()?;
        let met = if goal.least { figure >= goal.wanted } else { figure <= goal.wanted };
        let Goal { workload, views, what, wanted, .. } = goal;
        let word = if met { "met" } else { "not met" };
        println!("goal {workload} at {views} views: {figure:.1} {what}, {wanted} wanted: {word}");
        Some(json!({
            "workload": workload, "views": views, "what": what, "figure": figure, "wanted": wanted,
            "met": met,
        }))
    };
    GOALS.iter().filter_map(judged).collect()
}
