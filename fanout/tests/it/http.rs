//! What the scheduler answers over HTTP.

use std::sync::Arc;
use std::time::Duration;

use revenant_fanout::{ErrorKind, Scheduler};
use revenant_log::Key;
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_how_the_log_and_its_disk_are_and_the_ballast_is_let_go_once() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    let mut config = quick(dir.path());
    config.segment_bytes = 1 << 20;
    config.ballast_bytes = 100_000;
    let life = Life::ready(config, &sim).await;
    life.wait_equal(&sim).await;
    let figures = async || {
        let answer = reqwest::get(life.url("/metrics/prometheus")).await.unwrap();
        answer.text().await.unwrap()
    };
    let begun = Instant::now();
    while !figures().await.contains("\nrevenant_log_ballast_bytes 100000\n") {
        assert!(begun.elapsed() < PATIENCE, "{}", figures().await);
        sleep(Duration::from_millis(20)).await;
    }
    let text = figures().await;
    for line in [
        "revenant_log_state{state=\"ok\"} 1",
        "revenant_log_state{state=\"full\"} 0",
        "revenant_log_scrub_findings 0",
        "revenant_log_archive_refused 0",
        "revenant_log_recovery_clean 1",
        "# TYPE revenant_log_sync_seconds histogram",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in {text}");
    }
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().unwrap()
    };
    let all = number("revenant_log_sync_seconds_bucket{le=\"+Inf\"}");
    assert_eq!(all, number("revenant_log_sync_seconds_count"));
    assert!(all > 0);
    for released in [100_000, 0] {
        let (status, text) = life.post("/admin/log/release-ballast", json!({})).await;
        let answer: Json = serde_json::from_str(&text).unwrap();
        if released == 0 && answer["released_bytes"] == 100_000 {
            continue; // there was plenty of space, and it was made again in between
        }
        assert_eq!((status, &answer["released_bytes"]), (200, &json!(released)), "{text}");
    }
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_put_back_is_refused_by_the_receipt_though_no_ssp_knows() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::new();
    sim.define("a", true);
    sim.write(vec![("a", Key::Int(1), Some(1))]);
    let mut config = quick(dir.path());
    config.segment_bytes = 1 << 20;
    let life = Life::ready(config.clone(), &sim).await;
    life.wait_equal(&sim).await;
    life.stop().await;
    let segment = config.log_dir.join("seg/0000000001.log");
    let older = std::fs::read(&segment).unwrap();
    let life = Life::ready(config.clone(), &sim).await;
    sim.write(vec![("a", Key::Int(2), Some(2))]);
    life.wait_equal(&sim).await;
    life.stop().await;
    let newer = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, older).unwrap();
    let stop = CancellationToken::new();
    let refused =
        Scheduler::start(config.clone(), Arc::new(sim.clone()), stop).await.err().unwrap();
    let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("the receipt in the state store"), "{cause}");
    assert_eq!(refused.kind(), ErrorKind::Restore);
    std::fs::write(&segment, newer).unwrap();
    let life = Life::ready(config, &sim).await;
    life.wait_equal(&sim).await;
    life.stop().await;
}
