//! The one total order of values, SurrealDB's own, and its memcmp encoding: comparing two encodings
//! byte by byte is comparing the values. It does no I/O and knows nothing of records.
//!
//! - Across types: none, null, bool, number, string, duration, datetime, uuid, array, set, object,
//!   geometry, bytes, table, record id, file, regex, range.
//! - Numbers compare by their exact value whatever their type; NaN lies beyond the infinities.
//! - Equal values encode to equal bytes, and an encoding never is the start of another, so
//!   encodings of columns can be joined.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::ops::Bound;

use rust_decimal::Decimal;

use crate::value::{Geometry, Key, Object, Point, Range, RecordId, Value};

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Duration(a), Self::Duration(b)) => a.cmp(b),
            (Self::Datetime(a), Self::Datetime(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => a.cmp(b),
            (Self::Set(a), Self::Set(b)) => a.cmp(b),
            (Self::Object(a), Self::Object(b)) => a.cmp(b),
            (Self::Geometry(a), Self::Geometry(b)) => a.cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Table(a), Self::Table(b)) => a.cmp(b),
            (Self::RecordId(a), Self::RecordId(b)) => a.cmp(b),
            (Self::File(a), Self::File(b)) => a.cmp(b),
            (Self::Regex(a), Self::Regex(b)) => a.cmp(b),
            (Self::Range(a), Self::Range(b)) => a.cmp(b),
            (a, b) => match (Number::of(a), Number::of(b)) {
                (Some(a), Some(b)) => a.cmp(b),
                _ => rank(a).cmp(&rank(b)),
            },
        }
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Self::String(text) = self {
            rank(self).hash(state);
            text.hash(state);
            return;
        }
        let mut bytes = Vec::with_capacity(32);
        encode_value(self, &mut bytes);
        bytes.hash(state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Int(key) => (0u8, key).hash(state),
            Self::String(key) => (1u8, key).hash(state),
            Self::Uuid(key) => (2u8, key).hash(state),
            Self::Array(key) => (3u8, key).hash(state),
            Self::Object(key) => (4u8, key).hash(state),
        }
    }
}

impl Hash for RecordId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.table.hash(state);
        self.key.hash(state);
    }
}

impl Value {
    /// Whether both have the same type and the same content all the way down: `1`, `1f` and `1dec` are
    /// equal but not identical. NaNs of the same bits are identical, `0f` and `-0f` are not.
    #[must_use]
    pub fn identical(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Decimal(a), Self::Decimal(b)) => a.serialize() == b.serialize(),
            (Self::Array(a), Self::Array(b)) => same(a.iter(), b.iter()),
            (Self::Set(a), Self::Set(b)) => same(a.iter(), b.iter()),
            (Self::Object(a), Self::Object(b)) => same_fields(a, b),
            (Self::RecordId(a), Self::RecordId(b)) => {
                a.table == b.table
                    && match (&a.key, &b.key) {
                        (Key::Array(a), Key::Array(b)) => same(a.iter(), b.iter()),
                        (Key::Object(a), Key::Object(b)) => same_fields(a, b),
                        (a, b) => a == b,
                    }
            }
            (Self::Range(a), Self::Range(b)) => {
                same_bound(&a.start, &b.start) && same_bound(&a.end, &b.end)
            }
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b) && a == b,
        }
    }
}

fn same<'a>(
    a: impl ExactSizeIterator<Item = &'a Value>,
    b: impl ExactSizeIterator<Item = &'a Value>,
) -> bool {
    a.len() == b.len() && a.zip(b).all(|(a, b)| a.identical(b))
}

fn same_fields(a: &Object, b: &Object) -> bool {
    a.keys().eq(b.keys()) && same(a.values(), b.values())
}

fn same_bound(a: &Bound<Value>, b: &Bound<Value>) -> bool {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => true,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.identical(b)
        }
        _ => false,
    }
}

