//! One batch: from changed rows to what changes in groups, and from there to the views.
//!
//! 1. Level by level (a level looks into sets of lower levels only): indexes take the changed rows in,
//!    groups are told, windows are read again, sets count.
//! 2. Rows that entered, left or changed take, give up or change the groups of their subqueries.
//! 3. Who is above a changed group is marked, up to the views, and their edges are written.
//! 4. What nobody asks for is given up, and how rows were before is forgotten.

use std::borrow::Cow;

use hashbrown::HashSet;

use super::batch::{Batch, Told};
use super::block::BlockId;
use super::delta::{Delta, Fate};
use super::explain::Cost;
use super::group::{GroupId, Use};
use super::set::SetId;
use super::source::{Move, Place, Source, SourceId};
use super::store::{RowId, When};
use super::{Declined, Engine, Stepped};
use crate::query::expr::Beyond;

impl Engine {
    /// Brings everything up to date with the rows that changed.
    pub(super) fn step(&mut self) -> Stepped {
        let mut batch = self.spare.take().unwrap_or_default();
        self.enqueue_changed(&mut batch);
        let mut level = 0;
        // What one level finds is told to higher ones only.
        while let Some(mut work) = batch.take(level) {
            self.update_sources(&mut work.sources, &mut batch);
            self.update_groups(&mut work.blocks, &mut batch);
            self.count_values(&mut batch);
            batch.put_back(level, work);
            level += 1;
        }
        self.follow_rows(&mut batch);
        self.mark(&mut batch);
        let mut stepped = Stepped::default();
        self.give_up_lost(&mut batch, &mut stepped);
        self.write(&mut batch, &mut stepped);
        self.tidy(&batch);
        for set in &batch.counted {
            if self.sets.contains(set.0) {
                self.sets.at_mut(set.0).settle();
            }
        }
        self.store.settle();
        batch.clear();
        self.spare = Some(batch);
        stepped
    }

    /// What the changed rows concern at once.
    fn enqueue_changed(&mut self, batch: &mut Batch) {
        let mut changed = std::mem::take(&mut batch.changed);
        self.store.changed(&mut changed);
        self.links.follow(&self.store, &mut changed);
        for row in &changed {
            let table = self.store.id(*row).table;
            if let Some(router) = self.source_routers.get(table) {
                router.find(self.world(), *row, |source| {
                    let level = self.sources.at(source.0).level;
                    batch.at(level).sources.push((source, *row));
                });
            }
            if let Some(router) = self.routers.get(table) {
                router.find(self.world(), *row, |block| {
                    let level = self.block(block).level;
                    batch.at(level).blocks.push((block, *row));
                });
            }
        }
        batch.changed = changed;
    }

    fn update_sources(&mut self, pairs: &mut Vec<(SourceId, RowId)>, batch: &mut Batch) {
        pairs.sort_unstable();
        pairs.dedup();
        let Self { store, sources, sets, blocks, .. } = self;
        let Batch { moves, lost, .. } = batch;
        moves.extend(pairs.iter().filter_map(|(id, row)| {
            let world = super::World { store, sets };
            match sources.at_mut(id.0).update(world, *row) {
                Ok(moved) => Some(((*id, *row), moved)),
                Err(beyond) => {
                    let uses = |block: &super::Block| {
                        block.source == Some(*id)
                            || block.atoms.iter().any(|atom| atom.index == *id)
                    };
                    let users = blocks.iter().filter(|(_, block)| uses(block));
                    lost.extend(users.map(|(block, _)| (BlockId(block), beyond)));
                    None
                }
            }
        }));
    }

    /// Tells groups what happened to rows; those that were concerned are in `batch.told` then.
    fn update_groups(&mut self, pairs: &mut Vec<(BlockId, RowId)>, batch: &mut Batch) {
        pairs.sort_unstable();
        pairs.dedup();
        let mut told = std::mem::take(&mut batch.told);
        told.groups.clear();
        for (block, row) in pairs.iter() {
            match self.tell_groups(*block, *row, batch, &mut told) {
                Ok(cost) => self.block_mut(*block).cost.add(cost),
                Err(beyond) => {
                    batch.lost.insert(*block, beyond);
                }
            }
        }
        for (id, written) in told.windows.drain() {
            told.groups.push(id);
            let block = self.group(id).block;
            self.block_mut(block).cost.add(Cost { windows_read: 1, ..Cost::default() });
            if let Err(beyond) = self.read_window(id, &written, batch) {
                batch.lost_groups.insert(id, beyond.into());
            }
        }
        batch.deltas.sort();
        told.groups.sort_unstable();
        told.groups.dedup();
        batch.told = told;
    }

