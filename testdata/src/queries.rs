//! Random live queries and random changes of the rows they read, from a seed. Values are few and of many
//! types, so that ties, moves across a window's edge, and comparisons across types happen all the time.
//!
//! Tables `a`, `b` and `c` have rows with the fields `n` (number or anything), `s` (string or nothing), `t`
//! (list), `l` (link to a row of another table, or not) and `o.p` (nested).

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use revenant_log::value::{Datetime, Object};
use revenant_log::{Key, RecordId, Value};

/// The tables.
pub const TABLES: [&str; 3] = ["a", "b", "c"];

/// Rows by their id.
pub type Rows = BTreeMap<RecordId, Object>;

/// A change of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The row is so now; it did or did not exist.
    Put(RecordId, Object),
    /// The row is gone.
    Delete(RecordId),
}

/// Makes queries and changes.
pub struct Generator {
    random: StdRng,
    keys: i64,
}

impl Generator {
    /// With `keys` rows at most in each table.
    #[must_use]
    pub fn new(seed: u64, keys: i64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), keys }
    }

    /// The changes of one transaction, in order; the same row may change twice.
    pub fn transaction(&mut self, rows: &Rows) -> Vec<Change> {
        let count = if self.one_in(8) { self.below(12) } else { self.below(3) } + 1;
        (0..count).map(|_| self.change(rows)).collect()
    }

    fn change(&mut self, rows: &Rows) -> Change {
        let id = self.id(None);
        match rows.get(&id) {
            Some(_) if self.one_in(4) => Change::Delete(id),
            Some(row) if !self.one_in(3) => {
                let mut row = row.clone();
                let field = self.field_name();
                match self.field(field) {
                    Value::None => row.remove(field),
                    value => row.insert(field.to_owned(), value),
                };
                Change::Put(id, row)
            }
            _ => {
                let row = self.row();
                Change::Put(id, row)
            }
        }
    }

    fn row(&mut self) -> Object {
        let mut row = Object::new();
        for field in ["n", "s", "t", "l", "o"] {
            let value = self.field(field);
            if !value.is_none() {
                row.insert(field.to_owned(), value);
            }
        }
        row
    }

    fn field_name(&mut self) -> &'static str {
        ["n", "n", "s", "t", "l", "l", "o"][self.below(7)]
    }

    /// A value of a field; NONE when the row should lack it.
    fn field(&mut self, name: &str) -> Value {
        match name {
            "n" => self.number(),
            "s" => match self.below(5) {
                0 => Value::None,
                1 => Value::String(String::new()),
                2 => Value::String("xy".into()),
                3 => Value::String("x".into()),
                _ => Value::String("y".into()),
            },
            "t" => match self.below(5) {
                0 => Value::None,
                1 => Value::Array(Vec::new()),
                2 => Value::Array(vec![Value::Int(1)]),
                3 => {
                    Value::Array(vec![Value::Int(1), Value::String("x".into()), Value::Float(2.0)])
                }
                _ => Value::Array(vec![Value::String("y".into()), Value::Null]),
            },
            "l" => match self.below(8) {
                0 => Value::None,
                1 => Value::String("x".into()),
                _ => Value::RecordId(Box::new(self.id(None))),
            },
            _ => {
                let p = self.number();
                if p.is_none() {
                    return Value::None;
                }
                Value::Object([("p".to_owned(), p)].into())
            }
        }
    }

    fn number(&mut self) -> Value {
        match self.below(16) {
            0 => Value::None,
            1 => Value::Null,
            2 => Value::Bool(true),
            3 => Value::Float(1.5),
            4 => Value::Float(2.0),
            5 => Value::Decimal(rust_decimal::Decimal::new(20, 1)),
            6 => Value::String("x".into()),
            7 => Value::Datetime(Datetime { secs: 1_700_000_000, nanos: 0 }),
            _ => Value::Int(i64::try_from(self.below(5)).unwrap_or(0)),
        }
    }

    fn id(&mut self, table: Option<&str>) -> RecordId {
        let table = table.unwrap_or(TABLES[self.below(3)]);
        let number = self.random.random_range(0..self.keys);
        let key = match number % 4 {
            0 => Key::String(format!("k{number}")),
            1 => Key::Array(vec![Value::Int(number), Value::String("p q".into())]),
            2 => Key::String(format!("with-dash {number}")),
            _ => Key::Int(number),
        };
        RecordId { table: table.to_owned(), key }
    }

    /// A live query.
    pub fn query(&mut self) -> String {
        let table = TABLES[self.below(3)];
        self.select(table, 0)
    }

    fn select(&mut self, table: &str, depth: usize) -> String {
        let mut fields = "*".to_owned();
        let children = if depth < 3 && self.one_in(2 + depth) { 1 + self.below(2) } else { 0 };
        for child in 0..children {
            let table = TABLES[self.below(3)];
            let select = self.select(table, depth + 1);
            let first = if self.one_in(4) { "[0]" } else { "" };
            fields += &format!(", ({select}){first} AS x{child}");
        }
        let mut query = format!("SELECT {fields} FROM {table}");
        // A subquery without a condition on its parent is legal, but seldom what is meant.
        if depth > 0 && !self.one_in(8) {
            let link = self.link();
            let rest = if self.one_in(3) {
                format!(" AND {}", self.condition(depth, 1))
            } else {
                String::new()
            };
            query += &format!(" WHERE {link}{rest}");
        } else if !self.one_in(6) {
            query += &format!(" WHERE {}", self.condition(depth, 0));
        }
        query + &self.window()
    }

    /// A condition that ties a row of a subquery to its parent.
    fn link(&mut self) -> String {
        [
            "id = $parent.l",
            "l = $parent.id",
            "$parent.id = l",
            "n = $parent.n",
            "l = $parent.l",
            "s = $parent.s",
            "n > $parent.n",
            "t CONTAINS $parent.n",
            "id = $parent.l AND n != $parent.n",
        ][self.below(9)]
        .to_owned()
    }

    fn window(&mut self) -> String {
        let mut window = String::new();
        if self.one_in(2) {
            let keys = 1 + self.below(2);
            let mut fields = vec!["n", "s", "l", "o.p", "id"];
            let mut terms = Vec::new();
            for _ in 0..keys {
                let field = fields.remove(self.below(fields.len()));
                terms.push(format!("{field}{}", ["", " ASC", " DESC"][self.below(3)]));
            }
            window += &format!(" ORDER BY {}", terms.join(", "));
        }
        if self.one_in(2) {
            window += &format!(" LIMIT {}", [1, 2, 3, 5, 0][self.below(5)]);
            if self.one_in(2) {
                window += &format!(" START {}", self.below(4));
            }
        } else if self.one_in(8) {
            window += &format!(" START {}", self.below(3));
        }
        window
    }

    fn condition(&mut self, depth: usize, nesting: usize) -> String {
        if nesting < 3 && self.one_in(3) {
            let one = self.condition(depth, nesting + 1);
            let other = self.condition(depth, nesting + 1);
            return match self.below(3) {
                0 => format!("({one} AND {other})"),
                1 => format!("({one} OR {other})"),
                _ => format!("!({one})"),
            };
        }
        match self.below(14) {
            0 => "s".into(),
            1 => "!t".into(),
            2 => format!("n IN {}", self.list()),
            3 => format!("s NOT IN {}", self.list()),
            4 => format!("t CONTAINS {}", self.value()),
            5 => format!("{} IN t", self.value()),
            6 => format!("t {} {}", self.many(), self.list()),
            7 => format!("l = {}", self.id(None)),
            8 => format!("id != {}", self.id(None)),
            9 if nesting < 2 => self.inside(depth),
            10 => format!("o.p {} {}", self.operator(), self.value()),
            11 => format!("n {} s", self.operator()),
            12 => format!("s {} {}", self.operator(), self.value()),
            _ => format!("n {} {}", self.operator(), self.value()),
        }
    }

    /// `IN (SELECT VALUE ...)`.
    fn inside(&mut self, depth: usize) -> String {
        let table = TABLES[self.below(3)];
        let (field, value) =
            [("l", "id"), ("id", "l"), ("n", "n"), ("s", "s"), ("l", "l"), ("n", "o.p")]
                [self.below(6)];
        let condition = self.condition(depth, 2);
        let not = if self.one_in(3) { "NOT " } else { "" };
        format!("{field} {not}IN (SELECT VALUE {value} FROM {table} WHERE {condition})")
    }

    fn operator(&mut self) -> &'static str {
        ["=", "=", "!=", "<", "<=", ">", ">=", "=="][self.below(8)]
    }

    fn many(&mut self) -> &'static str {
        let all =
            ["CONTAINSALL", "CONTAINSANY", "CONTAINSNONE", "ALLINSIDE", "ANYINSIDE", "NONEINSIDE"];
        all[self.below(6)]
    }

    fn value(&mut self) -> String {
        match self.below(3) {
            0 => self.field("s").to_string(),
            _ => self.number().to_string(),
        }
    }

    fn list(&mut self) -> String {
        let values: Vec<_> = (0..self.below(4)).map(|_| self.value()).collect();
        format!("[{}]", values.join(", "))
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn below(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }
}
