//! The one table and its line of JSON.

use serde_json::{Value, json};

use crate::tried;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub lane: String,
    /// Of which engine.
    pub engine: String,
    /// The figure, in words.
    pub figure: String,
    /// More of it, in words.
    pub detail: String,
    /// How many times better ours is than this engine, or than what `wanted` is about.
    pub ratio: Option<f64>,
    /// What the ratio must reach.
    pub wanted: Option<f64>,
    /// What must hold besides, if anything.
    pub must: Option<bool>,
    /// Its numbers.
    pub numbers: Value,
}

impl Row {
    /// A line with nothing but words.
    pub fn words(lane: &str, engine: &str, figure: impl Into<String>) -> Self {
        Self {
            lane: lane.into(),
            engine: engine.into(),
            figure: figure.into(),
            detail: String::new(),
            ratio: None,
            wanted: None,
            must: None,
            numbers: Value::Null,
        }
    }

    fn met(&self) -> Option<bool> {
        // What is wanted and could not be measured is not met.
        let wanted = self.wanted.map(|wanted| self.ratio.is_some_and(|ratio| ratio >= wanted));
        match (wanted, self.must) {
            (Some(wanted), must) => Some(wanted && must != Some(false)),
            (None, must) => must,
        }
    }

    /// Whether it fails the run: neither met nor found to be out of reach.
    fn missed(&self) -> bool {
        self.met() == Some(false) && !tried::out_of_reach(self)
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Prints a line and keeps it.
    pub fn add(&mut self, row: Row) {
        if self.rows.is_empty() {
            println!(
                "{:<12} {:<22} {:<26} {:>9} {:>9}  detail",
                "lane", "engine", "figure", "ours/it", "wanted"
            );
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}x"));
        let met = match row.met() {
            Some(false) if row.missed() => "  MISSED",
            Some(false) => "  NOT REACHED by what was tried, see below",
            _ => "",
        };
        println!(
            "{:<12} {:<22} {:<26} {:>9} {:>9}  {}{met}",
            row.lane,
            row.engine,
            row.figure,
            number(row.ratio),
            number(row.wanted),
            row.detail
        );
        self.rows.push(row);
    }

    /// The line of JSON, and whether every ratio was met that was not found to be out of reach.
    pub fn finish(&self, lanes: &str) -> (Value, bool) {
        let row = |row: &Row| {
            json!({ "lane": row.lane, "engine": row.engine, "figure": row.figure, "ratio": row.ratio,
                "wanted": row.wanted, "met": row.met(), "numbers": row.numbers })
        };
        let names = |rows: Vec<&Row>| -> Vec<_> {
            rows.iter().map(|row| format!("{} {}", row.lane, row.engine)).collect()
        };
        let failed = self.rows.iter().filter(|row| row.met() == Some(false));
        let (missed, out_of_reach): (Vec<_>, Vec<_>) = failed.partition(|row| row.missed());
        let pass = missed.is_empty();
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let line = json!({ "show": "bench-log-peers", "pass": pass, "lanes": lanes,
            "ratios": self.rows.iter().filter(|row| row.wanted.is_some()).count(),
            "missed": names(missed), "out_of_reach": names(out_of_reach), "rows": rows });
        (line, pass)
    }
}
