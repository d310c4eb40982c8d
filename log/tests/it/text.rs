//! SurrealQL text, the memcmp order and the bytes of records, on random and on chosen values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;
use revenant_log::value::{Datetime, Duration, File, Geometry, Range};
use revenant_log::{
    Event, Key, Op, Record, RecordId, Seq, SourcePos, Value, decode_record, encode_key,
    encode_record, encode_value,
};
use rust_decimal::Decimal;

pub(crate) fn key() -> impl Strategy<Value = Key> {
    let flat = prop_oneof![
        any::<i64>().prop_map(Key::Int),
        "[a-z0-9_]{0,4}".prop_map(Key::String),
        any::<String>().prop_map(Key::String),
        any::<[u8; 16]>().prop_map(Key::Uuid),
    ];
    flat.boxed()
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        (-20i32..20).prop_map(f64::from),
        (-40i32..40).prop_map(|v| f64::from(v) / 8.0),
        prop::sample::select(vec![0.0, -0.0, 0.1, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e300]),
    ]
}

pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-20i64..20).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        float().prop_map(Value::Float),
        (any::<i64>(), 0u32..18).prop_map(|(m, scale)| Value::Decimal(Decimal::new(m, scale))),
        (-40i64..40, 0u32..3).prop_map(|(m, scale)| Value::Decimal(Decimal::new(m, scale))),
        any::<String>().prop_map(Value::String),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Value::Bytes),
        (-60_000_000_000i64..200_000_000_000, 0u32..1_000_000_000)
            .prop_map(|(secs, nanos)| Value::Datetime(Datetime { secs, nanos })),
        (0u64..10_000_000_000, 0u32..1_000_000_000)
            .prop_map(|(secs, nanos)| Value::Duration(Duration { secs, nanos })),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        (any::<String>(), key()).prop_map(|(t, k)| Value::RecordId(Box::new(RecordId::new(t, k)))),
        ("[a-z]{1,5}", "/[a-z:' \\\\]{0,5}")
            .prop_map(|(bucket, key)| Value::File(File { bucket, key })),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(any::<String>(), inner.clone(), 0..4)
                .prop_map(Value::Object),
            prop::collection::btree_set(inner.clone(), 0..4).prop_map(Value::Set),
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|v| Value::RecordId(Box::new(RecordId::new("t", Key::Array(v))))),
        ]
    })
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_value(value, &mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn text_reads_back_to_the_same_value(value in value()) {
        let text = value.to_string();
        let back = Value::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert!(value.identical(&back) || value.to_string() == back.to_string(), "{text}");
        prop_assert!(value == back || text.contains("NaN"), "{text}");
    }

    #[test]
    fn encodings_compare_as_the_values_do(a in value(), b in value()) {
        prop_assert_eq!(a.cmp(&b), encoded(&a).cmp(&encoded(&b)), "{} {}", a, b);
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    }

    #[test]
    fn the_order_is_transitive(a in value(), b in value(), c in value()) {
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn keys_order_as_their_encodings(a in key(), b in key()) {
        let encode = |key: &Key| { let mut to = Vec::new(); encode_key(key, &mut to); to };
        prop_assert_eq!(a.cmp(&b), encode(&a).cmp(&encode(&b)));
    }

    #[test]
    fn a_record_reads_back_whole(body in value(), key in key(), version: Option<u64>, seq: u64) {
        let record = Record {
            seq: Seq(seq),
            time_us: -5,
            ends_transaction: true,
            feed_high: 7,
            event: Event {
                op: Op::Reconcile,
                table: Arc::from("t"),
                key,
                version,
                body: Some(body.clone()),
                before: None,
                source: SourcePos { versionstamp: 9, ordinal: 3 },
                stale: true,
            },
        };
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let back = decode_record(Seq(seq), &bytes).unwrap();
        prop_assert!(back.event.body.unwrap().identical(&body));
        prop_assert_eq!(back.event.key, record.event.key);
        prop_assert_eq!((back.event.version, back.event.stale, back.feed_high), (version, true, 7));
        for cut in 0..bytes.len() {
            prop_assert!(decode_record(Seq(seq), &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_and_no_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200), text: String,
    ) {
        let _result = decode_record(Seq(1), &bytes);
        bytes.insert(0, 1);
        let _result = decode_record(Seq(1), &bytes);
        let _result = Value::parse(&text);
        let _result = RecordId::parse(&text);
    }
}

#[test]
fn values_nested_too_deeply_are_refused() {
    for (open, close) in [("[", "]"), ("{a:", "}"), ("t:[", "]")] {
        let text = open.repeat(100_000) + "1" + &close.repeat(100_000);
        assert!(Value::parse(&text).unwrap_err().reason.contains("nested too deeply"));
    }
    // Arrays of one element without end: variant 15, length 1.
    let mut bytes = vec![1, 0, 1, 0, 1, 1, b't', 0, 0, 0, 1];
    bytes.extend([15, 1].repeat(100_000));
    assert!(decode_record(Seq(1), &bytes).is_err());
}

#[test]
fn text_is_what_surrealdb_prints() {
    let id = |key: Key| RecordId::new("file", key).to_string();
    let cases = [
        (id(Key::from("server/raft.go")), "file:`server/raft.go`"),
        (id(Key::from("abc")), "file:abc"),
        (id(Key::from("12")), "file:`12`"),
        (id(Key::Int(12)), "file:12"),
        (id(Key::Array(vec![Value::Int(1), Value::String("x".into())])), "file:[1, 'x']"),
        (id(Key::Object(BTreeMap::from([("a".into(), Value::Int(1))]))), "file:{ a: 1 }"),
        (RecordId::new("we:ird", "x`y").to_string(), "`we:ird`:`x\\`y`"),
        (Value::Float(1.0).to_string(), "1f"),
        (Value::Decimal(Decimal::new(15, 1)).to_string(), "1.5dec"),
        (Value::String("it's".into()).to_string(), "\"it's\""),
        (Value::Duration(Duration { secs: 90_061, nanos: 5_000_000 }).to_string(), "1d1h1m1s5ms"),
        (
            Value::Datetime(Datetime { secs: 1_370_630_149, nanos: 120_000_000 }).to_string(),
            "d'2013-06-07T18:35:49.120Z'",
        ),
        (Value::Datetime(Datetime { secs: -1, nanos: 0 }).to_string(), "d'1969-12-31T23:59:59Z'"),
        (Value::Bytes(vec![1, 255]).to_string(), "b\"01FF\""),
        (Value::Set(BTreeSet::from([Value::Int(1)])).to_string(), "{1,}"),
        (Value::Geometry(Geometry::Point((1.5, -2.0))).to_string(), "(1.5, -2)"),
        (
            Value::Range(Box::new(Range {
                start: Bound::Included(Value::Int(1)),
                end: Bound::Excluded(Value::Int(5)),
            }))
            .to_string(),
            "1..5",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(text, expected);
    }
    assert_eq!(RecordId::parse("file:⟨a-b⟩").unwrap(), RecordId::new("file", "a-b"));
    assert_eq!(RecordId::parse("commit:`0a1b`").unwrap(), RecordId::new("commit", "0a1b"));
    assert_eq!(RecordId::parse("t:u'018f0000-0000-7000-8000-000000000000'").unwrap().table, "t");
}

#[test]
fn numbers_are_equal_across_their_types_and_not_identical() {
    let one = [Value::Int(1), Value::Float(1.0), Value::Decimal(Decimal::ONE)];
    for a in &one {
        for b in &one {
            assert_eq!((a == b, encoded(a) == encoded(b)), (true, true));
            assert_eq!(a.identical(b), std::ptr::eq(a, b));
        }
    }
    assert!(Value::Int(i64::MAX) < Value::Float(9_223_372_036_854_775_808.0));
    assert!(Value::Float(0.1) > Value::Decimal(Decimal::new(1, 1)), "0.1f is a little more");
    assert!(Value::Float(f64::NAN) > Value::Float(f64::INFINITY));
    assert_eq!(Value::Float(-0.0), Value::Int(0));
}
