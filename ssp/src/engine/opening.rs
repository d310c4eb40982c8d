//! `Opening`: what a view that is being opened made so far, so that a refused one leaves nothing, and that
//! costs what it made, however much else there is. Groups undo themselves (see `Engine::acquire`).

use super::Engine;
use super::block::BlockId;
use super::set::SetId;
use super::source::SourceId;

/// What a view that is being opened made so far, and took.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// See [`super::budget::Budget`].
    pub(super) spent_bytes: usize,
    pub(super) blocks: Vec<BlockId>,
    pub(super) sources: Vec<SourceId>,
    pub(super) sets: Vec<SetId>,
}

impl Engine {
    /// Gives up what a refused view made. Whatever was made last goes first, since it holds what was made
    /// before.
    pub(super) fn undo(&mut self, opening: Opening) {
        self.collect_orphans();
        for block in opening.blocks.into_iter().rev() {
            if self.blocks.contains(block.0) && self.block(block).refs == 0 {
                self.drop_block(block);
            }
        }
        self.drop_unheld_sets(opening.sets);
        for source in opening.sources.into_iter().rev() {
            if self.sources.contains(source.0) && self.sources.at(source.0).refs == 0 {
                self.drop_source(source);
            }
        }
    }

    /// Gives up new sets that no block came to look into, as that of a `LIMIT 0`.
    pub(super) fn drop_unheld_sets(&mut self, sets: Vec<SetId>) {
        for set in sets.into_iter().rev() {
            if self.sets.contains(set.0) && self.sets.at(set.0).users.is_empty() {
                self.drop_set(set);
            }
        }
    }
}
