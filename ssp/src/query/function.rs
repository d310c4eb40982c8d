//! Functions and operators of values alone, as SurrealDB 3.3.5 computes them. What is not here, or not for
//! arguments of such types, is left to SurrealDB: an answer is equal, or there is none.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};

use revenant_log::value::{Datetime, Duration, Object};
use revenant_log::{Key, RecordId, Value};
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive as _;

use super::expr::{Beyond, is_truthy};

/// SurrealDB refuses to make texts above 1 MiB, unless it is told otherwise; far below is sure.
const TEXT_MOST: usize = 1 << 16;

/// Beyond these seconds of either sign lies the end of SurrealDB's calendar.
const DATETIME_MOST: i64 = 8_000_000_000_000;

/// A function of values alone.
#[derive(Clone, Copy)]
pub struct Function(&'static Entry);

type Arguments<'a> = &'a [Cow<'a, Value>];

struct Entry {
    name: &'static str,
    least: usize,
    most: usize,
    /// It has an answer whatever the arguments are.
    total: bool,
    apply: fn(Arguments<'_>) -> Option<Value>,
}

impl Function {
    /// The function or operator of this name for so many arguments.
    #[must_use]
    pub fn named(name: &str, arguments: usize) -> Option<Self> {
        let found = TABLE.iter().find(|entry| entry.name == name)?;
        (found.least..=found.most).contains(&arguments).then_some(Self(found))
    }

    /// Its name in a query.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Every name.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|entry| entry.name)
    }

    /// Whether it has an answer for all arguments.
    #[must_use]
    pub fn is_total(self) -> bool {
        self.0.total
    }

    /// What it is worth.
    ///
    /// # Errors
    /// SurrealDB refuses these arguments, or only it knows the answer.
    pub fn apply(self, arguments: &[Cow<'_, Value>]) -> Result<Value, Beyond> {
        (self.0.apply)(arguments).ok_or(Beyond::Call(self.0.name))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

const fn partial(
    name: &'static str,
    least: usize,
    most: usize,
    apply: fn(Arguments<'_>) -> Option<Value>,
) -> Entry {
    Entry { name, least, most, total: false, apply }
}

const fn total(name: &'static str, apply: fn(Arguments<'_>) -> Option<Value>) -> Entry {
    Entry { name, least: 1, most: 1, total: true, apply }
}

/// An operator's name is its sign; `[]` makes an array, and `neg` is the prefix `-`.
static TABLE: &[Entry] = &[
    partial("+", 2, 2, |a| add(&a[0], &a[1])),
    partial("-", 2, 2, |a| subtract(&a[0], &a[1])),
    partial("*", 2, 2, |a| number(&a[0], &a[1], Arithmetic::Multiply)),
    partial("/", 2, 2, |a| divide(&a[0], &a[1])),
    partial("%", 2, 2, |a| number(&a[0], &a[1], Arithmetic::Remainder)),
    partial("neg", 1, 1, |a| negate(&a[0])),
    Entry {
        name: "[]",
        least: 0,
        most: usize::MAX,
        total: true,
        apply: |a| Some(Value::Array(a.iter().map(|item| item.clone().into_owned()).collect())),
    },
    total("not", |a| bool(!is_truthy(&a[0]))),
    total("count", |a| match &*a[0] {
        Value::Array(items) => count(items.iter().filter(|item| is_truthy(item)).count()),
        Value::Set(items) => count(items.iter().filter(|item| is_truthy(item)).count()),
        other => Some(Value::Int(i64::from(is_truthy(other)))),
    }),
    total("type::is_array", |a| bool(matches!(&*a[0], Value::Array(_)))),
    total("type::is_bool", |a| bool(matches!(&*a[0], Value::Bool(_)))),
    total("type::is_bytes", |a| bool(matches!(&*a[0], Value::Bytes(_)))),
    total("type::is_datetime", |a| bool(matches!(&*a[0], Value::Datetime(_)))),
    total("type::is_decimal", |a| bool(matches!(&*a[0], Value::Decimal(_)))),
    total("type::is_duration", |a| bool(matches!(&*a[0], Value::Duration(_)))),
    total("type::is_float", |a| bool(matches!(&*a[0], Value::Float(_)))),
    total("type::is_geometry", |a| bool(matches!(&*a[0], Value::Geometry(_)))),
    total("type::is_int", |a| bool(matches!(&*a[0], Value::Int(_)))),
    total("type::is_none", |a| bool(matches!(&*a[0], Value::None))),
    total("type::is_null", |a| bool(matches!(&*a[0], Value::Null))),
    total("type::is_number", |a| bool(is_number(&a[0]))),
    total("type::is_object", |a| bool(matches!(&*a[0], Value::Object(_)))),
    total("type::is_range", |a| bool(matches!(&*a[0], Value::Range(_)))),
    partial("type::is_record", 1, 2, |a| match (&*a[0], a.get(1)) {
        (value, None) => bool(matches!(value, Value::RecordId(_))),
        (value, Some(table)) => {
            let table = text(table)?;
            bool(matches!(value, Value::RecordId(id) if id.table == table))
        }
    }),
    total("type::is_set", |a| bool(matches!(&*a[0], Value::Set(_)))),
    total("type::is_string", |a| bool(matches!(&*a[0], Value::String(_)))),
    total("type::is_uuid", |a| bool(matches!(&*a[0], Value::Uuid(_)))),
    partial("string::len", 1, 1, |a| count(text(&a[0])?.chars().count())),
    partial("string::lowercase", 1, 1, |a| string(text(&a[0])?.to_lowercase())),
    partial("string::uppercase", 1, 1, |a| string(text(&a[0])?.to_uppercase())),
    partial("string::trim", 1, 1, |a| string(text(&a[0])?.trim().to_owned())),
    partial("string::reverse", 1, 1, |a| string(text(&a[0])?.chars().rev().collect())),
    partial("string::starts_with", 2, 2, |a| bool(text(&a[0])?.starts_with(text(&a[1])?))),
    partial("string::ends_with", 2, 2, |a| bool(text(&a[0])?.ends_with(text(&a[1])?))),
    partial("string::contains", 2, 2, |a| bool(text(&a[0])?.contains(text(&a[1])?))),
    partial("string::concat", 0, usize::MAX, |a| {
        string(a.iter().map(|part| plain(part)).collect::<Option<String>>()?)
    }),
    partial("string::join", 1, usize::MAX, |a| {
        let parts: Vec<_> = a.iter().map(|part| plain(part)).collect::<Option<_>>()?;
        string(parts[1..].join(&parts[0]))
    }),
    partial("string::replace", 3, 3, |a| string(text(&a[0])?.replace(text(&a[1])?, text(&a[2])?))),
    partial("string::slice", 1, 3, |a| {
        let text = text(&a[0])?;
        let Some(start) = a.get(1) else { return string(text.to_owned()) };
        let (start, end) = (int(start)?, a.get(2).map_or(Some(None), |end| int(end).map(Some))?);
        let (skip, take) = part(text.chars().count(), start, end);
        string(text.chars().skip(skip).take(take).collect())
    }),
    partial("string::split", 2, 2, |a| {
        let parts = text(&a[0])?.split(text(&a[1])?);
        Some(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
    }),
    partial("string::words", 1, 1, |a| {
        let words = text(&a[0])?.split_whitespace();
        Some(Value::Array(words.map(|word| Value::String(word.to_owned())).collect()))
    }),
    partial("string::is_alpha", 1, 1, |a| every_char(&a[0], char::is_alphabetic)),
    partial("string::is_alphanum", 1, 1, |a| every_char(&a[0], char::is_alphanumeric)),
    partial("string::is_ascii", 1, 1, |a| every_char(&a[0], |char| char.is_ascii())),
    partial("string::is_hexadecimal", 1, 1, |a| every_char(&a[0], |char| char.is_ascii_hexdigit())),
    partial("string::is_numeric", 1, 1, |a| every_char(&a[0], char::is_numeric)),
    partial("array::len", 1, 1, |a| count(array(&a[0])?.len())),
    partial("array::is_empty", 1, 1, |a| bool(array(&a[0])?.is_empty())),
    partial("array::first", 1, 1, |a| Some(array(&a[0])?.first().cloned().unwrap_or_default())),
    partial("array::last", 1, 1, |a| Some(array(&a[0])?.last().cloned().unwrap_or_default())),
    partial("array::at", 2, 2, |a| {
        let (items, index) = (array(&a[0])?, int(&a[1])?);
        let index = if index < 0 { index.checked_add(count_of(items)?)? } else { index };
        let item = usize::try_from(index).ok().and_then(|index| items.get(index));
        Some(item.cloned().unwrap_or_default())
    }),
    partial("array::max", 1, 1, |a| Some(array(&a[0])?.iter().max().cloned().unwrap_or_default())),
    partial("array::min", 1, 1, |a| Some(array(&a[0])?.iter().min().cloned().unwrap_or_default())),
    partial("array::any", 1, 2, |a| match a.get(1) {
        None => bool(array(&a[0])?.iter().any(is_truthy)),
        Some(value) => bool(array(&a[0])?.contains(value)),
    }),
    partial("array::all", 1, 2, |a| match a.get(1) {
        None => bool(array(&a[0])?.iter().all(is_truthy)),
        Some(value) => bool(array(&a[0])?.iter().all(|item| *item == **value)),
    }),
    partial("array::append", 2, 2, |a| {
        let mut items = array(&a[0])?.to_vec();
        items.push(a[1].clone().into_owned());
        Some(Value::Array(items))
    }),
    partial("array::prepend", 2, 2, |a| {
        let mut items = vec![a[1].clone().into_owned()];
        items.extend_from_slice(array(&a[0])?);
        Some(Value::Array(items))
    }),
    partial("array::concat", 0, usize::MAX, |a| {
        let parts: Vec<_> = a.iter().map(|part| array(part)).collect::<Option<_>>()?;
        Some(Value::Array(parts.concat()))
    }),
    partial("array::reverse", 1, 1, |a| {
        Some(Value::Array(array(&a[0])?.iter().rev().cloned().collect()))
    }),
    partial("array::join", 2, 2, |a| {
        let parts: Vec<_> = array(&a[0])?.iter().map(plain).collect::<Option<_>>()?;
        string(parts.join(text(&a[1])?))
    }),
    partial("object::len", 1, 1, |a| count(object(&a[0])?.len())),
    partial("object::is_empty", 1, 1, |a| bool(object(&a[0])?.is_empty())),
    partial("object::keys", 1, 1, |a| {
        Some(Value::Array(object(&a[0])?.keys().cloned().map(Value::String).collect()))
    }),
    partial("object::values", 1, 1, |a| {
        Some(Value::Array(object(&a[0])?.values().cloned().collect()))
    }),
    partial("record::id", 1, 1, |a| {
        Some(match &record(&a[0])?.key {
            Key::Int(key) => Value::Int(*key),
            Key::String(key) => Value::String(key.clone()),
            Key::Uuid(key) => Value::Uuid(*key),
            Key::Array(key) => Value::Array(key.clone()),
            Key::Object(key) => Value::Object(key.clone()),
        })
    }),
    partial("record::tb", 1, 1, |a| string(record(&a[0])?.table.clone())),
    partial("record::table", 1, 1, |a| string(record(&a[0])?.table.clone())),
    partial("math::abs", 1, 1, |a| match &*a[0] {
        Value::Int(value) => value.checked_abs().map(Value::Int),
        Value::Float(value) => Some(Value::Float(value.abs())),
        Value::Decimal(value) => Some(Value::Decimal(value.abs())),
        _ => None,
    }),
    partial("math::ceil", 1, 1, |a| rounded(&a[0], f64::ceil, |value| value.ceil())),
    partial("math::floor", 1, 1, |a| rounded(&a[0], f64::floor, |value| value.floor())),
    partial("math::round", 1, 1, |a| rounded(&a[0], f64::round, |value| value.round())),
    partial("math::max", 1, 1, |a| {
        Some(numbers(&a[0])?.iter().max().cloned().unwrap_or(Value::Float(f64::NEG_INFINITY)))
    }),
    partial("math::min", 1, 1, |a| {
        Some(numbers(&a[0])?.iter().min().cloned().unwrap_or(Value::Float(f64::INFINITY)))
    }),
    partial("math::sum", 1, 1, |a| sum(Value::Int(0), numbers(&a[0])?)),
    partial("math::mean", 1, 1, |a| {
        let items = numbers(&a[0])?;
        if items.is_empty() {
            return Some(Value::Float(f64::NAN));
        }
        // The sum begins with a float and stays one unless a decimal comes.
        match (sum(Value::Float(0.0), items)?, u32::try_from(items.len()).ok()?) {
            (Value::Float(sum), count) => Some(Value::Float(sum / f64::from(count))),
            (Value::Decimal(sum), count) => sum.checked_div(count.into()).map(Value::Decimal),
            _ => None,
        }
    }),
];

fn bool(value: bool) -> Option<Value> {
    Some(Value::Bool(value))
}

fn count(value: usize) -> Option<Value> {
    i64::try_from(value).ok().map(Value::Int)
}

fn count_of(items: &[Value]) -> Option<i64> {
    i64::try_from(items.len()).ok()
}

fn string(value: String) -> Option<Value> {
    (value.len() <= TEXT_MOST).then_some(Value::String(value))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A value as text without quotes, for the types whose text is beyond doubt.
fn plain(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Int(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::None => "NONE".into(),
        Value::Null => "NULL".into(),
        _ => return None,
    })
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn object(value: &Value) -> Option<&Object> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn record(value: &Value) -> Option<&RecordId> {
    match value {
        Value::RecordId(id) => Some(id),
        _ => None,
    }
}

fn is_number(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_) | Value::Decimal(_))
}

/// An integer, or a number that is one.
fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        _ => None,
    }
}

fn numbers(value: &Value) -> Option<&[Value]> {
    array(value).filter(|items| items.iter().all(is_number))
}

fn every_char(value: &Value, test: impl Fn(char) -> bool) -> Option<Value> {
    let text = text(value)?;
    bool(!text.is_empty() && text.chars().all(test))
}

fn rounded(
    value: &Value,
    float: impl Fn(f64) -> f64,
    decimal: impl Fn(&Decimal) -> Decimal,
) -> Option<Value> {
    match value {
        Value::Int(value) => Some(Value::Int(*value)),
        Value::Float(value) => Some(Value::Float(float(*value))),
        Value::Decimal(value) => Some(Value::Decimal(decimal(value))),
        _ => None,
    }
}

/// Which characters `start` and `end` mean, as how many are skipped and how many taken; a negative one counts from
/// the end.
fn part(count: usize, start: i64, end: Option<i64>) -> (usize, usize) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let start = if start < 0 { count.saturating_add(start).max(0) } else { start };
    let end = match end {
        None => i64::MAX,
        Some(end) if end < 0 => count.saturating_add(end),
        Some(end) => end,
    };
    let number = |value: i64| usize::try_from(value).unwrap_or(0);
    (number(start), number(end.saturating_sub(start)))
}

#[derive(Clone, Copy)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// Arithmetic on numbers: of the same kind it stays there, an int with a float is a float, and any other
/// pair is of decimals. None where it overflows, or what is given is no number.
fn number(left: &Value, right: &Value, how: Arithmetic) -> Option<Value> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => match how {
            Arithmetic::Add => left.checked_add(*right),
            Arithmetic::Subtract => left.checked_sub(*right),
            Arithmetic::Multiply => left.checked_mul(*right),
            Arithmetic::Divide => left.checked_div(*right),
            Arithmetic::Remainder => left.checked_rem(*right),
        }
        .map(Value::Int),
        (Value::Float(left), Value::Float(right)) => float(*left, *right, how),
        #[allow(clippy::cast_precision_loss, reason = "SurrealDB rounds an int so")]
        (Value::Int(left), Value::Float(right)) => float(*left as f64, *right, how),
        #[allow(clippy::cast_precision_loss, reason = "SurrealDB rounds an int so")]
        (Value::Float(left), Value::Int(right)) => float(*left, *right as f64, how),
        (left, right) => {
            let (left, right) = (decimal(left)?, decimal(right)?);
            match how {
                Arithmetic::Add => left.checked_add(right),
                Arithmetic::Subtract => left.checked_sub(right),
                Arithmetic::Multiply => left.checked_mul(right),
                Arithmetic::Divide => left.checked_div(right),
                Arithmetic::Remainder => left.checked_rem(right),
            }
            .map(Value::Decimal)
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "an arm among those that may have no answer")]
fn float(left: f64, right: f64, how: Arithmetic) -> Option<Value> {
    Some(Value::Float(match how {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
        Arithmetic::Remainder => left % right,
    }))
}

/// A float that no decimal can hold is zero.
fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Int(value) => Some(Decimal::from(*value)),
        Value::Float(value) => Some(Decimal::from_f64(*value).unwrap_or_default()),
        Value::Decimal(value) => Some(*value),
        _ => None,
    }
}

