//! `Lift`: the condition of a block by which its groups find rows and rows find groups, where the values of
//! equal columns leave many of them: a bound, or an element of a list. `Lookup` are the groups by it.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use hashbrown::HashMap;
use revenant_log::{Value, encode_value};

use super::block::BlockKey;
use super::group::GroupId;
use super::router::mirrored;
use super::scope::At;
use super::set::SetId;
use super::shrink;
use crate::query::ir::{Comparison, Expr, Path};

/// `path how value`, a conjunct of a block.
#[derive(Clone, Debug)]
pub(crate) struct Lift {
    pub(crate) path: Path,
    pub(crate) how: How,
    /// Which of the block's outer values.
    pub(crate) outer: usize,
}

/// How the column relates to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    More,
    MoreOrEqual,
    Less,
    LessOrEqual,
    /// The column contains the value.
    Contains,
}

/// The groups that share equal columns, by the lifted value.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// Nothing is lifted.
    All(Vec<GroupId>),
    Ordered(BTreeMap<Box<[u8]>, Vec<GroupId>>),
    Keyed(HashMap<Box<[u8]>, Vec<GroupId>>),
}

/// What a value contains.
pub(crate) enum Elements<'v> {
    /// Exactly these, by equality.
    These(Vec<&'v Value>),
    /// That depends on what is looked for.
    Unknown,
}

/// What `value CONTAINS` is true of.
pub(crate) fn elements(value: &Value) -> Elements<'_> {
    match value {
        // Whether a regular expression is a string, only SurrealDB can tell; of other values it is decided.
        Value::Array(items) if items.iter().any(is_regex) => Elements::Unknown,
        Value::Array(items) => Elements::These(items.iter().collect()),
        Value::Set(items) => Elements::These(items.iter().collect()),
        Value::String(_)
        | Value::Uuid(_)
        | Value::Object(_)
        | Value::Range(_)
        | Value::Geometry(_) => Elements::Unknown,
        _ => Elements::These(Vec::new()),
    }
}

impl Lift {
    /// The conjunct that leaves fewest groups: an element, else a bound.
    pub(crate) fn of(key: &BlockKey) -> Option<Self> {
        let lifts =
            || key.open.iter().filter_map(|conjunct| Self::of_conjunct(conjunct, &key.outer));
        lifts().find(|lift| lift.how == How::Contains).or_else(|| lifts().next())
    }

    fn of_conjunct(conjunct: &Expr<SetId>, outer: &[Path]) -> Option<Self> {
        let Expr::Compare(how, left, right) = conjunct else { return None };
        let (path, how, name) = match (&**left, &**right) {
            (Expr::Field(path), Expr::Parent(name)) => (path, *how, name),
            (Expr::Parent(name), Expr::Field(path)) => (path, mirrored(*how)?, name),
            _ => return None,
        };
        if !path.is_own() {
            return None;
        }
        let how = match how {
            Comparison::More => How::More,
            Comparison::MoreOrEqual => How::MoreOrEqual,
            Comparison::Less => How::Less,
            Comparison::LessOrEqual => How::LessOrEqual,
            Comparison::Contains => How::Contains,
            _ => return None,
        };
        let outer = outer.iter().position(|other| other == name)?;
        Some(Self { path: path.clone(), how, outer })
    }

    /// A place for groups.
    pub(crate) fn lookup(lift: Option<&Self>) -> Lookup {
        match lift.map(|lift| lift.how) {
            None => Lookup::All(Vec::new()),
            Some(How::Contains) => Lookup::Keyed(HashMap::new()),
            Some(_) => Lookup::Ordered(BTreeMap::new()),
        }
    }
}

impl Lookup {
    /// Takes in a group whose lifted value has this encoding.
    pub(crate) fn insert(&mut self, value: &[u8], group: GroupId) {
        match self {
            Self::All(groups) => groups.push(group),
            Self::Ordered(groups) => groups.entry(value.into()).or_default().push(group),
            Self::Keyed(groups) => groups.entry_ref(value).or_default().push(group),
        }
    }

    /// Gives a group up; says whether none is left.
    pub(crate) fn remove(&mut self, value: &[u8], group: GroupId) -> bool {
        let without = |groups: &mut Vec<GroupId>| {
            groups.retain(|other| *other != group);
            groups.is_empty()
        };
        match self {
            Self::All(groups) => without(groups),
            Self::Ordered(groups) => {
                if groups.get_mut(value).is_some_and(without) {
                    groups.remove(value);
                }
                groups.is_empty()
            }
            Self::Keyed(groups) => {
                if groups.get_mut(value).is_some_and(without) {
                    groups.remove(value);
                    shrink(groups);
                }
                groups.is_empty()
            }
        }
    }

    /// Adds the groups that a row may be in. Where that cannot be told these are all: one that is asked says
    /// why it cannot answer.
    pub(crate) fn find(&self, lift: Option<&Lift>, at: At<'_>, found: &mut Vec<GroupId>) {
        let value = lift.and_then(|lift| Some((lift.how, at.get(&lift.path).ok()?)));
        match (self, value) {
            (Self::All(groups), _) => found.extend(groups),
            (Self::Ordered(groups), Some((how, value))) => {
                let mut bound = Vec::with_capacity(24);
                encode_value(&value, &mut bound);
                let bound = bound.as_slice();
                let range = match how {
                    How::More => (Unbounded, Excluded(bound)),
                    How::MoreOrEqual => (Unbounded, Included(bound)),
                    How::Less => (Excluded(bound), Unbounded),
                    _ => (Included(bound), Unbounded),
                };
                found.extend(groups.range::<[u8], _>(range).flat_map(|(_, groups)| groups));
            }
            (Self::Keyed(groups), Some((_, value))) => match elements(&value) {
                Elements::These(items) => {
                    let mut key = Vec::with_capacity(24);
                    for item in items {
                        key.clear();
                        encode_value(item, &mut key);
                        found.extend(groups.get(key.as_slice()).into_iter().flatten());
                    }
                }
                Elements::Unknown => found.extend(groups.values().flatten()),
            },
            (Self::Ordered(groups), None) => found.extend(groups.values().flatten()),
            (Self::Keyed(groups), None) => found.extend(groups.values().flatten()),
        }
    }
}

fn is_regex(value: &Value) -> bool {
    matches!(value, Value::Regex(_))
}
