//! A record user's own answers: what a view lists under permissions, maintained or run again, is what SurrealDB
//! gives to the user who asks.

use std::collections::{BTreeMap, BTreeSet};

use revenant_log::value::Object;
use revenant_log::{RecordId, Value};
use revenant_ssp::query::naive::{self, Tables};
use revenant_ssp::query::parse::parse_under;
use revenant_ssp::query::rules::{Permission, Rules};
use revenant_ssp::requery::{Requery as _, RequeryText};
use revenant_surreal::{Db, Rerun};
use surrealdb::Surreal;
use surrealdb::engine::any::Any;
use surrealdb::opt::auth::Record;
use surrealdb::types as sdk;

use crate::rig::{database, run};

const SCHEMA: &str = "
DEFINE TABLE person PERMISSIONS FOR select WHERE id = $auth.id OR public = true;
DEFINE FIELD mail ON person TYPE option<string> PERMISSIONS FOR select WHERE id = $auth.id;
DEFINE ACCESS account ON DATABASE TYPE RECORD
    SIGNUP (CREATE type::record('person', $name) SET name = $name, public = $public, team = $team)
    SIGNIN (SELECT * FROM person WHERE name = $name);
DEFINE TABLE team PERMISSIONS FULL;
DEFINE TABLE note PERMISSIONS FOR select WHERE owner = $auth.id OR owner.team = $auth.team AND shared;
DEFINE TABLE tag PERMISSIONS FOR select WHERE note IN (SELECT VALUE id FROM note WHERE shared = true);
DEFINE TABLE secret PERMISSIONS NONE;
DEFINE TABLE member PERMISSIONS NONE;
DEFINE TABLE room PERMISSIONS FOR select WHERE
    id IN (SELECT VALUE room FROM member WHERE who = $auth.id) OR $access = 'nothing';
CREATE team:red SET size = 3;
CREATE team:blue SET size = 1;
";

const ROWS: &str = "
CREATE note:1 SET owner = person:ann, n = 1, shared = false, tags = ['a'];
CREATE note:2 SET owner = person:ann, n = 2, shared = true, to = secret:1;
CREATE note:3 SET owner = person:bob, n = 3, shared = true, to = team:red;
CREATE note:4 SET owner = person:cid, n = 4, shared = true, to = person:bob;
CREATE note:5 SET owner = person:cid, n = 5, shared = false;
CREATE tag:1 SET note = note:1, text = 'a';
CREATE tag:2 SET note = note:2, text = 'b';
CREATE tag:3 SET note = note:4, text = 'b';
CREATE secret:1 SET size = 3;
CREATE room:a SET n = 1;
CREATE room:b SET n = 2;
CREATE member:1 SET who = person:ann, room = room:a;
CREATE member:2 SET who = person:bob, room = room:b;
";

/// Maintained for everybody, and run again for nobody.
const MAINTAINED: [&str; 12] = [
    "SELECT * FROM room",
    "SELECT * FROM room WHERE n = 2",
    "SELECT * FROM tag",
    "SELECT * FROM tag WHERE text = 'b' ORDER BY text DESC LIMIT 1",
    "SELECT * FROM person",
    "SELECT * FROM person WHERE name != 'bob'",
    "SELECT * FROM team WHERE size > 0 AND id IN (SELECT VALUE team FROM person)",
    "SELECT *, (SELECT * FROM tag WHERE text = $parent.name) AS x FROM person",
    "SELECT * FROM room WHERE n IN (SELECT VALUE size FROM secret)",
    "SELECT * FROM room WHERE n NOT IN (SELECT VALUE size FROM secret)",
    "SELECT * FROM person WHERE team.size = 3",
    "SELECT * FROM person WHERE $auth.id = id OR $auth = NONE",
];

/// Only SurrealDB can say.
const RUN: [&str; 4] = [
    "SELECT * FROM note",
    "SELECT * FROM note WHERE n > 1 OR shared ORDER BY n LIMIT 2",
    "SELECT * FROM note WHERE string::slug(owner_name ?? 'x') = 'x' AND n < 5",
    "SELECT * FROM tag WHERE note IN (SELECT VALUE id FROM note WHERE n > 1)",
];

/// They might read past a permission.
const REFUSED: [&str; 4] = [
    "SELECT * FROM secret",
    "SELECT * FROM nowhere",
    "SELECT * FROM person WHERE mail = 'x'",
    "SELECT * FROM note WHERE owner.mail = 'x'",
];