fn sum(from: Value, items: &[Value]) -> Option<Value> {
    items.iter().try_fold(from, |sum, item| number(&sum, item, Arithmetic::Add))
}

fn add(left: &Value, right: &Value) -> Option<Value> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => string(format!("{left}{right}")),
        (Value::Array(left), Value::Array(right)) => {
            Some(Value::Array(left.iter().chain(right).cloned().collect()))
        }
        (Value::Datetime(at), Value::Duration(span))
        | (Value::Duration(span), Value::Datetime(at)) => moved(*at, *span, true),
        (Value::Duration(left), Value::Duration(right)) => {
            std(*left).checked_add(std(*right)).map(span)
        }
        (left, right) => number(left, right, Arithmetic::Add),
    }
}

fn subtract(left: &Value, right: &Value) -> Option<Value> {
    match (left, right) {
        (Value::Datetime(at), Value::Duration(span)) => moved(*at, *span, false),
        (Value::Datetime(left), Value::Datetime(right)) => {
            let nanos = |at: &Datetime| {
                (at.nanos < 1_000_000_000)
                    .then(|| i128::from(at.secs) * 1_000_000_000 + i128::from(at.nanos))
            };
            let nanos = u128::try_from(nanos(left)? - nanos(right)?).ok()?;
            let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
            let nanos = u32::try_from(nanos % 1_000_000_000).ok()?;
            Some(Value::Duration(Duration { secs, nanos }))
        }
        (Value::Duration(left), Value::Duration(right)) => {
            std(*left).checked_sub(std(*right)).map(span)
        }
        (left, right) => number(left, right, Arithmetic::Subtract),
    }
}

