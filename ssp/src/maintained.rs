//! `Maintained`: the engine's views, spoken of as edges. The engine knows members and their paths; ids,
//! parents and depths of edges are added here.

use revenant_log::Record;
use revenant_log::wire::SnapshotRow;

use crate::edge::Edge;
use crate::outbox::ViewChange;
use crate::plan::Query;

/// The views that are maintained record by record.
#[derive(Default)]
pub(crate) struct Maintained {}

/// Why a query cannot be maintained.
pub(crate) struct Declined {
    /// In a few words.
    pub(crate) reason: String,
}

impl Maintained {
    /// Takes in rows of a snapshot.
    pub(crate) fn load(&mut self, _table: &str, _rows: Vec<SnapshotRow>) {}

    /// Begins to maintain a view and returns its edges, each with its depth, parents first.
    pub(crate) fn open(
        &mut self,
        _view: &str,
        query: Query,
    ) -> Result<Vec<(usize, Edge)>, Declined> {
        match query {}
    }

    /// Ceases to maintain a view.
    pub(crate) fn close(&mut self, _view: &str) {}

    /// Applies whole transactions and returns what changed.
    pub(crate) fn apply(&mut self, _records: &[Record]) -> Vec<ViewChange> {
        Vec::new()
    }

    /// Root rows of a view.
    pub(crate) fn row_count(&self, _view: &str) -> u64 {
        0
    }

    /// A sum over a view's members that does not depend on their order.
    pub(crate) fn signature(&self, _view: &str) -> u64 {
        0
    }

    /// The edges of a view.
    pub(crate) fn edges(&self, _view: &str) -> Vec<Edge> {
        Vec::new()
    }
}
