//! How queries become blocks, sources and sets, each kept once and counted, and how these are given up.

use revenant_log::Value;

use super::Engine;
use super::block::{Atom, Block, BlockId, BlockKey, ChildKey, Operand, Split, WindowKey};
use super::budget::{Declined, ENTRY_BYTES};
use super::group::GroupId;
use super::lift::{How, Lift};
use super::set::{Set, SetId};
use super::source::{Source, SourceId, SourceKey};
use super::store::When;
use crate::query::collation::Collation;
use crate::query::expr::Beyond;
use crate::query::ir::{self, Expr, OrderBy, Path};

impl Engine {
    /// A SELECT's block, and the values that tell its groups apart. Nobody holds a new block yet.
    pub(super) fn intern(&mut self, ir: &ir::Block) -> Result<(BlockId, Vec<Operand>), Declined> {
        let filter = ir.filter.map(&mut |subselect| self.intern_set(subselect))?;
        let mut split = Split::of(filter);
        let by_id = split.equal.iter().position(|(path, _)| path.is_id());
        // Of at most one row, a window shows all or nothing.
        if ir.limit == Some(0) || (by_id.is_some() && ir.start > 0) {
            split.residual = vec![Expr::Const(Value::Bool(false))];
        }
        let windowed = by_id.is_none() && (ir.start > 0 || ir.limit.is_some_and(|limit| limit > 0));
        split.open(windowed);
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
        let (outer, values): (Vec<_>, Vec<_>) = split.outer.into_iter().unzip();
        operands.extend(values);
        let key = BlockKey {
            table: ir.table.clone(),
            equal,
            residual: split.residual,
            open: split.open,
            outer,
            window,
            children,
        };
        Ok((self.intern_block(key, by_id)?, operands))
    }

    fn intern_block(&mut self, key: BlockKey, by_id: Option<usize>) -> Result<BlockId, Declined> {
        if let Some(block) = self.block_ids.get(&key) {
            return Ok(*block);
        }
        let atoms = self.atoms(&key)?;
        let level = atoms.iter().map(|atom| self.sets.at(atom.set.0).level).max().unwrap_or(0);
        let lift = Lift::of(&key);
        let indexed = !key.equal.is_empty() || key.window.is_some() || lift.is_some();
        let source = if by_id.is_none() && indexed {
            let (each, order) = match (&key.window, &lift) {
                (Some(window), _) => (None, Some(window.order.clone())),
                (None, None) => (None, None),
                (None, Some(lift)) if lift.how == How::Contains => (Some(lift.path.clone()), None),
                (None, Some(lift)) => {
                    let order = OrderBy {
                        path: lift.path.clone(),
                        collation: Collation::Plain,
                        descending: false,
                    };
                    (None, Some(vec![order]))
                }
            };
            let source = SourceKey {
                table: key.table.clone(),
                equal: key.equal.clone(),
                each,
                residual: key.residual.clone(),
                order,
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
            lift,
            atoms,
            cost: Default::default(),
            refs: 0,
            groups: Default::default(),
            routes: Default::default(),
        };
        let sets = sets_of(&block.atoms);
        let id = BlockId(self.blocks.insert(block));
        sets.into_iter().for_each(|set| self.sets.at_mut(set.0).users.push(id));
        self.routers.entry(key.table.clone()).or_default().insert(id, key.routing());
        self.block_ids.insert(key, id);
        if let Some(opening) = &mut self.opening {
            opening.blocks.push(id);
        }
        Ok(id)
    }

    /// Which sets a block looks into, each with an index that finds the rows to ask again.
    fn atoms(&mut self, key: &BlockKey) -> Result<Vec<Atom>, Declined> {
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
                each: None,
                residual: Vec::new(),
                order: None,
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

    fn intern_source(&mut self, key: SourceKey, atoms: Vec<Atom>) -> Result<SourceId, Declined> {
        if let Some(source) = self.source_ids.get(&key) {
            return Ok(*source);
        }
        let level = atoms.iter().map(|atom| self.sets.at(atom.set.0).level).max().unwrap_or(0);
        let mut source = Source::new(key.clone(), level, atoms);
        for row in self.store.scan(&key.table) {
            source.add(self.world(), row)?;
            self.fits(&key.table, source.len() * ENTRY_BYTES)?;
        }
        let id = SourceId(self.sources.insert(source));
        let router = self.source_routers.entry(key.table.clone()).or_default();
        router.insert(id, &key.residual);
        self.source_ids.insert(key, id);
        if let Some(opening) = &mut self.opening {
            opening.sources.push(id);
        }
        Ok(id)
    }

    fn intern_set(&mut self, subselect: &ir::Subselect) -> Result<SetId, Declined> {
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
        let set =
            self.counted(group, &subselect.value).inspect_err(|_| self.orphans.push(group))?;
        let set = SetId(self.sets.insert(set));
        let table = self.block(block).key.table.clone();
        self.links.hold(&self.store, &table, &subselect.value);
        self.set_ids.insert(id, set);
        if let Some(opening) = &mut self.opening {
            opening.sets.push(set);
        }
        self.group_mut(group).add_set(set);
        self.block_mut(block).refs += 1;
        Ok(set)
    }

    /// A set of the values at a path of a group's rows.
    fn counted(&self, group: GroupId, value: &Path) -> Result<Set, Beyond> {
        let level = self.block(self.group(group).block).level + 1;
        let mut set = Set::new(group, value.clone(), level);
        for row in self.members(group)? {
            set.count(self.world().at(row, When::Now).get(value)?.into_owned(), true)?;
        }
        set.settle();
        Ok(set)
    }

    /// Lets a block go; the last one to do so gives up what the block holds.
    pub(super) fn release_block(&mut self, id: BlockId) {
        let block = self.block_mut(id);
        block.refs -= 1;
        if block.refs == 0 {
            self.drop_block(id);
        }
    }

    pub(super) fn drop_block(&mut self, id: BlockId) {
        let Some(block) = self.blocks.remove(id.0) else { return };
        debug_assert!(block.groups.is_empty(), "groups go before their block");
        self.block_ids.remove(&block.key);
        if let Some(router) = self.routers.get_mut(&block.key.table) {
            router.remove(id, block.key.routing());
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

    pub(super) fn drop_source(&mut self, id: SourceId) {
        let Some(source) = self.sources.remove(id.0) else { return };
        self.source_ids.remove(&source.key);
        if let Some(router) = self.source_routers.get_mut(&source.key.table) {
            router.remove(id, &source.key.residual);
            if router.is_empty() {
                self.source_routers.remove(&source.key.table);
            }
        }
    }

    pub(super) fn drop_set(&mut self, id: SetId) {
        let Some(set) = self.sets.remove(id.0) else { return };
        let block = self.group(set.group).block;
        self.links.release(&self.block(block).key.table.clone(), &set.value);
        self.set_ids.remove(&(set.group, set.value));
        self.group_mut(set.group).remove_set(id);
        self.orphans.push(set.group);
        self.collect_orphans();
        self.release_block(block);
    }
}

/// The sets that these look into, each once.
fn sets_of(atoms: &[Atom]) -> Vec<SetId> {
    let mut sets: Vec<_> = atoms.iter().map(|atom| atom.set).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}
