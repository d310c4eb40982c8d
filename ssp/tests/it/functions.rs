//! What functions, operators and paths are worth: facts of SurrealDB 3.3.5, one row at a time.

use revenant_log::value::Object;
use revenant_log::{Key, Value};
use revenant_ssp::query::naive::{Tables, evaluate};
use revenant_ssp::query::parse::parse;

/// A row with values of many types, and one that it links to.
fn tables() -> Tables {
    let row = "{ i: 7, m: -2, f: 1.5f, d: 2.5dec, s: 'aßc', e: '', t: [1, 'x', 2f], o: { p: 1, 'q r': [3] }, \
               l: b:1, ls: [b:1, b:2], at: d'2024-02-29T00:00:00Z', u: 90m, nothing: NULL }";
    let linked = "{ n: 5, l: a:1, t: [{ v: 1 }, { v: 2 }] }";
    [("a", row), ("b", linked)]
        .map(|(table, row)| {
            (table.to_owned(), [(Key::Int(1), (1, Value::parse(row).unwrap()))].into())
        })
        .into()
}

/// Whether the row satisfies a condition; `None` when there is no answer.
fn holds(condition: &str) -> Option<bool> {
    let surql = format!("SELECT * FROM a WHERE {condition}");
    let parsed = parse(&surql, &Object::new()).unwrap_or_else(|error| panic!("{surql}: {error}"));
    let query = parsed.query.unwrap_or_else(|what| panic!("{surql}: {what}"));
    evaluate(&query, &tables()).ok().map(|members| !members.is_empty())
}

#[test]
fn what_is_true() {
    for condition in [
        "i + 1 == 8 AND i - 10 = -3 AND i * m = -14 AND -i = -7",
        // Ints divide to ints, towards zero; by zero there is no number, and it equals itself.
        "i / 2 = 3 AND m / 4 = 0 AND type::is_int(i / 2) AND i % 4 = 3 AND m % 4 = -2",
        "type::is_float(i / 0) AND i / 0 = s / 2 AND i / 0 != i",
        "i / 2f = 3.5 AND type::is_float(i + f) AND type::is_decimal(i + d) AND type::is_decimal(f + d)",
        "s + 'x' = 'aßcx' AND t + [9] = [1, 'x', 2, 9] AND at + u = d'2024-02-29T01:30:00Z'",
        "at - 1d = d'2024-02-28T00:00:00Z' AND (at + 3m) - at = 180s AND u - 30m = 1h",
        "(nothing ?? 3) = 3 AND (missing ?? nothing ?? 4) = 4 AND (e ?: 'x') = 'x' AND (i ?: 1) = 7",
        "string::len(s) = 3 AND string::uppercase(s) = 'ASSC' AND string::reverse(s) = 'cßa'",
        "string::slice(s, 1) = 'ßc' AND string::slice(s, -2, -1) = 'ß' AND string::slice(s, 2, 1) = ''",
        "string::split(s, 'ß') = ['a', 'c'] AND string::split(e, ',') = [''] AND string::words(' a b ' + e) = ['a', 'b']",
        "string::concat(s, i, true, NONE, nothing) = 'aßc7trueNONENULL' AND string::join('-', s, m) = 'aßc--2'",
        "string::is_alpha(s) AND !string::is_alpha(e) AND !string::is_ascii(s) AND string::contains(s, e)",
        "array::len(t) = 3 AND array::at(t, -1) = 2 AND array::at(t, 9) = NONE AND array::first([e]) = ''",
        "array::any(t, 2) AND array::all(t) AND array::max(t) = 'x' AND array::min([i, nothing]) = NULL",
        "count(t) = 3 AND count(e) = 0 AND count(missing) = 0 AND count([e, i]) = 1 AND not(e)",
        "math::sum([i, f]) = 8.5 AND math::mean([i, 8]) = 7.5 AND math::max([i, 9]) = 9 AND math::floor(f) = 1",
        "math::round(d) = 2 AND math::round(f) = 2 AND math::abs(m) = 2 AND math::ceil(i) = 7",
        "type::is_none(missing) AND !type::is_none(nothing) AND type::is_record(l, 'b') AND !type::is_record(l, 'a')",
        "object::len(o) = 2 AND object::keys(o) = ['p', 'q r'] AND record::id(l) = 1 AND record::tb(l) = 'b'",
        // A path leads through links and maps over lists; of what is not there it is NONE.
        "l.n = 5 AND l.l.i = 7 AND l.l.l.n = 5 AND l.id = b:1 AND id.i = 7 AND l.missing = NONE",
        "ls.n = [5, NONE] AND l.t.v = [1, 2] AND t.n = [NONE, NONE, NONE] AND i.n = NONE AND missing.n = NONE",
        "t[1] = 'x' AND t[9] = NONE AND t[$] = 2 AND ls[0].n = 5 AND ls[1].id = NONE AND s[0] = NONE",
    ] {
        for part in condition.split(" AND ") {
            assert_eq!(holds(part), Some(true), "{part}");
        }
        assert_eq!(holds(condition), Some(true), "{condition}");
    }
}

#[test]
fn what_surrealdb_refuses_has_no_answer_unless_another_condition_decides() {
    for condition in [
        "i + s = 1",
        "s - s = 1",
        "-s = 1",
        "i % 0 = 1",
        "9223372036854775807 + i > 0",
        "string::len(i) = 1",
        "string::len(missing) = 1",
        "array::len(s) = 1",
        "math::sum(t) = 1",
        "math::abs(s) = 1",
        "at - (at + 1d) = 1d",
        "object::len(t) = 1",
        "record::id(s) = 1",
    ] {
        assert_eq!(holds(condition), None, "{condition}");
        assert_eq!(holds(&format!("{condition} AND i = 8")), Some(false), "{condition}");
        assert_eq!(holds(&format!("i = 8 AND {condition}")), Some(false), "{condition}");
        assert_eq!(holds(&format!("({condition} OR i = 7)")), Some(true), "{condition}");
        assert_eq!(holds(&format!("i = 7 AND {condition}")), None, "{condition}");
    }
}
