//! `Router`: which blocks, or sources, a change of a row may concern, by one condition that each one's rows
//! must meet. One whose conditions cannot be looked up is asked about every change of its table.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use hashbrown::HashMap;
use revenant_log::{Value, encode_value};

use super::scope::World;
use super::set::SetId;
use super::store::{RowId, When};
use crate::query::ir::{Comparison, Expr, Path};

/// The condition under which a block is found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// None: always.
    Always,
    /// The value at a path is one of these, by encoding.
    Among(Path, Vec<Box<[u8]>>),
    /// The value at a path is this or above.
    From(Path, Box<[u8]>),
    /// The value at a path is this or below.
    UpTo(Path, Box<[u8]>),
}

/// The blocks, or sources, of one table.
#[derive(Debug)]
pub(crate) struct Router<T> {
    always: Vec<T>,
    among: HashMap<Path, HashMap<Box<[u8]>, Vec<T>>>,
    from: HashMap<Path, BTreeMap<Box<[u8]>, Vec<T>>>,
    up_to: HashMap<Path, BTreeMap<Box<[u8]>, Vec<T>>>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self {
            always: Vec::new(),
            among: HashMap::new(),
            from: HashMap::new(),
            up_to: HashMap::new(),
        }
    }
}

impl<T: Copy + Ord> Router<T> {
    /// Takes in one whose rows satisfy all of `conjuncts`.
    pub(crate) fn insert(&mut self, block: T, conjuncts: &[Expr<SetId>]) {
        match Route::of(conjuncts) {
            Route::Always => self.always.push(block),
            Route::Among(path, values) => {
                let by_value = self.among.entry(path).or_default();
                for value in values {
                    by_value.entry(value).or_default().push(block);
                }
            }
            Route::From(path, value) => {
                self.from.entry(path).or_default().entry(value).or_default().push(block);
            }
            Route::UpTo(path, value) => {
                self.up_to.entry(path).or_default().entry(value).or_default().push(block);
            }
        }
    }

    /// Gives one up that came with these conjuncts.
    pub(crate) fn remove(&mut self, block: T, conjuncts: &[Expr<SetId>]) {
        match Route::of(conjuncts) {
            Route::Always => self.always.retain(|other| *other != block),
            Route::Among(path, values) => {
                let Some(by_value) = self.among.get_mut(&path) else { return };
                for value in values {
                    if let Some(blocks) = by_value.get_mut(&value) {
                        blocks.retain(|other| *other != block);
                        if blocks.is_empty() {
                            by_value.remove(&value);
                        }
                    }
                }
                if by_value.is_empty() {
                    self.among.remove(&path);
                }
            }
            Route::From(path, value) => forget(&mut self.from, &path, &value, block),
            Route::UpTo(path, value) => forget(&mut self.up_to, &path, &value, block),
        }
    }

    /// Calls `see` for each that a change of `row` may concern, perhaps more than once.
    pub(crate) fn find(&self, world: World<'_>, row: RowId, mut see: impl FnMut(T)) {
        self.always.iter().copied().for_each(&mut see);
        if self.among.is_empty() && self.from.is_empty() && self.up_to.is_empty() {
            return;
        }
        for when in [When::Before, When::Now] {
            if world.store.image(row, when).is_none() {
                continue;
            }
            let at = world.at(row, when);
            let value = |path: &Path| {
                let value =
                    at.get(path).ok().filter(|value| !matches!(**value, Value::Regex(_)))?;
                let mut encoded = Vec::with_capacity(24);
                encode_value(&value, &mut encoded);
                Some(encoded)
            };
            for (path, by_value) in &self.among {
                // Whoever cannot be looked up is asked, and says why it cannot answer.
                match value(path) {
                    Some(value) => by_value
                        .get(value.as_slice())
                        .into_iter()
                        .flatten()
                        .copied()
                        .for_each(&mut see),
                    None => by_value.values().flatten().copied().for_each(&mut see),
                }
            }
            for (path, by_value) in &self.from {
                match value(path) {
                    Some(value) => {
                        let below = by_value.range::<[u8], _>((Unbounded, Included(&*value)));
                        below.flat_map(|(_, blocks)| blocks).copied().for_each(&mut see);
                    }
                    None => by_value.values().flatten().copied().for_each(&mut see),
                }
            }
            for (path, by_value) in &self.up_to {
                match value(path) {
                    Some(value) => {
                        let above = by_value.range::<[u8], _>((Included(&*value), Unbounded));
                        above.flat_map(|(_, blocks)| blocks).copied().for_each(&mut see);
                    }
                    None => by_value.values().flatten().copied().for_each(&mut see),
                }
            }
        }
    }