/// A type's place in the order, and the first byte of its encoding. Never 0, which ends a sequence.
fn rank(value: &Value) -> u8 {
    match value {
        Value::None => 1,
        Value::Null => 2,
        Value::Bool(_) => 3,
        Value::Int(_) | Value::Float(_) | Value::Decimal(_) => 4,
        Value::String(_) => STRING_RANK,
        Value::Duration(_) => 6,
        Value::Datetime(_) => 7,
        Value::Uuid(_) => 8,
        Value::Array(_) => 9,
        Value::Set(_) => 10,
        Value::Object(_) => 11,
        Value::Geometry(_) => 12,
        Value::Bytes(_) => 13,
        Value::Table(_) => 14,
        Value::RecordId(_) => 15,
        Value::File(_) => 16,
        Value::Regex(_) => 17,
        Value::Range(_) => 18,
    }
}

const STRING_RANK: u8 = 5;

impl PartialEq for Range {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Range {}

impl PartialOrd for Range {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Range {
    fn cmp(&self, other: &Self) -> Ordering {
        cmp_bound(&self.start, &other.start).then_with(|| cmp_bound(&self.end, &other.end))
    }
}

/// Unbounded, then included, then excluded, for either end.
fn cmp_bound(a: &Bound<Value>, b: &Bound<Value>) -> Ordering {
    match (a, b) {
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.cmp(b)
        }
        (a, b) => bound_rank(a).cmp(&bound_rank(b)),
    }
}

fn bound_rank(bound: &Bound<Value>) -> u8 {
    match bound {
        Bound::Unbounded => 1,
        Bound::Included(_) => 2,
        Bound::Excluded(_) => 3,
    }
}

impl PartialEq for Geometry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Geometry {}

impl PartialOrd for Geometry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By kind, then by coordinates. SurrealDB leaves shapes with NaN unordered and compares some shapes
/// by their points alone; a total order needs every ring and every coordinate.
impl Ord for Geometry {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        encode_geometry(self, &mut a);
        encode_geometry(other, &mut b);
        a.cmp(&b)
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i64),
    Float(f64),
    Decimal(Decimal),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(v) => Some(Self::Int(*v)),
            Value::Float(v) => Some(Self::Float(*v)),
            Value::Decimal(v) => Some(Self::Decimal(*v)),
            _ => None,
        }
    }

    fn cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(&b),
            (Self::Int(a), Self::Decimal(b)) => Decimal::from(a).cmp(&b),
            (Self::Decimal(a), Self::Int(b)) => a.cmp(&Decimal::from(b)),
            (Self::Float(a), Self::Float(b)) => {
                if a == b {
                    Ordering::Equal // -0 equals 0
                } else {
                    a.total_cmp(&b)
                }
            }
            (a, b) => {
                let (mut x, mut y) = (Vec::new(), Vec::new());
                encode_number(a, &mut x);
                encode_number(b, &mut y);
                x.cmp(&y)
            }
        }
    }
}

/// Appends `value`'s memcmp encoding to `to`.
pub fn encode_value(value: &Value, to: &mut Vec<u8>) {
    to.push(rank(value));
    match value {
        Value::None | Value::Null => {}
        Value::Bool(v) => to.push(u8::from(*v)),
        Value::Int(v) => encode_number(Number::Int(*v), to),
        Value::Float(v) => encode_number(Number::Float(*v), to),
        Value::Decimal(v) => encode_number(Number::Decimal(*v), to),
        Value::String(v) | Value::Table(v) | Value::Regex(v) => encode_bytes(v.as_bytes(), to),
        Value::Bytes(v) => encode_bytes(v, to),
        Value::Duration(v) => {
            to.extend_from_slice(&v.secs.to_be_bytes());
            to.extend_from_slice(&v.nanos.to_be_bytes());
        }
        Value::Datetime(v) => {
            to.extend_from_slice(&flip(v.secs).to_be_bytes());
            to.extend_from_slice(&v.nanos.to_be_bytes());
        }
        Value::Uuid(v) => to.extend_from_slice(v),
        Value::Array(v) => encode_sequence(v.iter(), to),
        Value::Set(v) => encode_sequence(v.iter(), to),
        Value::Object(v) => encode_object(v, to),
        Value::Geometry(v) => encode_geometry(v, to),
        Value::RecordId(v) => {
            encode_bytes(v.table.as_bytes(), to);
            encode_key(&v.key, to);
        }
        Value::File(v) => {
            encode_bytes(v.bucket.as_bytes(), to);
            encode_bytes(v.key.as_bytes(), to);
        }
        Value::Range(v) => {
            encode_bound(&v.start, to);
            encode_bound(&v.end, to);
        }
    }
}

