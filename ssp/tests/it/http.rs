//! The HTTP API: shapes, refusals, the bearer, re-run views.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use revenant_ssp::State;
use revenant_ssp::config::Secret;
use serde_json::{Value, json};

use crate::rig::{Rig, registration};
use crate::scheduler::{FakeScheduler, row};

#[tokio::test]
async fn an_invalid_query_gets_surrealdbs_message_and_stores_nothing() {
    let rig = Rig::ready().await;
    let (status, text) =
        rig.post("/view/register", &registration("bad", "SELECT * FORM t", 1)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("Parse error") && text.contains("FORM"), "{text}");
    assert!(rig.sink.stored().rows.is_empty());
}

#[tokio::test]
async fn a_query_that_would_write_is_refused_before_it_reaches_the_database() {
    let rig = Rig::ready().await;
    for surql in ["DELETE t", "SELECT * FROM t); DELETE t; (SELECT 1", "SELECT (DELETE t) FROM t"] {
        let (status, _) = rig.post("/view/register", &registration("bad", surql, 1)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{surql}");
    }
    assert!(rig.oracle.runs.lock().unwrap().is_empty());
    assert!(rig.sink.stored().rows.is_empty());
}

#[tokio::test]
async fn a_malformed_request_is_refused_by_field() {
    let rig = Rig::ready().await;
    let mut body = registration("v", "SELECT * FROM t", 1);
    body["ttl"] = json!("soon");
    let answer = rig.post("/view/register", &body).await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, "Missing or invalid 'ttl'".into()));
    let answer = rig.post("/view/unregister", &json!({})).await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, "Missing or invalid 'id'".into()));
    let post = |body: &'static str, kind: &'static str| {
        let request = rig.client.post(rig.url("/view/register"));
        request.header("content-type", kind).body(body).send()
    };
    assert_eq!(post("{", "application/json").await.unwrap().status(), StatusCode::BAD_REQUEST);
    let status = post("{}", "text/plain").await.unwrap().status();
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let rig = Rig::ready().await;
    let body = "x".repeat(2 << 20);
    let request = rig.client.post(rig.url("/view/register"));
    let answer =
        request.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn registering_again_refreshes_the_row_and_leaves_the_edges() {
    let rig = Rig::ready().await;
    rig.scheduler.set("a", 1, 1);
    rig.acked(1).await;
    rig.register("all", "SELECT * FROM t", 1).await;
    let batches = rig.sink.stored().batches.len();
    let mut body = registration("all", "SELECT * FROM t;", 1);
    body["clientId"] = json!("client-2");
    assert_eq!(rig.post("/view/register", &body).await.0, StatusCode::OK);
    let stored = rig.sink.stored();
    assert_eq!(stored.rows["all"].row.client_id, "client-2");
    assert_eq!(stored.batches.len(), batches);
}

