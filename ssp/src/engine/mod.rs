//! `Engine`: views kept exact, change by change.
//!
//! - A batch of whole transactions is one step: what it changes in the views is net, and absolute.
//! - A change costs what it concerns: blocks are found by their conditions, groups by their values.
//! - Equal queries, and equal subqueries of different rows and views, are one group.
//! - Nothing is guessed: a row that only SurrealDB can judge makes the views that meet it leave.
//!
//! Map: [`store`](self) rows; `source` shared indexes; `block` the normal form and `intern` how queries get
//! there; `router` from changes to blocks, `lift` from there to groups; `group` the rows of one block for
//! given values; `set` the values that `IN (SELECT ...)` looks into; `links` who looks into which row along a
//! path; `step` one batch, `batch` what it does and `delta` what it changes in groups; `edges` from groups to
//! the edges of views; `opening` what a refused view leaves: nothing; `short` keys that lie where they are compared.
//!
//! The pieces are those of shared-plan view maintenance: templates with parameters as data, bounds over
//! shared sorted indexes for windows, counted sets with flips for semijoins.

mod batch;
mod block;
mod budget;
mod delta;
mod edges;
mod explain;
mod group;
mod intern;
mod lift;
mod links;
mod opening;
mod router;
mod scope;
mod set;
mod short;
mod slab;
mod sorted;
mod source;
mod step;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};
use revenant_log::wire::SnapshotRow;
use revenant_log::{Record, Value, encode_value};
use serde::Serialize;

use crate::edge::{Edge, ViewChange};
use crate::query::expr::Beyond;
use crate::query::ir::{Path, Query};

pub use budget::{Budget, Declined};
pub use explain::{Condition, Cost, Explained, Index, SetExplained, Why};

use batch::Batch;
use block::{Block, BlockId, BlockKey, Operand};
use edges::Whole;
use group::{Group, GroupId, Shown, Use, Window};
use lift::{How, Lift};
use links::Links;
use opening::Opening;
use router::Router;
use scope::{At, World};
use set::{Set, SetId};
use slab::Slab;
use source::{Entry, Source, SourceId, SourceKey};
use store::{Image, RowId, Store, When};

/// The views and everything they are computed from.
#[derive(Default)]
pub struct Engine {
    store: Store,
    sources: Slab<Source>,
    source_ids: HashMap<SourceKey, SourceId>,
    /// The sources over each table.
    source_routers: HashMap<String, Router<SourceId>>,
    blocks: Slab<Block>,
    block_ids: HashMap<BlockKey, BlockId>,
    routers: HashMap<String, Router<BlockId>>,
    groups: Slab<Group>,
    /// Paths that lead through links.
    links: Links,
    sets: Slab<Set>,
    set_ids: HashMap<(GroupId, Path), SetId>,
    /// The root of each view.
    views: HashMap<Arc<str>, GroupId>,
    budget: Budget,
    /// While a view is opened.
    opening: Option<Opening>,
    /// Groups that may have lost their last use; they stay until the batch, or the opening, ends.
    orphans: Vec<GroupId>,
    /// Memory for the next batch.
    spare: Option<Box<Batch>>,
    hasher: DefaultHashBuilder,
}

/// What a batch did.
#[derive(Debug, Default)]
pub struct Stepped {
    /// Net changes, by view.
    pub changes: Vec<ViewChange>,
    /// Views that are not maintained any more, and why.
    pub lost: Vec<(String, Declined)>,
}

/// Numbers about the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Views.
    pub views: usize,
    /// SELECTs with given values; subqueries of different rows are different ones.
    pub groups: usize,
    /// SELECTs, whatever their values.
    pub blocks: usize,
    /// Shared indexes.
    pub sources: usize,
    /// Entries of shared indexes.
    pub entries: usize,
    /// Sets that `IN (SELECT ...)` looks into.
    pub sets: usize,
    /// Paths that are followed through links.
    pub links: usize,
}

