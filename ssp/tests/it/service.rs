//! The service's life: bootstrap, replay, live, faults of the feed, restarts, fences.

use std::sync::Arc;
use std::time::Duration;

use revenant_log::{RecordId, Seq};
use revenant_ssp::State;
use revenant_ssp::edge::Edge;
use serde_json::json;

use crate::rig::{Rig, registration};
use crate::scheduler::{FakeScheduler, LOG, gone, linked, row};
use crate::sink::MemorySink;

const BIG: &str = "SELECT * FROM t WHERE n > 10";

#[tokio::test]
async fn snapshot_replay_and_live_records_all_reach_the_edges() {
    let scheduler = FakeScheduler::start().await;
    scheduler.set("a", 11, 1);
    scheduler.set("b", 1, 1);
    scheduler.inner().snapshot_seq = scheduler.set("c", 30, 4);
    scheduler.set("d", 12, 1);
    let rig = Rig::over(scheduler, Arc::default()).await;
    rig.register("big", BIG, 1).await;
    rig.shows("big", [("a", 1), ("c", 4), ("d", 1)]).await;
    assert!(rig.sink.stored().rows["big"].ready);
    assert_eq!(rig.sink.stored().rows["big"].row_count, 3);

    rig.scheduler.append(vec![row("a", 5, 2), row("b", 50, 2), row("d", 13, 2)]);
    let last = rig.scheduler.append(vec![gone("c")]);
    rig.shows("big", [("b", 2), ("d", 2)]).await;
    rig.acked(last).await;
    assert_eq!(rig.sink.stored().rows["big"].row_count, 2);
}

#[tokio::test]
async fn a_registration_answers_when_row_and_edges_are_stored() {
    let rig = Rig::ready().await;
    let last = rig.scheduler.append((0..40).map(|n| row(&format!("k{n}"), n, 1)).collect());
    rig.acked(last).await;
    rig.register("big", BIG, 1).await;
    assert_eq!(rig.sink.members("big").len(), 29);
    let stored = rig.sink.stored();
    let row = &stored.rows["big"];
    assert_eq!((row.row_count, row.ready), (29, true));
    assert_eq!(row.row.client_id, "client-1");
    assert_eq!(row.row.ssp_id, "ssp-1");
    assert_eq!(stored.positions["ssp-1"], (LOG, Seq(last)));
}

#[tokio::test]
async fn every_record_is_applied_once_in_order_whatever_the_feed_does() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().snapshot_seq = scheduler.set("a", 1, 1);
    {
        let mut inner = scheduler.inner();
        (inner.cut_after, inner.repeat, inner.gap, inner.batch) = (Some(2), 1, true, 4);
    }
    let rig = Rig::over(scheduler, Arc::default()).await;
    rig.register("big", BIG, 1).await;
    let mut last = 0;
    for n in 0..30 {
        let size = 1 + n % 7;
        last = rig.scheduler.append((0..size).map(|k| row(&format!("k{k}"), n * k, 1)).collect());
    }
    rig.acked(last).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["chain"], json!(rig.scheduler.chain(1)));
    assert_eq!(state["transactions"], json!(30));
    assert_eq!((&state["applied_seq"], &state["committed_seq"]), (&json!(last), &json!(last)));
    assert!(rig.scheduler.inner().feeds.len() > 5, "the feed was cut");
    assert_eq!(rig.scheduler.inner().registrations, 1, "a cut feed needs no new registration");
}

#[tokio::test]
async fn half_a_transaction_changes_nothing() {
    let rig = Rig::ready().await;
    rig.register("big", BIG, 1).await;
    rig.scheduler.append(vec![row("a", 20, 1)]);
    rig.shows("big", [("a", 1)]).await;
    rig.scheduler.append((0..20).map(|n| row(&format!("k{n}"), 20, 1)).collect());
    rig.scheduler.inner().records.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.get("/v1/state").await["applied_seq"], json!(1));
    assert_eq!(rig.sink.members("big").len(), 1);
}

#[tokio::test]
async fn a_snapshot_that_breaks_off_is_loaded_again() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().snapshot_seq = scheduler.set("a", 11, 1);
    scheduler.inner().cut_snapshot = true;
    let rig = Rig::over(scheduler, Arc::default()).await;
    rig.register("big", BIG, 1).await;
    rig.shows("big", [("a", 1)]).await;
}

#[tokio::test]
async fn a_scheduler_that_clones_and_a_database_that_is_away_are_waited_for() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().cloning = true;
    let sink = Arc::new(MemorySink::default());
    sink.stored().away = true;
    let rig = Rig::start(scheduler, sink, |_| {}).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.get("/health").await["status"], json!("bootstrapping"));
    rig.scheduler.inner().cloning = false;
    rig.reached(State::Replaying).await;
    rig.sink.stored().away = false;
    rig.reached(State::Ready).await;
}