#[tokio::test]
async fn a_registration_below_the_epoch_is_a_conflict() {
    let rig = Rig::ready().await;
    rig.register("all", "SELECT * FROM t", 5).await;
    let (status, text) =
        rig.post("/view/register", &registration("all", "SELECT * FROM t", 4)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["code"], json!("fenced"));
    rig.sink.stored().rows.get_mut("all").unwrap().row.epoch = 9;
    let (status, _) = rig.post("/view/register", &registration("all", "SELECT * FROM t", 5)).await;
    assert_eq!(status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn unregistering_deletes_row_and_edges_and_ends_the_view() {
    let rig = Rig::ready().await;
    rig.scheduler.set("a", 1, 1);
    rig.register("all", "SELECT * FROM t", 3).await;
    let older = json!({ "id": "_00_query:all", "epoch": 2 });
    assert_eq!(rig.post("/view/unregister", &older).await.0, StatusCode::OK);
    assert!(rig.sink.stored().rows.contains_key("all"), "an older teardown is dropped");
    let body = json!({ "id": "_00_query:all" });
    assert_eq!(rig.post("/view/unregister", &body).await.0, StatusCode::OK);
    assert!(rig.sink.stored().rows.is_empty() && rig.sink.stored().edges.is_empty());
    assert_eq!(rig.post("/view/unregister", &body).await.0, StatusCode::OK);
    let last = rig.scheduler.set("b", 1, 1);
    rig.acked(last).await;
    assert!(rig.sink.stored().edges.is_empty());
}

#[tokio::test]
async fn a_registration_past_the_scheduler_is_passed_on_to_it() {
    let rig = Rig::ready().await;
    let mut body = registration("all", "SELECT * FROM t", 1);
    body.as_object_mut().unwrap().remove("epoch");
    assert_eq!(rig.post("/view/register", &body).await, (StatusCode::OK, String::new()));
    let ring = json!({ "table": "t", "op": "CREATE", "id": "t:a", "record": {}, "hash": "" });
    assert_eq!(rig.post("/ingest", &ring).await.0, StatusCode::OK);
    let relayed = rig.scheduler.inner().relayed.clone();
    assert_eq!(relayed, [("/view/register".into(), body), ("/ingest".into(), ring)]);
}

#[tokio::test]
async fn a_query_that_the_engine_cannot_place_is_run_again_after_changes() {
    let rig = Rig::ready().await;
    rig.oracle.set(&[("a", 1)]);
    rig.register("agg", "SELECT * FROM t WHERE string::slug(s) = 'x'", 1).await;
    rig.shows("agg", [("a", 1)]).await;
    rig.oracle.set(&[("a", 2), ("b", 1)]);
    rig.scheduler.set("b", 1, 1);
    rig.shows("agg", [("a", 2), ("b", 1)]).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["counts"], json!({ "incremental": 0, "requery": 1 }));
    assert_eq!(state["views"][0]["mode"], json!("requery"));
    assert!(state["views"][0]["reason"].is_string());
    let view = rig.get("/v1/views/agg").await;
    assert_eq!(view["members"].as_array().map(Vec::len), Some(2));

    rig.until(|| rig.sink.stored().rows["agg"].row_count == 2).await;
    let runs = rig.oracle.runs.lock().unwrap().len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.oracle.runs.lock().unwrap().len(), runs, "without changes nothing is run");
}

#[tokio::test]
async fn a_query_that_the_database_refuses_is_the_registrants_error() {
    let rig = Rig::ready().await;
    *rig.oracle.invalid.lock().unwrap() = Some("Unknown function".into());
    let body = registration("agg", "SELECT * FROM t WHERE string::slug(s) = 'x'", 1);
    let answer = rig.post("/view/register", &body).await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, "Unknown function".into()));
    assert!(rig.sink.stored().rows.is_empty());
}

