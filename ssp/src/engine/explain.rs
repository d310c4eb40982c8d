//! What a view is made of and what it costs, and why a row is or is not in it.

use revenant_log::{RecordId, Value};
use serde::Serialize;

use super::Engine;
use super::block::{Block, BlockId, Operand, equality};
use super::group::Group;
use super::set::SetId;
use super::source::SourceId;
use super::store::When;
use crate::query::ir::{Comparison, Expr, Path, Query};

/// What a SELECT of a view is made of and what it costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explained {
    /// The SELECT, with `$1`, `$2` and so on for what views of the same template differ in.
    pub template: String,
    /// These values; none for a subquery, where they come from its row.
    pub values: Vec<String>,
    /// How a changed row finds the SELECTs of this template that it concerns.
    pub found_by: String,
    /// The shared index in which its rows are found.
    pub index: Option<Index>,
    /// How many SELECTs of this template are maintained.
    pub groups: usize,
    /// Views that are equal to this one, itself included; 0 for a subquery.
    pub equal_views: usize,
    /// Rows in the result.
    pub rows: u64,
    /// About how many bytes the view takes, its subqueries included; 0 for a subquery.
    pub view_bytes: usize,
    /// The budget of the view.
    pub view_bytes_most: usize,
    /// About how many bytes the template takes, its index included.
    pub template_bytes: usize,
    /// The budget of the template.
    pub template_bytes_most: usize,
    /// What changes cost so far.
    pub cost: Cost,
    /// The sets that `IN (SELECT ...)` looks into.
    pub sets: Vec<SetExplained>,
    /// Subqueries, by the field that holds their rows.
    pub subqueries: Vec<(String, Explained)>,
}

/// A shared index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Index {
    /// Columns that are looked up, then those that give the order.
    pub columns: Vec<String>,
    /// Entries.
    pub entries: usize,
    /// Templates that use it.
    pub users: usize,
}

/// A set of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetExplained {
    /// The column whose values are in.
    pub value: String,
    /// The SELECT that they come from.
    pub template: String,
    /// Rows that it has.
    pub rows: u64,
}

/// What changes of rows cost a template since its first view came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Changed rows that it was asked about.
    pub changes: u64,
    /// SELECTs that were looked at for them.
    pub candidates: u64,
    /// SELECTs that they concerned.
    pub concerned: u64,
    /// Windows that were read again.
    pub windows_read: u64,
}

/// Why a row is or is not among the root rows of a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Whether it is.
    pub is_in: bool,
    /// The first reason against it, else that nothing is.
    pub reason: String,
    /// Every condition; none when there is no such row.
    pub conditions: Vec<Condition>,
}

/// A condition and what it is worth for the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The condition.
    pub condition: String,
    /// The values of the row's fields that it names.
    pub values: Vec<String>,
    /// Whether it is satisfied; `None` when only SurrealDB can tell.
    pub holds: Option<bool>,
}

impl Cost {
    pub(super) fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.candidates += other.candidates;
        self.concerned += other.concerned;
        self.windows_read += other.windows_read;
    }
}

impl Engine {
    /// What a view is made of, if it is maintained; `query` is what it was opened with.
    #[must_use]
    pub fn explain(&self, view: &str, query: &Query) -> Option<Explained> {
        let group = self.group(*self.views.get(view)?);
        let mut explained = self.explain_block(group.block);
        explained.rows = group.count;
        explained.view_bytes = group.views.get(view)?.bytes;
        explained.equal_views = group.views.len();
        explained.values = self.values(group, query);
        Some(explained)
    }

    /// What changes cost the template of a view so far.
    #[must_use]
    pub fn cost(&self, view: &str) -> Cost {
        let block = self.views.get(view).map(|root| self.group(*root).block);
        block.map_or_else(Cost::default, |block| self.block(block).cost)
    }

