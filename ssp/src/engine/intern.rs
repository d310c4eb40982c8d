//! How queries become blocks, sources and sets, each kept once and counted, and how these are given up.

use hashbrown::HashSet;
use revenant_log::Value;

use super::Engine;
use super::block::{Atom, Block, BlockId, BlockKey, ChildKey, Operand, Split, WindowKey};
use super::group::GroupId;
use super::set::{Set, SetId};
use super::source::{Source, SourceId, SourceKey};
use super::store::When;
use crate::query::expr::Beyond;
use crate::query::ir::{self, Expr};

impl Engine {
    /// A SELECT's block, and the values that tell its groups apart. Nobody holds a new block yet.
    pub(super) fn intern(&mut self, ir: &ir::Block) -> Result<(BlockId, Vec<Operand>), Beyond> {
        let filter = ir.filter.map(&mut |subselect| self.intern_set(subselect))?;
        let mut split = Split::of(filter);
        let by_id = split.equal.iter().position(|(path, _)| path.is_id());
        // Of at most one row, a window shows all or nothing.
        if ir.limit == Some(0) || (by_id.is_some() && ir.start > 0) {
            split.residual = vec![Expr::Const(Value::Bool(false))];
        }
        let windowed = by_id.is_none() && (ir.start > 0 || ir.limit.is_some_and(|limit| limit > 0));
        let window = windowed.then(|| WindowKey {
            order: ir.order.clone(),
            start: ir.start,
            limit: ir.limit,
        });
        let mut children = Vec::with_capacity(ir.children.len());
        for child in &ir.children {
            let (block, operands) = self.intern(&child.block)?;
            children.push(ChildKey { alias: child.alias.clone(), block, operands });
        }
        children.sort_by(|one, other| one.alias.cmp(&other.alias));
        let (equal, mut operands): (Vec<_>, Vec<_>) = split.equal.into_iter().unzip();
        operands.extend(split.outer.iter().cloned().map(Operand::Outer));
        let key = BlockKey {
            table: ir.table.clone(),
            equal,
            residual: split.residual,
            open: split.open,
            outer: split.outer,
            window,
            children,
        };
        Ok((self.intern_block(key, by_id)?, operands))
    }

    fn intern_block(&mut self, key: BlockKey, by_id: Option<usize>) -> Result<BlockId, Beyond> {
        if let Some(block) = self.block_ids.get(&key) {
            return Ok(*block);
        }
        let atoms = self.atoms(&key)?;
        let level = atoms.iter().map(|atom| self.sets.at(atom.set.0).level).max().unwrap_or(0);
        let indexed = !key.equal.is_empty() || key.window.is_some();
        let source = if by_id.is_none() && indexed {
            let source = SourceKey {
                table: key.table.clone(),
                equal: key.equal.clone(),
                residual: key.residual.clone(),
                order: key.window.as_ref().map_or(Vec::new(), |window| window.order.clone()),
            };
            let of_residual = self.atoms_of(&key.residual, &atoms);
            Some(self.intern_source(source, of_residual)?)
        } else {
            None
        };
        for child in &key.children {
            self.block_mut(child.block).refs += 1;
        }
        for path in key.paths() {
            self.links.hold(&self.store, &key.table, path);
        }
        for atom in &atoms {
            self.sources.at_mut(atom.index.0).refs += 1;
        }
        if let Some(source) = source {
            self.sources.at_mut(source.0).refs += 1;
        }
        let block = Block {
            key: key.clone(),
            level,
            by_id,
            source,
            atoms,
            refs: 0,
            groups: Default::default(),
            routes: Default::default(),
        };
        let sets = sets_of(&block.atoms);
        let id = BlockId(self.blocks.insert(block));
        sets.into_iter().for_each(|set| self.sets.at_mut(set.0).users.push(id));
        self.routers.entry(key.table.clone()).or_default().insert(id, &key);
        self.block_ids.insert(key, id);
        Ok(id)
    }

    /// Which sets a block looks into, each with an index that finds the rows to ask again.
    fn atoms(&mut self, key: &BlockKey) -> Result<Vec<Atom>, Beyond> {
        let mut places = Vec::new();
        for conjunct in key.residual.iter().chain(&key.open) {
            conjunct.visit(&mut |expr| {
                if let Expr::In(field, set) = expr
                    && let Expr::Field(path) = &**field
                    && !places.contains(&(*set, path.clone()))
                {
                    places.push((*set, path.clone()));
                }
            });
        }
        let mut atoms = Vec::with_capacity(places.len());
        for (set, path) in places {
            let index = SourceKey {
                table: key.table.clone(),
                equal: vec![path.clone()],
                residual: Vec::new(),
                order: Vec::new(),
            };
            let index = self.intern_source(index, Vec::new())?;
            atoms.push(Atom { set, path, index });
        }
        Ok(atoms)
    }

