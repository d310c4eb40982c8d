//! `Store`: every row as of the last applied transaction, and while a batch is applied also as it was before.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use revenant_log::{Event, Key, Record, RecordId, Value};

use super::batch::reuse;
use crate::query::expr::Address;

/// A row's place in the store, for as long as the row exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowId(u32);

impl RowId {
    /// For tests: no store has it.
    #[cfg(test)]
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// Before a batch, or after what of it is applied so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    Now,
}

/// What a row holds.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) version: u64,
    pub(crate) body: Value,
}

/// A row, or a place that is free: then no table has it.
#[derive(Debug)]
struct Row {
    /// Its place among the tables.
    table: u32,
    /// Its place among the changes; [`UNCHANGED`] when the batch did not change it.
    change: u32,
    key: Key,
    image: Option<Image>,
}

/// No place among the changes.
const UNCHANGED: u32 = u32::MAX;

/// The rows of one table, by key, which lies in the row.
#[derive(Debug)]
struct Table {
    name: String,
    rows: HashTable<RowId>,
}

/// How a row was before the batch.
#[derive(Debug)]
struct Change {
    row: RowId,
    before: Option<Image>,
    /// It was absent in between, so SurrealDB dropped every edge that pointed at it.
    was_absent: bool,
}

/// Rows by table and key.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: Vec<Row>,
    free: Vec<RowId>,
    tables: Vec<Table>,
    table_ids: HashMap<String, u32>,
    /// Of the batch, in the order of each row's first one.
    changes: Vec<Change>,
    hasher: DefaultHashBuilder,
}

impl Store {
    /// Takes in a row as it is, outside of any batch.
    pub(crate) fn load(&mut self, table: &str, key: Key, image: Image) {
        let row = self.intern(table, key);
        self.rows[row.0 as usize].image = Some(image);
    }

    /// Applies a record to its row.
    pub(crate) fn apply(&mut self, record: Record) {
        let Event { table, key, version, body, stale, .. } = record.event;
        if stale {
            return;
        }
        let row = self.intern(&table, key);
        let image = body.map(|body| Image { version: version.unwrap_or(1), body });
        let absent = image.is_none();
        let slot = &mut self.rows[row.0 as usize];
        let before = std::mem::replace(&mut slot.image, image);
        if slot.change == UNCHANGED {
            slot.change = u32::try_from(self.changes.len()).expect("fewer than 2^32 changes");
            self.changes.push(Change { row, before, was_absent: absent });
        } else {
            self.changes[slot.change as usize].was_absent |= absent;
        }
    }

    /// Makes `rows` those that the batch changed, in order.
    pub(crate) fn changed(&self, rows: &mut Vec<RowId>) {
        rows.clear();
        rows.extend(self.changes.iter().map(|change| change.row));
        rows.sort_unstable();
    }

    /// Whether the batch changed a row.
    pub(crate) fn is_changed(&self, row: RowId) -> bool {
        self.change(row).is_some()
    }

    /// Whether a row was deleted and created again by the batch.
    pub(crate) fn is_recreated(&self, row: RowId) -> bool {
        self.change(row).is_some_and(|change| change.was_absent)
            && self.image(row, When::Now).is_some()
    }

    /// Ends the batch: how rows were before it is forgotten, and so are rows that are gone.
    pub(crate) fn settle(&mut self) {
        let Self { rows, tables, changes, hasher, free, .. } = self;
        for Change { row, .. } in changes.iter() {
            let slot = &mut rows[row.0 as usize];
            slot.change = UNCHANGED;
            if slot.image.is_some() {
                continue;
            }
            let hash = hasher.hash_one(&slot.key);
            let table = &mut tables[slot.table as usize];
            if let Ok(found) = table.rows.find_entry(hash, |other| other == row) {
                found.remove();
            }
            slot.key = Key::Int(0);
            free.push(*row);
        }
        reuse(changes);
    }

    /// What a row holds, if it exists.
    pub(crate) fn image(&self, row: RowId, when: When) -> Option<&Image> {
        if when == When::Before
            && let Some(change) = self.change(row)
        {
            return change.before.as_ref();
        }
        self.rows[row.0 as usize].image.as_ref()
    }

    /// A row's address.
    pub(crate) fn id(&self, row: RowId) -> Address<'_> {
        let Row { table, key, .. } = &self.rows[row.0 as usize];
        Address { table: &self.tables[*table as usize].name, key }
    }

    /// The row at an address, if there is one, was one before the batch, or was one within it.
    pub(crate) fn find(&self, id: &RecordId) -> Option<RowId> {
        self.find_in(self.table(&id.table)?, self.hasher.hash_one(&id.key), &id.key)
    }

    /// Every row of a table, and those that the batch deleted.
    pub(crate) fn scan(&self, table: &str) -> impl Iterator<Item = RowId> + '_ {
        self.table(table).into_iter().flat_map(|table| table.rows.iter().copied())
    }

    fn change(&self, row: RowId) -> Option<&Change> {
        self.changes.get(self.rows[row.0 as usize].change as usize)
    }

    fn table(&self, name: &str) -> Option<&Table> {
        Some(&self.tables[*self.table_ids.get(name)? as usize])
    }

    fn find_in(&self, table: &Table, hash: u64, key: &Key) -> Option<RowId> {
        table.rows.find(hash, |row| self.rows[row.0 as usize].key == *key).copied()
    }

    fn intern(&mut self, table: &str, key: Key) -> RowId {
        let id = self.intern_table(table);
        let hash = self.hasher.hash_one(&key);
        if let Some(row) = self.find_in(&self.tables[id as usize], hash, &key) {
            return row;
        }
        let slot = Row { table: id, change: UNCHANGED, key, image: None };
        let row = match self.free.pop() {
            Some(row) => {
                self.rows[row.0 as usize] = slot;
                row
            }
            None => {
                let row = RowId(u32::try_from(self.rows.len()).expect("fewer than 2^32 rows"));
                self.rows.push(slot);
                row
            }
        };
        let Self { rows, tables, hasher, .. } = self;
        let hash_of = |row: &RowId| hasher.hash_one(&rows[row.0 as usize].key);
        tables[id as usize].rows.insert_unique(hash, row, hash_of);
        row
    }

    fn intern_table(&mut self, name: &str) -> u32 {
        if let Some(id) = self.table_ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.tables.len()).expect("fewer than 2^32 tables");
        self.tables.push(Table { name: name.to_owned(), rows: HashTable::new() });
        self.table_ids.insert(name.to_owned(), id);
        id
    }
}
