//! What expressions are worth, by SurrealDB's rules: two-valued logic over truthy values, one total order
//! over all types, NONE and NULL as values like any other.

use std::borrow::Cow;
use std::ops::Bound;

use revenant_log::{Key, RecordId, Value};
use thiserror::Error;

use super::ir::{Comparison, Expr, Path, Reach, Step};

/// A row holds something that only SurrealDB can answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Beyond {
    /// An order leads through a record link.
    #[error("an order leads through a record link")]
    Link,
    /// A path leads into a table that who asks may not read whole.
    #[error("a link leads into a table that not everybody may read whole")]
    Judged,
    /// A text has a number that SurrealDB's order of texts cannot hold.
    #[error("NUMERIC of a number of more than 19 digits")]
    Digits,
    /// An order leads through a list.
    #[error("an order leads through a list")]
    Array,
    /// A path leads into a shape.
    #[error("a path leads into a shape")]
    Shape,
    /// SurrealDB refuses what a function is given, or alone knows what it is worth.
    #[error("{0} has no answer for what a row gives it")]
    Call(&'static str),
    /// A string is compared with a regular expression.
    #[error("a string is compared with a regular expression")]
    Regex,
    /// Two shapes are compared by containment.
    #[error("shapes are compared by containment")]
    Geometry,
}

/// What an expression is evaluated against.
pub(crate) trait Scope<S> {
    /// A field of the row.
    fn field(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond>;
    /// A field of the outer row.
    fn parent(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond>;
    /// Whether a set holds a value.
    fn holds(&self, set: &S, value: &Value) -> Result<bool, Beyond>;
}

/// A row's id in parts, since rows of one table share its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address<'a> {
    pub(crate) table: &'a str,
    pub(crate) key: &'a Key,
}

impl Address<'_> {
    pub(crate) fn to_id(self) -> RecordId {
        RecordId { table: self.table.to_owned(), key: self.key.clone() }
    }

    fn to_value(self) -> Value {
        Value::RecordId(Box::new(self.to_id()))
    }
}

impl<'a> From<&'a RecordId> for Address<'a> {
    fn from(id: &'a RecordId) -> Self {
        Self { table: &id.table, key: &id.key }
    }
}

/// Rows by their id, for paths that lead through links.
pub(crate) trait Rows<'a>: Copy {
    /// What a row holds, if it exists.
    fn body(self, id: &RecordId) -> Option<&'a Value>;
}

/// The value at `path` of the row `id` with the content `body`; NONE where there is none.
pub(crate) fn at<'a>(
    id: Address<'_>,
    body: &'a Value,
    path: &Path,
    rows: impl Rows<'a>,
) -> Result<Cow<'a, Value>, Beyond> {
    let mut links = Links { see: |_: &RecordId| {}, reach: &path.1 };
    links.at(id, body, path, rows)
}

/// Calls `see` for every row that [`at`] asks for, whether it exists or not.
pub(crate) fn links<'a>(
    id: Address<'_>,
    body: &'a Value,
    path: &Path,
    rows: impl Rows<'a>,
    see: impl FnMut(&RecordId),
) {
    // Without an answer there is no view to maintain.
    let mut links = Links { see, reach: &path.1 };
    if let Err(beyond) = links.at(id, body, path, rows) {
        debug_assert!(
            matches!(beyond, Beyond::Shape | Beyond::Judged),
            "nothing else stops a path"
        );
    }
}

/// Goes along paths, and tells of every link it follows.
struct Links<'r, F> {
    see: F,
    reach: &'r Reach,
}

