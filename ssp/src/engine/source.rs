//! `Source`: an index that views share: the rows of a table that satisfy fixed conditions, by the values of
//! some columns, then in the order of others, then by id. A group of rows is one range of it.

use std::collections::BTreeMap;

use revenant_log::{Value, encode_key, encode_value};

use super::block::Atom;
use super::scope::World;
use super::set::SetId;
use super::store::{RowId, When};
use crate::query::expr::Beyond;
use crate::query::ir::{Expr, OrderBy, Path};

/// A source's place among the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceId(pub(crate) u32);

/// What makes two sources one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceKey {
    pub(crate) table: String,
    /// Columns that are looked up.
    pub(crate) equal: Vec<Path>,
    /// What every row satisfies.
    pub(crate) residual: Vec<Expr<SetId>>,
    /// The order among rows of equal columns; then by id.
    pub(crate) order: Vec<OrderBy>,
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
    rows: BTreeMap<Box<[u8]>, RowId>,
}

impl Source {
    pub(crate) fn new(key: SourceKey, level: usize, atoms: Vec<Atom>) -> Self {
        Self { key, level, atoms, refs: 0, rows: BTreeMap::new() }
    }

    /// Takes in what happened to a row, or to what its conditions look into.
    pub(crate) fn update(&mut self, world: World<'_>, row: RowId) -> Result<(), Beyond> {
        let before = self.place(world, row, When::Before)?;
        let now = self.place(world, row, When::Now)?;
        if before == now {
            return Ok(());
        }
        if let Some(before) = before {
            self.rows.remove(before.as_slice());
        }
        if let Some(now) = now {
            self.rows.insert(now.into_boxed_slice(), row);
        }
        Ok(())
    }

    /// Takes in a row that was there before.
    pub(crate) fn add(&mut self, world: World<'_>, row: RowId) -> Result<(), Beyond> {
        if let Some(now) = self.place(world, row, When::Now)? {
            self.rows.insert(now.into_boxed_slice(), row);
        }
        Ok(())
    }

    /// A row's place in the index, if it is in.
    pub(crate) fn place(
        &self,
        world: World<'_>,
        row: RowId,
        when: When,
    ) -> Result<Option<Vec<u8>>, Beyond> {
        let at = world.at(row, when);
        if world.store.image(row, when).is_none() || !at.all(&self.key.residual)? {
            return Ok(None);
        }
        let mut place = Vec::with_capacity(48);
        for path in &self.key.equal {
            let value = at.get(path)?;
            if matches!(*value, Value::Regex(_)) {
                return Err(Beyond::Regex);
            }
            encode_value(&value, &mut place);
        }
        for order in &self.key.order {
            let start = place.len();
            encode_value(&*at.sort_key(&order.path)?, &mut place);
            if order.descending {
                // No encoding is the start of another, so the complement reverses the order.
                place[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        encode_key(&world.store.id(row).key, &mut place);
        Ok(Some(place))
    }

    /// The rows whose columns have the values of `prefix`, in order.
    pub(crate) fn rows(&self, prefix: &[u8]) -> impl Iterator<Item = (&[u8], RowId)> {
        let prefix: Box<[u8]> = prefix.into();
        let range = self.rows.range(prefix.clone()..);
        range
            .take_while(move |(place, _)| place.starts_with(&prefix))
            .map(|(place, row)| (&**place, *row))
    }

    /// How many rows are in.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