#[tokio::test]
async fn a_crash_between_apply_and_ack_loses_and_repeats_nothing() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().views = vec![registration("big", BIG, 1)];
    let rig = Rig::over(scheduler, Arc::default()).await;
    rig.scheduler.inner().deaf = true;
    for n in 0..20 {
        rig.scheduler.set(&format!("k{n}"), n, 1);
    }
    rig.until(|| rig.sink.members("big").len() == 9).await;
    let (scheduler, sink) = rig.crash().await;
    assert!(scheduler.inner().acks.iter().all(|seq| *seq == 0), "nothing was acked");

    // While it is down, one row enters, one leaves, one changes.
    scheduler.inner().deaf = false;
    scheduler.append(vec![row("k0", 99, 2), row("k19", 0, 2)]);
    let last = scheduler.set("k11", 11, 2);
    let batches = sink.stored().batches.len();
    let rig = Rig::over(scheduler, sink).await;
    rig.acked(last).await;
    let changed: Vec<usize> = rig.sink.stored().batches[batches..]
        .iter()
        .flat_map(|batch| batch.views.iter().map(|view| view.edges.len()))
        .collect();
    assert_eq!(changed.iter().sum::<usize>(), 3, "only differences are written");
    let members = rig.sink.members("big");
    assert_eq!((members.len(), members.get("t:k0"), members.get("t:k19")), (9, Some(&2), None));
}

#[tokio::test]
async fn a_restart_waits_for_the_position_before_it_compares() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().views = vec![registration("big", BIG, 1)];
    let rig = Rig::over(scheduler, Arc::default()).await;
    for n in 0..200 {
        rig.scheduler.set("a", 11 + n, n.unsigned_abs() + 1);
    }
    rig.shows("big", [("a", 200)]).await;
    let (scheduler, sink) = rig.leave().await;
    let batches = sink.stored().batches.len();
    scheduler.inner().batch = 1;
    let rig = Rig::over(scheduler, sink).await;
    let stored = rig.sink.stored();
    let versions = stored.batches[batches..].iter().flat_map(|batch| &batch.views);
    assert!(versions.into_iter().all(|view| view.edges.is_empty()), "no older version is written");
}

#[tokio::test]
async fn edges_that_should_not_be_there_go_when_the_view_is_taken_over() {
    let rig = Rig::ready().await;
    rig.scheduler.set("a", 11, 3);
    rig.acked(1).await;
    rig.register("big", BIG, 1).await;
    let (scheduler, sink) = rig.leave().await;
    {
        let mut stored = sink.stored();
        let edges = stored.edges.get_mut("big").unwrap();
        let ghost = Edge {
            id: "random".into(),
            record: RecordId::new("t", "a"),
            version: 3,
            parent: None,
            parent_rel: None,
        };
        edges.insert(ghost.id.clone(), ghost);
        edges.values_mut().for_each(|edge| edge.version = 1);
    }
    scheduler.inner().views = vec![registration("big", BIG, 2)];
    let rig = Rig::over(scheduler, sink).await;
    assert_eq!(rig.sink.members("big"), [("t:a".to_owned(), 3)].into_iter().collect());
    assert_eq!(rig.sink.stored().edges["big"].len(), 1);
    assert_eq!(rig.sink.stored().rows["big"].row.epoch, 2);
}

#[tokio::test]
async fn a_fenced_registration_is_replaced_and_the_views_come_back() {
    let scheduler = FakeScheduler::start().await;
    scheduler.inner().views = vec![registration("big", BIG, 1)];
    let rig = Rig::over(scheduler, Arc::default()).await;
    rig.scheduler.set("a", 11, 1);
    rig.shows("big", [("a", 1)]).await;
    // Someone registered this id elsewhere, or the scheduler lapsed it.
    rig.scheduler.inner().epoch += 1;
    rig.until(|| rig.scheduler.inner().registrations == 2).await;
    rig.reached(State::Ready).await;
    rig.scheduler.set("b", 12, 1);
    rig.shows("big", [("a", 1), ("b", 1)]).await;
}

#[tokio::test]
async fn a_view_that_another_ssp_took_over_is_written_no_more() {
    let rig = Rig::ready().await;
    rig.register("big", BIG, 1).await;
    rig.register("all", "SELECT * FROM t", 1).await;
    rig.sink.stored().rows.get_mut("big").unwrap().row.epoch = 2;
    rig.scheduler.set("a", 11, 1);
    rig.shows("all", [("a", 1)]).await;
    rig.shows("big", []).await;
    rig.acked(1).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["views"].as_array().map(Vec::len), Some(1), "{state:#}");
}

#[tokio::test]
async fn a_log_that_was_replaced_starts_everything_again() {
    let rig = Rig::ready().await;
    rig.register("all", "SELECT * FROM t", 1).await;
    rig.scheduler.set("a", 1, 1);
    rig.shows("all", [("a", 1)]).await;
    {
        let mut inner = rig.scheduler.inner();
        inner.log_id.0[0] ^= 1;
        inner.records.clear();
        inner.acks.clear();
        inner.epoch += 1;
        inner.views = vec![registration("all", "SELECT * FROM t", 1)];
    }
    rig.scheduler.set("b", 1, 1);
    rig.shows("all", [("b", 1)]).await;
}