/// Whatever cannot be divided is NaN; a duration is left to SurrealDB.
fn divide(left: &Value, right: &Value) -> Option<Value> {
    if matches!(left, Value::Duration(_)) {
        return None;
    }
    Some(number(left, right, Arithmetic::Divide).unwrap_or(Value::Float(f64::NAN)))
}

fn negate(value: &Value) -> Option<Value> {
    match value {
        Value::Int(value) => value.checked_neg().map(Value::Int),
        Value::Float(value) => Some(Value::Float(-value)),
        Value::Decimal(value) => Some(Value::Decimal(-*value)),
        _ => None,
    }
}

fn std(span: Duration) -> std::time::Duration {
    std::time::Duration::new(span.secs, span.nanos)
}

fn span(span: std::time::Duration) -> Value {
    Value::Duration(Duration { secs: span.as_secs(), nanos: span.subsec_nanos() })
}

fn moved(at: Datetime, span: Duration, later: bool) -> Option<Value> {
    if at.nanos >= 1_000_000_000 {
        return None;
    }
    let (secs, nanos) = (i64::try_from(span.secs).ok()?, i64::from(span.nanos));
    let (secs, nanos) = if later { (secs, nanos) } else { (-secs, -nanos) };
    let nanos = i64::from(at.nanos) + nanos;
    let secs = at.secs.checked_add(secs)?.checked_add(nanos.div_euclid(1_000_000_000))?;
    let nanos = u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
    (secs.abs() <= DATETIME_MOST).then_some(Value::Datetime(Datetime { secs, nanos }))
}
