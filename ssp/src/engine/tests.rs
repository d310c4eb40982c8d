//! The engine against the naive evaluation, on random queries and random histories.

use std::collections::{BTreeMap, BTreeSet};

use revenant_log::value::Object;
use revenant_log::{Event, Op, RecordId, Seq, SourcePos};
use revenant_testdata::queries::{Change, Generator, Rows};

use super::*;
use crate::edge::EdgeWrite;
use crate::query::naive::{self, Member, Tables};
use crate::query::parse::parse;

/// A world of rows, the engine that follows it, and what its views' subscribers hold.
#[derive(Default)]
struct Rig {
    rows: Rows,
    versions: BTreeMap<RecordId, u64>,
    seq: u64,
    engine: Engine,
    queries: BTreeMap<String, Query>,
    /// Every view's edges, as the changes make them.
    mirrors: BTreeMap<String, BTreeMap<String, Edge>>,
    beyond: usize,
}

impl Rig {
    fn query(surql: &str) -> Query {
        let parsed =
            parse(surql, &Object::new()).unwrap_or_else(|error| panic!("{surql}: {error}"));
        parsed.query.unwrap_or_else(|what| panic!("{surql}: {what}"))
    }

    fn open(&mut self, view: &str, surql: &str) {
        let query = Self::query(surql);
        let edges = self.engine.open(view, &query);
        match (edges, naive::evaluate(&query, &self.tables())) {
            (Ok(edges), _) => {
                let mirror = edges.into_iter().map(|(_, edge)| (edge.id.clone(), edge)).collect();
                self.mirrors.insert(view.into(), mirror);
                self.queries.insert(view.into(), query);
            }
            (Err(_), Err(_)) => self.beyond += 1,
            (Err(beyond), Ok(_)) => panic!("{surql}: declined for {beyond}"),
        }
    }

    fn close(&mut self, view: &str) {
        self.engine.close(view);
        self.mirrors.remove(view);
        self.queries.remove(view);
    }

    fn apply(&mut self, changes: Vec<Change>) {
        // As SurrealDB does: with a record go the edges that point at it.
        let deleted: BTreeSet<RecordId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Delete(id) => Some(id.clone()),
                Change::Put(..) => None,
            })
            .collect();
        for mirror in self.mirrors.values_mut() {
            mirror.retain(|_, edge| !deleted.contains(&edge.record));
        }
        let records: Vec<Record> = changes.into_iter().map(|change| self.record(change)).collect();
        let stepped = self.engine.apply(&records);
        for (view, beyond) in stepped.lost {
            let query = self.queries.remove(&view).unwrap();
            assert!(
                naive::evaluate(&query, &self.tables()).is_err(),
                "{query:?} lost for {beyond}"
            );
            self.mirrors.remove(&view);
            self.beyond += 1;
        }
        for change in stepped.changes {
            let mirror = self.mirrors.get_mut(&change.view).unwrap();
            for (depth, write) in change.edges {
                match write {
                    EdgeWrite::Put(edge) => {
                        assert_eq!(depth > 0, edge.parent.is_some());
                        mirror.insert(edge.id.clone(), edge);
                    }
                    EdgeWrite::Delete { id, record } => {
                        let gone = mirror.remove(&id).map(|edge| edge.record);
                        assert!(gone.as_ref().is_none_or(|gone| *gone == record));
                        assert!(gone.is_some() || deleted.contains(&record), "never was there");
                    }
                }
            }
            let roots = mirror.values().filter(|edge| edge.parent.is_none()).count();
            assert_eq!(change.row_count, roots as u64);
        }
    }

    fn record(&mut self, change: Change) -> Record {
        let (id, body) = match change {
            Change::Put(id, row) => (id, Some(row)),
            Change::Delete(id) => (id, None),
        };
        let op = match &body {
            Some(row) => {
                *self.versions.entry(id.clone()).or_default() += 1;
                match self.rows.insert(id.clone(), row.clone()) {
                    Some(_) => Op::Update,
                    None => Op::Create,
                }
            }
            None => {
                self.rows.remove(&id);
                self.versions.remove(&id);
                Op::Delete
            }
        };
        self.seq += 1;
        let event = Event {
            op,
            table: id.table.as_str().into(),
            version: self.versions.get(&id).copied(),
            key: id.key,
            body: body.map(Value::Object),
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        };
        Record { seq: Seq(self.seq), time_us: 0, ends_transaction: true, feed_high: 0, event }
    }

    fn tables(&self) -> Tables {
        let mut tables = Tables::new();
        for (id, row) in &self.rows {
            let row = (self.versions[id], Value::Object(row.clone()));
            tables.entry(id.table.clone()).or_default().insert(id.key.clone(), row);
        }
        tables
    }

    /// Compares every view with the naive evaluation, in all the ways it can be looked at.
    fn check(&self, context: &str) {
        let tables = self.tables();
        for (view, query) in &self.queries {
            let wanted = naive::evaluate(query, &tables).map(pruned).unwrap_or_else(|beyond| {
                panic!("{context}: {query:?} should be lost for {beyond}")
            });
            let mirror = &self.mirrors[view];
            let found = members(mirror, None);
            assert_eq!(found, wanted, "{context}: {query:#?}");
            let edges: BTreeMap<_, _> =
                self.engine.edges(view).into_iter().map(|edge| (edge.id.clone(), edge)).collect();
            assert_eq!(&edges, mirror, "{context}: {query:#?}");
            assert_eq!(self.engine.row_count(view), wanted.len() as u64, "{context}: {query:#?}");
            let signature = mirror.values().fold(0, |sum, edge| sum ^ edges::signature(edge));
            assert_eq!(self.engine.signature(view), signature, "{context}: {query:#?}");
        }
    }
}

