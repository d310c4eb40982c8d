//! `Block`: the normal form of one SELECT, shared by all views that ask it with other values, and how
//! queries are brought into it.
//!
//! - Conjuncts `field = value` are lifted: the values tell the groups of a block apart.
//! - Other conjuncts whose values differ from group to group are open: those on the outer row, bounds, and
//!   `CONTAINS`. They refer to these values as to fields of the outer row; a lifted constant has a name of
//!   its own there, which no path of a query has.
//! - What may have no answer is open too; the rest is the residual, which every row of every group satisfies.
//! - Order without a window is dropped, and a window's ties are in the order of ids.

use hashbrown::{HashMap, HashTable};
use revenant_log::{Value, encode_value};

use super::explain::Cost;
use super::group::{Group, GroupId};
use super::lift::{Lift, Lookup};
use super::router::mirrored;
use super::set::SetId;
use super::source::SourceId;
use crate::query::ir::{Comparison, Expr, OrderBy, Path, Reach, Step};

/// A block's place among the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockId(pub(crate) u32);

/// What makes two blocks one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockKey {
    pub(crate) table: String,
    /// Columns that equal a value of the group, in order, each once.
    pub(crate) equal: Vec<Path>,
    /// What rows of every group satisfy.
    pub(crate) residual: Vec<Expr<SetId>>,
    /// What they satisfy besides, given the group's values; whatever may have no answer is asked only here,
    /// of rows that satisfy the rest.
    pub(crate) open: Vec<Expr<SetId>>,
    /// The names of these values: paths of the outer row, and of lifted constants.
    pub(crate) outer: Vec<Path>,
    pub(crate) window: Option<WindowKey>,
    pub(crate) children: Vec<ChildKey>,
}

impl BlockKey {
    /// What a router finds the block by: with equal columns it finds its groups by itself.
    pub(crate) fn routing(&self) -> &[Expr<SetId>] {
        if self.equal.is_empty() { &self.residual } else { &[] }
    }
}

/// Which rows in the order of a group are in the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WindowKey {
    pub(crate) order: Vec<OrderBy>,
    pub(crate) start: usize,
    pub(crate) limit: Option<usize>,
}

/// A subquery of a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChildKey {
    pub(crate) alias: String,
    pub(crate) block: BlockId,
    /// The values that tell its groups apart.
    pub(crate) operands: Vec<Operand>,
}

/// A value that tells groups apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operand {
    Const(Value),
    /// That of the outer row.
    Outer(Path),
}

/// An expression looks for the value at `path` in `set`; `index` finds rows by that value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Atom {
    pub(crate) set: SetId,
    pub(crate) path: Path,
    pub(crate) index: SourceId,
}

/// One SELECT in normal form, with its groups.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) key: BlockKey,
    /// 0 when it looks into no set, else one more than the highest level of those sets' blocks. What a
    /// batch changes is computed level by level.
    pub(crate) level: usize,
    /// Which equal column is the row's id, if one is: then a group has one row at most.
    pub(crate) by_id: Option<usize>,
    /// Where its groups' rows are found; `None` when by id, or by looking at every row.
    pub(crate) source: Option<SourceId>,
    /// By which open conjunct rows and groups find each other.
    pub(crate) lift: Option<Lift>,
    pub(crate) atoms: Vec<Atom>,
    /// What changes cost it so far.
    pub(crate) cost: Cost,
    /// Views, blocks and sets that hold it.
    pub(crate) refs: usize,
    /// By key, which lies in the group.
    pub(crate) groups: HashTable<GroupId>,
    /// Of a block with open conjuncts, where groups share prefixes: by prefix.
    pub(crate) routes: HashMap<Box<[u8]>, Lookup>,
}

impl Block {
    /// The value of a group by which rows find it, where there is one.
    pub(crate) fn lifted_value<'g>(&self, group: &'g Group) -> Option<&'g Value> {
        let lift = self.lift.as_ref()?;
        Some(&group.values[usize::from(self.by_id.is_some()) + lift.outer])
    }

    /// The same, encoded; empty where there is none.
    pub(crate) fn lifted(&self, group: &Group) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(value) = self.lifted_value(group) {
            encode_value(value, &mut bytes);
        }
        bytes
    }
}