impl<F: FnMut(&RecordId)> Links<'_, F> {
    fn at<'a>(
        &mut self,
        id: Address<'_>,
        body: &'a Value,
        path: &Path,
        rows: impl Rows<'a>,
    ) -> Result<Cow<'a, Value>, Beyond> {
        let (mut value, steps) = if path.head() == "id" {
            (Cow::Owned(id.to_value()), &path.0[1..])
        } else {
            (Cow::Borrowed(body), &path.0[..])
        };
        for (place, step) in steps.iter().enumerate() {
            // SurrealDB maps what is left of a path over a list, unless it is at its last step.
            let maps = matches!((&*value, step), (Value::Array(_), Step::Field(_)));
            if maps && place + 1 < steps.len() {
                let items = match value.into_owned() {
                    Value::Array(items) => items,
                    other => vec![other],
                };
                let each = |item: Value| {
                    let each = &mut *self;
                    steps[place..].iter().try_fold(item, |item, step| each.step(&item, step, rows))
                };
                let items = items.into_iter().map(each).collect::<Result<_, _>>()?;
                return Ok(Cow::Owned(Value::Array(items)));
            }
            value = match value {
                Cow::Borrowed(value) => self.borrowed(value, step, rows)?,
                Cow::Owned(value) => match &value {
                    Value::RecordId(id) => self.follow(id, step, rows)?,
                    value => Cow::Owned(self.step(value, step, rows)?),
                },
            };
        }
        Ok(value)
    }

    /// A step into a value that outlives the path.
    fn borrowed<'a>(
        &mut self,
        value: &'a Value,
        step: &Step,
        rows: impl Rows<'a>,
    ) -> Result<Cow<'a, Value>, Beyond> {
        let found = match (value, step) {
            (Value::Object(fields), Step::Field(name)) => fields.get(name),
            (Value::RecordId(id), step) => return self.follow(id, step, rows),
            (Value::Array(items), Step::Index(index)) => items.get(*index),
            (Value::Array(items), Step::Last) => items.last(),
            (value, step) => return self.step(value, step, rows).map(Cow::Owned),
        };
        Ok(found.map_or(Cow::Owned(Value::None), Cow::Borrowed))
    }

    /// A step into the row that a link leads to, or into the parts of its key.
    fn follow<'a>(
        &mut self,
        id: &RecordId,
        step: &Step,
        rows: impl Rows<'a>,
    ) -> Result<Cow<'a, Value>, Beyond> {
        let itself = || Cow::Owned(Value::RecordId(Box::new(id.clone())));
        let found = match (step, &id.key) {
            (Step::Field(name), Key::Object(parts)) if parts.contains_key(name) => {
                return Ok(Cow::Owned(parts[name].clone()));
            }
            (Step::Field(_), _) if self.reach.is_denied(&id.table) => None,
            (Step::Field(name), _) => {
                (self.see)(id);
                match rows.body(id) {
                    Some(_) if self.reach.is_judged(&id.table) => return Err(Beyond::Judged),
                    Some(_) if name == "id" => return Ok(itself()),
                    Some(body) => body.field(name),
                    None => None,
                }
            }
            (Step::Index(index), Key::Array(parts)) => {
                return Ok(Cow::Owned(parts.get(*index).cloned().unwrap_or_default()));
            }
            (Step::Index(_), _) => None,
            // Of what is no list, the last is itself.
            (Step::Last, _) => return Ok(itself()),
        };
        Ok(found.map_or(Cow::Owned(Value::None), Cow::Borrowed))
    }

    fn step<'a>(
        &mut self,
        value: &Value,
        step: &Step,
        rows: impl Rows<'a>,
    ) -> Result<Value, Beyond> {
        let found = match (value, step) {
            (Value::Object(fields), Step::Field(name)) => fields.get(name).cloned(),
            (Value::Object(fields), Step::Index(index)) => fields.get(&index.to_string()).cloned(),
            (Value::RecordId(id), step) => Some(self.follow(id, step, rows)?.into_owned()),
            (Value::Array(items), Step::Field(_)) => {
                let each = |item: &Value| self.step(item, step, rows);
                Some(Value::Array(items.iter().map(each).collect::<Result<_, _>>()?))
            }
            (Value::Array(items), Step::Index(index)) => items.get(*index).cloned(),
            (Value::Set(items), Step::Index(index)) => items.iter().nth(*index).cloned(),
            (Value::Array(items), Step::Last) => items.last().cloned(),
            (Value::Set(items), Step::Last) => items.last().cloned(),
            (other, Step::Last) => Some(other.clone()),
            (Value::Geometry(_), Step::Field(_)) => return Err(Beyond::Shape),
            _ => None,
        };
        Ok(found.unwrap_or_default())
    }
}

