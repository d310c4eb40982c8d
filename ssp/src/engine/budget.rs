//! `Budget`: how much memory a view and a template may take.
//!
//! - A view that would take more is not opened, and one that grows beyond it is given up.
//! - A template that would take more gets no further view. Those it has stay: from then on its index grows
//!   with rows, which are in memory anyway, and its groups with its views, each of which has a budget.
//! - Bytes are reckoned from counts, so that reckoning costs nothing: what is asked is the order of
//!   magnitude at which a service runs out of memory, not the last byte.

use thiserror::Error;

use super::Engine;
use super::block::BlockId;
use super::opening::Opening;
use crate::query::expr::Beyond;

/// An edge with its strings, on its way to the database.
const EDGE_BYTES: usize = 400;
/// A group with its key, where it is listed, and the view that it is.
const GROUP_BYTES: usize = 300;
/// A row in a source, with its place.
pub(super) const ENTRY_BYTES: usize = 64;

/// Most memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of one view: its edges, as when they are written at once, and its subqueries' groups.
    pub view_bytes: usize,
    /// Of one template: the groups of all views that differ in values only, and the index they share.
    pub template_bytes: usize,
}

/// Why a view is not, or not any more, maintained.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Declined {
    /// A row that it depends on holds what only SurrealDB can judge.
    #[error(transparent)]
    Beyond(#[from] Beyond),
    /// The view is too large.
    #[error(
        "the view is too large: it takes more than {most} bytes, which is what is allowed; narrow it by \
         WHERE or LIMIT, or raise SPKY_SSP_VIEW_BUDGET_BYTES"
    )]
    View {
        /// The budget.
        most: usize,
    },
    /// The template is too large.
    #[error(
        "queries of this shape over `{table}` take {bytes} bytes already and {most} are allowed; \
         drop views of it, or raise SPKY_SSP_TEMPLATE_BUDGET_BYTES"
    )]
    Template {
        /// The table.
        table: String,
        /// What views and index take.
        bytes: usize,
        /// The budget.
        most: usize,
    },
}

impl Default for Budget {
    /// 256 MiB, about 670,000 edges; and 4 GiB, about 14,000,000 views without rows.
    fn default() -> Self {
        Self { view_bytes: 256 << 20, template_bytes: 4 << 30 }
    }
}

impl Budget {
    /// Whether a view may take this much.
    pub(super) fn allows(&self, view_bytes: usize) -> Result<(), Declined> {
        if view_bytes <= self.view_bytes {
            return Ok(());
        }
        Err(Declined::View { most: self.view_bytes })
    }
}

/// What edges, and groups that are there for them, take.
pub(super) fn bytes_of(edges: usize, groups: usize) -> usize {
    edges * EDGE_BYTES + groups * GROUP_BYTES
}

impl Engine {
    /// Counts rows, and groups that are made for them, against the budget of the view that is being opened.
    pub(super) fn spend(&mut self, rows: usize, groups: usize) -> Result<(), Declined> {
        let Some(Opening { spent_bytes, .. }) = &mut self.opening else { return Ok(()) };
        *spent_bytes += bytes_of(rows, groups);
        self.budget.allows(*spent_bytes)
    }

    /// Whether a template has room for one more group while a view is being opened.
    pub(super) fn has_room(&self, block: BlockId) -> Result<(), Declined> {
        let bytes = self.template_bytes(block) + GROUP_BYTES;
        if self.opening.is_none() {
            return Ok(());
        }
        self.fits(&self.block(block).key.table, bytes)
    }

    /// Whether this much is within the budget of a template.
    pub(super) fn fits(&self, table: &str, bytes: usize) -> Result<(), Declined> {
        let most = self.budget.template_bytes;
        if bytes > most {
            return Err(Declined::Template { table: table.to_owned(), bytes, most });
        }
        Ok(())
    }

    /// What a template takes: its groups, and the source they share.
    pub(super) fn template_bytes(&self, block: BlockId) -> usize {
        let block = self.block(block);
        let entries = block.source.map_or(0, |source| self.sources.at(source.0).len());
        block.groups.len() * GROUP_BYTES + entries * ENTRY_BYTES
    }
}
