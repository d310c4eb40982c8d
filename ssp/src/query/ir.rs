//! The queries that the engine understands, free of any parser's types. Parameters are bound: what is left
//! of them are constants.
//!
//! - A [`Block`] is one SELECT over one table; its children are the subqueries among its fields.
//! - Only what decides membership is kept: which fields are selected changes no edge.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use revenant_log::Value;

use super::collation::Collation;
use super::function::Function;

/// A live query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// The outermost SELECT.
    pub root: Block,
}

impl Query {
    /// Whether there are rows for which it has no answer, as those with values of a wrong type.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        self.root.may_fail()
    }
}

/// One SELECT over one table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// The table.
    pub table: String,
    /// What a row must satisfy; the constant `true` when nothing is asked.
    pub filter: Expr<Subselect>,
    /// Sort keys, the first is the most significant. Ties are in the order of ids, as in SurrealDB.
    pub order: Vec<OrderBy>,
    /// Rows that are skipped.
    pub start: usize,
    /// Most rows after that.
    pub limit: Option<usize>,
    /// Subqueries, evaluated for every row of the result.
    pub children: Vec<Child>,
}

impl Block {
    fn may_fail(&self) -> bool {
        let mut found = self.filter.may_fail();
        self.filter.visit(&mut |expr| {
            if let Expr::In(_, set) = expr {
                found |= set.block.may_fail();
            }
        });
        found || self.children.iter().any(|child| child.block.may_fail())
    }
}

/// A subquery among the fields of a SELECT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Child {
    /// The field that holds its rows.
    pub alias: String,
    /// The subquery; `$parent` in it is the row it is evaluated for.
    pub block: Block,
}

/// A sort key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderBy {
    /// What is compared.
    pub path: Path,
    /// How texts compare.
    pub collation: Collation,
    /// From large to small.
    pub descending: bool,
}

/// Steps into a row, outermost first; never empty, and the first is a field. And how far it may lead.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(pub Vec<Step>, pub Reach);

/// Into which tables links may be followed: all, unless who asks may not read all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reach(Option<Arc<Limits>>);

/// The tables that not everybody may read whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Limits {
    /// Nobody may read them: what a link leads to there is NONE.
    pub(crate) denied: BTreeSet<String>,
    /// Row by row, or not every field: a link into one of them has no answer here.
    pub(crate) judged: BTreeSet<String>,
}

impl Reach {
    pub(crate) fn within(limits: Arc<Limits>) -> Self {
        Self(Some(limits))
    }

    /// Whether nobody may read the table.
    pub(crate) fn is_denied(&self, table: &str) -> bool {
        self.0.as_ref().is_some_and(|limits| limits.denied.contains(table))
    }

    /// Whether who may read the table is decided row by row.
    pub(crate) fn is_judged(&self, table: &str) -> bool {
        self.0.as_ref().is_some_and(|limits| limits.judged.contains(table))
    }
}

/// One step into a value. A step into a link is one into the row it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// `.name`; of an array, that of each element.
    Field(String),
    /// `[n]`
    Index(usize),
    /// `[$]`, the last element of a list.
    Last,
}

impl Path {
    /// The field `name` of the row.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self(vec![Step::Field(name.to_owned())], Reach::default())
    }

    /// Whether it may lead to where there is no answer.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        self.1.0.as_ref().is_some_and(|limits| !limits.judged.is_empty())
    }

    /// Whether this is the row's own id.
    #[must_use]
    pub fn is_id(&self) -> bool {
        self.0.len() == 1 && self.head() == "id"
    }

    /// Whether this is a field of the row itself, so that no list and no link lies on the way.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.len() == 1
    }

    /// The row's field that it begins with.
    #[must_use]
    pub fn head(&self) -> &str {
        match self.0.first() {
            Some(Step::Field(name)) => name,
            _ => "",
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Path");
        tuple.field(&self.0);
        if let Some(limits) = &self.1.0 {
            tuple.field(limits);
        }
        tuple.finish()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if place == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Last => f.write_str("[$]")?,
            }
        }
        Ok(())
    }
}

/// `SELECT VALUE path FROM ...`, the right side of an `IN`. It refers to no outer row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subselect {
    /// The rows; without children.
    pub block: Box<Block>,
    /// Which of their values count.
    pub value: Path,
}

