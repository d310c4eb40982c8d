//! Edges are written once however often they are sent, and only by the view's owner.

use revenant_log::value::{Datetime, Duration};
use revenant_log::{LogId, RecordId, Seq, Value};
use revenant_ssp::edge::{
    Edge, EdgeBatch, EdgeSink, EdgeWrite, QueryRow, SinkError, ViewWrite, edge_id,
};
use revenant_surreal::{Db, Edges, schema};

use crate::rig::{database, run};

const TABLE: &str = "_00_list_ref_user_u1";

async fn rig() -> (Db, Edges) {
    let db = database().await;
    run(&db, "DEFINE TABLE thread; DEFINE TABLE user; CREATE user:u1; CREATE thread:1; CREATE thread:`a-b`")
        .await;
    schema::install(&db).await.unwrap();
    let edges = Edges::new(db.clone());
    edges.ensure_edge_table(TABLE, Some("u1")).await.unwrap();
    (db, edges)
}

fn query(epoch: u64) -> QueryRow {
    QueryRow {
        id: "q1".into(),
        surql: "SELECT * FROM thread".into(),
        params: [("a".to_owned(), Value::Int(1))].into(),
        ttl: Duration { secs: 600, nanos: 0 },
        client_id: "client".into(),
        last_active_at: Datetime { secs: 4_000_000_000, nanos: 0 },
        auth_id: "user:u1".into(),
        ssp_id: "ssp-1".into(),
        epoch,
    }
}

fn edge(record: RecordId, version: u64) -> Edge {
    Edge { id: edge_id("q1", None, None, &record), record, version, parent: None, parent_rel: None }
}

fn child(parent: &Edge, record: RecordId) -> Edge {
    let id = edge_id("q1", Some(&parent.id), Some("author"), &record);
    let (parent, parent_rel) = (Some(parent.id.clone()), Some("author".to_owned()));
    Edge { id, record, version: 1, parent, parent_rel }
}

fn batch(seq: u64, epoch: u64, edges: Vec<EdgeWrite>) -> EdgeBatch {
    let view = ViewWrite {
        view: "q1".into(),
        epoch,
        table: TABLE.into(),
        row_count: edges.len() as u64,
        edges,
        ready: true,
    };
    EdgeBatch { ssp_id: "ssp-1".into(), log_id: LogId([3; 16]), seq: Seq(seq), views: vec![view] }
}

async fn stored(edges: &Edges) -> Vec<Edge> {
    let mut stored = edges.edges(TABLE, "q1").await.unwrap();
    stored.sort_by(|a, b| a.id.cmp(&b.id));
    stored
}

