//! Random live queries and random changes of the rows they read, from a seed. Values are few and of many
//! types, so that ties, moves across a window's edge, and comparisons across types happen all the time.
//!
//! Tables `a`, `b` and `c` have rows with the fields `n` (number or anything), `s` (string or nothing), `t`
//! (list, also of links), `l` (link to a row of another table, or not), `o.p` (nested) and `o.q` (nested link).

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use revenant_log::value::{Datetime, Object};
use revenant_log::{Key, RecordId, Value};

/// The tables.
pub const TABLES: [&str; 3] = ["a", "b", "c"];

/// Where a query's parameter goes, or a constant in its place.
const HOLE: &str = "$HOLE";

/// What queries are sorted by.
const SORTED: [&str; 5] = ["n", "s", "l", "o.p", "id"];

/// Rows by their id.
pub type Rows = BTreeMap<RecordId, Object>;

/// Constructs of the language, as [`Asked::constructs`] names them.
pub const CONSTRUCTS: [&str; 26] = [
    "comparison",
    "AND, OR, NOT",
    "IN a list",
    "CONTAINS",
    "CONTAINSALL to NONEINSIDE",
    "string functions",
    "array functions",
    "math functions",
    "type checks",
    "arithmetic",
    "?? and ?:",
    "nested fields",
    "array paths",
    "record links",
    "ORDER BY",
    "COLLATE, NUMERIC",
    "LIMIT and START",
    "correlated subqueries",
    "nested subqueries",
    "IN (SELECT VALUE)",
    "EXISTS-like forms",
    "params",
    "field lists, OMIT, FETCH",
    "SELECT VALUE",
    "FROM ONLY",
    "GROUP BY, GROUP ALL",
];

/// A live query.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Its text.
    pub surql: String,
    /// Its parameters.
    pub params: Object,
    /// A query without parameters that returns its members with their ids: as the query itself does, or in
    /// the place of one whose rows have none.
    pub members: String,
    /// Which of [`CONSTRUCTS`] it has.
    pub constructs: BTreeSet<&'static str>,
}

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
    noted: BTreeSet<&'static str>,
}