    /// Whether none is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.always.is_empty()
            && self.among.is_empty()
            && self.from.is_empty()
            && self.up_to.is_empty()
    }
}

fn forget<T: PartialEq>(
    routes: &mut HashMap<Path, BTreeMap<Box<[u8]>, Vec<T>>>,
    path: &Path,
    value: &[u8],
    block: T,
) {
    let Some(by_value) = routes.get_mut(path) else { return };
    if let Some(blocks) = by_value.get_mut(value) {
        blocks.retain(|other| *other != block);
        if blocks.is_empty() {
            by_value.remove(value);
        }
    }
    if by_value.is_empty() {
        routes.remove(path);
    }
}

impl Route {
    /// The condition that is met most rarely is taken: a list, then a bound.
    fn of(conjuncts: &[Expr<SetId>]) -> Self {
        let routes = || conjuncts.iter().filter_map(Self::of_conjunct);
        routes()
            .find(|route| matches!(route, Self::Among(..)))
            .or_else(|| routes().next())
            .unwrap_or(Self::Always)
    }

    fn of_conjunct(conjunct: &Expr<SetId>) -> Option<Self> {
        let Expr::Compare(how, left, right) = conjunct else { return None };
        let (path, how, value) = match (&**left, &**right) {
            (Expr::Field(path), Expr::Const(value)) => (path, *how, value),
            (Expr::Const(value), Expr::Field(path)) => (path, mirrored(*how)?, value),
            _ => return None,
        };
        let encode = |value: &Value| {
            let mut encoded = Vec::new();
            encode_value(value, &mut encoded);
            encoded.into_boxed_slice()
        };
        match (how, value) {
            (Comparison::Inside, Value::Array(items)) if !items.iter().any(is_regex) => {
                Some(Self::Among(path.clone(), distinct(items.iter().map(encode))))
            }
            (Comparison::Inside, Value::Set(items)) if !items.iter().any(is_regex) => {
                Some(Self::Among(path.clone(), distinct(items.iter().map(encode))))
            }
            (Comparison::More | Comparison::MoreOrEqual, value) => {
                Some(Self::From(path.clone(), encode(value)))
            }
            (Comparison::Less | Comparison::LessOrEqual, value) => {
                Some(Self::UpTo(path.clone(), encode(value)))
            }
            _ => None,
        }
    }
}

fn is_regex(value: &Value) -> bool {
    matches!(value, Value::Regex(_))
}

fn distinct(values: impl Iterator<Item = Box<[u8]>>) -> Vec<Box<[u8]>> {
    let mut values: Vec<_> = values.collect();
    values.sort();
    values.dedup();
    values
}

/// The comparison with its sides exchanged.
pub(super) fn mirrored(how: Comparison) -> Option<Comparison> {
    Some(match how {
        Comparison::Less => Comparison::More,
        Comparison::LessOrEqual => Comparison::MoreOrEqual,
        Comparison::More => Comparison::Less,
        Comparison::MoreOrEqual => Comparison::LessOrEqual,
        Comparison::Contains => Comparison::Inside,
        Comparison::Inside => Comparison::Contains,
        _ => return None,
    })
}

/// How a block, or source, with these conjuncts is found.
pub(super) fn described(conjuncts: &[Expr<SetId>]) -> String {
    match Route::of(conjuncts) {
        Route::Always => "asked about every change of its table".into(),
        Route::Among(path, values) => format!("the value of {path}, one of {}", values.len()),
        Route::From(path, _) => format!("a lower bound of {path}"),
        Route::UpTo(path, _) => format!("an upper bound of {path}"),
    }
}
