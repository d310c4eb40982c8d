//! What the scheduler answers over HTTP.

use revenant_log::Key;
use serde_json::{Value as Json, json};

use crate::rig::{Life, quick};
use crate::sim::Sim;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_ssps_are_answered_from_the_replica_and_others_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.write(vec![("a", Key::Int(1), Some(1)), ("a", Key::from("x y"), Some(2))]);
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    let (status, text) = life.post("/proxy/query", json!({ "query": "INFO FOR DB" })).await;
    let info: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((status, info["tables"].get("a").is_some()), (200, true), "{text}");
    let query = "SELECT * FROM a WHERE id > a:1 ORDER BY id LIMIT 9";
    let (status, text) = life.post("/proxy/query", json!({ "query": query })).await;
    let rows: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((status, rows), (200, json!([{ "id": "a:`x y`", "n": 2, "_00_rv": 1 }])));
    let (status, text) = life.post("/proxy/query", json!({ "query": "DELETE a" })).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("Query failed: expected SELECT at byte 0; answered are"), "{text}");
    life.wait_equal(&sim).await;
    life.stop().await;
}