/// The edges below `parent` as rows of rows; subqueries without rows are left out.
fn members(edges: &BTreeMap<String, Edge>, parent: Option<&str>) -> BTreeSet<Member> {
    let mut below: BTreeMap<Option<&str>, Vec<&Edge>> = BTreeMap::new();
    for edge in edges.values() {
        below.entry(edge.parent.as_deref()).or_default().push(edge);
    }
    fn tree(
        below: &BTreeMap<Option<&str>, Vec<&Edge>>,
        parent: Option<&str>,
    ) -> BTreeMap<String, BTreeSet<Member>> {
        let mut trees: BTreeMap<String, BTreeSet<Member>> = BTreeMap::new();
        for edge in below.get(&parent).into_iter().flatten() {
            let member = Member {
                record: edge.record.clone(),
                version: edge.version,
                children: tree(below, Some(&edge.id)),
            };
            let alias = edge.parent_rel.clone().unwrap_or_default();
            assert!(trees.entry(alias).or_default().insert(member), "an edge is there twice");
        }
        trees
    }
    tree(&below, parent).remove("").unwrap_or_default()
}

/// Without subqueries that have no rows.
fn pruned(members: BTreeSet<Member>) -> BTreeSet<Member> {
    let prune = |member: Member| {
        let children = member.children.into_iter().map(|(alias, rows)| (alias, pruned(rows)));
        let children = children.filter(|(_, rows)| !rows.is_empty()).collect();
        Member { children, ..member }
    };
    members.into_iter().map(prune).collect()
}

fn random_run(seed: u64, keys: i64, batches: usize) -> usize {
    let mut generator = Generator::new(seed, keys);
    let mut rig = Rig::default();
    for _ in 0..3 {
        let changes = generator.transaction(&rig.rows);
        rig.apply(changes);
    }
    let mut opened = 0;
    for batch in 0..batches {
        // Views come and go while rows change.
        if batch % 4 == 0 {
            let surql = generator.query();
            opened += 1;
            rig.open(&format!("v{opened}"), &surql);
        }
        if batch % 23 == 22 {
            let first = rig.queries.keys().next().cloned();
            first.into_iter().for_each(|view| rig.close(&view));
        }
        rig.check(&format!("seed {seed}, before batch {batch}"));
        let mut changes = Vec::new();
        for _ in 0..1 + batch % 3 {
            let mut rows = rig.rows.clone();
            let more = generator.transaction(&rows);
            rows.clear();
            changes.extend(more);
        }
        rig.apply(changes);
        rig.check(&format!("seed {seed}, after batch {batch}"));
    }
    let views: Vec<String> = rig.queries.keys().cloned().collect();
    views.iter().for_each(|view| rig.close(view));
    let empty = Size { views: 0, groups: 0, blocks: 0, sources: 0, entries: 0, sets: 0 };
    assert_eq!(rig.engine.size(), empty, "seed {seed}: everything goes with the last view");
    opened - rig.beyond
}

fn put(id: RecordId, fields: &[(&str, Value)]) -> Change {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Change::Put(id, fields.collect())
}

fn link(id: &RecordId) -> Value {
    Value::RecordId(Box::new(id.clone()))
}

fn writes(rig: &mut Rig, changes: Vec<Change>) -> Vec<(usize, EdgeWrite)> {
    let records: Vec<Record> = changes.into_iter().map(|change| rig.record(change)).collect();
    let stepped = rig.engine.apply(&records);
    assert!(stepped.lost.is_empty());
    stepped.changes.into_iter().flat_map(|change| change.edges).collect()
}

#[test]
fn what_concerns_no_view_writes_nothing() {
    let mut rig = Rig::default();
    rig.open("v", "SELECT * FROM a WHERE n > 10");
    let id = RecordId::new("a", 1);
    assert!(writes(&mut rig, vec![put(id.clone(), &[("n", Value::Int(3))])]).is_empty());
    assert!(
        writes(&mut rig, vec![put(RecordId::new("b", 1), &[("n", Value::Int(30))])]).is_empty()
    );
    let there_and_back =
        vec![put(id.clone(), &[("n", Value::Int(30))]), put(id.clone(), &[("n", Value::Int(4))])];
    assert!(writes(&mut rig, there_and_back).is_empty(), "a batch's changes are net");
}

