//! W1 on differential-dataflow, the way that scales there: one join of all views' parameters with the rows,
//! both arranged by owner. It gets what the engine has to look up ready-made: columns that are asked for,
//! old rows to retract. What comes out is as with the engine: view, row, version, in or out.
//!
//! `revenant-peers VIEWS ROWS` says in a line of JSON that it is ready. From then on every line of its input is
//! a number of changes to make, which it answers with a line of JSON, until there is no line any more.

#[allow(dead_code, reason = "deletes at the top are of W2")]
#[path = "../../views/churn.rs"]
mod churn;
#[path = "../../views/random.rs"]
mod random;

use std::cell::Cell;
use std::collections::HashMap;
use std::io::BufRead as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use differential_dataflow::input::Input as _;

use churn::{Change, Churn};

/// A row as the join sees it: its owner, then its key and version.
type Row = (String, (String, u64));

/// The seed of W1.
const SEED: u64 = 7;

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [views, rows] = numbers[..] else {
        eprintln!("usage: revenant-peers VIEWS ROWS");
        std::process::exit(2);
    };
    timely::execute_directly(move |worker| {
        let pairs = Rc::new(Cell::new(0i64));
        let seen = pairs.clone();
        let (mut asked, mut stored, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (asked, owners) = scope.new_collection::<(String, u64), isize>();
            let (stored, rows) = scope.new_collection::<Row, isize>();
            let (probe, _) = owners
                .join_map(rows, |_, view, row| (*view, row.clone()))
                .inspect(move |(_, _, count)| seen.set(seen.get() + *count as i64))
                .probe();
            (asked, stored, probe)
        });
        let mut time = 0;
        let mut churn = Churn::new(SEED, views, 1 << 40);
        let mut table = Table::default();
        (0..views).for_each(|view| asked.insert((owner(view), view)));
        for _ in 0..rows {
            for (row, count) in table.apply(churn.create()) {
                stored.update(row, count);
            }
        }
        let mut step = |updates: Vec<(Row, isize)>| {
            let start = Instant::now();
            for (row, count) in updates {
                stored.update(row, count);
            }
            time += 1;
            asked.advance_to(time);
            stored.advance_to(time);
            asked.flush();
            stored.flush();
            worker.step_while(|| probe.less_than(&time));
            start.elapsed()
        };
        // The first step takes in what was there before.
        step(Vec::new());
        println!("{{\"pairs\": {}}}", pairs.get());
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(changes) = line.parse::<u32>() else { break };
            let took: Duration =
                (0..changes).map(|_| step(table.apply(churn.change(rows as usize)))).sum();
            let micros = took.as_secs_f64() * 1e6 / f64::from(changes);
            println!("{{\"micros_per_change\": {micros:.3}, \"pairs\": {}}}", pairs.get());
        }
    });
}

/// The rows as they are, to retract what a change replaces.
#[derive(Default)]
struct Table(HashMap<u64, Row>);

impl Table {
    fn apply(&mut self, Change { key, row }: Change) -> Vec<(Row, isize)> {
        let old = self.0.remove(&key);
        let version = old.as_ref().map_or(1, |(_, (_, version))| version + 1);
        let new = row.map(|row| (owner(row.owner), (format!("k{key:012}"), version)));
        if let Some(new) = &new {
            self.0.insert(key, new.clone());
        }
        old.map(|row| (row, -1)).into_iter().chain(new.map(|row| (row, 1))).collect()
    }
}

fn owner(number: u64) -> String {
    format!("u{number}")
}
