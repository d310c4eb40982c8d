//! A case: views and batches in the order in which they came, as text that can be kept, and made smaller while
//! it still fails.
//!
//! ```text
//! params { v: 1 }
//! open v1 SELECT * FROM a WHERE n = $v
//! put a:1 = { n: 1 }
//! delete b:2
//! commit
//! close v1
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use revenant_log::value::Object;
use revenant_log::{RecordId, Value};
use revenant_testdata::queries::{Asked, Change, Generator, Rows};

use crate::world::World;

/// What happens, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Case(pub(crate) Vec<Step>);

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Open {
        view: String,
        surql: String,
        params: Object,
    },
    Close(String),
    /// One batch of whole transactions.
    Batch(Vec<Change>),
}

/// A random case, and the queries it asks.
pub(crate) struct Played {
    pub(crate) case: Case,
    pub(crate) asked: BTreeMap<String, Asked>,
}

impl Played {
    /// Views that come and go while rows change, for so many batches.
    pub(crate) fn random(seed: u64, batches: usize) -> Self {
        let keys = [3, 6, 12, 30][usize::try_from(seed % 4).unwrap_or(0)];
        let mut generator = Generator::new(seed, keys);
        let (mut steps, mut asked, mut closed) = (Vec::new(), BTreeMap::new(), 0);
        let mut rows = Rows::new();
        for _ in 0..3 {
            steps.push(Step::Batch(generated(&mut generator, &mut rows)));
        }
        for batch in 0..batches {
            if batch % 4 == 0 {
                let (view, query) = (format!("v{}", asked.len() + 1), generator.query());
                steps.push(Step::open(view.clone(), &query));
                asked.insert(view, query);
            }
            if batch % 23 == 22 {
                closed += 1;
                steps.push(Step::Close(format!("v{closed}")));
            }
            let transactions = (0..1 + batch % 3).map(|_| generated(&mut generator, &mut rows));
            steps.push(Step::Batch(transactions.flatten().collect()));
        }
        Self { case: Case(steps), asked }
    }
}

/// A transaction, which `rows` take in.
pub(crate) fn generated(generator: &mut Generator, rows: &mut Rows) -> Vec<Change> {
    let changes = generator.transaction(rows);
    for change in &changes {
        match change {
            Change::Put(id, row) => drop(rows.insert(id.clone(), row.clone())),
            Change::Delete(id) => drop(rows.remove(id)),
        }
    }
    changes
}

impl Step {
    pub(crate) fn open(view: String, asked: &Asked) -> Self {
        Self::Open { view, surql: asked.surql.clone(), params: asked.params.clone() }
    }

    /// Does it, and compares every view.
    ///
    /// # Panics
    /// A view is not what it has to be.
    pub(crate) fn play(&self, world: &mut World) {
        match self {
            Self::Open { view, surql, params } => world.open_with(view, surql, params),
            Self::Close(view) => world.close(view),
            Self::Batch(changes) => world.apply(changes.clone()),
        }
        world.check("");
    }
}

impl Case {
    /// Plays all of it.
    ///
    /// # Panics
    /// A view is not what it has to be.
    pub(crate) fn play(&self) -> World {
        let mut world = World::default();
        self.0.iter().for_each(|step| step.play(&mut world));
        world
    }

    /// A case as small as can be found that fails too; `self` fails.
    pub(crate) fn shrink(&self) -> Self {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| {}));
        let mut least = self.clone();
        loop {
            let less = least.smaller().find(Self::fails);
            let Some(less) = less else { break };
            least = less;
        }
        panic::set_hook(hook);
        least
    }

    fn fails(&self) -> bool {
        // A text that is no query any more is no smaller case.
        let valid = self.0.iter().all(|step| match step {
            Step::Open { surql, params, .. } => {
                revenant_ssp::query::parse::parse(surql, params).is_ok_and(|one| one.query.is_ok())
            }
            _ => true,
        });
        valid && panic::catch_unwind(AssertUnwindSafe(|| drop(self.play()))).is_err()
    }

    /// Cases that are a little smaller, those that are much so first.
    fn smaller(&self) -> impl Iterator<Item = Self> + '_ {
        let count = self.0.len();
        let spans = std::iter::successors(Some(count.div_ceil(2)), |span| Some(span / 2))
            .take_while(|span| *span > 0);
        let fewer = spans.flat_map(move |span| {
            (0..count).step_by(span).map(move |from| {
                let mut steps = self.0.clone();
                steps.drain(from..count.min(from + span));
                Self(steps)
            })
        });
        let simpler = (0..count).flat_map(move |place| {
            self.0[place].simpler().into_iter().map(move |step| {
                let mut steps = self.0.clone();
                steps[place] = step;
                Self(steps)
            })
        });
        fewer.chain(simpler)
    }
}