#[test]
fn a_window_refills_when_a_row_in_it_goes() {
    let mut rig = Rig::default();
    rig.open("v", "SELECT * FROM a ORDER BY n DESC LIMIT 2 START 1");
    let rows = (0..5).map(|n| put(RecordId::new("a", n), &[("n", Value::Int(n))]));
    rig.apply(rows.collect());
    rig.check("filled");
    let writes = writes(&mut rig, vec![Change::Delete(RecordId::new("a", 4))]);
    // 3 is skipped now, 2 stays, 1 enters.
    let records: BTreeSet<(bool, RecordId)> = writes
        .iter()
        .map(|(_, write)| match write {
            EdgeWrite::Put(edge) => (true, edge.record.clone()),
            EdgeWrite::Delete { record, .. } => (false, record.clone()),
        })
        .collect();
    let wanted = [(false, RecordId::new("a", 3)), (true, RecordId::new("a", 1))];
    assert_eq!(records, wanted.into_iter().collect());
}

#[test]
fn a_record_that_was_deleted_and_came_back_in_one_batch_gets_its_edge_anew() {
    let mut rig = Rig::default();
    rig.open("v", "SELECT * FROM a");
    let id = RecordId::new("a", 1);
    rig.apply(vec![put(id.clone(), &[])]);
    let writes = writes(&mut rig, vec![Change::Delete(id.clone()), put(id.clone(), &[])]);
    assert!(
        matches!(writes.as_slice(), [(0, EdgeWrite::Put(edge))] if edge.version == 1),
        "the version is as it was, and SurrealDB dropped the edge: {writes:?}"
    );
}

#[test]
fn a_subquery_moves_with_its_parent_s_link() {
    let mut rig = Rig::default();
    rig.open("v", "SELECT *, (SELECT * FROM b WHERE id = $parent.l LIMIT 1)[0] AS x FROM a");
    let (a, one, two) = (RecordId::new("a", 1), RecordId::new("b", 1), RecordId::new("b", 2));
    rig.apply(vec![
        put(one.clone(), &[]),
        put(two.clone(), &[]),
        put(a.clone(), &[("l", link(&one))]),
    ]);
    rig.check("linked");
    let writes = writes(&mut rig, vec![put(a, &[("l", link(&two))])]);
    let (puts, deletes): (Vec<_>, Vec<_>) =
        writes.iter().partition(|(_, write)| matches!(write, EdgeWrite::Put(_)));
    // The parent has a new version, and one child for the other.
    assert_eq!((puts.len(), deletes.len()), (2, 1), "{writes:?}");
}

#[test]
fn equal_views_are_one_group_and_views_of_one_shape_one_block() {
    let mut rig = Rig::default();
    rig.open("v1", "SELECT * FROM a WHERE s = 'x' AND n > 1");
    rig.open("v2", "SELECT * FROM a WHERE n > 1 AND 'x' = s");
    rig.open("v3", "SELECT * FROM a WHERE s = 'y' AND n > 1");
    let size = rig.engine.size();
    assert_eq!((size.views, size.groups, size.blocks, size.sources), (3, 2, 1, 1));
}

#[test]
fn a_view_that_meets_what_only_surrealdb_can_judge_leaves_alone() {
    let mut rig = Rig::default();
    rig.open("path", "SELECT * FROM a WHERE o.p = 1");
    rig.open("inner", "SELECT * FROM b WHERE n IN (SELECT VALUE n FROM a WHERE o.p = 1)");
    rig.open("other", "SELECT *, (SELECT * FROM b WHERE l = $parent.id) AS x FROM a WHERE n = 1");
    rig.apply(vec![put(RecordId::new("b", 1), &[("n", Value::Int(1))])]);
    rig.check("all are maintained");
    rig.apply(vec![put(
        RecordId::new("a", 1),
        &[("n", Value::Int(1)), ("o", link(&RecordId::new("b", 1)))],
    )]);
    rig.check("one is left");
    assert_eq!(rig.queries.keys().collect::<Vec<_>>(), ["other"]);
    rig.close("other");
    assert_eq!(rig.engine.size().groups, 0);
}

#[test]
fn random_views_equal_the_naive_evaluation_after_every_batch() {
    // More with, for example, REVENANT_ROUNDS=5000.
    let rounds = std::env::var("REVENANT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut checked = 0;
    for seed in 0..rounds.unwrap_or(60) {
        checked += random_run(seed, [3, 6, 12, 30][usize::try_from(seed % 4).unwrap()], 60);
    }
    assert!(checked > 500, "{checked} views were compared to the end");
}
