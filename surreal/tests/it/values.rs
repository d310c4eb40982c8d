//! Values survive the way to the database and back, and its orders are ours.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use revenant_fanout::source::Source;
use revenant_log::value::{Datetime, Duration, File, Geometry};
use revenant_log::{Key, RecordId, Value};
use revenant_surreal::convert::{from_sdk, key_from, key_to, to_sdk};
use revenant_surreal::{Changefeed, FeedPolicy};
use rust_decimal::Decimal;

use crate::rig::{database, run};

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        any::<i64>().prop_map(Key::Int),
        "[a-z0-9_/.-]{1,6}".prop_map(Key::String),
        any::<[u8; 16]>().prop_map(Key::Uuid),
        prop::collection::vec((-3i64..3).prop_map(Value::Int), 0..3).prop_map(Key::Array),
        ("[a-c]", -3i64..3).prop_map(|(name, v)| Key::Object([(name, Value::Int(v))].into())),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-5i64..5).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        prop::sample::select(vec![0.5, -0.5, 1.0, -1.0, 1e300, 0.1, 3.0]).prop_map(Value::Float),
        (-50i64..50, 0u32..3).prop_map(|(m, s)| Value::Decimal(Decimal::new(m, s))),
        "[ -~äß✓]{0,6}".prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::Bytes),
        (-1_000_000_000i64..3_000_000_000, 0u32..1_000_000_000)
            .prop_map(|(secs, nanos)| Value::Datetime(Datetime { secs, nanos })),
        (0u64..1_000_000, 0u32..1_000_000_000)
            .prop_map(|(secs, nanos)| Value::Duration(Duration { secs, nanos })),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        key().prop_map(|key| Value::RecordId(Box::new(RecordId::new("commit", key)))),
        Just(Value::File(File { bucket: "b".into(), key: "/x y".into() })),
        (-5i32..5, -5i32..5)
            .prop_map(|(x, y)| Value::Geometry(Geometry::Point((f64::from(x), f64::from(y))))),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[a-d]", inner.clone(), 0..3).prop_map(Value::Object),
            prop::collection::btree_set(inner, 0..3).prop_map(Value::Set),
        ]
    })
}

fn samples<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

proptest! {
    #[test]
    fn conversion_loses_nothing(value in value(), key in key()) {
        let back = from_sdk(to_sdk(&value).unwrap()).unwrap();
        prop_assert!(value.identical(&back), "{value} {back}");
        prop_assert_eq!(&key_from(key_to(&key).unwrap()).unwrap(), &key);
    }
}

#[tokio::test]
async fn values_come_back_from_the_database_as_they_went_in() {
    let db = database().await;
    run(&db, "DEFINE TABLE t").await;
    for value in samples(value(), 300) {
        let statement = "UPSERT t:1 CONTENT { v: $v } RETURN NONE; SELECT VALUE v FROM ONLY t:1";
        let results = db.run(statement, [("v", value.clone())]).await.unwrap();
        assert!(results[1].identical(&value), "{value} came back as {}", results[1]);
    }
}

#[tokio::test]
async fn our_text_is_read_by_the_database_as_the_same_value() {
    let db = database().await;
    for value in samples(value(), 300) {
        let text = value.to_string();
        if text.contains("f\"") {
            continue; // files in text are an experimental feature of the server
        }
        let results = run(&db, &format!("RETURN {text}")).await;
        assert_eq!(results[0], value); // a decimal may come back with fewer zeros
    }
}

#[tokio::test]
async fn order_by_is_our_order() {
    let db = database().await;
    run(&db, "DEFINE TABLE t").await;
    let mut values = samples(value(), 400);
    for (index, value) in values.iter().enumerate() {
        let index = Value::Int(i64::try_from(index).unwrap());
        let params = [("i", index), ("v", value.clone())];
        db.run("CREATE t SET i = $i, v = $v RETURN NONE", params).await.unwrap();
    }
    let results = run(&db, "SELECT VALUE v FROM (SELECT v, i FROM t ORDER BY v, i)").await;
    let Value::Array(ordered) = &results[0] else { panic!("{}", results[0]) };
    values.sort();
    for (ours, theirs) in values.iter().zip(ordered) {
        assert_eq!(ours, theirs);
    }
}

#[tokio::test]
async fn pages_of_rows_come_in_our_order_of_keys() {
    let db = database().await;
    run(&db, "DEFINE TABLE commit").await;
    let mut keys = samples(key(), 150);
    keys.sort();
    keys.dedup();
    for key in &keys {
        let id = Value::RecordId(Box::new(RecordId::new("commit", key.clone())));
        db.run("CREATE $id SET x = 1 RETURN NONE", [("id", id)]).await.unwrap();
    }
    let source = Changefeed::new(db, FeedPolicy::Tell);
    let mut read: Vec<Key> = Vec::new();
    loop {
        let page = source.rows("commit", read.last(), 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page.into_iter().map(|row| row.key));
    }
    assert_eq!(read, keys);
    assert!(source.rows("nowhere", None, 5).await.unwrap().is_empty());
}
