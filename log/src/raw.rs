//! `RawRecord`: a record whose row is left as bytes, for those who keep rows or pass them on without looking
//! inside. It walks over every value, so bytes that [`decode_record`](crate::decode_record) refuses are
//! refused here too, but it keeps none of them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::order::{encode_key, encode_string_key};
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
    /// See [`crate::Event::source`].
    pub source: SourcePos,
    /// See [`crate::Event::stale`].
    pub stale: bool,
    /// What it leaves of its row.
    pub change: RawChange<'a>,
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
        let ((time_us, ends_transaction, feed_high, op), from_table) =
            take::<(i64, bool, u64, Op)>(rest)?;
        let (table, from_key) = take::<&str>(from_table)?;
        let (_key, from_version) = take::<PassedKey<'a>>(from_key)?;
        let (_version, from_body) = take::<Option<u64>>(from_version)?;
        let (body, rest) = take::<Option<Passed<'a>>>(from_body)?;
        let at = |left: &[u8]| {
            let at = from_table.len() - left.len();
            u32::try_from(at).map_err(|_| DecodeError::Malformed("4 GiB or more".into()))
        };
        let change = RawChange {
            bytes: &from_table[..from_table.len() - rest.len()],
            key_at: at(from_key)?,
            version_at: at(from_version)?,
            body_at: at(from_body)?,
            gone: body.is_none() || op == Op::Delete,
        };
        let ((_before, source, stale), rest) = take::<(Option<Passed<'a>>, SourcePos, bool)>(rest)?;
        if !rest.is_empty() {
            return Err(DecodeError::Trailing(rest.len()));
        }
        Ok(Self { seq, time_us, ends_transaction, feed_high, op, table, source, stale, change })
    }
}

/// What a record leaves of its row, as the bytes that the log holds.
#[derive(Clone, Copy, Debug)]
pub struct RawChange<'a> {
    /// Table, key, version and body, if there is one, each with what tells its length.
    bytes: &'a [u8],
    key_at: u32,
    version_at: u32,
    body_at: u32,
    gone: bool,
}

impl<'a> RawChange<'a> {
    /// See [`crate::Event::table`].
    #[must_use]
    pub fn table(&self) -> &'a str {
        postcard::from_bytes(self.bytes).expect("reading the record walked over it")
    }

    /// See [`crate::Event::key`].
    #[must_use]
    pub fn key(&self) -> Key {
        let key = &self.bytes[self.key_at as usize..self.version_at as usize];
        postcard::from_bytes(key).expect("reading the record walked over it")
    }

    /// Appends [`encode_key`] of the key to `to`.
    pub fn push_key(&self, to: &mut Vec<u8>) {
        let key = &self.bytes[self.key_at as usize..self.version_at as usize];
        // Most keys need nothing that is not here.
        match postcard::from_bytes(key) {
            Ok(PassedKey::Int(key)) => encode_key(&Key::Int(key), to),
            Ok(PassedKey::Uuid(key)) => encode_key(&Key::Uuid(key), to),
            Ok(PassedKey::String(key)) => encode_string_key(key, to),
            _ => encode_key(&self.key(), to),
        }
    }

    /// The row that the record leaves, if it leaves one.
    #[must_use]
    pub fn row(&self) -> Option<RawRow<'a>> {
        let body_at = self.body_at as usize;
        // The first byte says that there is a body.
        (!self.gone).then(|| RawRow {
            head: &self.bytes[self.key_at as usize..body_at],
            body: &self.bytes[body_at + 1..],
        })
    }
}

/// A row as the bytes that the log holds.
#[derive(Clone, Copy, Debug)]
pub struct RawRow<'a> {
    /// Key and version.
    head: &'a [u8],
    body: &'a [u8],
}

impl RawRow<'_> {
    /// How many bytes [`RawRow::push`] appends.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a row always has a key")]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Appends the row to `to`, as postcard writes a [`crate::SnapshotRow`].
    pub fn push(&self, to: &mut Vec<u8>) {
        to.reserve(self.len());
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

/// A [`Key`] that was walked over: the same variants in the same order.
#[derive(Deserialize)]
#[allow(dead_code, reason = "read for their length and what they have to be")]
enum PassedKey<'a> {
    Int(i64),
    String(&'a str),
    Uuid([u8; 16]),
    #[serde(borrow)]
    Array(Each<Passed<'a>>),
    #[serde(borrow)]
    Object(Fields<'a>),
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
