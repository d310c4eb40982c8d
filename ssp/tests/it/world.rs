//! A world of rows, the engine that follows it, and the naive evaluation that judges it after every batch.

use std::collections::{BTreeMap, BTreeSet};

use revenant_log::value::Object;
use revenant_log::{Event, Op, Record, RecordId, Seq, SourcePos, Value};
use revenant_ssp::edge::{Edge, EdgeWrite};
use revenant_ssp::engine::{Budget, Declined, Engine};
use revenant_ssp::query::ir::Query;
use revenant_ssp::query::naive::{self, Member, Tables};
use revenant_ssp::query::parse::parse;
use revenant_testdata::queries::{Change, Rows};

/// A world of rows, the engine that follows it, and what its views' subscribers hold.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) rows: Rows,
    pub(crate) versions: BTreeMap<RecordId, u64>,
    /// Every record there was.
    pub(crate) log: Vec<Record>,
    pub(crate) engine: Engine,
    /// The views that are maintained.
    pub(crate) queries: BTreeMap<String, Query>,
    /// Every view's edges, as the changes make them.
    mirrors: BTreeMap<String, BTreeMap<String, Edge>>,
    /// Views that the engine declined or gave up.
    pub(crate) beyond: Vec<String>,
    /// Views that outgrew their budget.
    pub(crate) outgrown: Vec<String>,
    /// Of each view, the results that were compared, and their rows.
    pub(crate) compared: BTreeMap<String, (usize, usize)>,
}

/// A query as the engine takes it.
pub(crate) fn query(surql: &str, params: &Object) -> Query {
    let parsed = parse(surql, params).unwrap_or_else(|error| panic!("{surql}: {error}"));
    parsed.query.unwrap_or_else(|what| panic!("{surql}: {what}"))
}

impl World {
    /// One whose engine keeps within `budget`.
    pub(crate) fn within(budget: Budget) -> Self {
        Self { engine: Engine::new(budget), ..Self::default() }
    }

    pub(crate) fn open(&mut self, view: &str, surql: &str) {
        self.open_with(view, surql, &Object::new());
    }

    pub(crate) fn open_with(&mut self, view: &str, surql: &str, params: &Object) {
        let query = query(surql, params);
        let edges = self.engine.open(view, &query);
        match (edges, naive::evaluate(&query, &self.tables())) {
            (Ok(edges), _) => {
                let mirror = edges.into_iter().map(|(_, edge)| (edge.id.clone(), edge)).collect();
                self.mirrors.insert(view.into(), mirror);
                self.queries.insert(view.into(), query);
            }
            (Err(beyond), Ok(_)) if !query.may_fail() => panic!("{surql}: declined for {beyond}"),
            (Err(_), _) => self.beyond.push(view.into()),
        }
    }

    pub(crate) fn close(&mut self, view: &str) {
        self.engine.close(view);
        self.mirrors.remove(view);
        self.queries.remove(view);
    }

    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
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
        let stepped = self.engine.apply(records);
        for (view, declined) in stepped.lost {
            let query = self.queries.remove(&view).unwrap();
            self.mirrors.remove(&view);
            if let Declined::View { .. } = declined {
                self.outgrown.push(view);
                continue;
            }
            let answer = naive::evaluate(&query, &self.tables());
            assert!(query.may_fail() || answer.is_err(), "{query:?} lost for {declined}");
            self.beyond.push(view);
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

    pub(crate) fn record(&mut self, change: Change) -> Record {
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
        let seq = Seq(self.log.len() as u64 + 1);
        let record = Record { seq, time_us: 0, ends_transaction: true, feed_high: 0, event };
        self.log.push(record.clone());
        record
    }

    pub(crate) fn tables(&self) -> Tables {
        let mut tables = Tables::new();
        for (id, row) in &self.rows {
            let row = (self.versions[id], Value::Object(row.clone()));
            tables.entry(id.table.clone()).or_default().insert(id.key.clone(), row);
        }
        tables
    }

    /// A view's rows with those of its subqueries.
    pub(crate) fn members(&self, view: &str) -> Option<BTreeSet<Member>> {
        self.mirrors.get(view).map(|mirror| members(mirror, None))
    }

    /// Compares every view with the naive evaluation, in all the ways it can be looked at.
    pub(crate) fn check(&mut self, context: &str) {
        let tables = self.tables();
        for (view, query) in &self.queries {
            let wanted = match naive::evaluate(query, &tables) {
                Ok(members) => pruned(members),
                // The row is where the engine need not look, as beyond a window.
                Err(_) if query.may_fail() => continue,
                Err(beyond) => panic!("{context}: {query:?} should be lost for {beyond}"),
            };
            let mirror = &self.mirrors[view];
            let found = members(mirror, None);
            assert_eq!(found, wanted, "{context}: {query:#?}");
            let edges: BTreeMap<_, _> =
                self.engine.edges(view).into_iter().map(|edge| (edge.id.clone(), edge)).collect();
            assert_eq!(&edges, mirror, "{context}: {query:#?}");
            assert_eq!(self.engine.row_count(view), wanted.len() as u64, "{context}: {query:#?}");
            let signature = mirror.values().fold(0, |sum, edge| sum ^ edge.signature());
            assert_eq!(self.engine.signature(view), signature, "{context}: {query:#?}");
            let (batches, rows) = self.compared.entry(view.clone()).or_default();
            (*batches, *rows) = (*batches + 1, *rows + mirror.len());
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
