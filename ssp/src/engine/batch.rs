//! `Batch`: what a batch of transactions does, while it is applied. Its lists are short for nearly every
//! batch and used again by the next, so that a batch of one row asks for no memory here.

use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::Declined;
use super::block::BlockId;
use super::delta::Deltas;
use super::group::GroupId;
use super::set::SetId;
use super::source::{Move, SourceId};
use super::store::RowId;
use crate::query::expr::Beyond;

/// Entries of a list up to which its memory is kept. A choice: a few times the largest usual transaction.
const KEPT: usize = 1024;

/// What a batch does.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Rows that changed, and those that look into one.
    pub(super) changed: Vec<RowId>,
    /// What is still to be told of rows, by level.
    work: Vec<Work>,
    pub(super) moves: Moves,
    pub(super) told: Told,
    /// Sets that counted.
    pub(super) counted: Vec<SetId>,
    pub(super) deltas: Deltas,
    /// Rows of groups below which something changed.
    pub(super) dirty: HashMap<GroupId, BTreeSet<RowId>>,
    /// Groups whose views are written.
    pub(super) roots: Vec<GroupId>,
    /// Blocks that met a row which only SurrealDB can judge.
    pub(super) lost: HashMap<BlockId, Beyond>,
    /// Groups that did, of blocks whose other groups did not.
    pub(super) lost_groups: HashMap<GroupId, Declined>,
    /// Of every view that is given up, its block.
    pub(super) released: Vec<BlockId>,
}

/// What of one level is to be told of rows: first the sources, then the blocks.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) sources: Vec<(SourceId, RowId)>,
    pub(super) blocks: Vec<(BlockId, RowId)>,
}

/// Groups of one level that rows concerned.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) groups: Vec<GroupId>,
    /// Windows that are to be read again, with rows in them that were written.
    pub(super) windows: HashMap<GroupId, HashSet<RowId>>,
    /// Groups that a row may be in.
    pub(super) candidates: Vec<GroupId>,
}

/// Where rows were and are in the sources that took them in; by source and row, in their order.
#[derive(Debug, Default)]
pub(super) struct Moves(Vec<((SourceId, RowId), Move)>);

impl Moves {
    /// Takes in those of one level, whose sources no other level has.
    pub(super) fn extend(&mut self, moves: impl Iterator<Item = ((SourceId, RowId), Move)>) {
        let known = self.0.len();
        self.0.extend(moves);
        if known > 0 {
            self.0.sort_unstable_by_key(|(key, _)| *key);
        }
        debug_assert!(self.0.is_sorted_by(|one, other| one.0 < other.0), "moves come in order");
    }

    pub(super) fn get(&self, source: SourceId, row: RowId) -> Option<&Move> {
        let place = self.0.binary_search_by_key(&(source, row), |(key, _)| *key).ok()?;
        Some(&self.0[place].1)
    }
}

impl Batch {
    /// What of a level is to be told.
    pub(super) fn at(&mut self, level: usize) -> &mut Work {
        if self.work.len() <= level {
            self.work.resize_with(level + 1, Work::default);
        }
        &mut self.work[level]
    }

    /// Takes what of a level is to be told, if that level or a higher one has been spoken of.
    pub(super) fn take(&mut self, level: usize) -> Option<Work> {
        self.work.get_mut(level).map(std::mem::take)
    }

    /// Gives the memory of what was told back to its level, to which nothing was added since.
    pub(super) fn put_back(&mut self, level: usize, mut done: Work) {
        let work = &mut self.work[level];
        assert!(
            work.sources.is_empty() && work.blocks.is_empty(),
            "a level adds to higher ones only"
        );
        reuse(&mut done.sources);
        reuse(&mut done.blocks);
        *work = done;
    }

    /// Forgets what the batch did. Memory of usual size serves the next batch.
    pub(super) fn clear(&mut self) {
        reuse(&mut self.changed);
        reuse(&mut self.moves.0);
        reuse(&mut self.told.groups);
        reuse(&mut self.told.candidates);
        reuse(&mut self.counted);
        reuse(&mut self.roots);
        reuse(&mut self.released);
        self.deltas.clear();
        reuse_table(&mut self.told.windows);
        reuse_table(&mut self.dirty);
        reuse_table(&mut self.lost);
        reuse_table(&mut self.lost_groups);
    }
}

/// Empties a list, and keeps its memory unless that is much.
pub(super) fn reuse<T>(list: &mut Vec<T>) {
    list.clear();
    list.shrink_to(KEPT);
}

fn reuse_table<K: Eq + std::hash::Hash, V>(table: &mut HashMap<K, V>) {
    table.clear();
    if table.capacity() > KEPT {
        table.shrink_to(0);
    }
}