impl Generator {
    /// With `keys` rows at most in each table.
    #[must_use]
    pub fn new(seed: u64, keys: i64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), keys, noted: BTreeSet::new() }
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
            "s" => match self.below(7) {
                0 => Value::None,
                1 => Value::String(String::new()),
                2 => Value::String("xy".into()),
                3 => Value::String("x".into()),
                // Texts that dictionaries and numbers order in another way than code points.
                4 | 5 => Value::String(["X", "x9", "x10", "é", "_x", "E9"][self.below(6)].into()),
                _ => Value::String("y".into()),
            },
            "t" => match self.below(6) {
                5 => Value::Array((0..1 + self.below(2)).map(|_| self.link_value()).collect()),
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
                _ => self.link_value(),
            },
            _ => {
                let p = self.number();
                if p.is_none() {
                    return Value::None;
                }
                let mut fields = Object::from([("p".to_owned(), p)]);
                if self.one_in(2) {
                    fields.insert("q".to_owned(), self.link_value());
                }
                Value::Object(fields)
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

    fn link_value(&mut self) -> Value {
        Value::RecordId(Box::new(self.id(None)))
    }

    fn note(&mut self, construct: &'static str) {
        debug_assert!(CONSTRUCTS.contains(&construct), "{construct}");
        self.noted.insert(construct);
    }

    /// A live query.
    pub fn query(&mut self) -> Asked {
        self.noted.clear();
        let table = TABLES[self.below(3)];
        let (mut surql, mut members) = match self.below(16) {
            0 => self.grouped(table),
            1 => self.value(table),
            2 => self.only(table),
            3 | 4 => self.listed(table),
            _ => {
                let select = self.select(table, 0);
                (select.clone(), select)
            }
        };
        let mut params = Object::new();
        if self.one_in(5) {
            self.note("params");
            let value = self.number();
            surql = surql.replace(HOLE, "$v");
            members = members.replace(HOLE, &value.to_string());
            params.insert("v".to_owned(), value);
        } else {
            let value = self.number().to_string();
            surql = surql.replace(HOLE, &value);
            members = members.replace(HOLE, &value);
        }
        Asked { surql, params, members, constructs: std::mem::take(&mut self.noted) }
    }

    /// A condition on a row.
    pub fn filter(&mut self) -> String {
        let condition = self.condition(0, 1);
        condition.replace(HOLE, &self.number().to_string())
    }

    /// Its members are the rows that its groups are made of.
    fn grouped(&mut self, table: &str) -> (String, String) {
        self.note("GROUP BY, GROUP ALL");
        let condition = self.condition(0, 1);
        let (fields, group) = [
            ("count()", "GROUP ALL"),
            ("s, count() AS c", "GROUP BY s"),
            ("s, math::sum(n) AS c", "GROUP BY s"),
            ("count() AS c", "GROUP ALL"),
            ("s, math::max(o.p) AS c, math::min(n) AS d", "GROUP BY s ORDER BY s LIMIT 2"),
        ][self.below(5)];
        (
            format!("SELECT {fields} FROM {table} WHERE {condition} {group}"),
            format!("SELECT * FROM {table} WHERE {condition}"),
        )
    }

    fn value(&mut self, table: &str) -> (String, String) {
        self.note("SELECT VALUE");
        let condition = self.condition(0, 1);
        let field = ["id", "n", "s"][self.below(3)];
        // SurrealDB sorts by what it selects, so no other order is possible.
        let window = ["", " ORDER BY id DESC LIMIT 2", " LIMIT 3"][self.below(3)];
        let window = if field == "id" { window } else { "" };
        (
            format!("SELECT VALUE {field} FROM {table} WHERE {condition}{window}"),
            format!("SELECT * FROM {table} WHERE {condition}{window}"),
        )
    }

    fn only(&mut self, table: &str) -> (String, String) {
        self.note("FROM ONLY");
        if self.one_in(2) {
            let id = self.id(Some(table));
            return (format!("SELECT * FROM ONLY {id}"), format!("SELECT * FROM {id}"));
        }
        let (condition, order) = (self.condition(0, 1), self.order(&SORTED));
        let rest = format!("{table} WHERE {condition}{order} LIMIT 1");
        (format!("SELECT * FROM ONLY {rest}"), format!("SELECT * FROM {rest}"))
    }

    fn listed(&mut self, table: &str) -> (String, String) {
        self.note("field lists, OMIT, FETCH");
        let condition = self.condition(0, 0);
        let (fields, fetch) = [
            ("id, n", ""),
            ("id, n AS m, o.p", ""),
            ("* OMIT t", ""),
            ("id, l", " FETCH l"),
            ("id, string::lowercase(s ?? '') AS m", ""),
            ("*, count(t) AS m", ""),
        ][self.below(6)];
        let window = if fields.starts_with('*') { self.window(&SORTED) } else { String::new() };
        let rest = format!("FROM {table} WHERE {condition}{window}");
        (format!("SELECT {fields} {rest}{fetch}"), format!("SELECT * {rest}"))
    }

    fn select(&mut self, table: &str, depth: usize) -> String {
        let (mut fields, mut named) = ("*".to_owned(), false);
        let children = if depth < 3 && self.one_in(2 + depth) { 1 + self.below(2) } else { 0 };
        for child in 0..children {
            self.note(if depth == 0 { "correlated subqueries" } else { "nested subqueries" });
            let table = TABLES[self.below(3)];
            let select = self.select(table, depth + 1);
            let first = if self.one_in(4) { "[0]" } else { "" };
            // A client's query names the row after the field that links to it.
            let alias = if child == 1 && self.one_in(2) { "l".into() } else { format!("x{child}") };
            named |= alias == "l";
            fields += &format!(", ({select}){first} AS {alias}");
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
        // An order by what the query computes would be another order.
        let fields: &[&'static str] = if named { &["n", "s", "o.p", "id"] } else { &SORTED };
        query + &self.window(fields)
    }

    /// A condition that ties a row of a subquery to its parent.
    fn link(&mut self) -> String {
        if self.one_in(6) {
            self.note("record links");
            return ["n = $parent.l.n", "l.n = $parent.n", "l.l = $parent.id", "l = $parent.o.q"]
                [self.below(4)]
            .to_owned();
        }
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

    fn order(&mut self, fields: &[&'static str]) -> String {
        if self.one_in(2) {
            return String::new();
        }
        self.note("ORDER BY");
        let mut fields = fields.to_vec();
        let mut terms = Vec::new();
        for _ in 0..1 + self.below(2) {
            let field = fields.remove(self.below(fields.len()));
            let mut collation = "";
            if self.one_in(4) {
                self.note("COLLATE, NUMERIC");
                collation = [" COLLATE", " NUMERIC", " COLLATE NUMERIC"][self.below(3)];
            }
            terms.push(format!("{field}{collation}{}", ["", " ASC", " DESC"][self.below(3)]));
        }
        format!(" ORDER BY {}", terms.join(", "))
    }

    fn window(&mut self, fields: &[&'static str]) -> String {
        let mut window = self.order(fields);
        if self.one_in(2) {
            self.note("LIMIT and START");
            window += &format!(" LIMIT {}", [1, 2, 3, 5, 0][self.below(5)]);
            if self.one_in(2) {
                window += &format!(" START {}", self.below(4));
            }
        } else if self.one_in(8) {
            self.note("LIMIT and START");
            window += &format!(" START {}", self.below(3));
        }
        window
    }

    fn condition(&mut self, depth: usize, nesting: usize) -> String {
        if nesting < 3 && self.one_in(3) {
            self.note("AND, OR, NOT");
            let one = self.condition(depth, nesting + 1);
            let other = self.condition(depth, nesting + 1);
            return match self.below(3) {
                0 => format!("({one} AND {other})"),
                1 => format!("({one} OR {other})"),
                _ => format!("!({one})"),
            };
        }
        let (construct, condition) = match self.below(24) {
            0 => ("AND, OR, NOT", "s".into()),
            1 => ("AND, OR, NOT", "!t".into()),
            2 => ("IN a list", format!("n IN {}", self.list())),
            3 => ("IN a list", format!("s NOT IN {}", self.list())),
            4 => ("CONTAINS", format!("t CONTAINS {}", self.constant())),
            5 => ("CONTAINS", format!("{} IN t", self.constant())),
            6 => ("CONTAINSALL to NONEINSIDE", format!("t {} {}", self.many(), self.list())),
            7 => ("comparison", format!("l = {}", self.id(None))),
            8 => ("comparison", format!("id != {}", self.id(None))),
            9 if nesting < 2 => ("IN (SELECT VALUE)", self.inside(depth)),
            10 => ("nested fields", format!("o.p {} {}", self.operator(), self.constant())),
            11 => ("comparison", format!("n {} s", self.operator())),
            12 => ("comparison", format!("s {} {}", self.operator(), self.constant())),
            13 => ("string functions", self.on_text()),
            14 => ("array functions", self.on_list()),
            15 => ("math functions", self.on_number()),
            16 => ("type checks", self.type_check()),
            17 => ("arithmetic", self.arithmetic()),
            18 => ("?? and ?:", self.coalesced()),
            19 => ("array paths", self.list_path()),
            20 | 21 => ("record links", self.along_link()),
            22 if nesting < 2 => ("EXISTS-like forms", self.exists(depth)),
            _ => ("comparison", format!("n {} {}", self.operator(), self.constant())),
        };
        self.note(construct);
        condition
    }

    /// A condition that SurrealDB has an answer for because another one comes before it; seldom it has none.
    fn guarded(&mut self, guard: &str, condition: &str) -> String {
        if self.one_in(24) { condition.to_owned() } else { format!("({guard} AND {condition})") }
    }

    fn on_text(&mut self) -> String {
        let condition = [
            "string::len(s) > 1",
            "string::starts_with(s, 'x')",
            "string::ends_with(s, 'y')",
            "string::contains(s, 'xy')",
            "string::uppercase(s) = 'X'",
            "string::concat(s, 'y') = 'xy'",
            "string::join('-', s, 1, NONE) = 'x-1-NONE'",
            "string::slice(s, 1) = 'y'",
            "string::slice(s, 0, -1) = 'x'",
            "string::replace(s, 'x', 'y') = 'yy'",
            "string::split(s, 'x') CONTAINS ''",
            "string::is_alpha(s)",
            "string::reverse(s) = 'yx'",
            "string::trim(s) = s",
            "s + 'y' = 'xy'",
        ][self.below(15)];
        if self.one_in(3) {
            return condition.replace("(s", "(s ?? ''").replace("s +", "(s ?? '') +");
        }
        let guard = ["type::is_string(s)", "s != NONE"][self.below(2)];
        self.guarded(guard, condition)
    }

    fn on_list(&mut self) -> String {
        let condition = [
            "array::len(t) > 1",
            "array::is_empty(t)",
            "array::first(t) = 1",
            "array::last(t) = 2",
            "array::at(t, -1) = 2",
            "array::any(t)",
            "array::all(t)",
            "array::any(t, 'x')",
            "array::max(t) > 1",
            "array::concat(t, [n]) CONTAINS 'x'",
            "array::append(t, n) CONTAINS 3",
            "array::reverse(t)[0] = 2",
            "t + [s] CONTAINS 'x'",
        ][self.below(11)];
        match self.below(4) {
            0 => "count(t) > 1".into(),
            1 => "[n, s] CONTAINS 'x'".into(),
            _ => self.guarded("type::is_array(t)", condition),
        }
    }

    fn on_number(&mut self) -> String {
        let condition = [
            "math::abs(n) > 2",
            "math::floor(n) = 1",
            "math::ceil(n) = 2",
            "math::round(n) = 2",
            "math::max([n, 2]) = 2",
            "math::min([n, 2]) < 2",
            "math::sum([n, n, 1.5f]) > 4",
            "math::mean([n, 1]) > 1.5",
        ][self.below(8)];
        self.guarded("type::is_number(n)", condition)
    }

    fn type_check(&mut self) -> String {
        let kind = ["string", "number", "int", "bool", "none", "null", "datetime", "decimal"];
        match self.below(4) {
            0 => format!("type::is_record(l, '{}')", TABLES[self.below(3)]),
            1 => format!("!type::is_{}(n)", kind[self.below(8)]),
            _ => format!("type::is_{}(n)", kind[self.below(8)]),
        }
    }

    fn arithmetic(&mut self) -> String {
        let sign = ["+", "-", "*", "/"][self.below(4)];
        let other = ["1", "2", "0.5f", "1.5dec", "-1", "n"][self.below(6)];
        let condition = match self.below(4) {
            0 => format!("-n {} -2", self.operator()),
            1 => "n % 2 = 1".into(),
            _ => format!("n {sign} {other} {} {}", self.operator(), self.below(5)),
        };
        self.guarded("type::is_number(n)", &condition)
    }

    fn coalesced(&mut self) -> String {
        let operator = self.operator();
        match self.below(4) {
            0 => format!("(n ?? 1) {operator} {HOLE}"),
            1 => format!("(s ?: 'x') {operator} s"),
            2 => format!("(o.p ?? n ?? 2) {operator} 2"),
            _ => "(n ?: s ?: t)".into(),
        }
    }

    fn list_path(&mut self) -> String {
        let path = ["t[0]", "t[1]", "t[$]", "t.n", "t.s", "t.l.n", "t[0].n"][self.below(7)];
        match self.below(3) {
            0 => format!("{path} CONTAINS {}", self.constant()),
            _ => format!("{path} {} {}", self.operator(), self.constant()),
        }
    }

    fn along_link(&mut self) -> String {
        let path =
            ["l.n", "l.n", "l.s", "l.o.p", "l.l.n", "l.l.l.s", "l.t", "o.q.n", "l.id", "id.n"]
                [self.below(10)];
        match self.below(6) {
            0 => path.to_owned(),
            1 => format!("{path} IN {}", self.list()),
            2 => format!("{path} = n"),
            _ => format!("{path} {} {}", self.operator(), self.constant()),
        }
    }

    /// A subquery of which it matters only whether it has rows.
    fn exists(&mut self, depth: usize) -> String {
        let table = TABLES[self.below(3)];
        let (of, equals) =
            [("l", "id"), ("id", "l"), ("n", "n"), ("s", "s"), ("l.n", "n")][self.below(5)];
        let rest = match self.below(2) {
            0 => format!(" AND {}", self.condition(depth, 2)),
            _ => String::new(),
        };
        let select = format!("SELECT VALUE id FROM {table} WHERE {of} = $parent.{equals}{rest}");
        match self.below(4) {
            0 => format!("({select})"),
            1 => format!("!({select})"),
            2 => format!("array::len(({select})) > 0"),
            _ => format!("count(({select})) = 0"),
        }
    }

    /// `IN (SELECT VALUE ...)`.
    fn inside(&mut self, depth: usize) -> String {
        let table = TABLES[self.below(3)];
        let (field, value) = [
            ("l", "id"),
            ("id", "l"),
            ("n", "n"),
            ("s", "s"),
            ("l", "l"),
            ("n", "o.p"),
            ("n", "l.n"),
        ][self.below(7)];
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

    fn constant(&mut self) -> String {
        match self.below(4) {
            3 => HOLE.to_owned(),
            0 => self.field("s").to_string(),
            _ => self.number().to_string(),
        }
    }

    fn list(&mut self) -> String {
        let values: Vec<_> = (0..self.below(4)).map(|_| self.constant()).collect();
        format!("[{}]", values.join(", "))
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn below(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }
}
