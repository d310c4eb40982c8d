//! `/proxy/query` answers Sp00ky's own SSPs page by page, whatever form the ids have, and nothing else.

use revenant_log::{Event, Key, Op, RecordId, Seq, SourcePos, Transaction, Value};
use revenant_replica::proxy::{ProxyError, answer};
use revenant_replica::{Replica, ReplicaConfig, Snapshot};
use serde_json::{Value as Json, json};

use crate::model::{LOG, apply, records};

/// A key of every kind, in SurrealDB's order of ids.
fn keys() -> Vec<Key> {
    let object =
        [("a".to_owned(), Value::Int(1)), ("b c".to_owned(), Value::String("ORDER".into()))];
    vec![
        Key::Int(-7),
        Key::Int(12),
        Key::from("12"),
        Key::from("LIMIT 1; it's `quoted` > \\ ⟩"),
        Key::from("a/b.go"),
        Key::from("plain"),
        Key::Uuid([1; 16]),
        Key::Array(vec![Value::Int(1), Value::String("] x".into()), Value::Float(1.5)]),
        Key::Object(object.into()),
    ]
}

fn snapshot(dir: &std::path::Path) -> Snapshot {
    let (replica, _) = Replica::open(dir.join("r"), LOG, &ReplicaConfig::default()).unwrap();
    let event = |key: Key| {
        let id = RecordId::new("odd-table", key.clone());
        let body = [
            ("id".to_owned(), Value::RecordId(Box::new(id.clone()))),
            ("link".to_owned(), Value::RecordId(Box::new(RecordId::new("file", "a/b")))),
            ("secret".to_owned(), Value::Int(1)),
        ];
        Event {
            op: Op::Load,
            table: "odd-table".into(),
            version: matches!(key, Key::Int(_)).then_some(3),
            key,
            body: Some(Value::Object(body.into())),
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        }
    };
    let events = keys().into_iter().map(event).collect();
    let transaction = Transaction { time_us: 0, feed_high: 0, events };
    apply(&replica, &records(&[transaction], Seq::FIRST)).unwrap();
    replica.snapshot().unwrap()
}

#[test]
fn pages_that_continue_after_the_last_id_give_every_row_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    for size in 1..=keys().len() + 1 {
        let mut found: Vec<String> = Vec::new();
        let mut query = format!("SELECT * FROM `odd-table` ORDER BY id LIMIT {size}");
        loop {
            let Json::Array(rows) = answer(&query, &snapshot).unwrap() else { panic!("no rows") };
            assert!(rows.len() <= size);
            let Some(last) = rows.last() else { break };
            let last = last["id"].as_str().unwrap();
            query =
                format!("select * from ⟨odd-table⟩ where id>{last} order by id asc limit {size};");
            found.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        }
        let expected: Vec<_> =
            keys().into_iter().map(|key| RecordId::new("odd-table", key).to_string()).collect();
        assert_eq!(found, expected, "pages of {size}");
    }
}

#[test]
fn ids_are_written_as_surrealdb_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    let rows = answer("SELECT * OMIT link, secret, _00_rv FROM `odd-table`", &snapshot).unwrap();
    let golden = [
        r"`odd-table`:-7",
        r"`odd-table`:12",
        r"`odd-table`:`12`",
        r"`odd-table`:`LIMIT 1; it's \`quoted\` > \\ ⟩`",
        r"`odd-table`:`a/b.go`",
        r"`odd-table`:plain",
        r"`odd-table`:u'01010101-0101-0101-0101-010101010101'",
        r"`odd-table`:[1, '] x', 1.5f]",
        r#"`odd-table`:{ a: 1, "b c": 'ORDER' }"#,
    ];
    assert_eq!(rows, Json::Array(golden.iter().map(|id| json!({ "id": id })).collect()));
}