/// A session of `name`, signed up.
async fn signed_up(db: &Db, name: &str, public: bool, team: &str) -> Surreal<Any> {
    let target = db.target();
    let session = db.client().await.unwrap().clone();
    let mut params = sdk::Object::new();
    params.insert("name".to_owned(), sdk::Value::String(name.to_owned()));
    params.insert("public".to_owned(), sdk::Value::Bool(public));
    let team = sdk::RecordId::new("team".to_owned(), team.to_owned());
    params.insert("team".to_owned(), sdk::Value::RecordId(team));
    let record = Record {
        namespace: target.namespace.clone(),
        database: target.database.clone(),
        access: "account".to_owned(),
        params,
    };
    session.signup(record).await.unwrap();
    session
}

/// The ids that a session is given.
async fn answered(session: &Surreal<Any>, surql: &str) -> BTreeSet<String> {
    let rows: Vec<sdk::Value> = session.query(surql).await.unwrap().take(0).unwrap();
    let id = |row: &sdk::Value| match row {
        sdk::Value::Object(fields) => match fields.get("id") {
            Some(sdk::Value::RecordId(id)) => {
                let sdk::RecordIdKey::String(key) = &id.key else {
                    let sdk::RecordIdKey::Number(key) = &id.key else { panic!("{id:?}") };
                    return format!("{}:{key}", id.table);
                };
                format!("{}:{key}", id.table)
            }
            other => panic!("{other:?} is no id"),
        },
        other => panic!("{other:?} is no row"),
    };
    rows.iter().map(id).collect()
}

/// What the naive evaluation gives for the rows of the database.
async fn evaluated(db: &Db, surql: &str, params: &Object, rules: &Rules) -> BTreeSet<String> {
    let query = parse_under(surql, params, Some(rules)).unwrap().query;
    let query = query.unwrap_or_else(|what| panic!("{surql}: {what}"));
    let mut tables = Tables::new();
    for table in ["person", "team", "note", "tag", "secret", "member", "room"] {
        for rows in run(db, &format!("SELECT * FROM {table}")).await {
            let Value::Array(rows) = rows else { continue };
            for row in rows {
                let Some(Value::RecordId(id)) = row.field("id") else { panic!("{row} has no id") };
                let RecordId { table, key } = (**id).clone();
                tables.entry(table).or_default().insert(key, (1, row.clone()));
            }
        }
    }
    let members = naive::evaluate(&query, &tables).unwrap();
    members.into_iter().map(|member| member.record.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_lists_what_surrealdb_gives_to_its_registrant() {
    let db = database().await;
    run(&db, SCHEMA).await;
    let users = [
        ("ann", signed_up(&db, "ann", false, "red").await),
        ("bob", signed_up(&db, "bob", true, "red").await),
        ("cid", signed_up(&db, "cid", false, "blue").await),
    ];
    run(&db, ROWS).await;
    run(&db, "DEFINE TABLE _00_version SCHEMALESS").await;
    let rerun = Rerun::new(db.clone());
    let rules = rerun.rules().await.unwrap();
    assert_eq!(rules.table("team").unwrap().select, Permission::Full);
    assert_eq!(rules.table("secret").unwrap().select, Permission::None);
    assert_eq!(rules.table("person").unwrap().hidden, ["mail".to_owned()].into());
    let mut sizes = BTreeMap::new();
    for (name, session) in &users {
        let auth = Value::parse(&format!("{{ id: person:{name} }}")).unwrap();
        let params: Object =
            [("auth".to_owned(), auth), ("access".to_owned(), Value::String("account".into()))]
                .into();
        for surql in MAINTAINED {
            let answer = answered(session, surql).await;
            assert_eq!(evaluated(&db, surql, &params, &rules).await, answer, "{name}: {surql}");
            *sizes.entry(surql).or_insert(0) += answer.len();
        }
        for surql in RUN {
            let parsed = parse_under(surql, &params, Some(&rules)).unwrap();
            assert!(parsed.query.is_err(), "{surql}");
            let text = parsed.text.unwrap_or_else(|what| panic!("{surql}: {what}"));
            let text = RequeryText { surql: text.surql, params: text.params };
            let members = rerun.run(&text).await.unwrap_or_else(|error| panic!("{surql}: {error}"));
            let members: BTreeSet<_> =
                members.into_iter().map(|member| member.record.to_string()).collect();
            let answer = answered(session, surql).await;
            assert_eq!(members, answer, "{name}: {}", text.surql);
            *sizes.entry(surql).or_insert(0) += answer.len();
        }
        for surql in REFUSED {
            let parsed = parse_under(surql, &params, Some(&rules));
            let refused = parsed.is_ok_and(|parsed| parsed.query.is_ok() || parsed.text.is_ok());
            assert!(!refused, "{surql}");
        }
    }
    // Each of them lists something for somebody, or it would prove nothing; the one into `secret` lists nothing.
    let empty: Vec<_> =
        sizes.iter().filter(|(_, size)| **size == 0).map(|(surql, _)| *surql).collect();
    assert_eq!(empty, ["SELECT * FROM room WHERE n IN (SELECT VALUE size FROM secret)"]);
}
