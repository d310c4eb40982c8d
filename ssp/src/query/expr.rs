//! What expressions are worth, by SurrealDB's rules: two-valued logic over truthy values, one total order
//! over all types, NONE and NULL as values like any other.

use std::borrow::Cow;
use std::ops::Bound;

use revenant_log::{RecordId, Value};
use thiserror::Error;

use super::ir::{Comparison, Expr, Path};

/// A row holds something that only SurrealDB can answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Beyond {
    /// A path leads through a record link.
    #[error("a path leads through a record link")]
    Link,
    /// A path leads through an array.
    #[error("a path leads through an array")]
    Array,
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

/// The value at `path` of the row `id` with the content `body`; NONE where there is none.
pub(crate) fn at<'a>(
    id: &RecordId,
    body: &'a Value,
    path: &Path,
) -> Result<Cow<'a, Value>, Beyond> {
    if path.0[0] == "id" {
        return match path.0.len() {
            1 => Ok(Cow::Owned(Value::RecordId(Box::new(id.clone())))),
            _ => Err(Beyond::Link),
        };
    }
    let mut value = body;
    for name in &path.0 {
        value = match value {
            Value::Object(fields) => match fields.get(name) {
                Some(value) => value,
                None => return Ok(Cow::Owned(Value::None)),
            },
            Value::RecordId(_) => return Err(Beyond::Link),
            Value::Array(_) | Value::Set(_) => return Err(Beyond::Array),
            _ => return Ok(Cow::Owned(Value::None)),
        };
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
        })
    }

    /// Whether the expression is truthy.
    pub(crate) fn is_true(&self, scope: &impl Scope<S>) -> Result<bool, Beyond> {
        Ok(match self {
            Self::Not(operand) => !operand.is_true(scope)?,
            Self::And(operands) => {
                for operand in operands {
                    if !operand.is_true(scope)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Or(operands) => {
                for operand in operands {
                    if operand.is_true(scope)? {
                        return Ok(true);
                    }
                }
                false
            }
            other => is_truthy(&*other.value(scope)?),
        })
    }
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
