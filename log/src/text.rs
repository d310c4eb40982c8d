//! Values, keys and record ids as SurrealQL text, written and read. The text is what SurrealDB prints and
//! reads back to the same value.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter, Write as _};
use std::ops::Bound;

use crate::value::{Datetime, Duration, Geometry, Key, Object, Point, RecordId, Value};

mod parse;

pub use parse::ParseError;

impl Display for RecordId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_ident(&self.table, is_word, f)?;
        write!(f, ":{}", self.key)
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => v.fmt(f),
            Self::String(v) => write_ident(v, is_key_word, f),
            Self::Uuid(v) => write!(f, "u'{}'", uuid::Uuid::from_bytes(*v)),
            Self::Array(v) => write_list("[", v, "]", f),
            Self::Object(v) => write_object(v, f),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("NONE"),
            Self::Null => f.write_str("NULL"),
            Self::Bool(v) => v.fmt(f),
            Self::Int(v) => v.fmt(f),
            Self::Float(v) if v.is_nan() => f.write_str("NaN"),
            Self::Float(v) if v.is_infinite() && *v > 0.0 => f.write_str("Infinity"),
            Self::Float(v) if v.is_infinite() => f.write_str("-Infinity"),
            Self::Float(v) => write!(f, "{v}f"),
            Self::Decimal(v) => write!(f, "{v}dec"),
            Self::String(v) => write_quoted(v, f),
            Self::Bytes(v) => {
                f.write_str("b\"")?;
                v.iter().try_for_each(|byte| write!(f, "{byte:02X}"))?;
                f.write_str("\"")
            }
            Self::Datetime(v) => write!(f, "d'{v}'"),
            Self::Duration(v) => v.fmt(f),
            Self::Uuid(v) => write!(f, "u'{}'", uuid::Uuid::from_bytes(*v)),
            Self::RecordId(v) => v.fmt(f),
            Self::Table(v) => write_ident(v, is_word, f),
            Self::File(v) => {
                let text =
                    format!("{}:{}", escape_file(&v.bucket, false), escape_file(&v.key, true));
                write!(f, "f\"{text}\"")
            }
            Self::Regex(v) => write!(f, "/{}/", v.replace('/', "\\/")),
            Self::Array(v) => write_list("[", v, "]", f),
            Self::Object(v) => write_object(v, f),
            Self::Set(v) => write_set(v, f),
            Self::Range(v) => {
                match &v.start {
                    Bound::Unbounded => {}
                    Bound::Included(v) => v.fmt(f)?,
                    Bound::Excluded(v) => write!(f, "{v}>")?,
                }
                f.write_str("..")?;
                match &v.end {
                    Bound::Unbounded => Ok(()),
                    Bound::Included(v) => write!(f, "={v}"),
                    Bound::Excluded(v) => v.fmt(f),
                }
            }
            Self::Geometry(v) => write_geometry(v, f),
        }
    }
}

