//! SurrealDB's values to ours and back, without loss.

use std::ops::Bound;
use std::time::Duration as StdDuration;

use revenant_log::value::{Datetime, Duration, File, Geometry, Range};
use revenant_log::{Key, RecordId, Value};
use surrealdb::types as sdk;

/// A value that one side cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be represented")]
pub struct ConvertError(String);

fn odd(what: impl std::fmt::Display) -> ConvertError {
    ConvertError(what.to_string())
}

/// SurrealDB's value as ours.
///
/// # Errors
/// A record id whose key is a range: it names no row.
pub fn from_sdk(value: sdk::Value) -> Result<Value, ConvertError> {
    Ok(match value {
        sdk::Value::None => Value::None,
        sdk::Value::Null => Value::Null,
        sdk::Value::Bool(v) => Value::Bool(v),
        sdk::Value::Number(sdk::Number::Int(v)) => Value::Int(v),
        sdk::Value::Number(sdk::Number::Float(v)) => Value::Float(v),
        sdk::Value::Number(sdk::Number::Decimal(v)) => Value::Decimal(v),
        sdk::Value::String(v) => Value::String(v),
        sdk::Value::Bytes(v) => Value::Bytes(v.into_inner().to_vec()),
        sdk::Value::Duration(v) => {
            let v = v.into_inner();
            Value::Duration(Duration { secs: v.as_secs(), nanos: v.subsec_nanos() })
        }
        sdk::Value::Datetime(v) => {
            Value::Datetime(Datetime { secs: v.timestamp(), nanos: v.timestamp_subsec_nanos() })
        }
        sdk::Value::Uuid(v) => Value::Uuid(*v.into_inner().as_bytes()),
        sdk::Value::Geometry(v) => Value::Geometry(geometry_from(v)),
        sdk::Value::Table(v) => Value::Table(v.into_string()),
        sdk::Value::RecordId(v) => Value::RecordId(Box::new(record_id_from(v)?)),
        sdk::Value::File(v) => Value::File(File { bucket: v.bucket, key: v.key }),
        sdk::Value::Range(v) => Value::Range(Box::new(Range {
            start: bound(v.start, from_sdk)?,
            end: bound(v.end, from_sdk)?,
        })),
        sdk::Value::Regex(v) => Value::Regex(v.regex().as_str().to_owned()),
        sdk::Value::Array(v) => {
            Value::Array(v.into_iter().map(from_sdk).collect::<Result<_, _>>()?)
        }
        sdk::Value::Set(v) => Value::Set(v.into_iter().map(from_sdk).collect::<Result<_, _>>()?),
        sdk::Value::Object(v) => Value::Object(object_from(v)?),
    })
}

/// SurrealDB's record id as ours.
///
/// # Errors
/// Its key is a range.
pub fn record_id_from(id: sdk::RecordId) -> Result<RecordId, ConvertError> {
    Ok(RecordId { table: id.table.into_string(), key: key_from(id.key)? })
}

/// SurrealDB's key as ours.
///
/// # Errors
/// It is a range.
pub fn key_from(key: sdk::RecordIdKey) -> Result<Key, ConvertError> {
    Ok(match key {
        sdk::RecordIdKey::Number(v) => Key::Int(v),
        sdk::RecordIdKey::String(v) => Key::String(v),
        sdk::RecordIdKey::Uuid(v) => Key::Uuid(*v.into_inner().as_bytes()),
        sdk::RecordIdKey::Array(v) => {
            Key::Array(v.into_iter().map(from_sdk).collect::<Result<_, _>>()?)
        }
        sdk::RecordIdKey::Object(v) => Key::Object(object_from(v)?),
        sdk::RecordIdKey::Range(_) => return Err(odd("a range as the key of a row")),
    })
}

/// SurrealDB's object as ours.
///
/// # Errors
/// As [`from_sdk`].
pub fn object_from(object: sdk::Object) -> Result<revenant_log::value::Object, ConvertError> {
    object.into_iter().map(|(name, value)| Ok((name, from_sdk(value)?))).collect()
}

/// Our value as SurrealDB's.
///
/// # Errors
/// A moment beyond SurrealDB's calendar, or a regular expression that its engine refuses.
pub fn to_sdk(value: &Value) -> Result<sdk::Value, ConvertError> {
    Ok(match value {
        Value::None => sdk::Value::None,
        Value::Null => sdk::Value::Null,
        Value::Bool(v) => sdk::Value::Bool(*v),
        Value::Int(v) => sdk::Value::Number(sdk::Number::Int(*v)),
        Value::Float(v) => sdk::Value::Number(sdk::Number::Float(*v)),
        Value::Decimal(v) => sdk::Value::Number(sdk::Number::Decimal(*v)),
        Value::String(v) => sdk::Value::String(v.clone()),
        Value::Bytes(v) => sdk::Value::Bytes(v.clone().into()),
        Value::Duration(v) => {
            sdk::Value::Duration(sdk::Duration::from(StdDuration::new(v.secs, v.nanos)))
        }
        Value::Datetime(v) => sdk::Value::Datetime(
            sdk::Datetime::try_from((v.secs, v.nanos)).map_err(|_| odd(format!("{v}")))?,
        ),
        Value::Uuid(v) => sdk::Value::Uuid(sdk::Uuid::from(uuid::Uuid::from_bytes(*v))),
        Value::Geometry(v) => sdk::Value::Geometry(geometry_to(v)),
        Value::Table(v) => sdk::Value::Table(sdk::Table::new(v.clone())),
        Value::RecordId(v) => sdk::Value::RecordId(record_id_to(v)?),
        Value::File(v) => {
            sdk::Value::File(sdk::File { bucket: v.bucket.clone(), key: v.key.clone() })
        }
        Value::Range(v) => sdk::Value::Range(Box::new(sdk::Range {
            start: bound(v.start.as_ref(), to_sdk)?,
            end: bound(v.end.as_ref(), to_sdk)?,
        })),
        Value::Regex(v) => sdk::Value::Regex(v.parse().map_err(|_| odd(format!("/{v}/")))?),
        Value::Array(v) => {
            sdk::Value::Array(v.iter().map(to_sdk).collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Set(v) => {
            #[expect(
                clippy::mutable_key_type,
                reason = "a regex's cache takes no part in its order"
            )]
            let values =
                v.iter().map(to_sdk).collect::<Result<std::collections::BTreeSet<_>, _>>()?;
            sdk::Value::Set(sdk::Set::from(values))
        }
        Value::Object(v) => sdk::Value::Object(object_to(v)?),
    })
}

