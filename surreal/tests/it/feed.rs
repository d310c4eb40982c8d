//! What the change feed says is what happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use revenant_fanout::source::{Source, SourceError, SourceTransaction};
use revenant_log::{Key, Op, Value};
use revenant_surreal::{Changefeed, Db, DbError, FeedPolicy, schema};

use crate::rig::{database, database_at, run};

async fn all(source: &Changefeed) -> Vec<SourceTransaction> {
    let mut transactions = Vec::new();
    let mut from = 0;
    loop {
        let page = source.changes_from(from).await.unwrap();
        transactions.extend(page.transactions);
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    transactions.retain(|transaction| !transaction.events.is_empty());
    transactions
}

#[tokio::test]
async fn creates_updates_and_deletes_come_with_images_and_versions() {
    let db = database().await;
    run(&db, "DEFINE TABLE file; DEFINE TABLE likes TYPE RELATION; DEFINE TABLE note").await;
    schema::install(&db).await.unwrap();
    let source = Changefeed::new(db.clone(), FeedPolicy::Define);
    let tables = source.tables().await.unwrap();
    let names: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.feed)).collect();
    assert_eq!(names, [("file", true), ("note", true)]);
    run(&db, "CREATE file:`a/b.go` SET n = 1, at = d'2020-01-01T00:00:00.5Z'").await;
    run(&db, "UPDATE file:`a/b.go` SET n = 2, tags = ['x', 'y']").await;
    run(
        &db,
        "BEGIN; UPDATE file:`a/b.go` SET tags = ['z']; CREATE note:1 SET f = file:`a/b.go`; COMMIT",
    )
    .await;
    run(&db, "DELETE file:`a/b.go`").await;
    run(&db, "CREATE file:`a/b.go` SET n = 9").await;
    run(&db, "UPDATE file:`a/b.go` SET n = 9").await;
    let transactions = all(&source).await;
    let told: Vec<_> = transactions
        .iter()
        .map(|transaction| {
            let event = |event: &revenant_log::Event| {
                let image = |image: &Option<Value>| image.as_ref().map(ToString::to_string);
                let (body, before) = (image(&event.body), image(&event.before));
                let table = event.table.to_string();
                (event.op, table, event.version, body, before)
            };
            transaction.events.iter().map(event).collect::<Vec<_>>()
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let file = || "file".to_owned();
    let first = "{ at: d'2020-01-01T00:00:00.500Z', id: file:`a/b.go`, n: 1 }";
    let second = "{ at: d'2020-01-01T00:00:00.500Z', id: file:`a/b.go`, n: 2, tags: ['x', 'y'] }";
    let third = "{ at: d'2020-01-01T00:00:00.500Z', id: file:`a/b.go`, n: 2, tags: ['z'] }";
    assert_eq!(told[0], [(Op::Create, file(), Some(1), some(first), None)]);
    assert_eq!(told[1], [(Op::Update, file(), Some(2), some(second), some(first))]);
    assert_eq!(told[2][0].2, Some(3));
    assert_eq!((&told[2][0].3, &told[2][0].4), (&some(third), &some(second)));
    let note =
        (Op::Create, "note".to_owned(), Some(1), some("{ f: file:`a/b.go`, id: note:1 }"), None);
    assert_eq!(told[2][1], note);
    assert_eq!(told[3], [(Op::Delete, file(), None, None, some(third))]);
    assert_eq!((told[4][0].0, told[4][0].2, told.len()), (Op::Create, Some(1), 5));
    let page = source.rows("file", None, 10).await.unwrap();
    assert_eq!((page.len(), page[0].version), (1, Some(1)));
    let row = source.row("file", &Key::from("a/b.go")).await.unwrap().unwrap();
    assert_eq!(row.body.field("n"), Some(&Value::Int(9)));
    assert!(source.row("file", &Key::from("nowhere")).await.unwrap().is_none());
}

#[tokio::test]
async fn pages_join_without_loss_when_sets_hold_several_tables() {
    let db = database().await;
    for table in 0..7 {
        run(&db, &format!("DEFINE TABLE t{table} CHANGEFEED 1h INCLUDE ORIGINAL")).await;
    }
    let source = Changefeed::new(db.clone(), FeedPolicy::Tell);
    let mut expected = 0;
    for number in 0..400 {
        let mut statements = String::from("BEGIN;");
        for table in 0..=(number % 7) {
            statements.push_str(&format!("CREATE t{table}:{number} SET n = {number};"));
            expected += 1;
        }
        run(&db, &(statements + "COMMIT")).await;
    }
    let first = source.changes_from(0).await.unwrap();
    assert!(first.next.is_some(), "{expected} entries fill a page");
    let transactions = all(&source).await;
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for transaction in &transactions {
        let Key::Int(number) = transaction.events[0].key else { panic!() };
        *counts.entry(number).or_default() += transaction.events.len();
    }
    assert!(transactions.is_sorted_by(|a, b| a.versionstamp < b.versionstamp));
    for number in 0..400 {
        assert_eq!(counts[&number], usize::try_from(number % 7 + 1).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_at_once_are_all_in_the_feed_in_the_end() {
    let db = database().await;
    run(&db, "DEFINE TABLE t; DEFINE TABLE counter").await;
    schema::install(&db).await.unwrap();
    run(&db, "CREATE counter:1 SET n = 0").await;
    let mut writers = Vec::new();
    for writer in 0..16 {
        let db = db.clone();
        writers.push(tokio::spawn(async move {
            for number in 0..20 {
                let statements = format!(
                    "BEGIN; CREATE t:[{writer}, {number}]; UPDATE counter:1 SET n += 1; COMMIT"
                );
                write_until_done(&db, &statements).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let source = Changefeed::new(db, FeedPolicy::Tell);
    let transactions = all(&source).await;
    let created = transactions.iter().flat_map(|t| &t.events).filter(|e| &*e.table == "t").count();
    let last = transactions.iter().flat_map(|t| &t.events).rfind(|e| &*e.table == "counter");
    assert_eq!((created, last.unwrap().version), (320, Some(321)));
}

async fn write_until_done(db: &Db, statements: &str) {
    loop {
        match db.run(statements, []).await {
            Ok(_) => return,
            Err(DbError::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_feed_that_no_longer_reaches_back_says_so() {
    let db = database().await;
    run(&db, "DEFINE TABLE t CHANGEFEED 1h INCLUDE ORIGINAL").await;
    let source = Changefeed::new(db, FeedPolicy::Tell);
    source.tables().await.unwrap();
    let now = source.now().await.unwrap().time_us;
    assert!(source.changes_since_time(now - 60_000_000).await.is_ok());
    let lost = source.changes_since_time(now - 7_200_000_000).await;
    assert!(matches!(lost, Err(SourceError::Lost(_))), "{lost:?}");
}

#[tokio::test]
async fn a_table_without_feed_is_told_with_the_statement_that_mends_it() {
    let db = database().await;
    run(&db, "DEFINE TABLE `odd name`").await;
    let source = Changefeed::new(db.clone(), FeedPolicy::Tell);
    let fix = source.tables().await.unwrap().remove(0).fix.unwrap();
    run(&db, &fix).await;
    assert!(source.tables().await.unwrap()[0].feed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_rings_the_bell() {
    let db = database().await;
    run(&db, "DEFINE TABLE t").await;
    let source = Arc::new(Changefeed::new(db.clone(), FeedPolicy::Tell));
    let waiting = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.wait_doorbell().await }
    });
    let rung = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !waiting.is_finished() {
            run(&db, "CREATE t").await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        waiting.await.unwrap()
    });
    rung.await.expect("no bell in 20 s").unwrap();
}

#[tokio::test]
async fn a_window_of_time_holds_what_was_committed_in_it_on_every_storage_engine() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["mem://".to_owned(), format!("surrealkv://{}", dir.path().join("db").display())] {
        let db = database_at(&url).await;
        run(&db, "DEFINE TABLE note").await;
        schema::install(&db).await.unwrap();
        let source = Changefeed::new(db.clone(), FeedPolicy::Define);
        source.tables().await.unwrap();
        run(&db, "CREATE note:1").await;
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        run(&db, "CREATE note:2").await;
        let now_us = source.now().await.unwrap().time_us;
        let seen = async |ago_us: i64| {
            let page = source.changes_since_time(now_us - ago_us).await.unwrap();
            let events = page.transactions.iter().flat_map(|transaction| &transaction.events);
            events.map(|event| event.key.clone()).collect::<Vec<_>>()
        };
        assert!(seen(60_000_000).await.contains(&Key::Int(1)), "{url}: a minute");
        let last_second = seen(1_000_000).await;
        assert!(last_second.contains(&Key::Int(2)), "{url}: the last second has {last_second:?}");
        // A feed that merely counts is read from the start; one of clock time begins in the window.
        if url.starts_with("surrealkv") {
            assert!(!last_second.contains(&Key::Int(1)), "{url}: {last_second:?}");
        }
    }
}