    /// Why a row is or is not among the root rows of a view, if that is maintained; `query` is what it was
    /// opened with.
    #[must_use]
    pub fn why(&self, view: &str, query: &Query, record: &RecordId) -> Option<Why> {
        let root = *self.views.get(view)?;
        let group = self.group(root);
        let block = self.block(group.block);
        let out = |reason: String| Why { is_in: false, reason, conditions: Vec::new() };
        if record.table != block.key.table {
            return Some(out(format!("the view reads `{}`", block.key.table)));
        }
        let row = self.store.find(record);
        let Some(row) = row.filter(|row| self.store.image(*row, When::Now).is_some()) else {
            return Some(out("there is no such row".into()));
        };
        let name = |path: &Path| named(block, group, path);
        let equal = self.equal_values(group, query);
        let mut conditions = Vec::new();
        for (path, value) in block.key.equal.iter().zip(equal) {
            let own = self.world().at(row, When::Now).get(path).ok();
            let holds = own.as_ref().map(|own| value.as_ref().is_some_and(|value| **own == *value));
            let wanted = value.map_or_else(|| "its value".to_owned(), |value| value.to_string());
            conditions.push(Condition {
                condition: format!("{path} = {wanted}"),
                values: own.iter().map(|own| format!("{path}: {own}")).collect(),
                holds,
            });
        }
        for conjunct in block.key.residual.iter().chain(&block.key.open) {
            let at = self.at(group, row, When::Now);
            let mut paths = Vec::new();
            conjunct.visit(&mut |expr| {
                if let Expr::Field(path) = expr
                    && !paths.contains(&path)
                {
                    paths.push(path);
                }
            });
            let value = |path: &&Path| Some(format!("{path}: {}", at.get(path).ok()?));
            conditions.push(Condition {
                condition: self.text(conjunct, &name),
                values: paths.iter().filter_map(value).collect(),
                holds: at.all(std::slice::from_ref(conjunct)).ok(),
            });
        }
        let failed = conditions.iter().find(|condition| condition.holds != Some(true));
        let (is_in, reason) = match (failed, &group.window) {
            (Some(failed), _) if failed.holds.is_none() => {
                (false, format!("only SurrealDB can tell whether {}", failed.condition))
            }
            (Some(failed), _) => (false, format!("not so: {}", failed.condition)),
            (None, Some(window)) => match window.rows.iter().position(|other| *other == row) {
                Some(place) => (true, format!("it is number {} in the window", place + 1)),
                None => (false, "all conditions are met, and the window does not reach it".into()),
            },
            (None, None) => (true, "all conditions are met".into()),
        };
        Some(Why { is_in, reason, conditions })
    }

    fn explain_block(&self, id: BlockId) -> Explained {
        let block = self.block(id);
        let subqueries = block.key.children.iter();
        Explained {
            template: self.template(block),
            values: Vec::new(),
            found_by: self.found_by(block),
            index: block.source.map(|source| self.index(source)),
            groups: block.groups.len(),
            equal_views: 0,
            rows: block.groups.iter().map(|group| self.group(*group).count).sum(),
            view_bytes: 0,
            view_bytes_most: self.budget.view_bytes,
            template_bytes: self.template_bytes(id),
            template_bytes_most: self.budget.template_bytes,
            cost: block.cost,
            sets: block.atoms.iter().map(|atom| self.set(atom.set)).collect(),
            subqueries: subqueries
                .map(|child| (child.alias.clone(), self.explain_block(child.block)))
                .collect(),
        }
    }

    fn set(&self, id: SetId) -> SetExplained {
        let set = self.sets.at(id.0);
        let group = self.group(set.group);
        let template = self.template(self.block(group.block));
        SetExplained { value: set.value.to_string(), template, rows: group.count }
    }

    fn index(&self, id: SourceId) -> Index {
        let source = self.sources.at(id.0);
        let key = &source.key;
        let equal = key.equal.iter().map(Path::to_string);
        let each = key.each.iter().map(|path| format!("each of {path}"));
        let order =
            key.order.iter().flatten().map(|order| {
                format!("{}{}", order.path, if order.descending { " DESC" } else { "" })
            });
        let id = key.order.iter().map(|_| "id".to_owned());
        let columns = equal.chain(each).chain(order).chain(id).collect();
        Index { columns, entries: source.len(), users: source.refs }
    }

    fn found_by(&self, block: &Block) -> String {
        let equal: Vec<String> = block.key.equal.iter().map(Path::to_string).collect();
        let lift = block.lift.as_ref().map(|lift| format!("{:?} {}", lift.how, lift.path));
        match (equal.is_empty(), lift) {
            (false, None) => format!("the values of {}", equal.join(", ")),
            (false, Some(lift)) => format!("the values of {}, then {lift}", equal.join(", ")),
            (true, Some(lift)) => lift,
            (true, None) => super::router::described(block.key.routing()),
        }
    }