impl Engine {
    /// An engine without rows, whose views and templates keep within `budget`.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Takes in rows of a snapshot, before the first view.
    pub fn load(&mut self, table: &str, rows: Vec<SnapshotRow>) {
        assert!(self.views.is_empty(), "rows are loaded before views are opened");
        for SnapshotRow { key, version, body } in rows {
            self.store.load(table, key, Image { version: version.unwrap_or(1), body });
        }
    }

    /// Begins to maintain a view, anew if it was maintained, and returns its edges, each with its depth,
    /// parents first.
    ///
    /// # Errors
    /// A row that the view depends on holds what only SurrealDB can judge; or it would take more memory than
    /// the budget allows. Then nothing is left of it.
    pub fn open(&mut self, view: &str, query: &Query) -> Result<Vec<(usize, Edge)>, Declined> {
        self.close(view);
        self.opening = Some(Opening::default());
        let opened = self.compute(view, query);
        let opening = self.opening.take().unwrap_or_default();
        let (root, whole) = match opened {
            Ok(opened) => opened,
            Err(declined) => {
                self.undo(opening);
                return Err(declined);
            }
        };
        let block = self.group(root).block;
        self.block_mut(block).refs += 1;
        let name: Arc<str> = view.into();
        self.group_mut(root).views.insert(name.clone(), whole.shown);
        self.drop_unheld_sets(opening.sets);
        self.views.insert(name, root);
        Ok(whole.edges)
    }

    /// The root group of a new view and everything it holds.
    fn compute(&mut self, view: &str, query: &Query) -> Result<(GroupId, Whole), Declined> {
        let root = self.root(query)?;
        match self.whole(view, root) {
            Ok(whole) => Ok((root, whole)),
            Err(declined) => {
                self.orphans.push(root);
                Err(declined)
            }
        }
    }

    /// Ceases to maintain a view; one that is unknown is no error.
    pub fn close(&mut self, view: &str) {
        let Some(root) = self.views.remove(view) else { return };
        shrink(&mut self.views);
        let block = self.group(root).block;
        self.group_mut(root).views.remove(view);
        self.orphans.push(root);
        self.collect_orphans();
        self.release_block(block);
    }

    /// Applies whole transactions.
    pub fn apply(&mut self, records: Vec<Record>) -> Stepped {
        for record in records {
            self.store.apply(record);
        }
        self.step()
    }

    /// Root rows of a view.
    pub fn row_count(&self, view: &str) -> u64 {
        self.views.get(view).map_or(0, |root| self.group(*root).count)
    }

    /// A sum over a view's edges that does not depend on their order.
    pub fn signature(&self, view: &str) -> u64 {
        self.shown(view).map_or(0, |shown| shown.signature)
    }

    /// The edges of a view.
    pub fn edges(&self, view: &str) -> Vec<Edge> {
        let Some(root) = self.views.get(view) else { return Vec::new() };
        // What could be evaluated when the batch ended can be evaluated again.
        let whole = self.whole(view, *root).unwrap_or_default();
        whole.edges.into_iter().map(|(_, edge)| edge).collect()
    }

    /// How much there is of everything.
    pub fn size(&self) -> Size {
        Size {
            views: self.views.len(),
            groups: self.groups.len(),
            blocks: self.blocks.len(),
            sources: self.sources.len(),
            entries: self.sources.iter().map(|(_, source)| source.len()).sum(),
            sets: self.sets.len(),
            links: self.links.len(),
        }
    }

    fn root(&mut self, query: &Query) -> Result<GroupId, Declined> {
        let (block, operands) = self.intern(&query.root)?;
        let values = operands.into_iter().map(|operand| match operand {
            Operand::Const(value) => value,
            // A root has no outer row.
            Operand::Outer(_) => Value::None,
        });
        self.acquire(block, values.collect())
    }

    fn shown(&self, view: &str) -> Option<Shown> {
        self.group(*self.views.get(view)?).views.get(view)
    }

