//! Values as JSON, flattened the way SurrealDB's own JSON is: what JSON cannot say becomes text.

use serde_json::{Map, Number, Value as Json, json};

use crate::value::{Geometry, Point, Value};

impl Value {
    /// The value as JSON. Ids, datetimes, durations, uuids and decimals become text; bytes an array of
    /// numbers; NONE, NULL and numbers that are not finite become null.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::None | Self::Null => Json::Null,
            Self::Bool(v) => Json::Bool(*v),
            Self::Int(v) => Json::from(*v),
            Self::Float(v) => Number::from_f64(*v).map_or(Json::Null, Json::Number),
            Self::Decimal(v) => Json::String(v.to_string()),
            Self::String(v) => Json::String(v.clone()),
            Self::Bytes(v) => Json::Array(v.iter().map(|&byte| Json::from(byte)).collect()),
            Self::Datetime(v) => Json::String(v.to_string()),
            Self::Duration(v) => Json::String(v.to_string()),
            Self::Uuid(v) => Json::String(uuid::Uuid::from_bytes(*v).to_string()),
            Self::RecordId(v) => Json::String(v.to_string()),
            Self::Table(v) => Json::String(v.clone()),
            Self::File(_) | Self::Regex(_) | Self::Range(_) => Json::String(self.to_string()),
            Self::Array(v) => Json::Array(v.iter().map(Self::to_json).collect()),
            Self::Set(v) => Json::Array(v.iter().map(Self::to_json).collect()),
            Self::Object(v) => {
                let fields = v.iter().map(|(name, value)| (name.clone(), value.to_json()));
                Json::Object(Map::from_iter(fields))
            }
            Self::Geometry(v) => geometry(v),
        }
    }

    /// JSON as a value; text stays text.
    #[must_use]
    pub fn from_json(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(v) => Self::Bool(v),
            Json::Number(v) => match (v.as_i64(), v.as_f64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::String(v.to_string()),
            },
            Json::String(v) => Self::String(v),
            Json::Array(v) => Self::Array(v.into_iter().map(Self::from_json).collect()),
            Json::Object(v) => {
                let fields = v.into_iter().map(|(name, value)| (name, Self::from_json(value)));
                Self::Object(fields.collect())
            }
        }
    }
}

fn geometry(shape: &Geometry) -> Json {
    let point = |v: &Point| json!([v.0, v.1]);
    let line = |v: &Vec<Point>| Json::Array(v.iter().map(point).collect());
    let lines = |v: &Vec<Vec<Point>>| Json::Array(v.iter().map(line).collect());
    let (kind, coordinates) = match shape {
        Geometry::Point(v) => ("Point", point(v)),
        Geometry::Line(v) => ("LineString", line(v)),
        Geometry::Polygon(v) => ("Polygon", lines(v)),
        Geometry::MultiPoint(v) => ("MultiPoint", line(v)),
        Geometry::MultiLine(v) => ("MultiLineString", lines(v)),
        Geometry::MultiPolygon(v) => ("MultiPolygon", v.iter().map(lines).collect()),
        Geometry::Collection(v) => {
            let shapes: Vec<Json> = v.iter().map(geometry).collect();
            return json!({ "type": "GeometryCollection", "geometries": shapes });
        }
    };
    json!({ "type": kind, "coordinates": coordinates })
}