/// Appends the memcmp encoding of the string value `text` to `to`, as [`encode_value`] would.
pub fn encode_string(text: &str, to: &mut Vec<u8>) {
    to.push(STRING_RANK);
    encode_bytes(text.as_bytes(), to);
}

/// Appends `key`'s memcmp encoding to `to`: SurrealDB's order of the ids of a table.
pub fn encode_key(key: &Key, to: &mut Vec<u8>) {
    match key {
        Key::Int(v) => {
            to.push(1);
            to.extend_from_slice(&flip(*v).to_be_bytes());
        }
        Key::String(v) => encode_string_key(v, to),
        Key::Uuid(v) => {
            to.push(3);
            to.extend_from_slice(v);
        }
        Key::Array(v) => {
            to.push(4);
            encode_sequence(v.iter(), to);
        }
        Key::Object(v) => {
            to.push(5);
            encode_object(v, to);
        }
    }
}

/// [`encode_key`] of a string.
pub(crate) fn encode_string_key(key: &str, to: &mut Vec<u8>) {
    to.push(2);
    encode_bytes(key.as_bytes(), to);
}

/// A signed number as an unsigned one of the same order.
fn flip(v: i64) -> u64 {
    v.cast_unsigned() ^ (1 << 63)
}

/// The bytes with 0 written as `00 FF`, then `00 00`.
fn encode_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    let mut parts = bytes.split(|&byte| byte == 0);
    to.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        to.extend_from_slice(&[0, 0xff]);
        to.extend_from_slice(part);
    }
    to.extend_from_slice(&[0, 0]);
}

fn encode_sequence<'a>(values: impl Iterator<Item = &'a Value>, to: &mut Vec<u8>) {
    for value in values {
        encode_value(value, to);
    }
    to.push(0);
}

fn encode_object(fields: &Object, to: &mut Vec<u8>) {
    for (name, value) in fields {
        to.push(1);
        encode_bytes(name.as_bytes(), to);
        encode_value(value, to);
    }
    to.push(0);
}

fn encode_bound(bound: &Bound<Value>, to: &mut Vec<u8>) {
    to.push(bound_rank(bound));
    match bound {
        Bound::Unbounded => {}
        Bound::Included(value) | Bound::Excluded(value) => encode_value(value, to),
    }
}

const NEGATIVE_NAN: u8 = 1;
const NEGATIVE_INFINITY: u8 = 2;
const NEGATIVE: u8 = 3;
const ZERO: u8 = 4;
const POSITIVE: u8 = 5;
const INFINITY: u8 = 6;
const NAN: u8 = 7;

