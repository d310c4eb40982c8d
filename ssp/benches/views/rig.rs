//! `Rig`: an engine, the rows it should have, and what subscribers of a sample of its views hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use revenant_log::value::Object;
use revenant_log::wire::SnapshotRow;
use revenant_log::{Event, Key, Op, Record, RecordId, Seq, SourcePos, Value};
use revenant_ssp::edge::{Edge, EdgeWrite, ViewChange};
use revenant_ssp::engine::Engine;
use revenant_ssp::query::ir::{Expr, Query};
use revenant_ssp::query::naive::{self, Member, Tables};
use revenant_ssp::query::parse::parse;

/// Stands in the text of a template for the value that each view has of its own.
const BIND: &str = "bind";

/// A row that is so now, or gone.
pub(crate) type Put = (&'static str, Key, Option<Object>);

/// A query with one value left open.
pub(crate) struct Template(Query);

/// An engine with what it is judged by.
#[derive(Default)]
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    tables: Tables,
    seq: u64,
    sample: BTreeMap<String, Sampled>,
    /// Edge writes of all changes so far.
    pub(crate) writes: u64,
}

struct Sampled {
    query: Query,
    /// The view's edges, as the changes make them.
    mirror: HashMap<String, Edge>,
}

impl Template {
    /// `surql` has `$bind` where the views differ.
    pub(crate) fn new(surql: &str) -> Self {
        let params = Object::from([(BIND.to_owned(), Value::String(BIND.into()))]);
        let parsed = parse(surql, &params).expect("the query is valid");
        Self(parsed.query.expect("the engine understands the query"))
    }

    pub(crate) fn query(&self, bind: Value) -> Query {
        let mut query = self.0.clone();
        fill(&mut query.root.filter, &bind);
        query
    }
}

fn fill<S>(expr: &mut Expr<S>, bind: &Value) {
    match expr {
        Expr::Const(value) if *value == Value::String(BIND.into()) => *value = bind.clone(),
        Expr::Compare(_, left, right) => {
            fill(left, bind);
            fill(right, bind);
        }
        Expr::And(operands) => operands.iter_mut().for_each(|operand| fill(operand, bind)),
        _ => {}
    }
}

