//! `Collation`: how texts are ordered where `ORDER BY` says `COLLATE` or `NUMERIC`. SurrealDB takes both orders from
//! `lexicmp`; sort keys need them as bytes.

use std::cmp::Ordering;

use lexicmp::iter::iterate_lexical;
use revenant_log::{Value, encode_value};

use super::expr::Beyond;

/// Longest run of digits that SurrealDB's arithmetic on them holds.
const DIGITS_MOST: usize = 19;

/// An order of texts. Other values are in their own order, and so is a text among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Collation {
    /// By code points.
    #[default]
    Plain,
    /// `COLLATE`: as in a dictionary, `a < ä < b`.
    Lexical,
    /// `NUMERIC`: digits are numbers, `x9 < x10`.
    Natural,
    /// Both.
    NaturalLexical,
}

impl Collation {
    /// As the key of an `ORDER BY` says.
    #[must_use]
    pub fn of(collate: bool, numeric: bool) -> Self {
        match (collate, numeric) {
            (false, false) => Self::Plain,
            (true, false) => Self::Lexical,
            (false, true) => Self::Natural,
            (true, true) => Self::NaturalLexical,
        }
    }

    /// How two values compare.
    pub(crate) fn compare(self, one: &Value, other: &Value) -> Result<Ordering, Beyond> {
        self.check(one)?;
        self.check(other)?;
        Ok(match (self, one, other) {
            (Self::Lexical, Value::String(one), Value::String(other)) => {
                lexicmp::lexical_cmp(one, other)
            }
            (Self::Natural, Value::String(one), Value::String(other)) => {
                lexicmp::natural_cmp(one, other)
            }
            (Self::NaturalLexical, Value::String(one), Value::String(other)) => {
                lexicmp::natural_lexical_cmp(one, other)
            }
            (_, one, other) => one.cmp(other),
        })
    }

    /// Adds bytes whose order is that of [`Collation::compare`]; none are the start of others.
    pub(crate) fn encode(self, value: &Value, bytes: &mut Vec<u8>) -> Result<(), Beyond> {
        self.check(value)?;
        let start = bytes.len();
        encode_value(value, bytes);
        if let (Self::Lexical | Self::Natural | Self::NaturalLexical, Value::String(text)) =
            (self, value)
        {
            // The type's byte comes first; what is equal in a dictionary is then in its own order.
            let plain = bytes.split_off(start + 1);
            match self {
                Self::Natural => units(text.chars(), true, false, bytes),
                collation => units(iterate_lexical(text), collation != Self::Lexical, true, bytes),
            }
            bytes.extend(plain);
        }
        Ok(())
    }

    /// Numbers are compared in 64 bits, and what does not fit is in an order of its own.
    fn check(self, value: &Value) -> Result<(), Beyond> {
        let (Self::Natural | Self::NaturalLexical, Value::String(text)) = (self, value) else {
            return Ok(());
        };
        let mut run = 0;
        let long = |char: char| {
            run = if char.is_ascii_digit() { run + 1 } else { 0 };
            run > DIGITS_MOST
        };
        let long = match self {
            Self::Natural => text.chars().any(long),
            _ => iterate_lexical(text).any(long),
        };
        if long { Err(Beyond::Digits) } else { Ok(()) }
    }
}

/// A unit for each character: its class, where letters and digits come after others, and its number. A run of digits
/// is one unit, in the place of a digit, by its length and then its digits. An end comes before every unit.
fn units(chars: impl Iterator<Item = char>, numeric: bool, classes: bool, bytes: &mut Vec<u8>) {
    let mut chars = chars.peekable();
    while let Some(char) = chars.next() {
        bytes.push(if classes && char.is_alphanumeric() { 2 } else { 1 });
        if !(numeric && char.is_ascii_digit()) {
            bytes.extend_from_slice(&u32::from(char).to_be_bytes()[1..]);
            continue;
        }
        bytes.extend_from_slice(&u32::from('0').to_be_bytes()[1..]);
        let length = bytes.len();
        bytes.extend([0, u8::try_from(char).unwrap_or_default()]);
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            bytes.push(u8::try_from(digit).unwrap_or_default());
        }
        bytes[length] = u8::try_from(bytes.len() - length - 1).unwrap_or(u8::MAX);
    }
    bytes.push(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(collation: Collation, value: &Value) -> Vec<u8> {
        let mut bytes = vec![7];
        collation.encode(value, &mut bytes).unwrap();
        bytes
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ab01_ ]{0,6}", "[aAäÄæbBßéz0-9½_\\-./:~]{0,8}", "\\PC{0,6}"]
    }

    proptest! {
        #[test]
        fn bytes_are_in_the_order_of_lexicmp(one in text(), other in text(), n in 0i64..9) {
            let values = [Value::String(one), Value::String(other), Value::Int(n), Value::None];
            for collation in [Collation::Plain, Collation::Lexical, Collation::Natural, Collation::NaturalLexical] {
                for one in &values {
                    for other in &values {
                        let order = collation.compare(one, other).unwrap();
                        let (one, other) = (encoded(collation, one), encoded(collation, other));
                        prop_assert_eq!(one.cmp(&other), order, "{:?}", collation);
                        prop_assert!(one == other || !other.starts_with(&one), "a start of another");
                    }
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_too_long_has_no_answer() {
        let long = Value::String("x12345678901234567890".into());
        assert_eq!(Collation::Natural.encode(&long, &mut Vec::new()), Err(Beyond::Digits));
        assert!(Collation::Lexical.encode(&long, &mut Vec::new()).is_ok());
    }
}
