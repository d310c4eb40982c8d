//! Permissions: a view lists what its registrant may select, and follows the schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use revenant_log::{Key, Value};
use revenant_ssp::State;
use revenant_ssp::query::expr::Beyond;
use revenant_ssp::query::naive::{Tables, evaluate};
use revenant_ssp::query::parse::parse_under;
use revenant_ssp::query::rules::{Permission, Rules, TableRules};
use serde_json::json;

use crate::rig::{Rig, registration};
use crate::scheduler::{FakeScheduler, gone, row};

/// Rules of tables: what may be selected of each, and hidden fields as `table.field`.
fn rules(tables: &[(&str, &str)], hidden: &[&str]) -> Rules {
    let table = |(name, select): &(&str, &str)| {
        let prefix = format!("{name}.");
        let hidden = hidden.iter().filter_map(|field| field.strip_prefix(&prefix));
        let hidden: BTreeSet<_> = hidden.map(str::to_owned).collect();
        ((*name).to_owned(), TableRules { select: Permission::of(select), hidden })
    };
    Rules::new(tables.iter().map(table).collect::<BTreeMap<_, _>>())
}

async fn rig(scheduler: FakeScheduler) -> Rig {
    let adjust = |config: &mut revenant_ssp::Config| {
        config.schema_interval = Duration::from_millis(20);
    };
    let rig = Rig::start(scheduler, Arc::default(), adjust).await;
    rig.reached(State::Ready).await;
    rig
}

async fn register(rig: &Rig, id: &str, surql: &str, user: &str) -> (StatusCode, String) {
    let mut body = registration(id, surql, 1);
    body["params"] = json!(format!("{{ auth: {{ id: {user} }} }}"));
    rig.post("/view/register", &body).await
}

#[tokio::test]
async fn a_view_lists_what_its_registrant_may_select() {
    let scheduler = FakeScheduler::start().await;
    for (key, n) in [("a", 5), ("b", 15), ("c", 25)] {
        scheduler.set(key, n, 1);
    }
    let rig = rig(scheduler).await;
    let own = "n < 10 AND $auth.id = user:u1 OR n > 20";
    *rig.oracle.rules.lock().unwrap() = rules(&[("t", own), ("shut", "false")], &[]);
    for (view, user) in [("of-u1", "user:u1"), ("of-u2", "user:u2"), ("of-nobody", "NONE")] {
        assert_eq!(register(&rig, view, "SELECT * FROM t", user).await.0, StatusCode::OK);
    }
    rig.register("of-admin", "SELECT * FROM t", 1).await;
    rig.shows("of-u1", [("a", 1), ("c", 1)]).await;
    rig.shows("of-u2", [("c", 1)]).await;
    rig.shows("of-nobody", [("c", 1)]).await;
    rig.shows("of-admin", [("a", 1), ("b", 1), ("c", 1)]).await;
    let state = rig.get("/v1/state").await;
    assert_eq!(state["counts"], json!({ "incremental": 4, "requery": 0 }));

    rig.scheduler.append(vec![row("a", 30, 2), row("b", 8, 2), gone("c")]);
    rig.shows("of-u1", [("a", 2), ("b", 2)]).await;
    rig.shows("of-u2", [("a", 2)]).await;

    for table in ["shut", "nowhere"] {
        let surql = format!("SELECT * FROM {table}");
        let (status, text) = register(&rig, "refused", &surql, "user:u1").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.starts_with("Permission denied") && text.contains(table), "{text}");
    }
    assert!(!rig.sink.stored().rows.contains_key("refused"));
}

#[tokio::test]
async fn permissions_that_change_are_followed_and_what_is_denied_is_given_up() {
    let scheduler = FakeScheduler::start().await;
    for (key, n) in [("a", 5), ("b", 15), ("c", 25)] {
        scheduler.set(key, n, 1);
    }
    let rig = rig(scheduler).await;
    let allow = |select: &str| *rig.oracle.rules.lock().unwrap() = rules(&[("t", select)], &[]);
    allow("n > 10");
    assert_eq!(register(&rig, "v", "SELECT * FROM t", "user:u1").await.0, StatusCode::OK);
    rig.register("of-admin", "SELECT * FROM t", 1).await;
    rig.shows("v", [("b", 1), ("c", 1)]).await;
    allow("n < 20");
    rig.shows("v", [("a", 1), ("b", 1)]).await;
    rig.scheduler.append(vec![row("c", 1, 2)]);
    rig.shows("v", [("a", 1), ("b", 1), ("c", 2)]).await;
    allow("true");
    rig.scheduler.append(vec![row("d", 99, 1)]);
    rig.shows("v", [("a", 1), ("b", 1), ("c", 2), ("d", 1)]).await;
    allow("false");
    rig.until(|| !rig.sink.stored().rows.contains_key("v")).await;
    assert!(rig.sink.members("v").is_empty());
    let state = rig.get("/v1/state").await;
    assert!(state["failed"]["v"].as_str().unwrap().starts_with("Permission denied"), "{state:#}");
    rig.shows("of-admin", [("a", 1), ("b", 1), ("c", 2), ("d", 1)]).await;
}