impl BlockKey {
    /// Every path into its table's rows that decides something, each once; those of sort keys, which follow
    /// no link, left out.
    pub(crate) fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<_> = self.equal.iter().collect();
        for conjunct in self.residual.iter().chain(&self.open) {
            conjunct.visit(&mut |expr| {
                if let Expr::Field(path) = expr {
                    paths.push(path);
                }
            });
        }
        for operand in self.children.iter().flat_map(|child| &child.operands) {
            if let Operand::Outer(path) = operand {
                paths.push(path);
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }
}

/// The conjuncts of a filter by their use.
#[derive(Default)]
pub(crate) struct Split {
    /// Sorted by path.
    pub(crate) equal: Vec<(Path, Operand)>,
    pub(crate) residual: Vec<Expr<SetId>>,
    pub(crate) open: Vec<Expr<SetId>>,
    /// What `open` refers to, by name.
    pub(crate) outer: Vec<(Path, Operand)>,
}

/// The name of a lifted constant: a query's paths begin with a field.
fn lifted_name(number: usize) -> Path {
    Path(vec![Step::Last, Step::Index(number)], Reach::default())
}

impl Split {
    /// Takes the conjuncts `field = value` from those of a filter; the others are the residual.
    pub(crate) fn of(filter: Expr<SetId>) -> Self {
        let mut split = Self::default();
        for conjunct in filter.conjuncts() {
            match equality(&conjunct) {
                Some((path, operand)) if split.equal.iter().all(|(other, _)| *other != path) => {
                    split.equal.push((path, operand));
                }
                _ => split.residual.push(list(conjunct)),
            }
        }
        split.equal.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Any fixed order does: two queries that differ in it alone are one block.
        split.residual.sort_by_cached_key(|conjunct| format!("{conjunct:?}"));
        split
    }

    /// Takes those that differ from group to group out of the residual. Of a window without equal columns,
    /// bounds stay there: its rows are those of a whole source, found in order.
    pub(crate) fn open(&mut self, windowed: bool) {
        let lifts = !windowed || !self.equal.is_empty();
        let mut bounds = Vec::new();
        for conjunct in std::mem::take(&mut self.residual) {
            match bound(&conjunct).filter(|_| lifts) {
                Some(bound) => bounds.push(bound),
                None if conjunct.has_parent() || conjunct.may_fail() => {
                    self.open.push(conjunct);
                }
                None => self.residual.push(conjunct),
            }
        }
        for conjunct in &self.open {
            conjunct.visit(&mut |expr| {
                if let Expr::Parent(path) = expr {
                    self.outer.push((path.clone(), Operand::Outer(path.clone())));
                }
            });
        }
        self.outer.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.outer.dedup();
        bounds.sort_by_cached_key(|(how, path, value)| {
            (path.clone(), format!("{how:?}"), value.clone())
        });
        for (number, (how, path, value)) in bounds.into_iter().enumerate() {
            let name = lifted_name(number);
            let (left, right) = (Expr::Field(path), Expr::Parent(name.clone()));
            self.open.push(Expr::Compare(how, Box::new(left), Box::new(right)));
            self.outer.push((name, Operand::Const(value)));
        }
    }
}

/// `field > value` and the like, either way round.
fn bound(conjunct: &Expr<SetId>) -> Option<(Comparison, Path, Value)> {
    let Expr::Compare(how, left, right) = conjunct else { return None };
    let (how, path, value) = match (&**left, &**right) {
        (Expr::Field(path), Expr::Const(value)) => (*how, path, value),
        (Expr::Const(value), Expr::Field(path)) => (mirrored(*how)?, path, value),
        _ => return None,
    };
    let lifts = match how {
        Comparison::More | Comparison::MoreOrEqual | Comparison::Less | Comparison::LessOrEqual => {
            true
        }
        Comparison::Contains => !matches!(value, Value::Regex(_)),
        _ => false,
    };
    (lifts && path.is_own()).then(|| (how, path.clone(), value.clone()))
}

/// `field = value`, either way round, of a field that always has an answer.
pub(super) fn equality<S>(conjunct: &Expr<S>) -> Option<(Path, Operand)> {
    let Expr::Compare(Comparison::Equal | Comparison::Exact, left, right) = conjunct else {
        return None;
    };
    match (&**left, &**right) {
        (Expr::Field(path), other) | (other, Expr::Field(path)) => match other {
            Expr::Const(Value::Regex(_)) => None,
            _ if path.may_fail() => None,
            Expr::Const(value) => Some((path.clone(), Operand::Const(value.clone()))),
            Expr::Parent(outer) => Some((path.clone(), Operand::Outer(outer.clone()))),
            _ => None,
        },
        _ => None,
    }
}

/// `a = 1 OR a = 2` as `a IN [1, 2]`.
fn list(conjunct: Expr<SetId>) -> Expr<SetId> {
    let Expr::Or(operands) = &conjunct else { return conjunct };
    let mut path = None;
    let mut values = Vec::new();
    for operand in operands {
        match (equality(operand), &path) {
            (Some((of, Operand::Const(value))), None) => {
                path = Some(of);
                values.push(value);
            }
            (Some((of, Operand::Const(value))), Some(path)) if of == *path => values.push(value),
            _ => return conjunct,
        }
    }
    let Some(path) = path else { return conjunct };
    let list = Expr::Const(Value::Array(values));
    Expr::Compare(Comparison::Inside, Box::new(Expr::Field(path)), Box::new(list))
}
