//! `Block`: the normal form of one SELECT, shared by all views that ask it with other values, and how
//! queries are brought into it.
//!
//! - Conjuncts `field = value` are lifted: the values tell the groups of a block apart.
//! - What depends on the outer row otherwise, or may have no answer, stays open; the rest is the residual.
//! - Order without a window is dropped, and a window's ties are in the order of ids.

use hashbrown::{HashMap, HashTable};
use revenant_log::Value;

use super::group::GroupId;
use super::set::SetId;
use super::source::SourceId;
use crate::query::ir::{Comparison, Expr, OrderBy, Path};

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
    /// What they satisfy besides, given the outer row; whatever may have no answer is asked only here, of
    /// rows that satisfy the rest.
    pub(crate) open: Vec<Expr<SetId>>,
    /// The paths of the outer row that `open` refers to.
    pub(crate) outer: Vec<Path>,
    pub(crate) window: Option<WindowKey>,
    pub(crate) children: Vec<ChildKey>,
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
    pub(crate) atoms: Vec<Atom>,
    /// Views, blocks and sets that hold it.
    pub(crate) refs: usize,
    /// By key, which lies in the group.
    pub(crate) groups: HashTable<GroupId>,
    /// Of a block with outer paths, where groups share prefixes: by prefix.
    pub(crate) routes: HashMap<Box<[u8]>, Vec<GroupId>>,
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
    pub(crate) outer: Vec<Path>,
}

impl Split {
    /// Sorts the conjuncts of `filter` by their use.
    pub(crate) fn of(filter: Expr<SetId>) -> Self {
        let mut split = Self::default();
        for conjunct in filter.conjuncts() {
            match equality(&conjunct) {
                Some((path, operand)) if split.equal.iter().all(|(other, _)| *other != path) => {
                    split.equal.push((path, operand));
                }
                _ if conjunct.has_parent() || conjunct.may_fail() => split.open.push(conjunct),
                _ => split.residual.push(list(conjunct)),
            }
        }
        for conjunct in &split.open {
            conjunct.visit(&mut |expr| {
                if let Expr::Parent(path) = expr {
                    split.outer.push(path.clone());
                }
            });
        }
        split.outer.sort();
        split.outer.dedup();
        split.equal.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Any fixed order does: two queries that differ in it alone are one block.
        split.residual.sort_by_cached_key(|conjunct| format!("{conjunct:?}"));
        split.open.sort_by_cached_key(|conjunct| format!("{conjunct:?}"));
        split
    }
}

/// `field = value`, either way round.
fn equality(conjunct: &Expr<SetId>) -> Option<(Path, Operand)> {
    let Expr::Compare(Comparison::Equal | Comparison::Exact, left, right) = conjunct else {
        return None;
    };
    match (&**left, &**right) {
        (Expr::Field(path), other) | (other, Expr::Field(path)) => match other {
            Expr::Const(Value::Regex(_)) => None,
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
