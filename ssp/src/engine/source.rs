//! `Source`: an index that views share: the rows of a table that satisfy fixed conditions, by the values of
//! some columns, then in the order of others, then by id. A group of rows is a part of it.

use hashbrown::HashMap;
use revenant_log::{encode_key, encode_value};

use super::block::Atom;
use super::lift::{Elements, elements};
use super::scope::{At, World};
use super::set::SetId;
use super::short::Short;
use super::shrink;
use super::sorted::Sorted;
use super::store::{RowId, When};
use crate::query::expr::Beyond;
use crate::query::ir::{Expr, OrderBy, Path};

/// Follows the equal columns of a row whose elements cannot be told. No encoding begins so.
const OTHER: u8 = 0;

/// A source's place among the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceId(pub(crate) u32);

/// What makes two sources one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceKey {
    pub(crate) table: String,
    /// Columns that are looked up.
    pub(crate) equal: Vec<Path>,
    /// A list, whose rows are looked up by each of their elements.
    pub(crate) each: Option<Path>,
    /// What every row satisfies.
    pub(crate) residual: Vec<Expr<SetId>>,
    /// The order among rows of equal columns, then by id; `None` when no order is asked for.
    pub(crate) order: Option<Vec<OrderBy>>,
}

/// An index over the rows of a table.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) key: SourceKey,
    /// See [`super::block::Block::level`].
    pub(crate) level: usize,
    /// Sets that the residual looks into.
    pub(crate) atoms: Vec<Atom>,
    /// Blocks that use it.
    pub(crate) refs: usize,
    rows: HashMap<Short, Sorted<Entry>>,
    len: usize,
}

/// A row in its place.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its place among the rows of equal columns; empty where there is no order.
    pub(crate) place: Box<[u8]>,
    pub(crate) row: RowId,
}

/// Where a row is in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The encodings of the equal columns, then the place among rows of the same.
    bytes: Vec<u8>,
    equal_bytes: usize,
    /// What follows the equal columns where rows are looked up by their elements.
    elements: Option<Vec<Box<[u8]>>>,
}

/// How a batch moved a row in a source.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) before: Option<Place>,
    pub(crate) now: Option<Place>,
}

impl Place {
    /// The encodings of the equal columns.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.bytes[..self.equal_bytes]
    }

    /// The place among rows of equal columns.
    pub(crate) fn order(&self) -> &[u8] {
        &self.bytes[self.equal_bytes..]
    }

    /// What the row is looked up by.
    fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let lists = self.elements.iter().flatten();
        lists.map(|element| [self.prefix(), element].concat())
    }
}

impl Entry {
    fn precedes(&self, place: &[u8], row: RowId) -> bool {
        (&*self.place, self.row) < (place, row)
    }
}

impl Source {
    pub(crate) fn new(key: SourceKey, level: usize, atoms: Vec<Atom>) -> Self {
        Self { key, level, atoms, refs: 0, rows: HashMap::new(), len: 0 }
    }

    /// Takes in what happened to a row, or to what its conditions look into.
    pub(crate) fn update(&mut self, world: World<'_>, row: RowId) -> Result<Move, Beyond> {
        let before = self.place(world, row, When::Before)?;
        let now = self.place(world, row, When::Now)?;
        if before != now {
            if let Some(before) = &before {
                self.remove(before, row);
            }
            if let Some(now) = &now {
                self.insert(now, row);
            }
        }
        Ok(Move { before, now })
    }

    /// Takes in a row that was there before.
    pub(crate) fn add(&mut self, world: World<'_>, row: RowId) -> Result<(), Beyond> {
        if let Some(now) = self.place(world, row, When::Now)? {
            self.insert(&now, row);
        }
        Ok(())
    }

    /// A row's place in the index, if it is in.
    pub(crate) fn place(
        &self,
        world: World<'_>,
        row: RowId,
        when: When,
    ) -> Result<Option<Place>, Beyond> {
        let at = world.at(row, when);
        if world.store.image(row, when).is_none() || !at.all(&self.key.residual)? {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(48);
        at.encode_equal(&self.key.equal, &mut bytes)?;
        let equal_bytes = bytes.len();
        if let Some(order) = &self.key.order {
            for order in order {
                let start = bytes.len();
                order.collation.encode(&*at.sort_key(&order.path)?, &mut bytes)?;
                if order.descending {
                    // No encoding is the start of another, so the complement reverses the order.
                    bytes[start..].iter_mut().for_each(|byte| *byte = !*byte);
                }
            }
            encode_key(world.store.id(row).key, &mut bytes);
        }
        let elements = match &self.key.each {
            Some(path) => Some(Self::element_keys(&at, path)?),
            None => None,
        };
        Ok(Some(Place { bytes, equal_bytes, elements }))
    }

    fn element_keys(at: &At<'_>, path: &Path) -> Result<Vec<Box<[u8]>>, Beyond> {
        let value = at.get(path)?;
        Ok(match elements(&value) {
            Elements::These(items) => {
                let mut keys = Vec::with_capacity(items.len());
                for item in items {
                    let mut key = Vec::with_capacity(16);
                    encode_value(item, &mut key);
                    keys.push(key.into_boxed_slice());
                }
                keys.sort();
                keys.dedup();
                keys
            }
            Elements::Unknown => vec![[OTHER].into()],
        })
    }

    fn insert(&mut self, place: &Place, row: RowId) {
        let mut put = |key: &[u8]| {
            let entry = Entry { place: place.order().into(), row };
            let rows = self.rows.entry_ref(key).or_default();
            rows.insert(|other| other.precedes(place.order(), row), entry);
            self.len += 1;
        };
        match &place.elements {
            None => put(place.prefix()),
            Some(_) => place.keys().for_each(|key| put(&key)),
        }
    }

    fn remove(&mut self, place: &Place, row: RowId) {
        let mut take = |key: &[u8]| {
            let Some(rows) = self.rows.get_mut(key) else { return };
            let before = |other: &Entry| other.precedes(place.order(), row);
            self.len -= usize::from(rows.remove(before, |other| other.row == row).is_some());
            if rows.is_empty() {
                self.rows.remove(key);
                shrink(&mut self.rows);
            }
        };
        match &place.elements {
            None => take(place.prefix()),
            Some(_) => place.keys().for_each(|key| take(&key)),
        }
    }

    /// The rows whose columns have the values of `prefix`, in order.
    pub(crate) fn rows(&self, prefix: &[u8]) -> impl Iterator<Item = &Entry> {
        self.rows_from_rank(prefix, 0)
    }

    /// The same, but for the first `rank` rows.
    pub(crate) fn rows_from_rank(
        &self,
        prefix: &[u8],
        rank: usize,
    ) -> impl Iterator<Item = &Entry> {
        self.rows.get(prefix).into_iter().flat_map(move |rows| rows.skip(rank))
    }

    /// The same, from the first row on whose place is not below `place`.
    pub(crate) fn rows_from(&self, prefix: &[u8], place: &[u8]) -> impl Iterator<Item = &Entry> {
        let rows = self.rows.get(prefix).into_iter();
        rows.flat_map(move |rows| rows.not_before(move |entry| *entry.place < *place))
    }

    /// The rows of an element, and those whose elements cannot be told.
    pub(crate) fn rows_with(&self, prefix: &[u8], element: &[u8]) -> impl Iterator<Item = &Entry> {
        let known = [prefix, element].concat();
        let unknown = [prefix, &[OTHER]].concat();
        let rows = |key: Vec<u8>| self.rows.get(key.as_slice());
        let both = rows(known).into_iter().chain(rows(unknown));
        both.flat_map(|rows| rows.skip(0))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}
