//! `RawRecord`: a record whose row is left as bytes, for those who keep rows or pass them on without looking
//! inside. It walks over every value, so bytes that [`decode_record`](crate::decode_record) refuses are
//! refused here too, but it keeps none of them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::record::{DecodeError, Op, RECORD_VERSION, SourcePos};
use crate::seq::Seq;
use crate::value::{Datetime, Duration, Geometry, Key, Range, RecordId, decimal_bytes, nested};

/// A record with its row as the bytes that the log holds.
#[derive(Clone, Debug)]
pub struct RawRecord<'a> {
    /// See [`crate::Record::seq`].
    pub seq: Seq,
    /// See [`crate::Record::time_us`].
    pub time_us: i64,
    /// See [`crate::Record::ends_transaction`].
    pub ends_transaction: bool,
    /// See [`crate::Record::feed_high`].
    pub feed_high: u64,
    /// See [`crate::Event::op`].
    pub op: Op,
    /// See [`crate::Event::table`].
    pub table: &'a str,
    /// See [`crate::Event::key`].
    pub key: Key,
    /// See [`crate::Event::source`].
    pub source: SourcePos,
    /// See [`crate::Event::stale`].
    pub stale: bool,
    /// Key and version.
    head: &'a [u8],
    body: Option<&'a [u8]>,
}

impl<'a> RawRecord<'a> {
    /// Reads what [`crate::encode_record`] wrote; `seq` is where it was found.
    ///
    /// # Errors
    /// As [`crate::decode_record`].
    pub fn read(seq: Seq, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (&version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if version != RECORD_VERSION {
            return Err(DecodeError::Version(version));
        }
        type Start<'a> = (i64, bool, u64, Op, &'a str);
        let ((time_us, ends_transaction, feed_high, op, table), from_key) =
            take::<Start<'a>>(rest)?;
        let ((key, _version), from_body) = take::<(Key, Option<u64>)>(from_key)?;
        let head = &from_key[..from_key.len() - from_body.len()];
        let (body, rest) = take::<Option<Passed<'a>>>(from_body)?;
        // The first byte says that there is a body.
        let body = body.map(|_| &from_body[1..from_body.len() - rest.len()]);
        let ((_before, source, stale), rest) = take::<(Option<Passed<'a>>, SourcePos, bool)>(rest)?;
        if !rest.is_empty() {
            return Err(DecodeError::Trailing(rest.len()));
        }
        Ok(Self {
            seq,
            time_us,
            ends_transaction,
            feed_high,
            op,
            table,
            key,
            source,
            stale,
            head,
            body,
        })
    }

    /// The row that the record leaves, if it leaves one.
    #[must_use]
    pub fn row(&self) -> Option<RawRow<'a>> {
        let body = self.body.filter(|_| self.op != Op::Delete)?;
        Some(RawRow { head: self.head, body })
    }
}

/// A row as the bytes that the log holds.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    head: &'a [u8],
    body: &'a [u8],
}

impl RawRow<'_> {
    /// Appends the row to `to`, as postcard writes a [`crate::SnapshotRow`].
    pub fn push(&self, to: &mut Vec<u8>) {
        to.reserve(self.head.len() + self.body.len());
        to.extend_from_slice(self.head);
        to.extend_from_slice(self.body);
    }
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// A [`crate::Value`] that was walked over: the same variants in the same order.
#[derive(Deserialize)]
#[allow(dead_code, reason = "read for their length and what they have to be")]
enum Passed<'a> {
    None,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(#[serde(deserialize_with = "decimal_bytes::deserialize")] rust_decimal::Decimal),
    String(&'a str),
    Bytes(&'a [u8]),
    Datetime(Datetime),
    Duration(Duration),
    Uuid([u8; 16]),
    RecordId(#[serde(deserialize_with = "nested")] Box<RecordId>),
    Table(&'a str),
    File((&'a str, &'a str)),
    Regex(&'a str),
    #[serde(borrow)]
    Array(#[serde(deserialize_with = "nested")] Each<Passed<'a>>),
    #[serde(borrow)]
    Object(#[serde(deserialize_with = "nested")] Fields<'a>),
    #[serde(borrow)]
    Set(#[serde(deserialize_with = "nested")] Each<Passed<'a>>),
    Range(#[serde(deserialize_with = "nested")] Box<Range>),
    Geometry(Geometry),
}

/// Items, one after the other.
struct Each<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Each<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Self(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<T>()?.is_some() {}
        Ok(self)
    }
}

/// Names and values, one pair after the other.
struct Fields<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self(PhantomData))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Fields<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<&'a str, Passed<'a>>()?.is_some() {}
        Ok(self)
    }
}