#[tokio::test]
async fn a_database_without_the_schema_says_how_to_install_it() {
    let db = database().await;
    run(&db, "DEFINE TABLE thread").await;
    let refused = Edges::new(db).position("ssp-1").await.unwrap_err().to_string();
    assert!(
        refused.contains("_00_ssp_cursor") && refused.contains("revenant schema install"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_batch_sent_twice_is_there_once_with_parents_and_position() {
    let (db, edges) = rig().await;
    edges.claim(&query(1)).await.unwrap();
    let root = edge(RecordId::new("thread", 1), 1);
    let other = edge(RecordId::new("thread", "a-b"), 4);
    let below = child(&root, RecordId::new("user", "u1"));
    let puts = [&root, &other, &below].map(|edge| EdgeWrite::Put(edge.clone())).to_vec();
    for _ in 0..2 {
        edges.commit(&batch(7, 1, puts.clone())).await.unwrap();
    }
    let mut expected = vec![root.clone(), other.clone(), below.clone()];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(stored(&edges).await, expected);
    assert_eq!(edges.position("ssp-1").await.unwrap(), Some((LogId([3; 16]), Seq(7))));
    assert_eq!(edges.position("ssp-2").await.unwrap(), None);
    let read = run(
        &db,
        &format!(
            "SELECT VALUE [out, version, parent = NONE, clientId, auth_id] FROM {TABLE} \
             WHERE in = _00_query:q1 AND parent IS NONE ORDER BY version; \
             SELECT rowCount, state, params FROM ONLY _00_query:q1; \
             SELECT VALUE <-{TABLE}<-_00_query FROM ONLY thread:1"
        ),
    )
    .await;
    assert_eq!(
        read[0].to_string(),
        "[[thread:1, 1, true, 'client', 'user:u1'], [thread:`a-b`, 4, true, 'client', 'user:u1']]"
    );
    assert_eq!(read[1].to_string(), "{ params: { a: 1 }, rowCount: 3, state: 'ready' }");
    assert_eq!(read[2].to_string(), "[_00_query:q1]");
    let newer = Edge { version: 5, ..other.clone() };
    let gone = EdgeWrite::Delete { id: root.id.clone(), record: root.record.clone() };
    let child_gone = EdgeWrite::Delete { id: below.id.clone(), record: below.record };
    let writes = vec![EdgeWrite::Put(newer.clone()), gone, child_gone];
    for _ in 0..2 {
        edges.commit(&batch(9, 1, writes.clone())).await.unwrap();
    }
    assert_eq!(stored(&edges).await, [newer]);
}

#[tokio::test]
async fn a_stale_owner_writes_nothing() {
    let (_db, edges) = rig().await;
    edges.claim(&query(2)).await.unwrap();
    let put = vec![EdgeWrite::Put(edge(RecordId::new("thread", 1), 1))];
    edges.commit(&batch(5, 2, put.clone())).await.unwrap();
    let gone = vec![EdgeWrite::Delete {
        id: edge(RecordId::new("thread", 1), 1).id,
        record: RecordId::new("thread", 1),
    }];
    let refused = edges.commit(&batch(6, 1, gone)).await;
    assert!(matches!(&refused, Err(SinkError::Fenced { view }) if view == "q1"), "{refused:?}");
    let refused = edges.claim(&query(1)).await;
    assert!(matches!(refused, Err(SinkError::Fenced { .. })));
    assert!(matches!(edges.release(TABLE, "q1", 1).await, Err(SinkError::Fenced { .. })));
    assert_eq!(stored(&edges).await.len(), 1);
    assert_eq!(edges.position("ssp-1").await.unwrap().unwrap().1, Seq(5));
    edges.release(TABLE, "q1", 2).await.unwrap();
    assert!(stored(&edges).await.is_empty());
    assert_eq!(edges.missing(&["q1".into()]).await.unwrap(), ["q1"]);
    edges.commit(&batch(8, 2, put)).await.unwrap();
    assert!(stored(&edges).await.is_empty(), "a query whose row is gone gets no edges");
}

#[tokio::test]
async fn a_batch_above_the_limit_is_whole_in_the_end() {
    let (db, edges) = rig().await;
    edges.claim(&query(1)).await.unwrap();
    run(&db, "FOR $i IN 0..1200 { CREATE type::record('thread', 1000 + $i) }").await;
    let puts = (1000..2200).map(|key| EdgeWrite::Put(edge(RecordId::new("thread", key), 1)));
    edges.commit(&batch(3, 1, puts.collect())).await.unwrap();
    assert_eq!(stored(&edges).await.len(), 1200);
}

#[tokio::test]
async fn expired_queries_are_found_and_given_up_only_while_expired() {
    let (db, edges) = rig().await;
    edges.claim(&query(1)).await.unwrap();
    assert!(edges.expired("ssp-1").await.unwrap().is_empty());
    assert!(!edges.release_expired(TABLE, "q1", 1).await.unwrap());
    run(&db, "UPDATE _00_query:q1 SET lastActiveAt = time::now() - 1h").await;
    assert_eq!(edges.expired("ssp-1").await.unwrap(), ["q1"]);
    assert!(edges.expired("ssp-2").await.unwrap().is_empty());
    assert!(edges.release_expired(TABLE, "q1", 1).await.unwrap());
    assert!(edges.missing(&[]).await.unwrap().is_empty());
    assert_eq!(edges.missing(&["q1".into()]).await.unwrap(), ["q1"]);
}