impl Step {
    fn simpler(&self) -> Vec<Self> {
        match self {
            Self::Open { view, surql, params } => {
                let open = |surql| Self::Open { view: view.clone(), surql, params: params.clone() };
                shorter(surql).into_iter().map(open).collect()
            }
            Self::Close(_) => Vec::new(),
            Self::Batch(changes) => {
                let mut all = Vec::new();
                for place in 0..changes.len() {
                    let mut fewer = changes.clone();
                    let change = fewer.remove(place);
                    all.push(fewer);
                    let Change::Put(id, row) = change else { continue };
                    for name in row.keys() {
                        let mut less = row.clone();
                        less.remove(name);
                        let mut changes = changes.clone();
                        changes[place] = Change::Put(id.clone(), less);
                        all.push(changes);
                    }
                }
                all.into_iter().filter(|changes| !changes.is_empty()).map(Self::Batch).collect()
            }
        }
    }
}

/// Queries with less in them; some are none.
fn shorter(surql: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (from, _) in surql.match_indices('(') {
        let Some(inner) = balanced(&surql[from..]) else { continue };
        let (before, after) = (&surql[..from], &surql[from + inner.len() + 2..]);
        for word in [" AND ", " OR "] {
            for (place, _) in inner.match_indices(word) {
                for part in [&inner[..place], &inner[place + word.len()..]] {
                    all.push(format!("{before}{part}{after}"));
                }
            }
        }
        if let Some(before) = before.strip_suffix('!') {
            all.push(format!("{before}{inner}{after}"));
        }
        // A subquery among the fields, up to its name.
        if let (Some(before), Some(name)) = (before.strip_suffix(", "), after.find(" AS ")) {
            let rest = &after[name + " AS ".len()..];
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            all.push(format!("{before}{}", &rest[end..]));
        }
    }
    for (word, ends) in [(" WHERE ", true), (" AND ", true), (" LIMIT ", false), (" START ", false)]
    {
        for (place, _) in surql.match_indices(word) {
            let rest = &surql[place + word.len()..];
            let stops = [" AND ", " ORDER BY ", " LIMIT ", " START ", ")"];
            let stop = stops.iter().filter_map(|stop| rest.find(stop)).min();
            let stop = if ends { stop } else { stop.or(Some(rest.len())) };
            let end = stop.unwrap_or(rest.len());
            all.push(format!("{}{}", &surql[..place], &rest[end..]));
        }
    }
    for (place, _) in surql.match_indices(" ORDER BY ") {
        let rest = &surql[place + 1..];
        let stops = [" LIMIT ", " START ", ")"];
        let end = stops.iter().filter_map(|stop| rest.find(stop)).min().unwrap_or(rest.len());
        all.push(format!("{}{}", &surql[..place], &rest[end..]));
    }
    all.sort_by_key(String::len);
    all
}

/// What is between a parenthesis at the start and the one that closes it.
fn balanced(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (place, char) in text.char_indices() {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[1..place]);
        }
    }
    None
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.0 {
            match step {
                Step::Open { view, surql, params } => {
                    if !params.is_empty() {
                        writeln!(f, "params {}", Value::Object(params.clone()))?;
                    }
                    writeln!(f, "open {view} {surql}")?;
                }
                Step::Close(view) => writeln!(f, "close {view}")?,
                Step::Batch(changes) => {
                    for change in changes {
                        match change {
                            Change::Put(id, row) => {
                                writeln!(f, "put {id} = {}", Value::Object(row.clone()))?;
                            }
                            Change::Delete(id) => writeln!(f, "delete {id}")?,
                        }
                    }
                    writeln!(f, "commit")?;
                }
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut steps, mut changes, mut params) = (Vec::new(), Vec::new(), Object::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let wrong = || format!("a case has a line that cannot be read: {line}");
            match word {
                "params" => params = object(rest).ok_or_else(wrong)?,
                "open" => {
                    let (view, surql) = rest.split_once(' ').ok_or_else(wrong)?;
                    let (view, surql) = (view.to_owned(), surql.to_owned());
                    steps.push(Step::Open { view, surql, params: std::mem::take(&mut params) });
                }
                "close" => steps.push(Step::Close(rest.to_owned())),
                "put" => {
                    let (id, row) = rest.split_once(" = ").ok_or_else(wrong)?;
                    let (id, row) = record(id).zip(object(row)).ok_or_else(wrong)?;
                    changes.push(Change::Put(id, row));
                }
                "delete" => changes.push(Change::Delete(record(rest).ok_or_else(wrong)?)),
                "commit" => steps.push(Step::Batch(std::mem::take(&mut changes))),
                _ => return Err(wrong()),
            }
        }
        Ok(Self(steps))
    }
}

fn record(text: &str) -> Option<RecordId> {
    match Value::parse(text).ok()? {
        Value::RecordId(id) => Some(*id),
        _ => None,
    }
}

fn object(text: &str) -> Option<Object> {
    match Value::parse(text).ok()? {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}
