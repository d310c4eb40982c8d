//! `At`: a row, at a time, as what expressions are evaluated against.

use std::borrow::Cow;

use revenant_log::{RecordId, Value, encode_value};

use super::set::{Set, SetId};
use super::slab::Slab;
use super::store::{RowId, Store, When};
use crate::query::expr::{self, Beyond, Rows, Scope};
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
            Some(image) => {
                let rows = RowsAt { store: self.world.store, when: self.when };
                expr::at(self.world.store.id(self.row), &image.body, path, rows)
            }
            None => Ok(Cow::Owned(Value::None)),
        }
    }

    /// The value at a sort key's path of the row; NONE when the row does not exist.
    pub(crate) fn sort_key(&self, path: &Path) -> Result<Cow<'e, Value>, Beyond> {
        match self.world.store.image(self.row, self.when) {
            Some(image) => expr::sort_key(self.world.store.id(self.row), &image.body, path),
            None => Ok(Cow::Owned(Value::None)),
        }
    }

    /// Adds the encodings of the values at `paths`, which are compared by equality.
    pub(crate) fn encode_equal(&self, paths: &[Path], bytes: &mut Vec<u8>) -> Result<(), Beyond> {
        for path in paths {
            let value = self.get(path)?;
            if matches!(*value, Value::Regex(_)) {
                return Err(Beyond::Regex);
            }
            encode_value(&value, bytes);
        }
        Ok(())
    }

    /// Whether every one of these is true.
    pub(crate) fn all(&self, conjuncts: &[Expr<SetId>]) -> Result<bool, Beyond> {
        expr::decide(conjuncts, self, false)
    }
}

/// All rows at a time.
#[derive(Clone, Copy)]
pub(crate) struct RowsAt<'e> {
    pub(crate) store: &'e Store,
    pub(crate) when: When,
}

impl<'e> Rows<'e> for RowsAt<'e> {
    fn body(self, id: &RecordId) -> Option<&'e Value> {
        let row = self.store.find(id)?;
        self.store.image(row, self.when).map(|image| &image.body)
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