#[tokio::test]
async fn a_database_that_is_away_is_the_callers_to_retry() {
    let rig = Rig::ready().await;
    rig.sink.stored().away = true;
    let body = registration("all", "SELECT * FROM t", 1);
    let (status, text) = rig.post("/view/register", &body).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.starts_with("Database error"), "{text}");
    rig.sink.stored().away = false;
    assert_eq!(rig.post("/view/register", &body).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_public_routes_have_upstreams_shapes() {
    let rig = Rig::ready().await;
    assert_eq!(rig.get("/health").await, json!({ "status": "ready" }));
    let version = env!("CARGO_PKG_VERSION");
    let wanted = json!({ "version": version, "mode": "streaming" });
    assert_eq!(rig.get("/version").await, wanted);
    let info = rig.get("/info").await;
    assert_eq!(info[0]["entity"], json!("ssp"));
    assert_eq!(info[0]["status"], json!("ready"));
    let metrics = rig.client.get(rig.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\nrevenant_ssp_ready 1\n"), "{metrics}");
    assert_eq!(rig.get("/nowhere").await["code"], json!("not_found"));
}

#[tokio::test]
async fn before_it_is_ready_it_says_so() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().cloning = true;
    let rig = Rig::start(scheduler, Arc::default(), |_| {}).await;
    let answer = rig.post("/view/register", &registration("all", "SELECT * FROM t", 1)).await;
    let body: Value = serde_json::from_str(&answer.1).unwrap();
    assert_eq!(answer.0, StatusCode::SERVICE_UNAVAILABLE);
    let message = "SSP is in Bootstrapping state";
    assert_eq!(body, json!({ "code": "SSP_NOT_READY", "message": message }));
    let health = rig.client.get(rig.url("/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn with_a_secret_only_its_bearer_is_let_in() {
    let scheduler = FakeScheduler::start().await;
    let secret = |config: &mut revenant_ssp::Config| config.secret = Some(Secret::new("s3cret"));
    let rig = Rig::start(scheduler, Arc::default(), secret).await;
    rig.reached(State::Ready).await;
    let get = |path: &str| rig.client.get(rig.url(path));
    for path in ["/v1/state", "/metrics", "/v1/views/x"] {
        for bearer in ["", "s3cre", "s3cret2", "S3cret"] {
            let answer = get(path).bearer_auth(bearer).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(answer.text().await.unwrap(), "");
        }
        assert_eq!(get(path).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        let answer = get(path).bearer_auth("s3cret").send().await.unwrap();
        assert_ne!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    for path in ["/health", "/version", "/info"] {
        assert_eq!(get(path).send().await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_view_over_its_budget_is_refused_with_what_to_do_and_stores_nothing() {
    let adjust = |config: &mut revenant_ssp::Config| config.budget.view_bytes = 4_000;
    let rig = Rig::start(FakeScheduler::start().await, Arc::default(), adjust).await;
    rig.reached(State::Ready).await;
    let last = rig.scheduler.append((0..40).map(|n| row(&format!("k{n}"), n, 1)).collect());
    rig.acked(last).await;
    let (status, text) =
        rig.post("/view/register", &registration("all", "SELECT * FROM t", 1)).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(text.contains("over_budget") && text.contains("SPKY_SSP_VIEW_BUDGET_BYTES"), "{text}");
    assert!(rig.sink.stored().rows.is_empty());
    rig.register("some", "SELECT * FROM t WHERE n > 35", 1).await;
    assert_eq!(rig.sink.members("some").len(), 4);
}

#[tokio::test]
async fn a_view_that_outgrows_its_budget_is_refused_then_and_its_edges_go() {
    let adjust = |config: &mut revenant_ssp::Config| config.budget.view_bytes = 4_000;
    let rig = Rig::start(FakeScheduler::start().await, Arc::default(), adjust).await;
    rig.reached(State::Ready).await;
    rig.register("all", "SELECT * FROM t", 1).await;
    rig.register("few", "SELECT * FROM t WHERE n > 38", 1).await;
    let first = (0..5).map(|n| row(&format!("k{n}"), n, 1)).collect();
    rig.acked(rig.scheduler.append(first)).await;
    assert_eq!(rig.sink.members("all").len(), 5);
    rig.scheduler.append((5..40).map(|n| row(&format!("k{n}"), n, 1)).collect());
    rig.until(|| !rig.scheduler.inner().relayed.is_empty()).await;
    let told = rig.scheduler.inner().relayed[0].clone();
    assert_eq!(told, ("/view/unregister".into(), json!({ "id": "_00_query:all" })));
    assert!(rig.sink.members("all").is_empty());
    assert!(!rig.sink.stored().rows.contains_key("all"));
    rig.shows("few", [("k39", 1)]).await;
    let state = rig.get("/v1/state").await;
    let reason = state["failed"]["all"].as_str().unwrap_or_default();
    assert!(reason.contains("SPKY_SSP_VIEW_BUDGET_BYTES"), "{state:#}");
    let (status, _) = rig.post("/view/register", &registration("all", "SELECT * FROM t", 2)).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    let gone = json!({ "id": "all", "epoch": 2 });
    assert_eq!(rig.post("/view/unregister", &gone).await.0, StatusCode::OK);
    assert_eq!(rig.get("/v1/state").await["failed"], json!({}));
}

#[tokio::test]
async fn a_view_explains_itself_and_why_a_record_is_in_it() {
    let rig = Rig::ready().await;
    let last = rig.scheduler.append((0..9).map(|n| row(&format!("k{n}"), n, 1)).collect());
    rig.acked(last).await;
    rig.register("big", "SELECT * FROM t WHERE n > 5", 1).await;
    let last = rig.scheduler.append(vec![row("k1", 7, 2)]);
    rig.acked(last).await;
    let explained = rig.get("/v1/views/big/explain").await;
    assert_eq!(explained["tier"], "incremental");
    assert_eq!(explained["select"]["template"], "SELECT FROM t WHERE n > $1");
    assert_eq!(explained["select"]["values"], json!(["5"]));
    assert_eq!(explained["select"]["rows"], 4);
    assert_eq!(explained["candidates_per_change"], 1.0);
    let why = rig.get("/v1/views/big/why/t:k1").await;
    assert_eq!((&why["is_in"], &why["reason"]), (&json!(true), &json!("all conditions are met")));
    let why = rig.get("/v1/views/big/why/t:k2").await;
    assert_eq!((&why["is_in"], &why["reason"]), (&json!(false), &json!("not so: n > 5")));
    assert_eq!(why["conditions"][0]["values"], json!(["n: 2"]));
    assert_eq!(rig.get("/v1/views/big/why/nonsense").await["code"], "bad_record");
    assert_eq!(rig.get("/v1/views/none/explain").await["code"], "not_found");
}