    /// A block's text; what its groups differ in is numbered.
    fn template(&self, block: &Block) -> String {
        let key = &block.key;
        let equal = key.equal.iter().enumerate();
        let mut conditions: Vec<String> =
            equal.map(|(number, path)| format!("{path} = ${}", number + 1)).collect();
        let name = |path: &Path| {
            let place = key.outer.iter().position(|other| other == path);
            format!("${}", key.equal.len() + place.unwrap_or(0) + 1)
        };
        let rest = key.residual.iter().chain(&key.open);
        conditions.extend(rest.map(|conjunct| self.text(conjunct, &name)));
        let mut text = format!("SELECT FROM {}", key.table);
        if !conditions.is_empty() {
            text += &format!(" WHERE {}", conditions.join(" AND "));
        }
        let Some(window) = &key.window else { return text };
        let order = window
            .order
            .iter()
            .map(|order| format!("{}{}", order.path, if order.descending { " DESC" } else { "" }));
        let order: Vec<String> = order.chain(["id".to_owned()]).collect();
        text += &format!(" ORDER BY {}", order.join(", "));
        if let Some(limit) = window.limit {
            text += &format!(" LIMIT {limit}");
        }
        if window.start > 0 {
            text += &format!(" START {}", window.start);
        }
        text
    }

    fn values(&self, group: &Group, query: &Query) -> Vec<String> {
        let block = self.block(group.block);
        let equal = self.equal_values(group, query).into_iter();
        let equal = equal.map(|value| value.map_or_else(|| "?".to_owned(), |it| it.to_string()));
        let outer = group.values[usize::from(block.by_id.is_some())..].iter();
        equal.chain(outer.map(Value::to_string)).collect()
    }

    /// The values of a group's equal columns, of which the group has the encodings only.
    fn equal_values(&self, group: &Group, query: &Query) -> Vec<Option<Value>> {
        let conjuncts = query.root.filter.clone().conjuncts();
        let value = |path: &Path| {
            conjuncts.iter().filter_map(equality).find_map(|(own, operand)| match operand {
                Operand::Const(value) if own == *path => Some(value),
                _ => None,
            })
        };
        self.block(group.block).key.equal.iter().map(value).collect()
    }

    fn text(&self, expr: &Expr<SetId>, name: &dyn Fn(&Path) -> String) -> String {
        let all = |operands: &[Expr<SetId>], word: &str| {
            let texts: Vec<String> =
                operands.iter().map(|operand| self.text(operand, name)).collect();
            format!("({})", texts.join(word))
        };
        match expr {
            Expr::Const(value) => value.to_string(),
            Expr::Field(path) => path.to_string(),
            Expr::Parent(path) => name(path),
            Expr::Not(operand) => format!("!({})", self.text(operand, name)),
            Expr::And(operands) => all(operands, " AND "),
            Expr::Or(operands) => all(operands, " OR "),
            Expr::Compare(how, left, right) => {
                format!("{} {} {}", self.text(left, name), symbol(*how), self.text(right, name))
            }
            Expr::In(operand, set) => {
                let set = self.set(*set);
                format!("{} IN ({} of {})", self.text(operand, name), set.value, set.template)
            }
            Expr::Coalesce(operands) => all(operands, " ?? "),
            Expr::Call(function, operands) => {
                let texts: Vec<String> =
                    operands.iter().map(|operand| self.text(operand, name)).collect();
                format!("{}({})", function.name(), texts.join(", "))
            }
        }
    }
}

/// What a group has in place of a name.
fn named(block: &Block, group: &Group, path: &Path) -> String {
    let place = block.key.outer.iter().position(|other| other == path);
    let value = place.map(|place| &group.values[usize::from(block.by_id.is_some()) + place]);
    value.map_or_else(|| path.to_string(), Value::to_string)
}

fn symbol(how: Comparison) -> String {
    let symbol = match how {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Exact => "==",
        Comparison::AllEqual => "*=",
        Comparison::AnyEqual => "?=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::More => ">",
        Comparison::MoreOrEqual => ">=",
        word => return format!("{word:?}").to_uppercase(),
    };
    symbol.to_owned()
}