/// The value at `path` for a sort key: SurrealDB does not follow links there.
pub(crate) fn sort_key<'a>(
    id: Address<'_>,
    body: &'a Value,
    path: &Path,
) -> Result<Cow<'a, Value>, Beyond> {
    if path.is_id() {
        return Ok(Cow::Owned(id.to_value()));
    }
    if path.head() == "id" {
        return Err(Beyond::Link);
    }
    let mut value = body;
    for step in &path.0 {
        let found = match (value, step) {
            (Value::Object(fields), Step::Field(name)) => fields.get(name),
            (Value::RecordId(_), _) => return Err(Beyond::Link),
            (Value::Array(_) | Value::Set(_), _) => return Err(Beyond::Array),
            (Value::Geometry(_), _) => return Err(Beyond::Shape),
            _ => None,
        };
        match found {
            Some(found) => value = found,
            None => return Ok(Cow::Owned(Value::None)),
        }
    }
    Ok(Cow::Borrowed(value))
}

impl<S> Expr<S> {
    /// What the expression is worth.
    pub(crate) fn value<'a>(&'a self, scope: &'a impl Scope<S>) -> Result<Cow<'a, Value>, Beyond> {
        let truth = |truth| Cow::Owned(Value::Bool(truth));
        Ok(match self {
            Self::Const(value) => Cow::Borrowed(value),
            Self::Field(path) => scope.field(path)?,
            Self::Parent(path) => scope.parent(path)?,
            Self::Not(operand) => truth(!operand.is_true(scope)?),
            Self::And(operands) => return first(operands, scope, false),
            Self::Or(operands) => return first(operands, scope, true),
            Self::Compare(how, left, right) => {
                truth(compare(*how, &*left.value(scope)?, &*right.value(scope)?)?)
            }
            Self::In(operand, set) => truth(scope.holds(set, &*operand.value(scope)?)?),
            Self::Coalesce(operands) => {
                let mut value = Cow::Owned(Value::None);
                for operand in operands {
                    value = operand.value(scope)?;
                    if !matches!(*value, Value::None | Value::Null) {
                        break;
                    }
                }
                value
            }
            Self::Call(function, operands) => {
                let values: Vec<_> = operands
                    .iter()
                    .map(|operand| operand.value(scope))
                    .collect::<Result<_, _>>()?;
                Cow::Owned(function.apply(&values)?)
            }
        })
    }

    /// Whether the expression is truthy. An operand that has no answer does not matter where another one
    /// decides; so if SurrealDB has an answer, in whichever order it asks, it is this one.
    pub(crate) fn is_true(&self, scope: &impl Scope<S>) -> Result<bool, Beyond> {
        match self {
            Self::Not(operand) => Ok(!operand.is_true(scope)?),
            Self::And(operands) => decide(operands, scope, false),
            Self::Or(operands) => decide(operands, scope, true),
            other => Ok(is_truthy(&*other.value(scope)?)),
        }
    }
}

/// Whether an operand's truth is `sought`, as a truth: `sought` if one is, else its contrary.
pub(crate) fn decide<S>(
    operands: &[Expr<S>],
    scope: &impl Scope<S>,
    sought: bool,
) -> Result<bool, Beyond> {
    let mut beyond = None;
    for operand in operands {
        match operand.is_true(scope) {
            Ok(truth) if truth == sought => return Ok(sought),
            Ok(_) => {}
            Err(met) => beyond = beyond.or(Some(met)),
        }
    }
    beyond.map_or(Ok(!sought), Err)
}

/// The first operand whose truth is `sought`, else the last.
fn first<'a, S>(
    operands: &'a [Expr<S>],
    scope: &'a impl Scope<S>,
    sought: bool,
) -> Result<Cow<'a, Value>, Beyond> {
    let mut value = Cow::Owned(Value::Bool(!sought));
    for operand in operands {
        value = operand.value(scope)?;
        if is_truthy(&value) == sought {
            break;
        }
    }
    Ok(value)
}

/// Whether SurrealDB takes a value for true.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Int(value) => *value != 0,
        Value::Float(value) => *value != 0.0,
        Value::Decimal(value) => !value.is_zero(),
        Value::String(value) => !value.is_empty(),
        Value::Bytes(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Set(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
        Value::Duration(value) => value.secs > 0 || value.nanos > 0,
        Value::Datetime(_) | Value::Uuid(_) | Value::RecordId(_) | Value::Geometry(_) => true,
        Value::None
        | Value::Null
        | Value::Table(_)
        | Value::File(_)
        | Value::Regex(_)
        | Value::Range(_) => false,
    }
}

