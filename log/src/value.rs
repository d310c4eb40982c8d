//! `Value`: a typed SurrealDB value, as a record carries it. It knows the types and their bytes;
//! order is in [`crate::order`], text in [`crate::text`], JSON in [`crate::json`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// An object's fields in key order.
pub type Object = BTreeMap<String, Value>;

/// A SurrealDB value, lossless: a datetime stays a datetime.
///
/// - The position of a variant is its number on disk and on the wire: variants are only ever appended.
/// - `Eq` and `Ord` are SurrealDB's own value order (see [`crate::order`]): `Int(1)`, `Float(1.0)` and
///   `Decimal(1)` are equal. Use [`Value::identical`] to tell them apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum Value {
    /// Absent.
    #[default]
    None,
    /// Present and null.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// An IEEE 754 double; NaN and the infinities are values like any other.
    Float(f64),
    /// An exact decimal of up to 28 digits.
    Decimal(#[serde(with = "decimal_bytes")] Decimal),
    /// UTF-8 text.
    String(String),
    /// Raw bytes.
    Bytes(#[serde(with = "byte_string")] Vec<u8>),
    /// A moment, to the nanosecond.
    Datetime(Datetime),
    /// A span of time, to the nanosecond.
    Duration(Duration),
    /// A UUID of any version.
    Uuid([u8; 16]),
    /// A link to a row.
    RecordId(#[serde(deserialize_with = "nested")] Box<RecordId>),
    /// The name of a table.
    Table(String),
    /// A reference to a file in a bucket.
    File(File),
    /// The source text of a regular expression.
    Regex(String),
    /// Values in order.
    Array(#[serde(deserialize_with = "nested")] Vec<Value>),
    /// Named fields.
    Object(#[serde(deserialize_with = "nested")] Object),
    /// Distinct values in value order.
    Set(#[serde(deserialize_with = "nested")] BTreeSet<Value>),
    /// Two bounds.
    Range(#[serde(deserialize_with = "nested")] Box<Range>),
    /// A shape on the plane.
    Geometry(Geometry),
}

/// A moment: seconds since 1970-01-01T00:00:00Z, and nanoseconds below one second after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Datetime {
    /// Whole seconds, negative before 1970.
    pub secs: i64,
    /// 0 to 999,999,999 (SurrealDB's leap-second form reaches 1,999,999,999).
    pub nanos: u32,
}

/// A span of time, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Duration {
    /// Whole seconds.
    pub secs: u64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// A reference to a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct File {
    /// The bucket's name.
    pub bucket: String,
    /// The path inside it, with its leading slash.
    pub key: String,
}

/// A range of values.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Lower bound.
    pub start: Bound<Value>,
    /// Upper bound.
    pub end: Bound<Value>,
}

/// A point: x (longitude), then y (latitude).
pub type Point = (f64, f64);

/// A shape on the plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Geometry {
    /// One point.
    Point(Point),
    /// Connected points.
    Line(Vec<Point>),
    /// The outer ring, then the holes.
    Polygon(Vec<Vec<Point>>),
    /// Points.
    MultiPoint(Vec<Point>),
    /// Lines.
    MultiLine(Vec<Vec<Point>>),
    /// Polygons.
    MultiPolygon(Vec<Vec<Vec<Point>>>),
    /// Shapes of any kind.
    Collection(#[serde(deserialize_with = "nested")] Vec<Geometry>),
}

/// The address of a row: its table and its key there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId {
    /// The table's name, unquoted.
    pub table: String,
    /// The key within the table.
    pub key: Key,
}

/// A row's key within its table.
///
/// - The order of the variants is SurrealDB's order of ids: integers, then strings, uuids, arrays, objects.
/// - `t:1` and ``t:`1` `` are different rows: an integer key never equals a string key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// `t:12`
    Int(i64),
    /// `t:abc`, ``t:`a-b` ``
    String(String),
    /// `t:u'018f...'`
    Uuid([u8; 16]),
    /// `t:[1, 'x']`
    Array(Vec<Value>),
    /// `t:{ a: 1 }`
    Object(Object),
}

impl RecordId {
    /// The row `key` of `table`.
    pub fn new(table: impl Into<String>, key: impl Into<Key>) -> Self {
        Self { table: table.into(), key: key.into() }
    }
}

impl From<i64> for Key {
    fn from(key: i64) -> Self {
        Self::Int(key)
    }
}

impl From<&str> for Key {
    fn from(key: &str) -> Self {
        Self::String(key.to_owned())
    }
}

impl From<String> for Key {
    fn from(key: String) -> Self {
        Self::String(key)
    }
}

impl Value {
    /// Whether this is [`Value::None`].
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The field `name` of an object; `None` for a missing field and for anything that is no object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(name),
            _ => None,
        }
    }
}

/// Deepest nesting of values that is read back, so that hostile bytes cannot exhaust the stack.
/// SurrealDB refuses to compute values nested deeper than 120.
pub const MAX_NESTING: usize = 256;

thread_local! {
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Reads what may contain values again, up to [`MAX_NESTING`] levels deep.
pub(crate) fn nested<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    let depth = DEPTH.get();
    if depth >= MAX_NESTING {
        return Err(serde::de::Error::custom("values are nested too deeply"));
    }
    DEPTH.set(depth + 1);
    let result = T::deserialize(from);
    DEPTH.set(depth);
    result
}

pub(crate) mod decimal_bytes {
    use rust_decimal::Decimal;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Decimal, to: S) -> Result<S::Ok, S::Error> {
        value.serialize().serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
        let bytes = <[u8; 16]>::deserialize(from)?;
        // The scale is byte 2 of the flags; `Decimal` itself does not refuse one above 28.
        if bytes[2] > 28 {
            return Err(serde::de::Error::custom("a decimal's scale is above 28"));
        }
        Ok(Decimal::deserialize(bytes))
    }
}

mod byte_string {
    use std::fmt;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        from.deserialize_byte_buf(Bytes)
    }
}
