//! Table hashes agree with upstream's definition.

use std::collections::BTreeMap;

use revenant_log::{Key, Value};
use revenant_replica::hash::TableHash;

#[test]
fn the_hash_of_no_rows_is_the_hash_of_nothing() {
    let expected = format!("b3:{}", blake3::hash(b"").to_hex());
    assert_eq!(TableHash::default().finish(), expected);
}

#[test]
fn rows_are_hashed_in_byte_order_of_ids_with_sorted_fields() {
    let row = |n: Value| {
        Value::Object(BTreeMap::from([("b".to_owned(), n), ("a".to_owned(), Value::Null)]))
    };
    let mut hash = TableHash::default();
    hash.add(&Key::from("x"), &row(Value::Float(5.0)));
    hash.add(&Key::Int(10), &row(Value::Int(5)));
    hash.add(&Key::Int(9), &row(Value::String("\"".into())));
    let expected =
        b"10\0{\"a\":null,\"b\":5}\09\0{\"a\":null,\"b\":\"\\\"\"}\0x\0{\"a\":null,\"b\":5.0}\0";
    assert_eq!(hash.finish(), format!("b3:{}", blake3::hash(expected).to_hex()));
}
