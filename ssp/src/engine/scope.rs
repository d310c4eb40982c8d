//! `At`: a row, at a time, as what expressions are evaluated against.

use std::borrow::Cow;

use revenant_log::Value;

use super::set::{Set, SetId};
use super::slab::Slab;
use super::store::{RowId, Store, When};
use crate::query::expr::{self, Beyond, Scope};
use crate::query::ir::{Expr, Path};

/// What expressions look into: rows and sets.
#[derive(Clone, Copy)]
pub(crate) struct World<'e> {
    pub(crate) store: &'e Store,
    pub(crate) sets: &'e Slab<Set>,
}

/// A row at a time, and the values of the outer row.
#[derive(Clone, Copy)]
pub(crate) struct At<'e> {
    pub(crate) world: World<'e>,
    pub(crate) row: RowId,
    pub(crate) when: When,
    /// Paths of the outer row, and the values there.
    pub(crate) outer: (&'e [Path], &'e [Value]),
}

impl<'e> World<'e> {
    /// A row at a time, with no outer row.
    pub(crate) fn at(self, row: RowId, when: When) -> At<'e> {
        At { world: self, row, when, outer: (&[], &[]) }
    }
}

impl<'e> At<'e> {
    /// The value at a path of the row; NONE when the row does not exist.
    pub(crate) fn get(&self, path: &Path) -> Result<Cow<'e, Value>, Beyond> {
        match self.world.store.image(self.row, self.when) {
            Some(image) => expr::at(self.world.store.id(self.row), &image.body, path),
            None => Ok(Cow::Owned(Value::None)),
        }
    }

    /// Whether every one of these is true.
    pub(crate) fn all(&self, conjuncts: &[Expr<SetId>]) -> Result<bool, Beyond> {
        for conjunct in conjuncts {
            if !conjunct.is_true(self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Scope<SetId> for At<'_> {
    fn field(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond> {
        self.get(path)
    }

    fn parent(&self, path: &Path) -> Result<Cow<'_, Value>, Beyond> {
        let (paths, values) = self.outer;
        let place = paths.iter().position(|other| other == path);
        Ok(place.map_or(Cow::Owned(Value::None), |place| Cow::Borrowed(&values[place])))
    }

    fn holds(&self, set: &SetId, value: &Value) -> Result<bool, Beyond> {
        self.world.sets.at(set.0).holds(value, self.when)
    }
}