#[tokio::test]
async fn a_query_that_is_run_again_is_run_within_the_permissions() {
    let rig = rig(FakeScheduler::start().await).await;
    *rig.oracle.rules.lock().unwrap() = rules(&[("t", "n > 1 OR owner = $auth.id")], &["t.secret"]);
    rig.oracle.set(&[("a", 1)]);
    let slug = "SELECT * FROM t WHERE string::slug(s) = 'x' OR n = 2";
    assert_eq!(register(&rig, "slugs", slug, "user:u1").await.0, StatusCode::OK);
    rig.shows("slugs", [("a", 1)]).await;
    let run = rig.oracle.runs.lock().unwrap()[0].clone();
    assert_eq!(
        run.surql,
        "SELECT * FROM t WHERE (n > 1 OR owner = $_00_auth.id) AND (string::slug(s) = 'x' OR n = 2)"
    );
    assert_eq!(run.params["_00_auth"], Value::parse("user:u1").unwrap());
    assert!(!run.params.contains_key("auth"), "no such name may be bound");
    for past in ["n = owner.name", "->likes->u", "fn = record::exists(o)", "secret = 1"] {
        let surql = format!("SELECT * FROM t WHERE string::slug(s) = 'x' AND {past}");
        let (status, text) = register(&rig, "refused", &surql, "user:u1").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{surql}");
        assert!(text.contains("not run for who registers it"), "{surql}: {text}");
    }
}

fn understood(surql: &str, under: Option<&Rules>) -> Result<String, String> {
    let params = [("auth".to_owned(), Value::parse("{ id: user:u1 }").unwrap())].into();
    let parsed = parse_under(surql, &params, under)?;
    parsed.query.map(|query| format!("{query:?}"))
}

#[test]
fn permissions_are_conditions_of_every_table_that_a_query_reads() {
    let own = rules(
        &[("t", "owner = $auth.id"), ("u", "n > 1"), ("open", "true"), ("shut", "false")],
        &[],
    );
    for (asked, meant) in [
        ("SELECT * FROM t WHERE n = 1", "SELECT * FROM t WHERE n = 1 AND owner = user:u1"),
        ("SELECT * FROM open WHERE n = 1", "SELECT * FROM open WHERE n = 1"),
        (
            "SELECT *, (SELECT * FROM u WHERE l = $parent.id) AS x FROM open",
            "SELECT *, (SELECT * FROM u WHERE l = $parent.id AND n > 1) AS x FROM open",
        ),
        (
            "SELECT * FROM open WHERE n IN (SELECT VALUE n FROM u)",
            "SELECT * FROM open WHERE n IN (SELECT VALUE n FROM u WHERE n > 1)",
        ),
        (
            "SELECT * FROM open WHERE array::len((SELECT * FROM shut WHERE l = $parent.id)) > 0",
            "SELECT * FROM open WHERE id IN (SELECT VALUE l FROM shut WHERE false)",
        ),
    ] {
        assert_eq!(understood(asked, Some(&own)), understood(meant, None), "{asked}");
    }
}

#[test]
fn what_a_permission_itself_reads_is_not_judged() {
    let rule = "team IN (SELECT VALUE team FROM member WHERE who = $auth.id) AND o.n > 1";
    let own = rules(&[("t", rule), ("member", "false")], &[]);
    let meant = format!("SELECT * FROM t WHERE {rule}");
    assert_eq!(understood("SELECT * FROM t", Some(&own)), understood(&meant, None));
}

#[test]
fn hidden_fields_decide_nothing() {
    let own = rules(&[("t", "true"), ("u", "true")], &["t.secret"]);
    for surql in [
        "SELECT * FROM t WHERE secret > 3",
        "SELECT * FROM t ORDER BY secret LIMIT 1",
        "SELECT * FROM u WHERE n IN (SELECT VALUE secret FROM t)",
        "SELECT *, (SELECT * FROM u WHERE n = $parent.secret) AS x FROM t",
    ] {
        let refused = understood(surql, Some(&own)).expect_err(surql);
        assert!(refused.contains("the field secret"), "{surql}: {refused}");
        assert!(understood(surql, None).is_ok(), "{surql}");
    }
    assert!(understood("SELECT * FROM u WHERE secret > 3", Some(&own)).is_ok());
}

#[test]
fn a_link_is_followed_as_far_as_its_table_may_be_read() {
    let own = rules(&[("t", "true"), ("open", "true"), ("shut", "false"), ("own", "n > 1")], &[]);
    let tables: Tables = ["open:1", "shut:1", "own:1", "own:9"]
        .iter()
        .zip(1..)
        .map(|(link, key)| ("t", key, format!("{{ l: {link} }}")))
        .chain(["open", "shut", "own"].map(|table| (table, 1, "{ n: 5 }".to_owned())))
        .fold(Tables::new(), |mut tables, (table, key, body)| {
            let row = (1, Value::parse(&body).unwrap());
            tables.entry(table.to_owned()).or_default().insert(Key::Int(key), row);
            tables
        });
    let found = |condition: &str| {
        let surql = format!("SELECT * FROM t WHERE {condition}");
        let params = [("auth".to_owned(), Value::parse("{ id: user:u1 }").unwrap())].into();
        let query = parse_under(&surql, &params, Some(&own)).unwrap().query.unwrap();
        evaluate(&query, &tables).map(|members| members.len())
    };
    assert_eq!(found("id = t:1 AND l.n = 5"), Ok(1));
    assert_eq!(found("id = t:2 AND l.n = NONE"), Ok(1), "nobody may read what is there");
    assert_eq!(found("id = t:3 AND l.n = 5"), Err(Beyond::Judged));
    assert_eq!(found("id = t:4 AND l.n = NONE"), Ok(1), "there is no such row");
}