    fn atoms_of(&self, conjuncts: &[Expr<SetId>], atoms: &[Atom]) -> Vec<Atom> {
        let mut sets = Vec::new();
        for conjunct in conjuncts {
            conjunct.visit(&mut |expr| {
                if let Expr::In(_, set) = expr {
                    sets.push(*set);
                }
            });
        }
        atoms.iter().filter(|atom| sets.contains(&atom.set)).cloned().collect()
    }

    fn intern_source(&mut self, key: SourceKey, atoms: Vec<Atom>) -> Result<SourceId, Beyond> {
        if let Some(source) = self.source_ids.get(&key) {
            return Ok(*source);
        }
        let level = atoms.iter().map(|atom| self.sets.at(atom.set.0).level).max().unwrap_or(0);
        let mut source = Source::new(key.clone(), level, atoms);
        for row in self.store.scan(&key.table) {
            source.add(self.world(), row)?;
        }
        let id = SourceId(self.sources.insert(source));
        self.table_sources.entry(key.table.clone()).or_default().push(id);
        self.source_ids.insert(key, id);
        Ok(id)
    }

    fn intern_set(&mut self, subselect: &ir::Subselect) -> Result<SetId, Beyond> {
        let (block, operands) = self.intern(&subselect.block)?;
        let values = operands.into_iter().map(|operand| match operand {
            Operand::Const(value) => value,
            // A set refers to no outer row.
            Operand::Outer(_) => Value::None,
        });
        let group = self.acquire(block, values.collect())?;
        let id = (group, subselect.value.clone());
        if let Some(set) = self.set_ids.get(&id) {
            return Ok(*set);
        }
        let level = self.block(block).level + 1;
        let mut set = Set::new(group, subselect.value.clone(), level);
        for row in self.members(group)? {
            let value = self.world().at(row, When::Now).get(&subselect.value)?.into_owned();
            set.count(value, true)?;
        }
        set.settle();
        let set = SetId(self.sets.insert(set));
        let table = self.block(block).key.table.clone();
        self.links.hold(&self.store, &table, &subselect.value);
        self.set_ids.insert(id, set);
        self.new_sets.push(set);
        self.group_mut(group).add_set(set);
        self.block_mut(block).refs += 1;
        Ok(set)
    }

    /// Gives up new sets that no block came to look into, as that of a `LIMIT 0`.
    pub(super) fn drop_unheld_sets(&mut self) {
        for set in std::mem::take(&mut self.new_sets) {
            if self.sets.contains(set.0) && self.sets.at(set.0).users.is_empty() {
                self.drop_set(set);
            }
        }
    }

    /// Lets a block go; the last one to do so gives up what the block holds.
    pub(super) fn release_block(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        block.refs -= 1;
        if block.refs == 0 {
            self.drop_block(id);
        }
    }

    fn drop_block(&mut self, id: BlockId) {
        let Some(block) = self.blocks.remove(id.0) else { return };
        debug_assert!(block.groups.is_empty(), "groups go before their block");
        self.block_ids.remove(&block.key);
        if let Some(router) = self.routers.get_mut(&block.key.table) {
            router.remove(id, &block.key);
            if router.is_empty() {
                self.routers.remove(&block.key.table);
            }
        }
        for child in &block.key.children {
            self.release_block(child.block);
        }
        for path in block.key.paths() {
            self.links.release(&block.key.table, path);
        }
        if let Some(source) = block.source {
            self.release_source(source);
        }
        for atom in &block.atoms {
            self.release_source(atom.index);
        }
        for set in sets_of(&block.atoms) {
            let users = &mut self.sets.at_mut(set.0).users;
            users.retain(|user| *user != id);
            if users.is_empty() {
                self.drop_set(set);
            }
        }
    }

    fn release_source(&mut self, id: SourceId) {
        let source = self.sources.at_mut(id.0);
        source.refs -= 1;
        if source.refs == 0 {
            self.drop_source(id);
        }
    }

    fn drop_source(&mut self, id: SourceId) {
        let Some(source) = self.sources.remove(id.0) else { return };
        self.source_ids.remove(&source.key);
        if let Some(sources) = self.table_sources.get_mut(&source.key.table) {
            sources.retain(|other| *other != id);
            if sources.is_empty() {
                self.table_sources.remove(&source.key.table);
            }
        }
    }

    fn drop_set(&mut self, id: SetId) {
        let Some(set) = self.sets.remove(id.0) else { return };
        let block = self.group(set.group).block;
        self.links.release(&self.block(block).key.table.clone(), &set.value);
        self.set_ids.remove(&(set.group, set.value));
        self.group_mut(set.group).remove_set(id);
        self.collect(vec![set.group]);
        self.release_block(block);
    }