/// RFC 3339 in UTC, with as many decimals as it takes: none, 3, 6 or 9.
impl Display for Datetime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.secs.div_euclid(86_400), self.secs.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        // A leap second is the 60th second of its minute.
        let (leap, nanos) = (i64::from(self.nanos / 1_000_000_000), self.nanos % 1_000_000_000);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60 + leap);
        write!(f, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos == 0 {
        } else if nanos % 1_000_000 == 0 {
            write!(f, ".{:03}", nanos / 1_000_000)?;
        } else if nanos % 1000 == 0 {
            write!(f, ".{:06}", nanos / 1000)?;
        } else {
            write!(f, ".{nanos:09}")?;
        }
        f.write_str("Z")
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.secs == 0 && self.nanos == 0 {
            return f.write_str("0ns");
        }
        let mut secs = self.secs;
        for (unit, bytes) in
            [("y", 31_536_000), ("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60)]
        {
            if secs >= bytes {
                write!(f, "{}{unit}", secs / bytes)?;
                secs %= bytes;
            }
        }
        if secs > 0 {
            write!(f, "{secs}s")?;
        }
        let mut nanos = self.nanos;
        for (unit, size) in [("ms", 1_000_000), ("µs", 1000), ("ns", 1)] {
            if nanos >= size {
                write!(f, "{}{unit}", nanos / size)?;
                nanos %= size;
            }
        }
        Ok(())
    }
}

/// Days since 1970-01-01 to year, month, day. Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Whether a table's name needs no quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// Whether a key needs no quotes: it must not look like a number.
fn is_key_word(text: &str) -> bool {
    text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
        && text.contains(|char: char| char.is_ascii_alphabetic())
}

fn write_ident(text: &str, plain: fn(&str) -> bool, f: &mut Formatter<'_>) -> fmt::Result {
    if plain(text) { f.write_str(text) } else { write_escaped(text, '`', f) }
}

fn write_quoted(text: &str, f: &mut Formatter<'_>) -> fmt::Result {
    write_escaped(text, if text.contains('\'') { '"' } else { '\'' }, f)
}

fn write_escaped(text: &str, quote: char, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_char(quote)?;
    for char in text.chars() {
        match char {
            '\0' => f.write_str("\\0")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\n' => f.write_str("\\n")?,
            '\u{8}' => f.write_str("\\u{8}")?,
            '\u{c}' => f.write_str("\\f")?,
            '\\' => f.write_str("\\\\")?,
            _ if char == quote => write!(f, "\\{char}")?,
            _ => f.write_char(char)?,
        }
    }
    f.write_char(quote)
}

fn escape_file(text: &str, keep_slash: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        let plain = char.is_ascii_alphanumeric()
            || matches!(char, '-' | '_' | '.')
            || (keep_slash && char == '/');
        if !plain {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

fn write_list<'a>(
    open: &str,
    values: impl IntoIterator<Item = &'a Value>,
    close: &str,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str(open)?;
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        value.fmt(f)?;
    }
    f.write_str(close)
}

/// A record id in a set is written as `r'...'`, since `{ t:1 }` is an object.
fn write_set(values: &BTreeSet<Value>, f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("{")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if let Value::RecordId(id) = value {
            f.write_str("r")?;
            write_quoted(&id.to_string(), f)?;
        } else {
            value.fmt(f)?;
        }
    }
    f.write_str(if values.len() < 2 { ",}" } else { "}" })
}

fn write_object(fields: &Object, f: &mut Formatter<'_>) -> fmt::Result {
    if fields.is_empty() {
        return f.write_str("{  }");
    }
    f.write_str("{ ")?;
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if is_word(name) {
            f.write_str(name)?;
        } else {
            write_escaped(name, '"', f)?;
        }
        write!(f, ": {value}")?;
    }
    f.write_str(" }")
}

fn write_geometry(geometry: &Geometry, f: &mut Formatter<'_>) -> fmt::Result {
    let (kind, name) = match geometry {
        Geometry::Point(point) => return write!(f, "({}, {})", point.0, point.1),
        Geometry::Line(_) => ("LineString", "coordinates"),
        Geometry::Polygon(_) => ("Polygon", "coordinates"),
        Geometry::MultiPoint(_) => ("MultiPoint", "coordinates"),
        Geometry::MultiLine(_) => ("MultiLineString", "coordinates"),
        Geometry::MultiPolygon(_) => ("MultiPolygon", "coordinates"),
        Geometry::Collection(_) => ("GeometryCollection", "geometries"),
    };
    write!(f, "{{ type: '{kind}', {name}: ")?;
    match geometry {
        Geometry::Point(_) => {}
        Geometry::Line(v) | Geometry::MultiPoint(v) => write_points(v, f)?,
        Geometry::Polygon(v) | Geometry::MultiLine(v) => {
            write_all(v, |v, f| write_points(v, f), f)?
        }
        Geometry::MultiPolygon(v) => {
            write_all(v, |v, f| write_all(v, |v, f| write_points(v, f), f), f)?;
        }
        Geometry::Collection(v) => write_all(v, write_geometry, f)?,
    }
    f.write_str(" }")
}

fn write_points(points: &[Point], f: &mut Formatter<'_>) -> fmt::Result {
    write_all(points, |point, f| write!(f, "[{}, {}]", point.0, point.1), f)
}

fn write_all<T>(
    items: &[T],
    write: impl Fn(&T, &mut Formatter<'_>) -> fmt::Result,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(item, f)?;
    }
    f.write_str("]")
}