    fn world(&self) -> World<'_> {
        World { store: &self.store, sets: &self.sets }
    }

    fn group(&self, group: GroupId) -> &Group {
        self.groups.at(group.0)
    }

    fn group_mut(&mut self, group: GroupId) -> &mut Group {
        self.groups.at_mut(group.0)
    }

    fn block(&self, block: BlockId) -> &Block {
        self.blocks.at(block.0)
    }

    fn block_mut(&mut self, block: BlockId) -> &mut Block {
        self.blocks.at_mut(block.0)
    }

    /// The group of a block for given values; it is computed if it is new.
    fn acquire(&mut self, block: BlockId, values: Vec<Value>) -> Result<GroupId, Declined> {
        let (key, prefix_bytes) = self.key(block, &values)?;
        if let Some(group) = self.find(block, &key) {
            let rows = usize::try_from(self.group(group).count).unwrap_or(usize::MAX);
            self.spend(rows, 0)?;
            return Ok(group);
        }
        self.has_room(block)?;
        let Block { key: block_key, by_id, .. } = self.block(block);
        let windowed = block_key.window.is_some();
        let mut kept: Vec<Value> = by_id.iter().map(|place| values[*place].clone()).collect();
        kept.extend_from_slice(&values[block_key.equal.len()..]);
        let group = Group::new(block, key.as_slice().into(), prefix_bytes, kept.into());
        let id = GroupId(self.groups.insert(group));
        self.list(id);
        match self.fill(id, windowed) {
            Ok(()) => Ok(id),
            Err(declined) => {
                self.drop_group(id);
                Err(declined)
            }
        }
    }

    /// Computes a new group. One that cannot be asks for no other group any more.
    fn fill(&mut self, id: GroupId, windowed: bool) -> Result<(), Declined> {
        let rows = if windowed {
            let window = self.window(id)?;
            let rows = window.rows.clone();
            self.group_mut(id).window = Some(Box::new(window));
            rows
        } else {
            self.members(id)?
        };
        self.group_mut(id).count = rows.len() as u64;
        self.spend(rows.len(), 1)?;
        for (place, row) in rows.iter().enumerate() {
            if let Err(declined) = self.adopt(id, *row) {
                self.disown(id, &rows[..=place]);
                return Err(declined);
            }
        }
        Ok(())
    }

    /// The key of a group, and how many bytes of it are its prefix.
    fn key(&self, block: BlockId, values: &[Value]) -> Result<(Vec<u8>, usize), Beyond> {
        let equal = self.block(block).key.equal.len();
        let (mut key, mut prefix_bytes) = (Vec::with_capacity(32), 0);
        for (place, value) in values.iter().enumerate() {
            if place < equal && matches!(value, Value::Regex(_)) {
                return Err(Beyond::Regex);
            }
            encode_value(value, &mut key);
            if place < equal {
                prefix_bytes = key.len();
            }
        }
        Ok((key, prefix_bytes))
    }

    fn find(&self, block: BlockId, key: &[u8]) -> Option<GroupId> {
        let hash = self.hasher.hash_one(key);
        let is = |group: &GroupId| *self.group(*group).key == *key;
        self.block(block).groups.find(hash, is).copied()
    }

    /// Adds the groups of a block that a row of these equal columns may be in.
    fn routed(&self, block: BlockId, prefix: &[u8], at: At<'_>, found: &mut Vec<GroupId>) {
        let known = self.block(block);
        if known.key.outer.is_empty() {
            found.extend(self.find(block, prefix));
        } else if let Some(lookup) = known.routes.get(prefix) {
            lookup.find(known.lift.as_ref(), at, found);
        }
    }

    /// Lets a group be found.
    fn list(&mut self, id: GroupId) {
        let Self { groups, blocks, hasher, .. } = self;
        let group = groups.at(id.0);
        let block = blocks.at_mut(group.block.0);
        let hash = |id: &GroupId| hasher.hash_one(&*groups.at(id.0).key);
        block.groups.insert_unique(hash(&id), id, hash);
        if !block.key.outer.is_empty() {
            let lifted = block.lifted(group);
            let lookup = block.routes.entry_ref(group.prefix());
            lookup.or_insert_with(|| Lift::lookup(block.lift.as_ref())).insert(&lifted, id);
        }
    }

    /// Takes in the subqueries of a row that is now in a group.
    fn adopt(&mut self, group: GroupId, row: RowId) -> Result<(), Declined> {
        for child in 0..self.children(group) {
            let (block, values) = self.child_values(group, row, child, When::Now)?;
            let inner = self.acquire(block, values)?;
            self.group_mut(inner).add_use(Use::new(group, row, child));
        }
        Ok(())
    }

    fn children(&self, group: GroupId) -> usize {
        self.block(self.group(group).block).key.children.len()
    }

    /// Which group a subquery of a row is.
    fn child_values(
        &self,
        group: GroupId,
        row: RowId,
        child: usize,
        when: When,
    ) -> Result<(BlockId, Vec<Value>), Beyond> {
        let child = &self.block(self.group(group).block).key.children[child];
        let at = self.world().at(row, when);
        let value = |operand: &Operand| match operand {
            Operand::Const(value) => Ok(value.clone()),
            Operand::Outer(path) => at.get(path).map(|value| value.into_owned()),
        };
        let values = child.operands.iter().map(value).collect::<Result<_, _>>()?;
        Ok((child.block, values))
    }

    /// The group that a subquery of a row is, or was.
    fn child_group(
        &self,
        group: GroupId,
        row: RowId,
        child: usize,
        when: When,
    ) -> Result<Option<GroupId>, Beyond> {
        let (block, values) = self.child_values(group, row, child, when)?;
        let (key, _) = self.key(block, &values)?;
        Ok(self.find(block, &key))
    }

    /// The rows of a group, in order where there is one.
    fn members(&self, id: GroupId) -> Result<Vec<RowId>, Beyond> {
        let group = self.group(id);
        if let Some(window) = &group.window {
            return Ok(window.rows.clone());
        }
        let block = self.block(group.block);
        let mut rows = Vec::new();
        if block.by_id.is_some() {
            if let Value::RecordId(id) = &group.values[0]
                && let Some(row) = self.store.find(id).filter(|_| id.table == block.key.table)
                && self.is_member(group, row, When::Now)?
            {
                rows.push(row);
            }
        } else if let Some(source) = block.source {
            let source = self.sources.at(source.0);
            let take = |entry: &Entry| -> Result<(), Beyond> {
                if self.at(group, entry.row, When::Now).all(&block.key.open)? {
                    rows.push(entry.row);
                }
                Ok(())
            };
            let (prefix, value) = (group.prefix(), block.lifted(group));
            let ends = |entry: &Entry| entry.place.starts_with(&value);
            match block.lift.as_ref().map(|lift| lift.how) {
                None => source.rows(prefix).try_for_each(take)?,
                Some(How::Contains) => {
                    if matches!(block.lifted_value(group), Some(Value::Regex(_))) {
                        return Err(Beyond::Regex);
                    }
                    source.rows_with(prefix, &value).try_for_each(take)?;
                }
                Some(How::More | How::MoreOrEqual) => {
                    source.rows_from(prefix, &value).try_for_each(take)?;
                }
                Some(How::Less | How::LessOrEqual) => {
                    let below = |entry: &&Entry| *entry.place < *value || ends(entry);
                    source.rows(prefix).take_while(below).try_for_each(take)?;
                }
            }
        } else {
            for row in self.store.scan(&block.key.table) {
                if self.is_member(group, row, When::Now)? {
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    /// The rows that a group's window shows now.
    fn window(&self, id: GroupId) -> Result<Window, Beyond> {
        let group = self.group(id);
        let block = self.block(group.block);
        let (Some(key), Some(source)) = (&block.key.window, block.source) else {
            unreachable!("a window has an order and a source");
        };
        let mut window = Window::default();
        // Where every row counts, the first that is shown is found by its rank.
        let ranked = block.key.open.is_empty();
        let (rank, mut skip) = if ranked { (key.start, 0) } else { (0, key.start) };
        for entry in self.sources.at(source.0).rows_from_rank(group.prefix(), rank) {
            if !ranked && !self.at(group, entry.row, When::Now).all(&block.key.open)? {
                continue;
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            window.rows.push(entry.row);
            if key.limit == Some(window.rows.len()) {
                window.bound = Some(entry.place.clone());
                break;
            }
        }
        Ok(window)
    }

    /// A row, before the outer row of a group.
    fn at<'e>(&'e self, group: &'e Group, row: RowId, when: When) -> At<'e> {
        let block = self.block(group.block);
        let outer = &group.values[usize::from(block.by_id.is_some())..];
        let outer = (block.key.outer.as_slice(), outer);
        At { world: self.world(), row, when, outer }
    }

    /// Whether a row of the group's table satisfies all the group's conditions; windows aside.
    fn is_member(&self, group: &Group, row: RowId, when: When) -> Result<bool, Beyond> {
        let prefix = self.prefix(group.block, row, when)?;
        Ok(prefix.as_deref() == Some(group.prefix())
            && self.at(group, row, when).all(&self.block(group.block).key.open)?)
    }

    /// Gives up the groups that the subqueries of these rows of a group are.
    fn disown(&mut self, id: GroupId, rows: &[RowId]) {
        for row in rows {
            for child in 0..self.children(id) {
                // What could be evaluated when the row came in can be evaluated again.
                if let Ok(Some(inner)) = self.child_group(id, *row, child, When::Now) {
                    self.group_mut(inner).remove_use(Use::new(id, *row, child));
                    self.orphans.push(inner);
                }
            }
        }
    }

    /// Gives up groups that nobody asks for, and what only they asked for.
    fn collect_orphans(&mut self) {
        while let Some(id) = self.orphans.pop() {
            if !self.groups.contains(id.0) || !self.group(id).is_unused() {
                continue;
            }
            if self.children(id) > 0 {
                let rows = self.members(id).unwrap_or_default();
                self.disown(id, &rows);
            }
            self.drop_group(id);
        }
    }

    /// The same where a row has no answer, and so cannot say which groups its subqueries are: all groups of
    /// those subqueries are asked for whom they are there.
    fn purge_orphans(&mut self) {
        let mut dead: BTreeMap<BlockId, HashSet<GroupId>> = BTreeMap::new();
        for id in std::mem::take(&mut self.orphans) {
            if self.groups.contains(id.0) && self.group(id).is_unused() {
                dead.entry(self.group(id).block).or_default().insert(id);
            }
        }
        while let Some((block, gone)) = dead.pop_first() {
            let below: BTreeSet<BlockId> =
                self.block(block).key.children.iter().map(|child| child.block).collect();
            for child in below {
                for inner in self.block(child).groups.iter().copied().collect::<Vec<_>>() {
                    let group = self.group_mut(inner);
                    let gave_up = group.retain_uses(|one| !gone.contains(&one.group));
                    if gave_up && group.is_unused() {
                        dead.entry(child).or_default().insert(inner);
                    }
                }
            }
            gone.into_iter().for_each(|id| self.drop_group(id));
        }
    }

    fn drop_group(&mut self, id: GroupId) {
        let hash = self.hasher.hash_one(&*self.group(id).key);
        let block = self.group(id).block;
        let block = self.blocks.at_mut(block.0);
        if let Ok(listed) = block.groups.find_entry(hash, |other| *other == id) {
            listed.remove();
        }
        let Some(group) = self.groups.remove(id.0) else { return };
        if block.groups.len() < block.groups.capacity() / SHRINK && block.groups.capacity() > SMALL
        {
            let (groups, hasher) = (&self.groups, &self.hasher);
            let hash = |id: &GroupId| hasher.hash_one(&*groups.at(id.0).key);
            block.groups.shrink_to(block.groups.len() * 2, hash);
        }
        let lifted = block.lifted(&group);
        if block.routes.get_mut(group.prefix()).is_some_and(|lookup| lookup.remove(&lifted, id)) {
            block.routes.remove(group.prefix());
            shrink(&mut block.routes);
        }
    }
}

/// A table is given smaller memory when it is filled to less than one part in this many.
const SHRINK: usize = 4;
/// Entries of a table that is left as it is.
const SMALL: usize = 64;

/// Gives back memory of a table from which most is gone.
fn shrink<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>) {
    if map.len() < map.capacity() / SHRINK && map.capacity() > SMALL {
        map.shrink_to(map.len() * 2);
    }
}