/// An expression; `S` stands for the sets that `IN (SELECT ...)` looks into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr<S> {
    /// A value.
    Const(Value),
    /// A field of the row.
    Field(Path),
    /// A field of the row that the subquery is evaluated for.
    Parent(Path),
    /// `!a`: true when `a` is not truthy.
    Not(Box<Expr<S>>),
    /// The first operand that is not truthy, else the last. Never empty.
    And(Vec<Expr<S>>),
    /// The first operand that is truthy, else the last. Never empty.
    Or(Vec<Expr<S>>),
    /// Two operands compared.
    Compare(Comparison, Box<Expr<S>>, Box<Expr<S>>),
    /// Whether the operand is in a set of values.
    In(Box<Expr<S>>, S),
    /// The first operand that is neither NONE nor NULL, else the last. Never empty.
    Coalesce(Vec<Expr<S>>),
    /// A function or an operator of its operands' values alone.
    Call(Function, Vec<Expr<S>>),
}

/// How two values are compared, by SurrealDB's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `==`
    Exact,
    /// `*=`
    AllEqual,
    /// `?=`
    AnyEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    More,
    /// `>=`
    MoreOrEqual,
    /// `CONTAINS`
    Contains,
    /// `CONTAINSNOT`
    ContainsNot,
    /// `CONTAINSALL`
    ContainsAll,
    /// `CONTAINSANY`
    ContainsAny,
    /// `CONTAINSNONE`
    ContainsNone,
    /// `IN`, `INSIDE`
    Inside,
    /// `NOT IN`, `NOTINSIDE`
    NotInside,
    /// `ALLINSIDE`
    AllInside,
    /// `ANYINSIDE`
    AnyInside,
    /// `NONEINSIDE`
    NoneInside,
}

impl<S> Expr<S> {
    /// The constant true.
    #[must_use]
    pub fn yes() -> Self {
        Self::Const(Value::Bool(true))
    }

    /// The operands of a conjunction, flattened; what is always true is left out.
    #[must_use]
    pub fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::And(operands) => operands.into_iter().flat_map(Self::conjuncts).collect(),
            Self::Const(Value::Bool(true)) => Vec::new(),
            other => vec![other],
        }
    }

    /// The same expression over other sets.
    ///
    /// # Errors
    /// The first that `map` gives.
    pub fn map<T, E>(&self, map: &mut impl FnMut(&S) -> Result<T, E>) -> Result<Expr<T>, E> {
        let all = |operands: &[Self], map: &mut _| {
            operands.iter().map(|operand| operand.map(map)).collect::<Result<Vec<_>, E>>()
        };
        Ok(match self {
            Self::Const(value) => Expr::Const(value.clone()),
            Self::Field(path) => Expr::Field(path.clone()),
            Self::Parent(path) => Expr::Parent(path.clone()),
            Self::Not(operand) => Expr::Not(Box::new(operand.map(map)?)),
            Self::And(operands) => Expr::And(all(operands, map)?),
            Self::Or(operands) => Expr::Or(all(operands, map)?),
            Self::Compare(how, left, right) => {
                Expr::Compare(*how, Box::new(left.map(map)?), Box::new(right.map(map)?))
            }
            Self::In(operand, set) => Expr::In(Box::new(operand.map(map)?), map(set)?),
            Self::Coalesce(operands) => Expr::Coalesce(all(operands, map)?),
            Self::Call(function, operands) => Expr::Call(*function, all(operands, map)?),
        })
    }

    /// Calls `see` for this expression and every one inside it; not for what is inside sets.
    pub fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        see(self);
        match self {
            Self::Const(_) | Self::Field(_) | Self::Parent(_) => {}
            Self::Not(operand) | Self::In(operand, _) => operand.visit(see),
            Self::And(operands)
            | Self::Or(operands)
            | Self::Coalesce(operands)
            | Self::Call(_, operands) => operands.iter().for_each(|operand| operand.visit(see)),
            Self::Compare(_, left, right) => {
                left.visit(see);
                right.visit(see);
            }
        }
    }

    /// Whether some rows' values have no answer, as those of a wrong type.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        let mut found = false;
        self.visit(&mut |expr| {
            found |= match expr {
                Self::Call(call, _) => !call.is_total(),
                Self::Field(path) => path.may_fail(),
                _ => false,
            }
        });
        found
    }

    /// Whether it refers to the outer row.
    #[must_use]
    pub fn has_parent(&self) -> bool {
        let mut found = false;
        self.visit(&mut |expr| found |= matches!(expr, Self::Parent(_)));
        found
    }
}
