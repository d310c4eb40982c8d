//! The naive evaluation: every row is looked at, nothing is remembered. It is slow and plain, and says what
//! the engine's views must be.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use revenant_log::{Key, RecordId, Value};

use super::expr::{self, Beyond, Scope};
use super::ir::{Block, Comparison, Path, Query, Subselect};

/// Rows of every table, in the order of ids.
pub type Tables = BTreeMap<String, BTreeMap<Key, (u64, Value)>>;

/// A row of a result, with the rows of its subqueries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The row.
    pub record: RecordId,
    /// Its version.
    pub version: u64,
    /// By alias, the rows of each subquery.
    pub children: BTreeMap<String, BTreeSet<Member>>,
}

/// The rows that `query` returns.
///
/// # Errors
/// A row holds what only SurrealDB can answer for.
pub fn evaluate(query: &Query, tables: &Tables) -> Result<BTreeSet<Member>, Beyond> {
    Ok(members(&query.root, tables, None)?.into_iter().collect())
}

fn members(
    block: &Block,
    tables: &Tables,
    parent: Option<&Row<'_>>,
) -> Result<Vec<Member>, Beyond> {
    let mut members = Vec::new();
    for row in rows(block, tables, parent)? {
        let mut children = BTreeMap::new();
        for child in &block.children {
            let rows = self::members(&child.block, tables, Some(&row))?;
            children.insert(child.alias.clone(), rows.into_iter().collect());
        }
        members.push(Member { record: row.id, version: row.version, children });
    }
    Ok(members)
}

struct Row<'a> {
    id: RecordId,
    version: u64,
    body: &'a Value,
}

/// The rows of a block, in order.
fn rows<'a>(
    block: &Block,
    tables: &'a Tables,
    parent: Option<&Row<'_>>,
) -> Result<Vec<Row<'a>>, Beyond> {
    let mut found = Vec::new();
    for (key, (version, body)) in tables.get(&block.table).into_iter().flatten() {
        let id = RecordId { table: block.table.clone(), key: key.clone() };
        let row = Row { id, version: *version, body };
        if block.filter.is_true(&At { row: &row, parent, tables })? {
            let key = |order: &super::ir::OrderBy| {
                expr::sort_key((&row.id).into(), row.body, &order.path).map(Cow::into_owned)
            };
            let keys: Vec<Value> = block.order.iter().map(key).collect::<Result<_, _>>()?;
            found.push((keys, row));
        }
    }
    let mut beyond = None;
    // The sort is stable, so ties stay in the order of ids.
    found.sort_by(|(one, _), (other, _)| {
        let keys = one.iter().zip(other).zip(&block.order);
        keys.map(|((one, other), order)| match order.collation.compare(one, other) {
            Ok(found) if order.descending => found.reverse(),
            Ok(found) => found,
            Err(met) => {
                beyond = Some(met);
                Ordering::Equal
            }
        })
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
    });
    if let Some(beyond) = beyond {
        return Err(beyond);
    }
    let rows = found.into_iter().map(|(_, row)| row);
    Ok(rows.skip(block.start).take(block.limit.unwrap_or(usize::MAX)).collect())
}

struct At<'a> {
    row: &'a Row<'a>,
    parent: Option<&'a Row<'a>>,
    tables: &'a Tables,
}

impl<'a> expr::Rows<'a> for &'a Tables {
    fn body(self, id: &RecordId) -> Option<&'a Value> {
        self.get(&id.table)?.get(&id.key).map(|(_, body)| body)
    }
}

impl Scope<Subselect> for At<'_> {
    fn field(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond> {
        expr::at((&self.row.id).into(), self.row.body, path, self.tables)
    }

    fn parent(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond> {
        match self.parent {
            Some(parent) => expr::at((&parent.id).into(), parent.body, path, self.tables),
            None => Ok(Cow::Owned(Value::None)),
        }
    }

    fn holds(&self, set: &Subselect, value: &Value) -> Result<bool, Beyond> {
        for row in rows(&set.block, self.tables, None)? {
            let found = expr::at((&row.id).into(), row.body, &set.value, self.tables)?;
            if expr::compare(Comparison::Equal, &found, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
