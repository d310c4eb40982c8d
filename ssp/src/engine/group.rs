//! `Group`: the rows that one SELECT with given values returns. A view is a group, and so are the rows of
//! a subquery for given values of the outer row; whoever asks the same shares the same group.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use revenant_log::Value;

use super::block::BlockId;
use super::set::SetId;
use super::short::Short;
use super::store::RowId;

/// A group's place among the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GroupId(pub(crate) u32);

/// A row of an outer group, for which a group is the result of a subquery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Use {
    pub(crate) group: GroupId,
    pub(crate) row: RowId,
    /// Which subquery.
    pub(crate) child: u16,
}

/// The rows of a block for given values. There are very many, so what few of them have is boxed.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) block: BlockId,
    /// Bytes of `key` that encode the equal columns' values.
    prefix_bytes: u32,
    /// The encodings of all values that tell it from the other groups of its block.
    pub(crate) key: Short,
    /// Values that are needed as such: the id where the block is by id, then those of the outer paths.
    pub(crate) values: Box<[Value]>,
    /// Of a block with a window: the rows in it, in order.
    pub(crate) window: Option<Box<Window>>,
    /// How many rows there are.
    pub(crate) count: u64,
    /// Rows of outer groups whose subquery this is.
    uses: Option<Box<HashSet<Use>>>,
    /// Views that are this group.
    pub(crate) views: Views,
    /// Sets that hold this group's values.
    #[expect(
        clippy::box_collection,
        reason = "a third of the bytes in the many groups without sets"
    )]
    sets: Option<Box<Vec<SetId>>>,
}

/// The views that are a group, by name: mostly none, or one.
#[derive(Debug, Default)]
pub(crate) enum Views {
    #[default]
    None,
    One(Arc<str>, Shown),
    Many(Box<HashMap<Arc<str>, Shown>>),
}

/// What a view shows, as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// A sum over its edges that does not depend on their order.
    pub(crate) signature: u64,
    /// See [`super::Budget`].
    pub(crate) bytes: usize,
}

impl Views {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(views) => views.len(),
        }
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        match self {
            Self::None => Vec::new(),
            Self::One(name, _) => vec![name.clone()],
            Self::Many(views) => views.keys().cloned().collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<Shown> {
        match self {
            Self::One(other, shown) if **other == *name => Some(*shown),
            Self::Many(views) => views.get(name).copied(),
            _ => None,
        }
    }

    /// Calls `each` for every view.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(&Arc<str>, &mut Shown)) {
        match self {
            Self::None => {}
            Self::One(name, shown) => each(name, shown),
            Self::Many(views) => views.iter_mut().for_each(|(name, shown)| each(name, shown)),
        }
    }

    pub(crate) fn insert(&mut self, name: Arc<str>, shown: Shown) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(name, shown),
            Self::One(other, beside) => {
                Self::Many(Box::new([(other, beside), (name, shown)].into_iter().collect()))
            }
            Self::Many(mut views) => {
                views.insert(name, shown);
                Self::Many(views)
            }
        };
    }

    pub(crate) fn remove(&mut self, name: &str) {
        match self {
            Self::One(other, _) if **other == *name => *self = Self::None,
            Self::Many(views) => {
                views.remove(name);
                if views.len() < views.capacity() / 4 {
                    views.shrink_to(views.len() * 2);
                }
                if views.len() == 1 {
                    let left = views.drain().next();
                    *self = left.map_or(Self::None, |(name, shown)| Self::One(name, shown));
                }
            }
            _ => {}
        }
    }
}

/// The rows that a window shows.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub(crate) rows: Vec<RowId>,
    /// The place of the last row when the window is full: what happens beyond it shows nothing.
    pub(crate) bound: Option<Box<[u8]>>,
}

impl Use {
    pub(crate) fn new(group: GroupId, row: RowId, child: usize) -> Self {
        Self { group, row, child: u16::try_from(child).expect("a query has few subqueries") }
    }
}

impl Group {
    /// A group without rows, of which nothing is known yet but its values.
    pub(crate) fn new(
        block: BlockId,
        key: Short,
        prefix_bytes: usize,
        values: Box<[Value]>,
    ) -> Self {
        Self {
            block,
            prefix_bytes: u32::try_from(prefix_bytes).expect("a key is far below 4 GiB"),
            key,
            values,
            window: None,
            count: 0,
            uses: None,
            views: Views::None,
            sets: None,
        }
    }

    /// The encoding of the equal columns' values.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.key[..self.prefix_bytes as usize]
    }

    pub(crate) fn uses(&self) -> impl Iterator<Item = &Use> {
        self.uses.iter().flat_map(|uses| uses.iter())
    }

    pub(crate) fn add_use(&mut self, one: Use) {
        self.uses.get_or_insert_default().insert(one);
    }

    pub(crate) fn remove_use(&mut self, one: Use) {
        if let Some(uses) = &mut self.uses {
            uses.remove(&one);
            if uses.is_empty() {
                self.uses = None;
            }
        }
    }

    /// Keeps some uses; says whether one was given up.
    pub(crate) fn retain_uses(&mut self, keep: impl FnMut(&Use) -> bool) -> bool {
        let Some(uses) = &mut self.uses else { return false };
        let before = uses.len();
        uses.retain(keep);
        let given_up = uses.len() < before;
        if uses.is_empty() {
            self.uses = None;
        }
        given_up
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = SetId> + '_ {
        self.sets.iter().flat_map(|sets| sets.iter().copied())
    }

    pub(crate) fn add_set(&mut self, set: SetId) {
        self.sets.get_or_insert_default().push(set);
    }

    pub(crate) fn remove_set(&mut self, set: SetId) {
        if let Some(sets) = &mut self.sets {
            sets.retain(|other| *other != set);
            if sets.is_empty() {
                self.sets = None;
            }
        }
    }

    /// Whether nobody asks for it any more.
    pub(crate) fn is_unused(&self) -> bool {
        self.uses.is_none() && self.views.is_empty() && self.sets.is_none()
    }
}