    /// Gives up everything that no view needs, after something was left half made.
    pub(super) fn sweep(&mut self) {
        self.new_sets.clear();
        let live = self.live_blocks();
        let dead: Vec<_> =
            self.groups.iter().map(|(id, group)| (GroupId(id), group.block)).collect();
        for (id, block) in dead {
            if !live.contains(&block) {
                self.drop_group(id);
            }
        }
        self.forget_users();
        let sets: Vec<_> = self.sets.iter().map(|(id, set)| (SetId(id), set.group)).collect();
        for (id, group) in sets {
            if !self.groups.contains(group.0) || !self.is_looked_into(id, &live) {
                let set = self.sets.remove(id.0);
                self.set_ids.retain(|_, other| *other != id);
                if set.is_some() && self.groups.contains(group.0) {
                    self.group_mut(group).remove_set(id);
                }
            }
        }
        let blocks: Vec<_> = self.blocks.iter().map(|(id, _)| BlockId(id)).collect();
        for id in blocks.into_iter().filter(|id| !live.contains(id)) {
            let Some(block) = self.blocks.remove(id.0) else { continue };
            self.block_ids.remove(&block.key);
            if let Some(router) = self.routers.get_mut(&block.key.table) {
                router.remove(id, &block.key);
            }
        }
        self.routers.retain(|_, router| !router.is_empty());
        self.recount();
        loop {
            self.collect(self.groups.iter().map(|(id, _)| GroupId(id)).collect());
            if !self.forget_users() {
                return;
            }
        }
    }

    /// Forgets uses by groups that are gone; says whether there were any.
    fn forget_users(&mut self) -> bool {
        let kept: HashSet<u32> = self.groups.iter().map(|(id, _)| id).collect();
        let mut found = false;
        for group in self.groups.iter_mut() {
            found |= group.retain_uses(|one| kept.contains(&one.group.0));
        }
        found
    }

    fn is_looked_into(&self, set: SetId, live: &HashSet<BlockId>) -> bool {
        live.iter().any(|block| self.block(*block).atoms.iter().any(|atom| atom.set == set))
    }

    /// The blocks that views need.
    fn live_blocks(&self) -> HashSet<BlockId> {
        let mut live = HashSet::new();
        let mut open: Vec<BlockId> =
            self.views.values().map(|view| self.group(view.root).block).collect();
        while let Some(id) = open.pop() {
            if live.insert(id) {
                let block = self.block(id);
                open.extend(block.key.children.iter().map(|child| child.block));
                let sets = block.atoms.iter().map(|atom| self.sets.at(atom.set.0).group);
                open.extend(sets.map(|group| self.group(group).block));
            }
        }
        live
    }

    /// Counts anew who holds what, and gives up what nobody holds.
    fn recount(&mut self) {
        self.blocks.iter_mut().for_each(|block| block.refs = 0);
        self.sources.iter_mut().for_each(|source| source.refs = 0);
        self.sets.iter_mut().for_each(|set| set.users.clear());
        self.links.clear_refs();
        for (_, block) in self.blocks.iter() {
            for path in block.key.paths() {
                self.links.hold(&self.store, &block.key.table, path);
            }
        }
        for (_, set) in self.sets.iter() {
            let table = &self.blocks.at(self.groups.at(set.group.0).block.0).key.table;
            self.links.hold(&self.store, table, &set.value);
        }
        self.links.sweep();
        let mut held: Vec<BlockId> =
            self.views.values().map(|view| self.group(view.root).block).collect();
        held.extend(self.sets.iter().map(|(_, set)| self.group(set.group).block));
        let (mut sources, mut sets) = (Vec::new(), Vec::new());
        for (id, block) in self.blocks.iter() {
            held.extend(block.key.children.iter().map(|child| child.block));
            sources.extend(block.source);
            sources.extend(block.atoms.iter().map(|atom| atom.index));
            sets.extend(sets_of(&block.atoms).into_iter().map(|set| (set, BlockId(id))));
        }
        held.into_iter().for_each(|block| self.block_mut(block).refs += 1);
        sources.into_iter().for_each(|source| self.sources.at_mut(source.0).refs += 1);
        sets.into_iter().for_each(|(set, user)| self.sets.at_mut(set.0).users.push(user));
        let unheld: Vec<_> =
            self.sources.iter().filter(|(_, source)| source.refs == 0).map(|(id, _)| id).collect();
        unheld.into_iter().for_each(|id| self.drop_source(SourceId(id)));
    }
}

/// The sets that these look into, each once.
fn sets_of(atoms: &[Atom]) -> Vec<SetId> {
    let mut sets: Vec<_> = atoms.iter().map(|atom| atom.set).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}
