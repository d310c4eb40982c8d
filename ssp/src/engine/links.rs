//! `Links`: which rows look into which others along a path, so that a change of those reaches them.

use hashbrown::{HashMap, HashSet};
use revenant_log::RecordId;

use super::scope::RowsAt;
use super::store::{RowId, Store, When};
use crate::query::expr;
use crate::query::ir::{Path, Step};

/// For each table and path that views follow: by row that is looked into, the rows that do.
#[derive(Debug, Default)]
pub(crate) struct Links {
    followed: HashMap<(String, Path), Followed>,
}

#[derive(Debug, Default)]
struct Followed {
    /// Blocks and sets that follow the path.
    refs: usize,
    rows: HashMap<RecordId, HashSet<RowId>>,
}

impl Links {
    /// Begins to follow a path, unless it cannot lead through a link.
    pub(crate) fn hold(&mut self, store: &Store, table: &str, path: &Path) {
        if !may_follow(path) {
            return;
        }
        let key = (table.to_owned(), path.clone());
        let followed = self.followed.entry(key).or_insert_with(|| {
            let mut followed = Followed::default();
            for row in store.scan(table) {
                followed.add(store, path, row);
            }
            followed
        });
        followed.refs += 1;
    }

    /// Follows a path for one block or set less.
    pub(crate) fn release(&mut self, table: &str, path: &Path) {
        let key = (table.to_owned(), path.clone());
        if let Some(followed) = self.followed.get_mut(&key) {
            followed.refs -= 1;
            if followed.refs == 0 {
                self.followed.remove(&key);
            }
        }
    }

    /// How many paths are followed.
    pub(crate) fn len(&self) -> usize {
        self.followed.len()
    }

    /// Takes in the rows that the batch changed, and adds to them those that look into one.
    ///
    /// Whoever newly looks into a changed row does so because it changed itself, or because it looked into
    /// another that did; so those that looked in before are enough.
    pub(crate) fn follow(&mut self, store: &Store, changed: &mut Vec<RowId>) {
        if self.followed.is_empty() {
            return;
        }
        let own = changed.clone();
        for ((table, path), followed) in &mut self.followed {
            let looking = own.iter().filter_map(|row| followed.rows.get(&store.id(*row).to_id()));
            let looking = looking.flatten();
            let mut touched: Vec<RowId> = looking.copied().collect();
            touched.extend(own.iter().filter(|row| store.id(**row).table == table));
            touched.sort_unstable();
            touched.dedup();
            for row in &touched {
                followed.remove(store, path, *row);
                followed.add(store, path, *row);
            }
            changed.extend(touched);
        }
        changed.sort_unstable();
        changed.dedup();
    }
}

impl Followed {
    fn add(&mut self, store: &Store, path: &Path, row: RowId) {
        let Some(image) = store.image(row, When::Now) else { return };
        let rows = RowsAt { store, when: When::Now };
        expr::links(store.id(row), &image.body, path, rows, |link| {
            self.rows.entry(link.clone()).or_default().insert(row);
        });
    }

    fn remove(&mut self, store: &Store, path: &Path, row: RowId) {
        let Some(image) = store.image(row, When::Before) else { return };
        let rows = RowsAt { store, when: When::Before };
        expr::links(store.id(row), &image.body, path, rows, |link| {
            if let Some(looking) = self.rows.get_mut(link) {
                looking.remove(&row);
                if looking.is_empty() {
                    self.rows.remove(link);
                }
            }
        });
    }
}

/// A path of one step stays in its row.
fn may_follow(path: &Path) -> bool {
    path.0[1..].iter().any(|step| matches!(step, Step::Field(_)))
}
