//! Reads SurrealQL literals: the values that appear in parameters and ids, not expressions.

use std::collections::BTreeSet;
use std::str::FromStr;

use rust_decimal::Decimal;

use super::days_from_civil;
use crate::value::{Datetime, Duration, File, Key, Object, RecordId, Value};

/// Deepest nesting of values that is read.
const MAX_DEPTH: usize = 128;

/// Why text is no value, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {offset}")]
pub struct ParseError {
    /// Where in the text, bytes from its start.
    pub offset: usize,
    /// What is wrong there.
    pub reason: String,
}

impl Value {
    /// Reads a SurrealQL literal, all of `text`.
    ///
    /// # Errors
    /// It is not one literal, or is nested too deeply.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        whole(text, Parser::value)
    }
}

impl RecordId {
    /// Reads `table:key`, with every form of key and of quoting.
    ///
    /// # Errors
    /// It is not one record id.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        whole(text, Parser::record_id)
    }
}

impl Key {
    /// Reads the part of a record id after the colon.
    ///
    /// # Errors
    /// It is not one key.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        whole(text, Parser::key)
    }
}

fn whole<'a, T>(
    text: &'a str,
    parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.space();
    let value = parse(&mut parser)?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.error("unexpected text after the value"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn error(&self, reason: impl Into<String>) -> ParseError {
        ParseError { offset: self.at, reason: reason.into() }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.take(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn run(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let len = rest.find(|char| !of(char)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn value(&mut self) -> Parsed<Value> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("values are nested too deeply"));
        }
        self.depth += 1;
        let value = self.shallow_value();
        self.depth -= 1;
        value
    }

    fn shallow_value(&mut self) -> Parsed<Value> {
        self.space();
        let Some(first) = self.peek() else { return Err(self.error("a value is missing")) };
        match first {
            '\'' | '"' => self.string().map(Value::String),
            '[' => self.array().map(Value::Array),
            '{' => self.braces(),
            '0'..='9' | '+' | '-' => self.number(),
            '`' | '⟨' => self.record_id().map(|id| Value::RecordId(Box::new(id))),
            _ if first.is_alphabetic() || first == '_' => self.word(),
            _ => Err(self.error(format!("no value starts with `{first}`"))),
        }
    }

    /// A prefixed string, a keyword, or a record id.
    fn word(&mut self) -> Parsed<Value> {
        let start = self.at;
        let word = self.run(is_word_char);
        if let Some(quote @ ('\'' | '"')) = self.peek()
            && matches!(word, "d" | "u" | "r" | "b" | "f" | "s")
        {
            let at = self.at;
            if word == "f" {
                return self.file(quote);
            }
            let text = self.string()?;
            return self.prefixed(word, &text).map_err(|mut error| {
                error.offset = at;
                error
            });
        }
        if self.peek() == Some(':') {
            self.at = start;
            return self.record_id().map(|id| Value::RecordId(Box::new(id)));
        }
        match word.to_ascii_lowercase().as_str() {
            "none" => Ok(Value::None),
            "null" => Ok(Value::Null),
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "nan" => Ok(Value::Float(f64::NAN)),
            "infinity" => Ok(Value::Float(f64::INFINITY)),
            _ => {
                self.at = start;
                Err(self.error(format!("`{word}` is no literal")))
            }
        }
    }

    fn prefixed(&self, prefix: &str, text: &str) -> Parsed<Value> {
        match prefix {
            "s" => Ok(Value::String(text.to_owned())),
            "d" => datetime(text).map(Value::Datetime).ok_or_else(|| self.error("no datetime")),
            "u" => match uuid::Uuid::try_parse(text) {
                Ok(id) => Ok(Value::Uuid(*id.as_bytes())),
                Err(error) => Err(self.error(format!("no uuid: {error}"))),
            },
            "r" => RecordId::parse(text).map(|id| Value::RecordId(Box::new(id))),
            _ => hex(text).map(Value::Bytes).ok_or_else(|| self.error("no hex bytes")),
        }
    }

    /// `bucket:/path`, where a backslash takes the next character as it is.
    fn file(&mut self, quote: char) -> Parsed<Value> {
        self.at += 1;
        let (mut bucket, mut key, mut in_key) = (String::new(), String::new(), false);
        loop {
            let part = if in_key { &mut key } else { &mut bucket };
            match self.next() {
                None => return Err(self.error("the string does not end")),
                Some('\\') => match self.next() {
                    Some(char) => part.push(char),
                    None => return Err(self.error("the string does not end")),
                },
                Some(char) if char == quote => break,
                Some(':') if !in_key => in_key = true,
                Some(char) => part.push(char),
            }
        }
        if !in_key {
            return Err(self.error("a file needs `bucket:/path`"));
        }
        if !key.starts_with('/') {
            key.insert(0, '/');
        }
        Ok(Value::File(File { bucket, key }))
    }

    fn string(&mut self) -> Parsed<String> {
        let quote = self.next().ok_or_else(|| self.error("a string is missing"))?;
        self.until(quote)
    }

    /// The text up to `quote`, with escapes resolved.
    fn until(&mut self, quote: char) -> Parsed<String> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.error("the string does not end")),
                Some('\\') => text.push(self.escape()?),
                Some(char) if char == quote => return Ok(text),
                Some(char) => text.push(char),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        match self.next() {
            Some('0') => Ok('\0'),
            Some('r') => Ok('\r'),
            Some('t') => Ok('\t'),
            Some('n') => Ok('\n'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(char @ ('\\' | '\'' | '"' | '`' | '/' | '⟩')) => Ok(char),
            Some('u') => self.unicode(),
            _ => Err(self.error("unknown escape")),
        }
    }

    fn unicode(&mut self) -> Parsed<char> {
        if self.take("{") {
            let digits = self.run(|char| char.is_ascii_hexdigit());
            self.expect("}")?;
            return self.code_point(digits);
        }
        let high = self.four_digits()?;
        let code = u32::from_str_radix(high, 16).unwrap_or(u32::MAX);
        if (0xd800..0xdc00).contains(&code) && self.take("\\u") {
            let low = u32::from_str_radix(self.four_digits()?, 16).unwrap_or(u32::MAX);
            let joined = 0x10000 + ((code - 0xd800) << 10) + low.wrapping_sub(0xdc00);
            return char::from_u32(joined).ok_or_else(|| self.error("no character"));
        }
        self.code_point(high)
    }

    fn four_digits(&mut self) -> Parsed<&'a str> {
        let digits =
            self.rest().get(..4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| self.error("expected four hex digits"))?;
        self.at += 4;
        Ok(digits)
    }

    fn code_point(&self, digits: &str) -> Parsed<char> {
        u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.error("no character"))
    }

    fn array(&mut self) -> Parsed<Vec<Value>> {
        self.expect("[")?;
        self.list("]")
    }

    /// Values up to `close`, separated by commas; the last comma may stand alone.
    fn list(&mut self, close: &str) -> Parsed<Vec<Value>> {
        let mut values = Vec::new();
        loop {
            self.space();
            if self.take(close) {
                return Ok(values);
            }
            values.push(self.value()?);
            self.space();
            if !self.take(",") {
                self.expect(close)?;
                return Ok(values);
            }
        }
    }

    /// An object if a name and a colon follow, or nothing at all; else a set.
    fn braces(&mut self) -> Parsed<Value> {
        let start = self.at;
        self.expect("{")?;
        self.space();
        if self.take(",") {
            self.space();
            self.expect("}")?;
            return Ok(Value::Set(BTreeSet::new()));
        }
        let named = self.peek() == Some('}') || {
            let name = self.name();
            self.space();
            name.is_ok() && self.peek() == Some(':')
        };
        self.at = start;
        if named {
            return self.object().map(Value::Object);
        }
        self.at += 1;
        self.list("}").map(|values| Value::Set(values.into_iter().collect()))
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some('\'' | '"' | '`') => self.string(),
            _ => match self.run(is_word_char) {
                "" => Err(self.error("expected a field's name")),
                word => Ok(word.to_owned()),
            },
        }
    }

    fn object(&mut self) -> Parsed<Object> {
        self.expect("{")?;
        let mut fields = Object::new();
        loop {
            self.space();
            if self.take("}") {
                return Ok(fields);
            }
            let name = self.name()?;
            self.space();
            self.expect(":")?;
            let value = self.value()?;
            fields.insert(name, value);
            self.space();
            if !self.take(",") {
                self.expect("}")?;
                return Ok(fields);
            }
        }
    }

    /// A number, a duration, or a record id whose table starts with a digit is not one.
    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        let negative = self.take("-");
        if !negative {
            self.take("+");
        }
        if self.rest().starts_with("Infinity") {
            self.at += "Infinity".len();
            return Ok(Value::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }));
        }
        let digits_at = self.at;
        self.run(is_digit);
        if self.at == digits_at {
            return Err(self.error("expected a number"));
        }
        let is_unit = |c: char| matches!(c, 'n' | 'u' | 'µ' | 'μ' | 'm' | 's' | 'h' | 'w' | 'y');
        let unit = self.peek().is_some_and(is_unit)
            || (self.peek() == Some('d') && !self.rest().starts_with("dec"));
        if unit && !negative {
            self.at = digits_at;
            return self.duration().map(Value::Duration);
        }
        let mut float = false;
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(is_digit) {
            self.at += 1;
            self.run(is_digit);
            float = true;
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            if !self.take("-") {
                self.take("+");
            }
            self.run(is_digit);
            float = true;
        }
        let text = self.text[start..self.at].replace('_', "");
        if self.take("dec") {
            let decimal = Decimal::from_str(&text).or_else(|_| Decimal::from_scientific(&text));
            return decimal.map(Value::Decimal).map_err(|error| self.error(error.to_string()));
        }
        if self.take("f") || float {
            return text.parse().map(Value::Float).map_err(|_| self.error("no number"));
        }
        text.parse().map(Value::Int).map_err(|_| self.error("the integer is too large"))
    }

    fn duration(&mut self) -> Parsed<Duration> {
        let mut nanos: u128 = 0;
        loop {
            let digits = self.run(is_digit);
            let count: u128 = digits.parse().map_err(|_| self.error("expected a duration"))?;
            let units: [(&str, u128); 11] = [
                ("ns", 1),
                ("us", 1000),
                ("µs", 1000),
                ("μs", 1000),
                ("ms", 1_000_000),
                ("s", 1_000_000_000),
                ("m", 60_000_000_000),
                ("h", 3_600_000_000_000),
                ("d", 86_400_000_000_000),
                ("w", 604_800_000_000_000),
                ("y", 31_536_000_000_000_000),
            ];
            let unit = units.iter().find(|(unit, _)| self.rest().starts_with(unit));
            let Some((unit, size)) = unit else {
                return Err(self.error("expected a unit of time"));
            };
            self.at += unit.len();
            nanos = count
                .checked_mul(*size)
                .and_then(|more| nanos.checked_add(more))
                .ok_or_else(|| self.error("the duration is too long"))?;
            if !self.rest().starts_with(is_digit) {
                break;
            }
        }
        let secs = u64::try_from(nanos / 1_000_000_000);
        let secs = secs.map_err(|_| self.error("the duration is too long"))?;
        let nanos = u32::try_from(nanos % 1_000_000_000).expect("a remainder");
        Ok(Duration { secs, nanos })
    }

    fn record_id(&mut self) -> Parsed<RecordId> {
        let table = self.ident()?;
        self.expect(":")?;
        Ok(RecordId { table, key: self.key()? })
    }

    fn ident(&mut self) -> Parsed<String> {
        match self.peek() {
            Some('`') => self.string(),
            Some('⟨') => {
                self.at += '⟨'.len_utf8();
                self.until('⟩')
            }
            _ => {
                let word = self.run(is_word_char);
                if word.is_empty() {
                    Err(self.error("expected a name"))
                } else {
                    Ok(word.to_owned())
                }
            }
        }
    }

    fn key(&mut self) -> Parsed<Key> {
        match self.peek() {
            Some('[') => {
                self.depth += 1;
                let array = self.array();
                self.depth -= 1;
                array.map(Key::Array)
            }
            Some('{') => self.object().map(Key::Object),
            Some('`' | '⟨') => self.ident().map(Key::String),
            Some('u') if matches!(self.rest().as_bytes().get(1), Some(b'\'' | b'"')) => {
                match self.word()? {
                    Value::Uuid(id) => Ok(Key::Uuid(id)),
                    _ => Err(self.error("no uuid")),
                }
            }
            Some('-' | '+') => {
                let start = self.at;
                self.at += 1;
                self.run(is_digit);
                let text = &self.text[start..self.at];
                text.parse().map(Key::Int).map_err(|_| self.error("no integer key"))
            }
            _ => {
                let word = self.run(is_word_char);
                if word.is_empty() {
                    return Err(self.error("expected a key"));
                }
                let digits = word.bytes().all(|byte| byte.is_ascii_digit());
                match word.parse() {
                    Ok(int) if digits => Ok(Key::Int(int)),
                    _ => Ok(Key::String(word.to_owned())),
                }
            }
        }
    }
}

fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

fn is_digit(char: char) -> bool {
    char.is_ascii_digit() || char == '_'
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// RFC 3339 with an offset.
fn datetime(text: &str) -> Option<Datetime> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let year_len = unsigned.find('-')?;
    let (year, rest) = unsigned.split_at_checked(year_len)?;
    let year = sign * number(year)?;
    let rest = rest.strip_prefix('-')?;
    let (month, rest) = (number(rest.get(..2)?)?, rest.get(2..)?.strip_prefix('-')?);
    let (day, rest) = (number(rest.get(..2)?)?, rest.get(2..)?.strip_prefix(['T', 't', ' '])?);
    let (hour, rest) = (number(rest.get(..2)?)?, rest.get(2..)?.strip_prefix(':')?);
    let (minute, rest) = (number(rest.get(..2)?)?, rest.get(2..)?.strip_prefix(':')?);
    let (second, mut rest) = (number(rest.get(..2)?)?, rest.get(2..)?);
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits = format!("{:0<9}", &fraction[..len.min(9)]);
        nanos = u32::try_from(number(&digits)?).ok()?;
        rest = &fraction[len..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = rest.strip_prefix(['+', '-'])?.split_once(':')?;
            sign * (number(hours)? * 3600 + number(minutes)? * 60)
        }
    };
    let month_days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    };
    let valid = (1..=12).contains(&month)
        && (1..=month_days).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && year.abs() < 262_144;
    if !valid {
        return None;
    }
    let leap = u32::from(second == 60);
    let second = second - i64::from(leap);
    let secs = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Datetime { secs: secs - offset, nanos: nanos + leap * 1_000_000_000 })
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