/// The name of a view, as long as the ids that clients make: 128 bits in hex.
pub(crate) fn view_name(number: u64) -> String {
    format!("{:016x}{number:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Rig {
    pub(crate) fn load(&mut self, table: &'static str, rows: impl Iterator<Item = (Key, Object)>) {
        let mut loaded = Vec::new();
        for (key, row) in rows {
            let body = Value::Object(row);
            let stored = (1, body.clone());
            self.tables.entry(table.into()).or_default().insert(key.clone(), stored);
            loaded.push(SnapshotRow { key, version: Some(1), body });
        }
        self.engine.load(table, loaded);
    }

    /// Opens a view, and says how long that took; `sampled` ones are followed and checked.
    pub(crate) fn open(&mut self, view: &str, query: &Query, sampled: bool) -> Duration {
        let start = Instant::now();
        let edges = self.engine.open(view, query).expect("no row is beyond the engine");
        let took = start.elapsed();
        if sampled {
            let mirror = edges.into_iter().map(|(_, edge)| (edge.id.clone(), edge)).collect();
            self.sample.insert(view.into(), Sampled { query: query.clone(), mirror });
        }
        took
    }

    pub(crate) fn close(&mut self, view: &str) -> Duration {
        let start = Instant::now();
        self.engine.close(view);
        let took = start.elapsed();
        self.sample.remove(view);
        took
    }

    /// Applies one transaction, and says how long the engine took.
    pub(crate) fn apply(&mut self, puts: Vec<Put>) -> Duration {
        let records: Vec<Record> = puts.into_iter().map(|put| self.record(put)).collect();
        let start = Instant::now();
        let stepped = self.engine.apply(records);
        let took = start.elapsed();
        assert!(stepped.lost.is_empty(), "no row is beyond the engine");
        for change in stepped.changes {
            self.writes += change.edges.len() as u64;
            self.follow(change);
        }
        took
    }

    fn follow(&mut self, change: ViewChange) {
        let Some(Sampled { mirror, .. }) = self.sample.get_mut(&*change.view) else { return };
        for (_, write) in change.edges {
            match write {
                EdgeWrite::Put(edge) => {
                    mirror.insert(edge.id.clone(), edge);
                }
                EdgeWrite::Delete { id, .. } => {
                    mirror.remove(&id).expect("only an edge that is there is deleted");
                }
            }
        }
    }

    fn record(&mut self, (table, key, row): Put) -> Record {
        let rows = self.tables.entry(table.into()).or_default();
        let known = rows.get(&key).map(|(version, _)| *version);
        let version = known.unwrap_or(0) + 1;
        let op = match (&row, known) {
            (None, _) => Op::Delete,
            (Some(_), None) => Op::Create,
            (Some(_), Some(_)) => Op::Update,
        };
        let body = row.map(Value::Object);
        match body.clone() {
            Some(body) => rows.insert(key.clone(), (version, body)),
            None => rows.remove(&key),
        };
        self.seq += 1;
        let event = Event {
            op,
            table: table.into(),
            key,
            version: body.is_some().then_some(version),
            body,
            before: None,
            source: SourcePos::UNKNOWN,
            stale: false,
        };
        Record { seq: Seq(self.seq), time_us: 0, ends_transaction: true, feed_high: 0, event }
    }

    /// Compares the sampled views, as computed and as their subscribers have them, with the naive evaluation.
    /// Returns how many edges were compared.
    ///
    /// # Errors
    /// The first view that differs.
    pub(crate) fn check(&self) -> Result<u64, String> {
        let mut compared = 0;
        for (view, Sampled { query, mirror }) in &self.sample {
            let wanted =
                naive::evaluate(query, &self.tables).map_err(|beyond| beyond.to_string())?;
            let computed = self.engine.edges(view);
            compared += computed.len() as u64;
            let own: HashMap<String, Edge> =
                computed.iter().map(|edge| (edge.id.clone(), edge.clone())).collect();
            if own != *mirror {
                return Err(format!("view {view}: the changes do not add up to its edges"));
            }
            if members(&computed) != pruned(wanted) {
                return Err(format!("view {view} differs from the naive evaluation of {query:?}"));
            }
        }
        if self.sample.is_empty() {
            return Err("no view was compared".into());
        }
        Ok(compared)
    }
}

/// Edges as rows of rows.
fn members(edges: &[Edge]) -> BTreeSet<Member> {
    let mut below: HashMap<Option<&str>, Vec<&Edge>> = HashMap::new();
    for edge in edges {
        below.entry(edge.parent.as_deref()).or_default().push(edge);
    }
    tree(&below, None).remove("").unwrap_or_default()
}

fn tree(
    below: &HashMap<Option<&str>, Vec<&Edge>>,
    parent: Option<&str>,
) -> BTreeMap<String, BTreeSet<Member>> {
    let mut trees: BTreeMap<String, BTreeSet<Member>> = BTreeMap::new();
    for edge in below.get(&parent).into_iter().flatten() {
        let children = tree(below, Some(&edge.id));
        let member = Member { record: edge.record.clone(), version: edge.version, children };
        trees.entry(edge.parent_rel.clone().unwrap_or_default()).or_default().insert(member);
    }
    trees
}

/// Without subqueries that have no rows, of which edges say nothing.
fn pruned(members: BTreeSet<Member>) -> BTreeSet<Member> {
    let prune = |member: Member| {
        let children = member.children.into_iter().map(|(alias, rows)| (alias, pruned(rows)));
        let children = children.filter(|(_, rows)| !rows.is_empty()).collect();
        Member { children, ..member }
    };
    members.into_iter().map(prune).collect()
}

/// A link to a row.
pub(crate) fn link(table: &str, key: Key) -> Value {
    Value::RecordId(Box::new(RecordId { table: table.into(), key }))
}
