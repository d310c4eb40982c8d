//! Random queries on random histories: the engine's views and the naive evaluation equal SurrealDB's own
//! answers after every batch.

use std::collections::{BTreeMap, BTreeSet};

use revenant_log::{Event, Op, Record, RecordId, Seq, SourcePos, Value};
use revenant_ssp::edge::{Edge, EdgeWrite};
use revenant_ssp::engine::Engine;
use revenant_ssp::query::ir::{Block, Query};
use revenant_ssp::query::naive::{self, Member, Tables};
use revenant_ssp::query::parse::parse;
use revenant_surreal::Db;
use revenant_testdata::queries::{Asked, Change, Generator, Rows};
use revenant_testdata::tally::{Outcome, Tally};

use crate::rig::{database, run};

/// A row with the rows of its subqueries; subqueries without rows are left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    record: RecordId,
    children: BTreeMap<String, BTreeSet<Node>>,
}

/// What SurrealDB returned for `block`.
fn answered(block: &Block, rows: &Value) -> BTreeSet<Node> {
    let rows = match rows {
        Value::Array(rows) => rows.as_slice(),
        // `(SELECT ...)[0]` is a row, or nothing.
        Value::None => &[],
        row => std::slice::from_ref(row),
    };
    let node = |row: &Value| {
        let Some(Value::RecordId(id)) = row.field("id") else { panic!("{row} has no id") };
        let children = block.children.iter().filter_map(|child| {
            let rows = answered(&child.block, row.field(&child.alias).unwrap_or(&Value::None));
            (!rows.is_empty()).then(|| (child.alias.clone(), rows))
        });
        Node { record: (**id).clone(), children: children.collect() }
    };
    rows.iter().map(node).collect()
}

fn evaluated(members: BTreeSet<Member>) -> BTreeSet<Node> {
    let node = |member: Member| {
        let children = member.children.into_iter().map(|(alias, rows)| (alias, evaluated(rows)));
        let children = children.filter(|(_, rows)| !rows.is_empty()).collect();
        Node { record: member.record, children }
    };
    members.into_iter().map(node).collect()
}

fn maintained(
    edges: &BTreeMap<String, Edge>,
    parent: Option<&str>,
) -> BTreeMap<String, BTreeSet<Node>> {
    let mut rows: BTreeMap<String, BTreeSet<Node>> = BTreeMap::new();
    for edge in edges.values().filter(|edge| edge.parent.as_deref() == parent) {
        let children = maintained(edges, Some(&edge.id));
        let alias = edge.parent_rel.clone().unwrap_or_default();
        let node = Node { record: edge.record.clone(), children };
        assert!(rows.entry(alias).or_default().insert(node), "an edge is there twice");
    }
    rows
}

/// A view that is maintained.
struct View {
    asked: Asked,
    query: Query,
    /// Batches after which it was compared, and rows.
    compared: (usize, usize),
    edges: BTreeMap<String, Edge>,
}

struct World {
    db: Db,
    engine: Engine,
    rows: Rows,
    seq: u64,
    views: BTreeMap<String, View>,
    tally: Tally,
    compared: usize,
    /// Views that the engine declined or gave up.
    beyond: usize,
    /// Results that SurrealDB refused for a row that the engine did not ask about.
    refused: usize,
}

impl World {
    async fn new() -> Self {
        let db = database().await;
        run(&db, "DEFINE TABLE a; DEFINE TABLE b; DEFINE TABLE c").await;
        Self {
            db,
            engine: Engine::default(),
            rows: Rows::new(),
            seq: 0,
            views: BTreeMap::new(),
            tally: Tally::default(),
            compared: 0,
            beyond: 0,
            refused: 0,
        }
    }

    fn open(&mut self, name: String, asked: Asked) {
        let Asked { surql, params, .. } = &asked;
        let parsed = parse(surql, params).unwrap_or_else(|error| panic!("{surql}: {error}"));
        let query = parsed.query.unwrap_or_else(|what| panic!("{surql}: {what}"));
        match self.engine.open(&name, &query) {
            Ok(edges) => {
                let edges = edges.into_iter().map(|(_, edge)| (edge.id.clone(), edge)).collect();
                self.views.insert(name, View { asked, query, compared: (0, 0), edges });
            }
            Err(_) => {
                self.beyond += 1;
                self.tally.add(&asked.constructs, Outcome::default());
            }
        }
    }

    /// Counts what became of the views that are left.
    fn close(&mut self) {
        for view in std::mem::take(&mut self.views).into_values() {
            let (batches, rows) = view.compared;
            self.tally.add(&view.asked.constructs, Outcome { maintained: true, batches, rows });
        }
    }