#[test]
fn a_page_starts_after_an_id_in_any_of_its_forms() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    for (id, index) in [
        ("`odd-table`:+12", 1),
        ("r'`odd-table`:12'", 1),
        (r#"r"⟨odd-table⟩:12""#, 1),
        ("⟨odd-table⟩:`12`", 2),
        ("`odd-table`:⟨12⟩", 2),
        (r"`odd-table`:⟨LIMIT 1; it's `quoted` > \\ \⟩⟩", 3),
        (r"`odd-table`:`a\/b.go`", 4),
        (r"`odd-table`:`a\u002fb.go`", 4),
        ("`odd-table`:⟨plain⟩", 5),
        (r#"`odd-table`:u"01010101-0101-0101-0101-010101010101""#, 6),
        ("`odd-table`:[1,\"] x\",1.5]", 7),
        ("`odd-table`:[ 1, s'] x', 1.5f, ]", 7),
        ("`odd-table`:{'b c':\"ORDER\",a:1}", 8),
    ] {
        let query = format!("SELECT * FROM `odd-table` WHERE id > {id} ORDER BY id LIMIT 1");
        let rows = answer(&query, &snapshot).unwrap_or_else(|error| panic!("{query}: {error}"));
        let next = keys().get(index + 1).map(|key| RecordId::new("odd-table", key.clone()));
        let next = next.map(|id| id.to_string());
        assert_eq!(rows[0].get("id").and_then(Json::as_str), next.as_deref(), "{query}");
    }
}

#[test]
fn rows_are_flattened_and_fields_omitted() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    let rows = answer("SELECT * OMIT secret, `no such` FROM `odd-table` LIMIT 1", &snapshot);
    assert_eq!(
        rows.unwrap(),
        json!([{ "id": "`odd-table`:-7", "link": "file:`a/b`", "_00_rv": 3 }])
    );
    let rows =
        answer("SELECT * FROM `odd-table` WHERE id > `odd-table`:⟨plain⟩ LIMIT 1", &snapshot);
    assert_eq!(rows.unwrap()[0].get("_00_rv"), None, "its version is not known");
    assert_eq!(answer("SELECT * FROM missing", &snapshot).unwrap(), json!([]));
    assert_eq!(
        answer("SELECT * FROM `odd-table` WHERE id > zebra:1", &snapshot).unwrap(),
        json!([])
    );
    let all = answer("SELECT * FROM `odd-table` WHERE id > ant:1", &snapshot).unwrap();
    assert_eq!(all.as_array().unwrap().len(), keys().len());
}

#[test]
fn info_names_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    let info = answer(" info for db ; ", &snapshot).unwrap();
    assert!(info["tables"].as_object().unwrap().keys().eq(["odd-table"]));
    assert!(answer("INFO FOR TABLE `odd-table`", &snapshot).unwrap()["fields"].is_object());
}

#[test]
fn anything_else_is_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(dir.path());
    for (query, place) in [
        ("", 0),
        ("DELETE file", 0),
        ("SELECT name FROM file", 7),
        ("SELECT * FROM file; DELETE file", 18),
        ("SELECT * FROM file WHERE name > 1", 25),
        ("SELECT * FROM file WHERE id > 1", 31),
        ("SELECT * FROM file WHERE id > file:1 OR true", 37),
        ("SELECT * FROM file WHERE id > file:1 ; LIMIT 1", 37),
        ("SELECT * FROM file WHERE id > file:1; DELETE file", 36),
        ("SELECT * FROM file WHERE id > r'file'", 31),
        ("SELECT * FROM file WHERE id > (DELETE file)", 30),
        ("SELECT * FROM (DELETE file)", 14),
        ("SELECT * FROM file ORDER BY id DESC", 31),
        ("UPDATE file SET n = 1", 0),
        ("LET $x = 1", 0),
        ("RETURN http::get('http://localhost')", 0),
        ("SELECT * FROM file ORDER BY name", 28),
        ("SELECT * FROM file LIMIT -1", 25),
        ("SELECT * FROM file LIMIT 1 START 2", 27),
        ("SELECT * FROM file WHERE id > file:`x", 37),
        ("SELECT * FROM file:1", 14),
        ("SELECT * FROM [1]", 14),
        ("INFO FOR ROOT", 9),
        ("SELECT * FROM é\u{301}", 14),
    ] {
        match answer(query, &snapshot) {
            Err(ProxyError::Unsupported { offset, .. }) => assert_eq!(offset, place, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}
