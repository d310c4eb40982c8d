//! Every operator and function on every pair of a pool of values of all types: what it is worth to us is what it is
//! worth to SurrealDB, or we have no answer.

use std::collections::BTreeMap;

use revenant_log::value::Object;
use revenant_log::{Key, Value};
use revenant_ssp::query::function::Function;
use revenant_ssp::query::naive::{Tables, evaluate};
use revenant_ssp::query::parse::parse;
use revenant_surreal::Db;
use surrealdb::types as sdk;

use crate::rig::database;

/// Values of every type that a row may hold, with neighbours that differ in type or by little.
const POOL: [&str; 50] = [
    "NONE",
    "NULL",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "9223372036854775807",
    "1f",
    "1.5f",
    "-0f",
    "1dec",
    "1.50dec",
    "''",
    "'a'",
    "'ab'",
    "'B'",
    "'é'",
    "'1'",
    "'a1'",
    "1h",
    "60m",
    "0ns",
    "d'2024-02-29T00:00:00Z'",
    "d'1960-01-01T00:00:00.5Z'",
    "u'018a6680-bef9-701b-9025-e1754f296a0f'",
    "t:1",
    "t:a",
    "t:['a', 1]",
    "u:1",
    "[]",
    "[1]",
    "[1, 'a']",
    "['a', 'ab']",
    "[[1]]",
    "[NONE]",
    "[true, 2f]",
    "[3, 1, 2]",
    "[t:1]",
    "{}",
    "{ a: 1 }",
    "{ a: 1f, b: [1] }",
    "{ b: NULL }",
    "1..3",
    "'a'..='b'",
    "b\"00ff\"",
    "(1.5, 2.5)",
    "d'2024-02-29T00:00:00.1Z'",
    "[u:1, 'a']",
];

const OPERATORS: [&str; 28] = [
    "=",
    "!=",
    "==",
    "*=",
    "?=",
    "<",
    "<=",
    ">",
    ">=",
    "CONTAINS",
    "CONTAINSNOT",
    "CONTAINSALL",
    "CONTAINSANY",
    "CONTAINSNONE",
    "INSIDE",
    "NOT IN",
    "ALLINSIDE",
    "ANYINSIDE",
    "NONEINSIDE",
    "+",
    "-",
    "*",
    "/",
    "%",
    "??",
    "?:",
    "AND",
    "OR",
];

/// How many statements are sent at once.
const AT_ONCE: usize = 1000;

struct Asked {
    /// With the fields `a` and `b`.
    ours: String,
    /// With the values.
    theirs: String,
    row: Value,
}

/// Every pair, by text and value.
fn asked(pool: &[(&str, Value)]) -> Vec<Asked> {
    let mut all = Vec::new();
    let value = |text: &str| pool.iter().find(|(other, _)| *other == text).unwrap().1.clone();
    let row = |a: &str, b: &str| {
        let fields = [("a", a), ("b", b)].map(|(name, text)| (name.to_owned(), value(text)));
        Value::Object(fields.into_iter().filter(|(_, value)| *value != Value::None).collect())
    };
    let one = |name: &str, a: &str| Asked {
        ours: format!("{name}(a)"),
        theirs: format!("{name}({a})"),
        row: row(a, "NONE"),
    };
    for a in POOL {
        all.push(Asked { ours: "!a".into(), theirs: format!("!({a})"), row: row(a, "NONE") });
        all.push(Asked { ours: "-a".into(), theirs: format!("-({a})"), row: row(a, "NONE") });
        let names = Function::names().filter(|name| name.starts_with(char::is_alphabetic));
        for name in names.filter(|name| *name != "neg" && Function::named(name, 1).is_some()) {
            all.push(one(name, a));
        }
        for b in POOL {
            let pair = |ours: String, theirs: String| Asked { ours, theirs, row: row(a, b) };
            for operator in OPERATORS {
                all.push(pair(format!("a {operator} b"), format!("({a}) {operator} ({b})")));
            }
            for name in Function::names().filter(|name| name.contains("::")) {
                if Function::named(name, 2).is_some() {
                    all.push(pair(format!("{name}(a, b)"), format!("{name}({a}, {b})")));
                }
            }
        }
    }
    all
}

/// The values of expressions; `None` where SurrealDB refuses.
async fn answered(db: &Db, asked: impl IntoIterator<Item = &str>) -> Vec<Option<Value>> {
    let statements: Vec<_> = asked.into_iter().map(|asked| format!("RETURN {asked}")).collect();
    let mut response = db.client().await.unwrap().query(statements.join(";\n")).await.unwrap();
    let value = |place| {
        let value: Result<sdk::Value, _> = response.take(place);
        value.ok().map(|value| revenant_surreal::convert::from_sdk(value).unwrap())
    };
    (0..statements.len()).map(value).collect()
}

/// Whether our value of the expression is `value`; `None` if we have none.
fn is_worth(asked: &Asked, value: &Value) -> Option<bool> {
    let surql = format!("SELECT * FROM t WHERE ({}) == $is", asked.ours);
    let params: Object = [("is".to_owned(), value.clone())].into();
    let query = parse(&surql, &params).unwrap_or_else(|error| panic!("{surql}: {error}")).query;
    let query = query.unwrap_or_else(|what| panic!("{surql}: {what}"));
    let rows = [(Key::Int(0), (1, asked.row.clone()))].into();
    let tables: Tables = [("t".to_owned(), rows)].into();
    evaluate(&query, &tables).ok().map(|members| !members.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_functions_are_worth_what_they_are_worth_to_surrealdb() {
    let db = database().await;
    let values = answered(&db, POOL).await.into_iter().map(|value| value.expect("a literal"));
    let pool: Vec<_> = POOL.into_iter().zip(values).collect();
    let asked = asked(&pool);
    let (mut equal, mut refused, mut declined) = (0, 0, BTreeMap::<String, usize>::new());
    let mut wrong = Vec::new();
    for asked in asked.chunks(AT_ONCE) {
        let answers = answered(&db, asked.iter().map(|asked| asked.theirs.as_str())).await;
        for (asked, answer) in asked.iter().zip(answers) {
            let Some(value) = answer else {
                refused += 1;
                if is_worth(asked, &Value::None).is_some() {
                    wrong.push(format!("{} is refused", asked.theirs));
                }
                continue;
            };
            match is_worth(asked, &value) {
                Some(true) => equal += 1,
                Some(false) => wrong.push(format!("{} is {value}", asked.theirs)),
                None => *declined.entry(asked.ours.clone()).or_default() += 1,
            }
        }
    }
    let without = declined.values().sum::<usize>();
    println!(
        "{equal} equal, {} refused by SurrealDB, {without} without an answer: {declined:?}",
        refused
    );
    assert!(wrong.is_empty(), "{} differ: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
    assert!(equal > 50_000 && without * 10 < equal, "{equal} equal, {without} without an answer");
}
