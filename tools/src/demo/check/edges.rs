//! Every view's stored edges against what SurrealDB answers to the view's own query, there and then:
//! records, versions, parents, and each once.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail};
use revenant_log::{RecordId, Value};
use revenant_surreal::Db;
use serde_json::Value as Json;

use super::super::plan::{Child, View};
use super::super::site::Site;
use super::database::{Database, StoredEdge};
use super::{Fault, Verdict};

/// Where a row is in a result: the aliases and records from the root to it.
type Place = Vec<(String, RecordId)>;

/// What is at each place: how often, and with which version.
type Members = BTreeMap<Place, (usize, Option<i64>)>;

pub(super) async fn check(
    site: &Site,
    db: &Db,
    database: &Database,
    states: &[Json],
    verdict: &mut Verdict,
) -> Result<()> {
    let modes = modes(states);
    for view in &site.views {
        verdict.views += 1;
        let kind = verdict.kinds.entry(view.kind.clone()).or_default();
        kind.0 += 1;
        match modes.get(view.id.as_str()).map(Vec::as_slice) {
            Some(["incremental"]) => kind.1 += 1,
            Some([_]) => {}
            owners => {
                let owners = owners.map_or(0, <[_]>::len);
                verdict.fault(Fault::WrongView, || format!("{} is with {owners} SSPs", view.id));
                continue;
            }
        }
        let due = expected(db, database, view).await.with_context(|| view.surql.clone())?;
        let empty = Vec::new();
        let edges = database.edges.get(&view.id).unwrap_or(&empty);
        verdict.edges += edges.len() as u64;
        compare(view, &due, &stored(edges), verdict);
    }
    let known: Vec<_> = site.views.iter().map(|view| &view.id).collect();
    for view in database.edges.keys().filter(|view| !known.contains(view)) {
        verdict.fault(Fault::WrongView, || format!("edges of {view}, which nobody registered"));
    }
    Ok(())
}

/// How each view is maintained, by every SSP that says it has it.
fn modes(states: &[Json]) -> HashMap<&str, Vec<&str>> {
    let mut modes: HashMap<_, Vec<_>> = HashMap::new();
    for view in states.iter().filter_map(|state| state["views"].as_array()).flatten() {
        if let (Some(id), Some(mode)) = (view["id"].as_str(), view["mode"].as_str()) {
            modes.entry(id).or_default().push(mode);
        }
    }
    modes
}

fn compare(view: &View, due: &Members, stored: &Members, verdict: &mut Verdict) {
    let twice = stored.iter().find(|(_, (count, _))| *count > 1);
    if let Some((place, (count, _))) = twice {
        let view = &view.id;
        verdict
            .fault(Fault::Duplicated, || format!("{view} has {count} edges for {}", text(place)));
    }
    let missing = due.keys().find(|place| !stored.contains_key(*place));
    let surplus = stored.keys().find(|place| !due.contains_key(*place));
    let other = due.iter().find_map(|(place, (_, version))| {
        let (_, stored) = stored.get(place)?;
        (stored != version).then_some((place, *version, *stored))
    });
    let what = match (missing, surplus, other) {
        (Some(place), _, _) => format!("lacks {}", text(place)),
        (None, Some(place), _) => format!("has {} too many", text(place)),
        (None, None, Some((place, due, stored))) => {
            format!("has {} at version {stored:?} instead of {due:?}", text(place))
        }
        (None, None, None) if twice.is_some() => "has an edge twice".into(),
        (None, None, None) => return,
    };
    verdict.fault(Fault::WrongView, || {
        let (due, stored) = (due.len(), stored.len());
        format!("{} {what} ({stored} edges, {due} due): {}", view.id, view.surql)
    });
}

fn text(place: &Place) -> String {
    let steps = place.iter().map(|(alias, record)| match alias.as_str() {
        "" => record.to_string(),
        alias => format!("{alias} -> {record}"),
    });
    steps.collect::<Vec<_>>().join(" / ")
}

/// What SurrealDB answers now.
async fn expected(db: &Db, database: &Database, view: &View) -> Result<Members> {
    let params = Value::parse(&view.params).ok().context("parameters")?;
    let Value::Object(params) = params else { bail!("parameters are an object") };
    // Parameters are few and ours: LET binds them without another way to pass them.
    let lets: String =
        params.iter().map(|(name, value)| format!("LET ${name} = {value}; ")).collect();
    let results = db.run(&format!("{lets}{}", view.surql), []).await?;
    let Some(Value::Array(rows)) = results.into_iter().last() else { bail!("no rows") };
    let mut members = Members::new();
    for row in &rows {
        walk(database, &view.children, "", row, &Vec::new(), &mut members)?;
    }
    Ok(members)
}

/// Adds a row and the rows below it.
fn walk(
    database: &Database,
    children: &[Child],
    alias: &str,
    row: &Value,
    parent: &Place,
    members: &mut Members,
) -> Result<()> {
    let Some(Value::RecordId(id)) = row.field("id") else { bail!("a row without id: {row}") };
    let mut place = parent.clone();
    place.push((alias.to_owned(), (**id).clone()));
    let version = database.versions.get(id).copied();
    members.entry(place.clone()).or_insert((0, version)).0 += 1;
    for child in children {
        let rows = match row.field(&child.alias) {
            Some(Value::Array(rows)) => rows.as_slice(),
            Some(one @ Value::Object(_)) => std::slice::from_ref(one),
            None | Some(Value::None | Value::Null) => &[],
            Some(other) => bail!("{} is {other}", child.alias),
        };
        for below in rows {
            walk(database, &child.children, &child.alias, below, &place, members)?;
        }
    }
    Ok(())
}

/// What the stored edges say. An edge whose parent is missing has a place that no row has.
fn stored(edges: &[StoredEdge]) -> Members {
    let by_id: HashMap<_, _> = edges.iter().map(|edge| (edge.id.as_str(), edge)).collect();
    let mut members = Members::new();
    for edge in edges {
        let mut place = Place::new();
        let mut at = Some(edge);
        while let Some(edge) = at {
            place.push((edge.alias.clone().unwrap_or_default(), edge.record.clone()));
            at = match &edge.parent {
                None => None,
                Some(parent) if place.len() <= edges.len() => by_id.get(parent.as_str()).copied(),
                Some(_) => break,
            };
            if at.is_none() && edge.parent.is_some() {
                place.push(("(no parent)".into(), edge.record.clone()));
            }
        }
        place.reverse();
        members.entry(place).or_insert((0, edge.version)).0 += 1;
    }
    members
}
