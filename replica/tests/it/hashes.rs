//! Table hashes agree with upstream's definition.

use std::collections::BTreeMap;

use revenant_log::{Key, Seq, Value};
use revenant_replica::{HashCache, Replica, ReplicaConfig, Snapshot, TableHash};
use serde_json::{Value as Json, json};

use crate::model::{LOG, apply, records, stream};

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

/// Hashes that Python's `blake3` gives over the definition: ids in byte order, NUL after each id and each
/// row, JSON with sorted keys.
#[test]
fn hashes_are_those_of_another_implementation() {
    let table = |rows: &[(Key, Json)]| {
        let mut hash = TableHash::default();
        for (key, body) in rows {
            hash.add(key, &Value::from_json(body.clone()));
        }
        hash.finish()
    };
    assert_eq!(table(&[]), "b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_eq!(
        table(&[("abc".into(), json!({ "n": 5, "id": "t:abc" }))]),
        "b3:ca1135173071310567676a120b3846bf1721ca6fe6e0fa1a5c09bed21fe59374"
    );
    assert_eq!(
        table(&[("abc".into(), json!({ "n": 5.0, "id": "t:abc" }))]),
        "b3:9a270a2af995c7ffbf37fd3a415b66d69888b5fe7361b18ef2014bd06af76c1d",
        "5 and 5.0 differ"
    );
    let every_kind = [
        (Key::Int(9), json!({ "id": "t:9", "text": "ü \"q\" \\ \n" })),
        (Key::Int(10), json!({ "id": "t:10", "b": { "z": [1, 2.5, null], "a": true } })),
        (Key::from("a/b"), json!({ "id": "t:`a/b`" })),
        (
            Key::Array(vec![Value::Int(1), Value::String("x".into())]),
            json!({ "id": "t:[1, 'x']", "n": -1 }),
        ),
    ];
    assert_eq!(
        table(&every_kind),
        "b3:de5c82e6430a85b48233d3ca6b317d854047f711101ef8b6ab618a06c997f9f1"
    );
    let row = |n| (Key::Int(n), json!({ "text": "x".repeat(200), "id": format!("t:{n}") }));
    assert_eq!(
        table(&(0..100).map(row).collect::<Vec<_>>()),
        "b3:8f4722bd170761f3bcf63164cd2601ed3113e221616abdc044d2a952b6d00fd8",
        "more than one chunk of BLAKE3"
    );
}

#[test]
fn a_table_is_hashed_again_only_when_its_rows_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (replica, _) = Replica::open(dir.path().join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let stream = stream(51, 60);
    let all = records(&stream.transactions, Seq::FIRST);
    let hashes = HashCache::default();
    let hash_all = |snapshot: &Snapshot| -> BTreeMap<String, String> {
        let tables = snapshot.tables().unwrap().into_iter().map(|table| table.name);
        tables.map(|name| (name.clone(), snapshot.hash(&name).unwrap())).collect()
    };
    let signatures = |snapshot: &Snapshot| -> BTreeMap<String, String> {
        let tables = snapshot.tables().unwrap().into_iter();
        tables.map(|table| (table.name, table.signature)).collect()
    };
    let mut kept = 0;
    for end in stream.rows.keys().skip(1) {
        let before = signatures(&replica.snapshot().unwrap());
        apply(&replica, &all[..usize::try_from(end.0).unwrap()]).unwrap();
        let snapshot = replica.snapshot().unwrap();
        let (now, same) = (hash_all(&snapshot), signatures(&snapshot));
        // Known without reading a row are the hashes of exactly the tables that are as before.
        let known = hashes.known(&snapshot).unwrap();
        for (table, hash) in &now {
            let left_alone = before.get(table) == same.get(table);
            assert_eq!(known.get(table), left_alone.then_some(hash), "seq {end}: {table}");
        }
        kept += known.len();
        let reports = hashes.reports(&snapshot).unwrap().into_iter();
        let reports: BTreeMap<_, _> = reports.map(|table| (table.name, table.hash)).collect();
        assert_eq!(reports, now, "seq {end}");
        assert_eq!(hashes.known(&snapshot).unwrap(), now, "seq {end}");
    }
    assert!(kept > 0, "no table was left alone");
}