/// Whether `left how right`.
pub(crate) fn compare(how: Comparison, left: &Value, right: &Value) -> Result<bool, Beyond> {
    Ok(match how {
        Comparison::Equal => equal(left, right)?,
        Comparison::NotEqual => !equal(left, right)?,
        Comparison::Exact => left == right,
        Comparison::AllEqual => all(items(left), |item| equal(item, right))?,
        Comparison::AnyEqual => any(items(left), |item| equal(item, right))?,
        Comparison::Less => left < right,
        Comparison::LessOrEqual => left <= right,
        Comparison::More => left > right,
        Comparison::MoreOrEqual => left >= right,
        Comparison::Contains => contains(left, right)?,
        Comparison::ContainsNot => !contains(left, right)?,
        Comparison::ContainsAll => contains_many(left, right, true)?,
        Comparison::ContainsAny => contains_many(left, right, false)?,
        Comparison::ContainsNone => !contains_many(left, right, false)?,
        Comparison::Inside => contains(right, left)?,
        Comparison::NotInside => !contains(right, left)?,
        Comparison::AllInside => contains_many(right, left, true)?,
        Comparison::AnyInside => contains_many(right, left, false)?,
        Comparison::NoneInside => !contains_many(right, left, false)?,
    })
}

fn equal(left: &Value, right: &Value) -> Result<bool, Beyond> {
    match (left, right) {
        (Value::String(_), Value::Regex(_)) | (Value::Regex(_), Value::String(_)) => {
            Err(Beyond::Regex)
        }
        (left, right) => Ok(left == right),
    }
}

/// The elements of a list, or the value alone.
fn items(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Set(items) => Box::new(items.iter()),
        other => Box::new(std::iter::once(other)),
    }
}

fn is_list(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Set(_))
}

fn all<'a>(
    items: impl Iterator<Item = &'a Value>,
    test: impl Fn(&Value) -> Result<bool, Beyond>,
) -> Result<bool, Beyond> {
    Ok(!any(items, |item| Ok(!test(item)?))?)
}

fn any<'a>(
    mut items: impl Iterator<Item = &'a Value>,
    test: impl Fn(&Value) -> Result<bool, Beyond>,
) -> Result<bool, Beyond> {
    items.try_fold(false, |found, item| Ok(found || test(item)?))
}

fn contains(container: &Value, value: &Value) -> Result<bool, Beyond> {
    Ok(match (container, value) {
        (Value::Array(items), _) => any(items.iter(), |item| equal(item, value))?,
        (Value::Set(items), _) => items.contains(value),
        (Value::Uuid(uuid), Value::String(part)) => {
            uuid::Uuid::from_bytes(*uuid).to_string().contains(part.as_str())
        }
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Object(fields), Value::String(name)) => fields.contains_key(name),
        (Value::Range(range), _) => {
            let from = match &range.start {
                Bound::Unbounded => true,
                Bound::Included(start) => start <= value,
                Bound::Excluded(start) => start < value,
            };
            from && match &range.end {
                Bound::Unbounded => true,
                Bound::Included(end) => end >= value,
                Bound::Excluded(end) => end > value,
            }
        }
        (Value::Geometry(_), Value::Geometry(_)) => return Err(Beyond::Geometry),
        _ => false,
    })
}

/// Whether `container` contains all, or any, of `values`.
fn contains_many(container: &Value, values: &Value, every: bool) -> Result<bool, Beyond> {
    let one = |value: &Value| -> Result<bool, Beyond> {
        match container {
            Value::Array(_) | Value::Set(_) => any(items(container), |item| equal(value, item)),
            Value::Geometry(_) if matches!(value, Value::Geometry(_)) => Err(Beyond::Geometry),
            _ => Ok(false),
        }
    };
    match (container, values) {
        (Value::String(text), list)
            if is_list(list) && items(list).all(|item| matches!(item, Value::String(_))) =>
        {
            let found =
                |item: &Value| matches!(item, Value::String(part) if text.contains(part.as_str()));
            Ok(if every { items(list).all(found) } else { items(list).any(found) })
        }
        (_, list) if is_list(list) && every => all(items(list), one),
        (_, list) if is_list(list) => any(items(list), one),
        (Value::String(text), Value::String(part)) => Ok(text.contains(part.as_str())),
        _ => Ok(false),
    }
}