#[tokio::test]
async fn a_lost_answer_of_the_database_is_harmless() {
    let rig = Rig::ready().await;
    rig.register("all", "SELECT * FROM t", 1).await;
    rig.sink.stored().lost_answers = 3;
    rig.scheduler.set("a", 1, 1);
    rig.scheduler.append(vec![gone("a"), row("b", 1, 1)]);
    rig.shows("all", [("b", 1)]).await;
    rig.acked(3).await;
}

#[tokio::test]
async fn an_expired_view_is_released_and_the_scheduler_is_told() {
    let scheduler = FakeScheduler::start().await;
    let rig = Rig::start(scheduler, Arc::default(), |config| {
        config.ttl_interval = Duration::from_millis(50);
    })
    .await;
    rig.reached(State::Ready).await;
    rig.register("old", BIG, 1).await;
    rig.register("new", BIG, 1).await;
    rig.sink.stored().rows.get_mut("old").unwrap().expired = true;
    rig.until(|| !rig.sink.stored().rows.contains_key("old")).await;
    rig.until(|| !rig.scheduler.inner().relayed.is_empty()).await;
    let told = rig.scheduler.inner().relayed[0].clone();
    assert_eq!(told, ("/view/unregister".into(), json!({ "id": "_00_query:old" })));
    rig.scheduler.set("a", 11, 1);
    rig.shows("new", [("a", 1)]).await;
    assert!(!rig.sink.stored().edges.contains_key("old"));
}

#[tokio::test]
async fn a_deleted_row_comes_back_whole_when_its_client_asks_again() {
    let rig = Rig::ready().await;
    rig.scheduler.set("a", 11, 1);
    rig.acked(1).await;
    rig.register("big", BIG, 1).await;
    {
        let mut stored = rig.sink.stored();
        stored.rows.remove("big");
        stored.edges.remove("big");
    }
    rig.register("big", BIG, 1).await;
    rig.shows("big", [("a", 1)]).await;
}

#[tokio::test]
async fn heartbeats_carry_the_epoch_and_real_figures() {
    let rig = Rig::ready().await;
    rig.until(|| rig.scheduler.inner().heartbeats.len() > 2).await;
    let heartbeat = rig.scheduler.inner().heartbeats.last().unwrap().clone();
    assert_eq!(heartbeat["epoch"], json!(1));
    assert_eq!(heartbeat["ssp_id"], json!("ssp-1"));
    assert!(heartbeat["memory_usage"].as_f64().is_some_and(|share| share > 0.0), "{heartbeat}");
    assert!(heartbeat["cpu_usage"].is_number(), "{heartbeat}");
}

#[tokio::test]
async fn subqueries_are_edges_below_their_parent_s() {
    let rig = Rig::ready().await;
    let nested = "SELECT *, (SELECT * FROM t WHERE n = $parent.n ORDER BY id DESC LIMIT 2) AS same \
                  FROM t WHERE n > 10";
    rig.register("nested", nested, 1).await;
    rig.scheduler.append(vec![row("a", 11, 1), row("b", 11, 1), row("c", 11, 1)]);
    rig.until(|| rig.sink.stored().edges.get("nested").is_some_and(|edges| edges.len() == 9)).await;
    {
        let stored = rig.sink.stored();
        let edges = &stored.edges["nested"];
        for edge in edges.values().filter(|edge| edge.parent.is_some()) {
            assert_eq!(edge.parent_rel.as_deref(), Some("same"));
            assert!(edges.contains_key(edge.parent.as_ref().unwrap()));
            assert_ne!(edge.record, RecordId::new("t", "a"), "two of three, the last first");
        }
    }
    assert_eq!(rig.sink.stored().rows["nested"].row_count, 3);
    rig.scheduler.append(vec![gone("c")]);
    rig.until(|| rig.sink.stored().edges["nested"].len() == 6).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["views"][0]["mode"], json!("incremental"), "{state:#}");
}

#[tokio::test]
async fn a_view_that_the_engine_gives_up_is_run_again_from_then_on() {
    let rig = Rig::ready().await;
    let surql = "SELECT * FROM t WHERE string::len(o ?? '') < 7 AND n > 10";
    rig.register("path", surql, 1).await;
    rig.scheduler.append(vec![row("a", 11, 1)]);
    rig.shows("path", [("a", 1)]).await;
    assert_eq!(rig.get("/v1/state").await["counts"], json!({ "incremental": 1, "requery": 0 }));
    // `o` is no text, so whether the row is in, only SurrealDB can say.
    rig.scheduler.append(vec![linked("b", 12, 1)]);
    rig.shows("path", [("a", 1), ("b", 1)]).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["counts"], json!({ "incremental": 0, "requery": 1 }), "{state:#}");
    let reason = state["views"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("string::len"), "{reason}");
    rig.scheduler.append(vec![row("c", 13, 1)]);
    rig.shows("path", [("a", 1), ("b", 1), ("c", 1)]).await;
}