    /// Has whoever looks into a set ask again about rows that the batch left alone, of which values entered
    /// or left.
    fn enqueue_flipped(&self, set: SetId, batch: &mut Batch) {
        let flipped = self.sets.at(set.0).flipped();
        for id in &self.sets.at(set.0).users {
            let block = self.block(*id);
            for atom in block.atoms.iter().filter(|atom| atom.set == set) {
                let index = self.sources.at(atom.index.0);
                for value in &flipped {
                    let mut prefix = Vec::new();
                    revenant_log::encode_value(value, &mut prefix);
                    for row in index.rows(&prefix).map(|entry| entry.row) {
                        if self.store.is_changed(row) {
                            continue;
                        }
                        batch.at(block.level).blocks.push((*id, row));
                        let Some(source) = block.source else { continue };
                        let Source { level, atoms, .. } = self.sources.at(source.0);
                        if atoms.iter().any(|atom| atom.set == set) {
                            batch.at(*level).sources.push((source, row));
                        }
                    }
                }
            }
        }
    }

    /// Tells the groups of a block what happened to a row, and returns what that cost.
    fn tell_groups(
        &self,
        id: BlockId,
        row: RowId,
        batch: &mut Batch,
        told: &mut Told,
    ) -> Result<Cost, Beyond> {
        let block = self.block(id);
        let Batch { moves, deltas, lost_groups, .. } = batch;
        let moved = block.source.and_then(|source| moves.get(source, row));
        // A source has the equal columns, and the residual is satisfied where the row is in it.
        let (before, now) = match moved {
            Some(Move { before, now }) => {
                let before = before.as_ref().map(|place| Cow::Borrowed(place.prefix()));
                (before, now.as_ref().map(|place| Cow::Borrowed(place.prefix())))
            }
            None => {
                let before = self.prefix(id, row, When::Before)?.map(Cow::Owned);
                (before, self.prefix(id, row, When::Now)?.map(Cow::Owned))
            }
        };
        let Told { groups: told, windows, candidates } = told;
        candidates.clear();
        for (prefix, when) in [(&before, When::Before), (&now, When::Now)] {
            if let Some(prefix) = prefix {
                self.routed(id, prefix, self.world().at(row, when), candidates);
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let mut cost = Cost { changes: 1, candidates: candidates.len() as u64, ..Cost::default() };
        for group_id in candidates.iter().copied() {
            let group = self.group(group_id);
            let is = |prefix: &Option<Cow<'_, [u8]>>, when| -> Result<bool, Beyond> {
                Ok(prefix.as_deref() == Some(group.prefix())
                    && self.at(group, row, when).all(&block.key.open)?)
            };
            let (was, is) = (is(&before, When::Before), is(&now, When::Now));
            if matches!((was, is), (Ok(false), Ok(false))) {
                continue;
            }
            cost.concerned += 1;
            if let Some(window) = &group.window {
                // Of rows beyond its bound, a window need not know.
                if self.shows(id, window, row, moved)? {
                    windows.entry(group_id).or_default().insert(row);
                }
                continue;
            }
            let (was, is) = match (was, is) {
                (Ok(was), Ok(is)) => (was, is),
                (Err(beyond), _) | (_, Err(beyond)) => {
                    lost_groups.insert(group_id, beyond.into());
                    continue;
                }
            };
            told.push(group_id);
            let fate = match (was, is) {
                (true, true) => Fate::Updated,
                (true, false) => Fate::Removed,
                _ => Fate::Added,
            };
            deltas.tell(group_id, fate, row);
        }
        Ok(cost)
    }

    /// The encoding of a row's equal columns, if the row satisfies a block's residual.
    pub(super) fn prefix(
        &self,
        id: BlockId,
        row: RowId,
        when: When,
    ) -> Result<Option<Vec<u8>>, Beyond> {
        let key = &self.block(id).key;
        if self.store.image(row, when).is_none() {
            return Ok(None);
        }
        let at = self.world().at(row, when);
        let mut prefix = Vec::with_capacity(24);
        at.encode_equal(&key.equal, &mut prefix)?;
        Ok(at.all(&key.residual)?.then_some(prefix))
    }

    /// Whether what happened to a row may show in a window.
    fn shows(
        &self,
        block: BlockId,
        window: &super::Window,
        row: RowId,
        moved: Option<&Move>,
    ) -> Result<bool, Beyond> {
        let (Some(bound), Some(source)) = (&window.bound, self.block(block).source) else {
            return Ok(true);
        };
        let within = |place: &Place| *place.order() <= **bound;
        if let Some(Move { before, now }) = moved {
            return Ok(before.iter().chain(now).any(within));
        }
        let source = self.sources.at(source.0);
        for when in [When::Before, When::Now] {
            if source.place(self.world(), row, when)?.as_ref().is_some_and(within) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads a window again.
    fn read_window(
        &mut self,
        id: GroupId,
        written: &HashSet<RowId>,
        batch: &mut Batch,
    ) -> Result<(), Beyond> {
        let window = self.window(id)?;
        let now: HashSet<RowId> = window.rows.iter().copied().collect();
        let Some(old) = self.group_mut(id).window.replace(Box::new(window)) else { return Ok(()) };
        let before: HashSet<RowId> = old.rows.iter().copied().collect();
        let added = now.difference(&before).map(|row| (Fate::Added, *row));
        let removed = before.difference(&now).map(|row| (Fate::Removed, *row));
        let stayed = now.intersection(&before).filter(|row| written.contains(*row));
        let updated = stayed.map(|row| (Fate::Updated, *row));
        for (fate, row) in added.chain(removed).chain(updated) {
            batch.deltas.tell(id, fate, row);
        }
        Ok(())
    }

    /// Counts what entered and left the groups of a level in the sets that hold their values.
    fn count_values(&mut self, batch: &mut Batch) {
        let groups = std::mem::take(&mut batch.told.groups);
        for group in &groups {
            let sets: Vec<SetId> = self.group(*group).sets().collect();
            for set in sets {
                let delta = batch.deltas.of(*group);
                if delta.is_empty() {
                    continue;
                }
                batch.counted.push(set);
                if let Err(beyond) = self.count_delta(set, delta) {
                    let users = self.sets.at(set.0).users.iter();
                    batch.lost.extend(users.map(|block| (*block, beyond)));
                }
                self.enqueue_flipped(set, batch);
            }
        }
        batch.told.groups = groups;
    }

    fn count_delta(&mut self, id: SetId, delta: Delta<'_>) -> Result<(), Beyond> {
        let world = super::World { store: &self.store, sets: &self.sets };
        let path = &self.sets.at(id.0).value;
        let mut steps = Vec::new();
        let left = delta.removed().map(|row| (row, When::Before, false));
        let entered = delta.added().map(|row| (row, When::Now, true));
        let changed =
            delta.updated().flat_map(|row| [(row, When::Before, false), (row, When::Now, true)]);
        for (row, when, up) in left.chain(entered).chain(changed) {
            steps.push((world.at(row, when).get(path)?.into_owned(), up));
        }
        // A value that leaves with one row and enters with another never was out.
        steps.sort_by_key(|(_, up)| !up);
        let set = self.sets.at_mut(id.0);
        steps.into_iter().try_for_each(|(value, up)| set.count(value, up))
    }

    /// Rows that entered, left or changed take their subqueries with them.
    fn follow_rows(&mut self, batch: &mut Batch) {
        for (id, delta) in batch.deltas.groups() {
            let group = self.group_mut(id);
            let entered = group.count + delta.added().count() as u64;
            // Only of a group that is lost can more leave than were in.
            group.count = entered.saturating_sub(delta.removed().count() as u64);
            if self.children(id) == 0 {
                continue;
            }
            if let Err(declined) = self.follow(id, delta) {
                batch.lost_groups.insert(id, declined);
            }
        }
    }

    fn follow(&mut self, id: GroupId, delta: Delta<'_>) -> Result<(), Declined> {
        for row in delta.removed() {
            for child in 0..self.children(id) {
                self.let_go(id, row, child)?;
            }
        }
        for row in delta.added() {
            self.adopt(id, row)?;
        }
        for row in delta.updated() {
            for child in 0..self.children(id) {
                let (_, before) = self.child_values(id, row, child, When::Before)?;
                let (block, now) = self.child_values(id, row, child, When::Now)?;
                if before == now {
                    continue;
                }
                self.let_go(id, row, child)?;
                let inner = self.acquire(block, now)?;
                self.group_mut(inner).add_use(Use::new(id, row, child));
            }
        }
        Ok(())
    }

    /// Gives up the group that a subquery of a row was. It stays until the batch ends.
    fn let_go(&mut self, id: GroupId, row: RowId, child: usize) -> Result<(), Beyond> {
        if let Some(inner) = self.child_group(id, row, child, When::Before)? {
            self.group_mut(inner).remove_use(Use::new(id, row, child));
            self.orphans.push(inner);
        }
        Ok(())
    }

    /// Marks, above every group that changed, the rows it belongs to.
    fn mark(&self, batch: &mut Batch) {
        let is_used = |id: &GroupId| self.group(*id).uses().next().is_some();
        let mut open: Vec<GroupId> =
            batch.deltas.groups().map(|(id, _)| id).filter(is_used).collect();
        if open.is_empty() {
            return;
        }
        let mut seen: HashSet<GroupId> = open.iter().copied().collect();
        while let Some(id) = open.pop() {
            for one in self.group(id).uses() {
                batch.dirty.entry(one.group).or_default().insert(one.row);
                if seen.insert(one.group) {
                    open.push(one.group);
                }
            }
        }
    }

    /// Closes the views that met what only SurrealDB can judge.
    fn give_up_lost(&mut self, batch: &mut Batch, stepped: &mut Stepped) {
        self.spread_loss(batch);
        let mut lost = Vec::new();
        for (id, declined) in &batch.lost_groups {
            let views = self.group(*id).views.names();
            lost.extend(views.into_iter().map(|view| (view, declined.clone())));
        }
        if !batch.lost.is_empty() {
            for (id, block) in self.blocks.iter() {
                let Some(beyond) = self.loss(BlockId(id), batch) else { continue };
                let views = block.groups.iter().flat_map(|group| self.group(*group).views.names());
                lost.extend(views.map(|view| (view, beyond.into())));
            }
        }
        for (view, declined) in lost {
            self.lose(&view, declined, batch, stepped);
        }
    }

    /// Ceases to maintain a view. What it was made of stays until the batch ends.
    pub(super) fn lose(
        &mut self,
        view: &str,
        declined: Declined,
        batch: &mut Batch,
        stepped: &mut Stepped,
    ) {
        let Some(root) = self.views.remove(view) else { return };
        self.group_mut(root).views.remove(view);
        self.orphans.push(root);
        let block = self.group(root).block;
        stepped.lost.push((view.to_owned(), declined));
        batch.released.push(block);
    }

    /// Gives up what nobody asks for any more.
    fn tidy(&mut self, batch: &Batch) {
        if batch.lost.is_empty() && batch.lost_groups.is_empty() && batch.released.is_empty() {
            return self.collect_orphans();
        }
        self.purge_orphans();
        batch.released.iter().for_each(|block| self.release_block(*block));
    }

    /// Whoever asks for a lost group is lost with it.
    fn spread_loss(&self, batch: &mut Batch) {
        let mut open: Vec<_> =
            batch.lost_groups.iter().map(|(id, declined)| (*id, declined.clone())).collect();
        while let Some((id, declined)) = open.pop() {
            for set in self.group(id).sets() {
                // A set's rows have no subqueries, so no budget binds.
                if let Declined::Beyond(beyond) = &declined {
                    let users = self.sets.at(set.0).users.iter();
                    batch.lost.extend(users.map(|user| (*user, *beyond)));
                }
            }
            for one in self.group(id).uses() {
                if batch.lost_groups.insert(one.group, declined.clone()).is_none() {
                    open.push((one.group, declined.clone()));
                }
            }
        }
    }

    fn loss(&self, block: BlockId, batch: &Batch) -> Option<Beyond> {
        if let Some(beyond) = batch.lost.get(&block) {
            return Some(*beyond);
        }
        let block = self.block(block);
        let sets = block.atoms.iter().map(|atom| self.sets.at(atom.set.0).group);
        let below = block.key.children.iter().map(|child| child.block);
        below
            .chain(sets.map(|group| self.group(group).block))
            .find_map(|block| self.loss(block, batch))
    }
}