/// Our record id as SurrealDB's.
///
/// # Errors
/// As [`to_sdk`].
pub fn record_id_to(id: &RecordId) -> Result<sdk::RecordId, ConvertError> {
    Ok(sdk::RecordId::new(id.table.clone(), key_to(&id.key)?))
}

/// Our key as SurrealDB's.
///
/// # Errors
/// As [`to_sdk`].
pub fn key_to(key: &Key) -> Result<sdk::RecordIdKey, ConvertError> {
    Ok(match key {
        Key::Int(v) => sdk::RecordIdKey::Number(*v),
        Key::String(v) => sdk::RecordIdKey::String(v.clone()),
        Key::Uuid(v) => sdk::RecordIdKey::Uuid(sdk::Uuid::from(uuid::Uuid::from_bytes(*v))),
        Key::Array(v) => {
            sdk::RecordIdKey::Array(v.iter().map(to_sdk).collect::<Result<Vec<_>, _>>()?.into())
        }
        Key::Object(v) => sdk::RecordIdKey::Object(object_to(v)?),
    })
}

/// Our object as SurrealDB's.
///
/// # Errors
/// As [`to_sdk`].
pub fn object_to(object: &revenant_log::value::Object) -> Result<sdk::Object, ConvertError> {
    let mut fields = sdk::Object::new();
    for (name, value) in object {
        fields.insert(name.clone(), to_sdk(value)?);
    }
    Ok(fields)
}

fn bound<A, B>(
    bound: Bound<A>,
    convert: impl Fn(A) -> Result<B, ConvertError>,
) -> Result<Bound<B>, ConvertError> {
    Ok(match bound {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(v) => Bound::Included(convert(v)?),
        Bound::Excluded(v) => Bound::Excluded(convert(v)?),
    })
}

fn geometry_from(shape: sdk::Geometry) -> Geometry {
    let line =
        |v: geo::LineString<f64>| -> Vec<(f64, f64)> { v.0.iter().map(|c| c.x_y()).collect() };
    let polygon = |v: geo::Polygon<f64>| {
        let (outer, holes) = v.into_inner();
        std::iter::once(outer).chain(holes).map(line).collect::<Vec<_>>()
    };
    match shape {
        sdk::Geometry::Point(v) => Geometry::Point(v.x_y()),
        sdk::Geometry::Line(v) => Geometry::Line(line(v)),
        sdk::Geometry::Polygon(v) => Geometry::Polygon(polygon(v)),
        sdk::Geometry::MultiPoint(v) => {
            Geometry::MultiPoint(v.0.iter().map(|point| point.x_y()).collect())
        }
        sdk::Geometry::MultiLine(v) => Geometry::MultiLine(v.0.into_iter().map(line).collect()),
        sdk::Geometry::MultiPolygon(v) => {
            Geometry::MultiPolygon(v.0.into_iter().map(polygon).collect())
        }
        sdk::Geometry::Collection(v) => {
            Geometry::Collection(v.into_iter().map(geometry_from).collect())
        }
    }
}

fn geometry_to(shape: &Geometry) -> sdk::Geometry {
    let line = |v: &Vec<(f64, f64)>| geo::LineString::from(v.clone());
    let polygon = |v: &Vec<Vec<(f64, f64)>>| {
        let mut rings = v.iter().map(line);
        let outer = rings.next().unwrap_or_else(|| geo::LineString::new(Vec::new()));
        geo::Polygon::new(outer, rings.collect())
    };
    match shape {
        Geometry::Point(v) => sdk::Geometry::Point(geo::Point::from(*v)),
        Geometry::Line(v) => sdk::Geometry::Line(line(v)),
        Geometry::Polygon(v) => sdk::Geometry::Polygon(polygon(v)),
        Geometry::MultiPoint(v) => sdk::Geometry::MultiPoint(geo::MultiPoint::from(v.clone())),
        Geometry::MultiLine(v) => {
            sdk::Geometry::MultiLine(geo::MultiLineString(v.iter().map(line).collect()))
        }
        Geometry::MultiPolygon(v) => {
            sdk::Geometry::MultiPolygon(geo::MultiPolygon(v.iter().map(polygon).collect()))
        }
        Geometry::Collection(v) => sdk::Geometry::Collection(v.iter().map(geometry_to).collect()),
    }
}
