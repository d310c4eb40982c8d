//! From groups to edges: a view is a tree whose nodes are rows, and every node is an edge. A batch's changes
//! are found by going down from the view along what is marked.

use hashbrown::HashSet;

use super::batch::Batch;
use super::budget::{Budget, Declined, bytes_of};
use super::group::{GroupId, Shown};
use super::store::{RowId, When};
use super::{Engine, Stepped};
use crate::edge::{Edge, EdgeWrite, ViewChange, edge_id, signature};
use crate::query::expr::Beyond;

/// A place in a view's tree: the rows of a group below a row, or the root.
#[derive(Clone, Copy)]
struct Place<'a> {
    view: &'a str,
    /// The edge above, and the subquery's name.
    parent: Option<(&'a str, &'a str)>,
    depth: usize,
}

/// What a view's changes amount to so far.
struct Writes {
    edges: Vec<(usize, EdgeWrite)>,
    /// What the view shows with them.
    shown: Shown,
    budget: Budget,
}

/// Everything that a view holds.
#[derive(Default)]
pub(super) struct Whole {
    /// With their depths, parents first.
    pub(super) edges: Vec<(usize, Edge)>,
    pub(super) shown: Shown,
}

impl Engine {
    /// Everything that a view holds.
    pub(super) fn whole(&self, view: &str, root: GroupId) -> Result<Whole, Declined> {
        let mut writes = Writes::new(Shown::default(), self.budget);
        let place = Place { view, parent: None, depth: 0 };
        for row in self.members(root)? {
            self.put_tree(place, root, row, &mut writes)?;
        }
        let edge = |(depth, write)| match write {
            EdgeWrite::Put(edge) => Some((depth, edge)),
            EdgeWrite::Delete { .. } => None,
        };
        let Writes { edges, shown, .. } = writes;
        Ok(Whole { edges: edges.into_iter().filter_map(edge).collect(), shown })
    }

    /// Writes what a batch changed in every view.
    pub(super) fn write(&mut self, batch: &mut Batch, stepped: &mut Stepped) {
        let mut roots = std::mem::take(&mut batch.roots);
        roots.extend(batch.deltas.groups().map(|(id, _)| id).chain(batch.dirty.keys().copied()));
        roots.sort_unstable();
        roots.dedup();
        let mut lost = Vec::new();
        for root in roots.iter().copied() {
            // They are in the engine again when all are done.
            let mut views = std::mem::take(&mut self.group_mut(root).views);
            views.for_each(|view, shown| {
                let mut writes = Writes::new(*shown, self.budget);
                let place = Place { view, parent: None, depth: 0 };
                if let Err(declined) = self.descend(place, root, batch, &mut writes) {
                    lost.push((view.clone(), declined));
                    return;
                }
                *shown = writes.shown;
                if !writes.edges.is_empty() {
                    let row_count = self.group(root).count;
                    let view = view.to_string();
                    stepped.changes.push(ViewChange { view, edges: writes.edges, row_count });
                }
            });
            self.group_mut(root).views = views;
        }
        batch.roots = roots;
        for (view, declined) in lost {
            self.lose(&view, declined, batch, stepped);
        }
    }

    /// Writes what changed among the rows of a group and below them.
    fn descend(
        &self,
        place: Place<'_>,
        id: GroupId,
        batch: &Batch,
        writes: &mut Writes,
    ) -> Result<(), Declined> {
        let delta = batch.deltas.of(id);
        for row in delta.removed() {
            self.delete_tree(place, id, row, batch, writes)?;
        }
        for row in delta.added() {
            self.put_tree(place, id, row, writes)?;
        }
        for row in delta.updated() {
            self.stay(place, (id, id), row, batch, writes)?;
        }
        let Some(dirty) = batch.dirty.get(&id) else { return Ok(()) };
        // Rows that entered carry all that is below them, and so do those that were written.
        let told: HashSet<RowId> = delta.rows().collect();
        for row in dirty {
            if !told.contains(row) {
                self.stay(place, (id, id), *row, batch, writes)?;
            }
        }
        Ok(())
    }

    /// Writes what changed at and below a row that stays where it is; `groups` is where it was and is.
    fn stay(
        &self,
        place: Place<'_>,
        groups: (GroupId, GroupId),
        row: RowId,
        batch: &Batch,
        writes: &mut Writes,
    ) -> Result<(), Declined> {
        let children = self.children(groups.1);
        let edge = self.edge(place, row, When::Now);
        let id = if children > 0 { edge.id.clone() } else { String::new() };
        let old = self.version(row, When::Before);
        if edge.version != old || self.store.is_recreated(row) {
            writes.shown.signature ^= signature(&edge.id, old) ^ edge.signature();
            writes.edges.push((place.depth, EdgeWrite::Put(edge)));
        }
        for child in 0..children {
            let was = self.child_group(groups.0, row, child, When::Before)?;
            let is = self.child_group(groups.1, row, child, When::Now)?;
            let below = place.below(self, groups.1, child, &id);
            match (was, is) {
                (Some(was), Some(is)) if was == is => self.descend(below, is, batch, writes)?,
                (was, is) => self.replace(below, was, is, batch, writes)?,
            }
        }
        Ok(())
    }

