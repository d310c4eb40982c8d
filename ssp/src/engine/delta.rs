//! `Deltas`: what a batch changes in groups, as one sorted list. Nearly every batch tells few groups of one
//! row each, so a list whose memory is used again is cheaper than a table of lists.
//!
//! - What is told is found only after [`Deltas::sort`].
//! - No row is told to a group twice: a group is told of on one level of a batch, each row once.

use super::group::GroupId;
use super::store::RowId;

/// What happened to a row of a group. The order is that in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Removed,
    Added,
    /// It stays, and was written.
    Updated,
}

/// By group, then by fate, then by row.
type Told = (GroupId, Fate, RowId);

/// What a batch changes in groups.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    told: Vec<Told>,
    is_sorted: bool,
}

/// What a batch changes in one group: nothing, where it is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delta<'d>(&'d [Told]);

impl Deltas {
    /// Tells a group of a row.
    pub(crate) fn tell(&mut self, group: GroupId, fate: Fate, row: RowId) {
        self.told.push((group, fate, row));
        self.is_sorted = false;
    }

    /// Has all be found that was told so far.
    pub(crate) fn sort(&mut self) {
        self.told.sort_unstable();
        self.is_sorted = true;
    }

    /// What changes in a group.
    pub(crate) fn of(&self, group: GroupId) -> Delta<'_> {
        assert!(self.is_sorted || self.told.is_empty(), "what was told last is not sorted yet");
        let start = self.told.partition_point(|(other, ..)| *other < group);
        let rest = &self.told[start..];
        Delta(&rest[..rest.partition_point(|(other, ..)| *other == group)])
    }

    /// Every group in which something changes.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (GroupId, Delta<'_>)> {
        assert!(self.is_sorted || self.told.is_empty(), "what was told last is not sorted yet");
        let chunks = self.told.chunk_by(|(one, ..), (other, ..)| one == other);
        chunks.map(|told| (told[0].0, Delta(told)))
    }

    /// Forgets everything, and keeps memory of usual size.
    pub(crate) fn clear(&mut self) {
        super::batch::reuse(&mut self.told);
    }
}

impl<'d> Delta<'d> {
    pub(crate) fn removed(self) -> impl Iterator<Item = RowId> + 'd {
        self.with(Fate::Removed)
    }

    pub(crate) fn added(self) -> impl Iterator<Item = RowId> + 'd {
        self.with(Fate::Added)
    }

    pub(crate) fn updated(self) -> impl Iterator<Item = RowId> + 'd {
        self.with(Fate::Updated)
    }

    /// Every row it speaks of.
    pub(crate) fn rows(self) -> impl Iterator<Item = RowId> + 'd {
        self.0.iter().map(|(.., row)| *row)
    }

    /// Whether nothing changes.
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn with(self, fate: Fate) -> impl Iterator<Item = RowId> + 'd {
        self.0.iter().filter(move |(_, other, _)| *other == fate).map(|(.., row)| *row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_finds_what_it_was_told_in_the_order_of_writing() {
        let row = RowId::numbered;
        let mut deltas = Deltas::default();
        deltas.tell(GroupId(7), Fate::Updated, row(1));
        deltas.tell(GroupId(2), Fate::Added, row(3));
        deltas.sort();
        deltas.tell(GroupId(7), Fate::Removed, row(2));
        deltas.sort();
        let delta = deltas.of(GroupId(7));
        assert!(delta.rows().eq([row(2), row(1)]));
        assert!(delta.removed().eq([row(2)]) && delta.updated().eq([row(1)]));
        assert!(deltas.of(GroupId(3)).is_empty());
        assert!(deltas.groups().map(|(id, _)| id.0).eq([2, 7]));
        deltas.clear();
        assert!(deltas.of(GroupId(7)).is_empty());
    }
}
