//! What the scheduler answers over HTTP.

use std::time::Duration;

use revenant_log::Key;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use crate::rig::{Life, PATIENCE, quick};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_has_the_hashes_computed_that_were_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.define("b", true);
    sim.write(vec![("a", Key::Int(1), Some(1)), ("b", Key::Int(2), Some(2))]);
    let life = Life::ready(quick(dir.path()), &sim).await;
    life.wait_equal(&sim).await;
    let begun = Instant::now();
    let hashes = loop {
        let ssp = json!({ "ssp_id": "one", "url": "http://ssp", "version": "1", "native": true });
        let (status, text) = life.post("/ssp/register", ssp).await;
        let answer: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(status, 202, "{text}");
        // Nobody else asked for them.
        if answer["table_hashes"].as_object().unwrap().len() == 2 {
            break answer["table_hashes"].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(life.get("/health/snapshot").await["hashes"], hashes);
    life.stop().await;
}