/// The class, then for a finite number other than 0: the decimal exponent, the digits of its exact
/// decimal expansion two to a byte (1 to 100), and 0; all complemented below zero.
fn encode_number(number: Number, to: &mut Vec<u8>) {
    if let Number::Float(v) = number
        && !v.is_finite()
    {
        let class = match (v.is_nan(), v.is_sign_negative()) {
            (true, true) => NEGATIVE_NAN,
            (false, true) => NEGATIVE_INFINITY,
            (false, false) => INFINITY,
            (true, false) => NAN,
        };
        to.push(class);
        if v.is_nan() {
            // NaNs of other payloads are other values, in the order of `total_cmp`.
            let bits = v.to_bits();
            let ordered = if v.is_sign_negative() { !bits } else { bits };
            to.extend_from_slice(&ordered.to_be_bytes());
        }
        return;
    }
    let (negative, digits, point) = expansion(number);
    let digits = digits.trim_end_matches('0');
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = &digits.as_bytes()[leading..];
    if digits.is_empty() {
        to.push(ZERO);
        return;
    }
    to.push(if negative { NEGATIVE } else { POSITIVE });
    let start = to.len();
    // The value is 0.DIGITS x 10^exponent, |exponent| < 1,100 for every double and decimal.
    let exponent = i32::try_from(point).unwrap_or(i32::MAX) - i32::try_from(leading).unwrap_or(0);
    let biased = u16::try_from(exponent + 0x8000).unwrap_or(u16::MAX);
    to.extend_from_slice(&biased.to_be_bytes());
    for pair in digits.chunks(2) {
        let high = pair[0] - b'0';
        let low = pair.get(1).map_or(0, |digit| digit - b'0');
        to.push(high * 10 + low + 1);
    }
    to.push(0);
    if negative {
        for byte in &mut to[start..] {
            *byte = !*byte;
        }
    }
}

/// The sign, all digits of the exact decimal expansion, and how many of them stand before the point.
fn expansion(number: Number) -> (bool, String, usize) {
    match number {
        Number::Int(v) => {
            let digits = v.unsigned_abs().to_string();
            let point = digits.len();
            (v < 0, digits, point)
        }
        Number::Decimal(v) => {
            let digits = v.mantissa().unsigned_abs().to_string();
            let scale = v.scale() as usize;
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let point = digits.len() - scale;
            (v.is_sign_negative(), digits, point)
        }
        Number::Float(v) => {
            // A double has at most 52 - exponent binary, and so decimal, places.
            let exponent = ((v.to_bits() >> 52) & 0x7ff).cast_signed() - 1023;
            let places = usize::try_from((52 - exponent.max(-1022)).max(0)).unwrap_or(0);
            let text = format!("{:.places$}", v.abs());
            let point = text.find('.').unwrap_or(text.len());
            (v.is_sign_negative(), text.replace('.', ""), point)
        }
    }
}

fn encode_geometry(geometry: &Geometry, to: &mut Vec<u8>) {
    match geometry {
        Geometry::Point(v) => {
            to.push(1);
            encode_point(v, to);
        }
        Geometry::Line(v) => {
            to.push(2);
            encode_all(v, to, encode_point);
        }
        Geometry::Polygon(v) => {
            to.push(3);
            encode_all(v, to, |v, to| encode_line(v, to));
        }
        Geometry::MultiPoint(v) => {
            to.push(4);
            encode_all(v, to, encode_point);
        }
        Geometry::MultiLine(v) => {
            to.push(5);
            encode_all(v, to, |v, to| encode_line(v, to));
        }
        Geometry::MultiPolygon(v) => {
            to.push(6);
            encode_all(v, to, |v, to| encode_all(v, to, |v, to| encode_line(v, to)));
        }
        Geometry::Collection(v) => {
            to.push(7);
            encode_all(v, to, encode_geometry);
        }
    }
}

fn encode_line(line: &[Point], to: &mut Vec<u8>) {
    encode_all(line, to, encode_point);
}

fn encode_all<T>(items: &[T], to: &mut Vec<u8>, encode: impl Fn(&T, &mut Vec<u8>)) {
    for item in items {
        to.push(1);
        encode(item, to);
    }
    to.push(0);
}

fn encode_point(point: &Point, to: &mut Vec<u8>) {
    for coordinate in [point.0, point.1] {
        let bits = coordinate.to_bits();
        let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
        to.extend_from_slice(&ordered.to_be_bytes());
    }
}