    /// Writes the difference between a group as it was and another as it is.
    fn replace(
        &self,
        place: Place<'_>,
        was: Option<GroupId>,
        is: Option<GroupId>,
        batch: &Batch,
        writes: &mut Writes,
    ) -> Result<(), Declined> {
        let before = was.map_or_else(|| Ok(Vec::new()), |was| self.members_before(was, batch))?;
        let now = is.map_or_else(|| Ok(Vec::new()), |is| self.members(is))?;
        let kept: HashSet<RowId> = before.iter().copied().collect();
        if let Some(was) = was {
            let stays: HashSet<RowId> = now.iter().copied().collect();
            for row in before.iter().filter(|row| !stays.contains(*row)) {
                self.delete_tree(place, was, *row, batch, writes)?;
            }
        }
        for row in now {
            match (was, is) {
                (Some(was), Some(is)) if kept.contains(&row) => {
                    self.stay(place, (was, is), row, batch, writes)?;
                }
                (_, Some(is)) => self.put_tree(place, is, row, writes)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a row that is now there, with everything below it.
    fn put_tree(
        &self,
        place: Place<'_>,
        id: GroupId,
        row: RowId,
        writes: &mut Writes,
    ) -> Result<(), Declined> {
        let children = self.children(id);
        let edge = self.edge(place, row, When::Now);
        let edge_id = if children > 0 { edge.id.clone() } else { String::new() };
        writes.shown.signature ^= edge.signature();
        writes.edges.push((place.depth, EdgeWrite::Put(edge)));
        writes.shown.bytes += bytes_of(1, children);
        writes.budget.allows(writes.shown.bytes)?;
        for child in 0..children {
            let Some(inner) = self.child_group(id, row, child, When::Now)? else { continue };
            let below = place.below(self, id, child, &edge_id);
            for row in self.members(inner)? {
                self.put_tree(below, inner, row, writes)?;
            }
        }
        Ok(())
    }

    /// Deletes a row that was there, with everything that was below it.
    fn delete_tree(
        &self,
        place: Place<'_>,
        id: GroupId,
        row: RowId,
        batch: &Batch,
        writes: &mut Writes,
    ) -> Result<(), Declined> {
        let edge = self.edge(place, row, When::Before);
        writes.shown.signature ^= edge.signature();
        writes.shown.bytes = writes.shown.bytes.saturating_sub(bytes_of(1, self.children(id)));
        for child in 0..self.children(id) {
            let Some(inner) = self.child_group(id, row, child, When::Before)? else { continue };
            let below = place.below(self, id, child, &edge.id);
            for row in self.members_before(inner, batch)? {
                self.delete_tree(below, inner, row, batch, writes)?;
            }
        }
        let write = EdgeWrite::Delete { id: edge.id, record: edge.record };
        writes.edges.push((place.depth, write));
        Ok(())
    }

    /// The rows of a group before the batch.
    fn members_before(&self, id: GroupId, batch: &Batch) -> Result<Vec<RowId>, Beyond> {
        let mut rows = self.members(id)?;
        let delta = batch.deltas.of(id);
        if !delta.is_empty() {
            let added: HashSet<RowId> = delta.added().collect();
            rows.retain(|row| !added.contains(row));
            rows.extend(delta.removed());
        }
        Ok(rows)
    }

    fn version(&self, row: RowId, when: When) -> u64 {
        self.store.image(row, when).map_or(1, |image| image.version)
    }

    fn edge(&self, place: Place<'_>, row: RowId, when: When) -> Edge {
        let record = self.store.id(row).to_id();
        let version = self.version(row, when);
        let parent = place.parent.map(|(edge, _)| edge);
        let parent_rel = place.parent.map(|(_, alias)| alias);
        Edge {
            id: edge_id(place.view, parent, parent_rel, &record),
            record,
            version,
            parent: parent.map(str::to_owned),
            parent_rel: parent_rel.map(str::to_owned),
        }
    }
}

impl Writes {
    /// None yet, to a view that shows this.
    fn new(shown: Shown, budget: Budget) -> Self {
        Self { edges: Vec::new(), shown, budget }
    }
}

impl<'a> Place<'a> {
    /// The rows of a subquery below the edge of a row.
    fn below(&self, engine: &'a Engine, group: GroupId, child: usize, edge: &'a str) -> Place<'a>
    where
        Self: 'a,
    {
        let block = engine.block(engine.group(group).block);
        let alias = block.key.children[child].alias.as_str();
        Place { view: self.view, parent: Some((edge, alias)), depth: self.depth + 1 }
    }
}