    /// One transaction in SurrealDB, one batch of the engine.
    async fn apply(&mut self, changes: Vec<Change>) {
        let mut statements = String::from("BEGIN; ");
        let mut records = Vec::new();
        for change in changes {
            let (id, body) = match change {
                Change::Put(id, row) => {
                    statements += &format!("UPSERT {id} CONTENT {}; ", Value::Object(row.clone()));
                    self.rows.insert(id.clone(), row.clone());
                    (id, Some(Value::Object(row)))
                }
                Change::Delete(id) => {
                    statements += &format!("DELETE {id}; ");
                    self.rows.remove(&id);
                    (id, None)
                }
            };
            self.seq += 1;
            let event = Event {
                op: if body.is_some() { Op::Update } else { Op::Delete },
                table: id.table.as_str().into(),
                key: id.key,
                version: None,
                body,
                before: None,
                source: SourcePos::UNKNOWN,
                stale: false,
            };
            let seq = Seq(self.seq);
            records.push(Record { seq, time_us: 0, ends_transaction: true, feed_high: 0, event });
        }
        run(&self.db, &(statements + "COMMIT")).await;
        let stepped = self.engine.apply(records);
        for (name, _) in stepped.lost {
            let View { asked, compared: (batches, rows), .. } =
                self.views.remove(&name).expect("a view that is open");
            self.tally.add(&asked.constructs, Outcome { maintained: false, batches, rows });
            self.beyond += 1;
        }
        for change in stepped.changes {
            let edges = &mut self.views.get_mut(&change.view).expect("a view that is open").edges;
            for (_, write) in change.edges {
                match write {
                    EdgeWrite::Put(edge) => drop(edges.insert(edge.id.clone(), edge)),
                    EdgeWrite::Delete { id, .. } => drop(edges.remove(&id).expect("what is there")),
                }
            }
        }
    }

    async fn check(&mut self, context: &str) {
        let mut tables = Tables::new();
        for (id, row) in &self.rows {
            let row = (1, Value::Object(row.clone()));
            tables.entry(id.table.clone()).or_default().insert(id.key.clone(), row);
        }
        for (name, view) in &mut self.views {
            let Asked { surql, members, .. } = &view.asked;
            let may_fail = view.query.may_fail();
            let answer = match self.db.run(members, []).await {
                Ok(answer) => answer,
                Err(_) if may_fail => {
                    self.refused += 1;
                    continue;
                }
                Err(error) => panic!("{context}: {members}: {error}"),
            };
            let answered = answered(&view.query.root, &answer[0]);
            match naive::evaluate(&view.query, &tables).map(evaluated) {
                Ok(naive) => {
                    assert_eq!(
                        naive, answered,
                        "{context}: naive (left), SurrealDB (right): {surql}"
                    );
                }
                // SurrealDB need not look at every row, as beyond a window.
                Err(_) if may_fail => {}
                Err(beyond) => panic!("{context}: {beyond}, yet SurrealDB answered: {surql}"),
            }
            let mut maintained = maintained(&view.edges, None);
            let maintained = maintained.remove("").unwrap_or_default();
            assert_eq!(maintained, answered, "{context}: {name}, SurrealDB (right): {surql}");
            view.compared.0 += 1;
            view.compared.1 += view.edges.len();
            self.compared += 1;
        }
    }
}

async fn random_run(seed: u64, keys: i64, batches: usize, tally: &mut Tally) -> [usize; 3] {
    let mut generator = Generator::new(seed, keys);
    let mut world = World::new().await;
    world.tally = std::mem::take(tally);
    for batch in 0..batches {
        if batch % 2 == 0 {
            let asked = generator.query();
            world.open(format!("v{batch}"), asked);
        }
        let changes = generator.transaction(&world.rows);
        world.apply(changes).await;
        world.check(&format!("seed {seed}, batch {batch}")).await;
    }
    world.close();
    *tally = world.tally;
    [world.compared, world.beyond, world.refused]
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_naive_evaluation_and_surrealdb_agree_on_random_queries_and_histories() {
    // More with, for example, REVENANT_ROUNDS=500.
    let rounds = std::env::var("REVENANT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let (mut counts, mut tally) = ([0; 3], Tally::default());
    for seed in 0..rounds.unwrap_or(24) {
        let keys = [3, 6, 12, 30][usize::try_from(seed % 4).unwrap_or(0)];
        let more = random_run(seed, keys, 30, &mut tally).await;
        counts = std::array::from_fn(|place| counts[place] + more[place]);
    }
    let [compared, beyond, refused] = counts;
    println!("{tally}{}", tally.json("oracle-surrealdb"));
    println!("{compared} results compared; {beyond} views were beyond the engine");
    println!("{refused} results were refused for a row that the engine did not ask about");
    assert!(compared > 24 * 100, "{compared} results were compared");
}
