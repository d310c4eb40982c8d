//! `Store`: every row as of the last applied transaction, and while a batch is applied also as it was before.

use hashbrown::HashMap;
use revenant_log::{Event, Key, Record, RecordId, Value};

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

#[derive(Debug)]
struct Row {
    id: RecordId,
    image: Option<Image>,
}

/// How a row was before the batch.
#[derive(Debug)]
struct Change {
    before: Option<Image>,
    /// It was absent in between, so SurrealDB dropped every edge that pointed at it.
    was_absent: bool,
}

/// Changes of a batch, up to which their memory is kept for the next.
const CHANGES_KEPT: usize = 1024;

/// Rows by table and key.
#[derive(Debug, Default)]
pub(crate) struct Store {
    rows: Vec<Row>,
    free: Vec<RowId>,
    tables: HashMap<String, HashMap<Key, RowId>>,
    changes: HashMap<RowId, Change>,
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
        let before = std::mem::replace(&mut self.rows[row.0 as usize].image, image);
        let change = self.changes.entry(row).or_insert(Change { before, was_absent: false });
        change.was_absent |= absent;
    }

    /// Makes `rows` those that the batch changed, in order.
    pub(crate) fn changed(&self, rows: &mut Vec<RowId>) {
        rows.clear();
        rows.extend(self.changes.keys().copied());
        rows.sort_unstable();
    }

    /// Whether the batch changed a row.
    pub(crate) fn is_changed(&self, row: RowId) -> bool {
        self.changes.contains_key(&row)
    }

    /// Whether a row was deleted and created again by the batch.
    pub(crate) fn is_recreated(&self, row: RowId) -> bool {
        self.changes.get(&row).is_some_and(|change| change.was_absent)
            && self.image(row, When::Now).is_some()
    }

    /// Ends the batch: how rows were before it is forgotten, and so are rows that are gone.
    pub(crate) fn settle(&mut self) {
        let mut changes = std::mem::take(&mut self.changes);
        for (row, _) in changes.drain() {
            let slot = &mut self.rows[row.0 as usize];
            if slot.image.is_some() {
                continue;
            }
            let id = std::mem::replace(&mut slot.id, RecordId::new("", 0));
            if let Some(rows) = self.tables.get_mut(&id.table) {
                rows.remove(&id.key);
            }
            self.free.push(row);
        }
        // The memory serves the next batch, unless this one was of unusual size.
        if changes.capacity() <= CHANGES_KEPT {
            self.changes = changes;
        }
    }

    /// What a row holds, if it exists.
    pub(crate) fn image(&self, row: RowId, when: When) -> Option<&Image> {
        if when == When::Before
            && let Some(change) = self.changes.get(&row)
        {
            return change.before.as_ref();
        }
        self.rows[row.0 as usize].image.as_ref()
    }

    /// A row's address.
    pub(crate) fn id(&self, row: RowId) -> &RecordId {
        &self.rows[row.0 as usize].id
    }

    /// The row at an address, if there is one, was one before the batch, or was one within it.
    pub(crate) fn find(&self, id: &RecordId) -> Option<RowId> {
        self.tables.get(&id.table)?.get(&id.key).copied()
    }

    /// Every row of a table, and those that the batch deleted.
    pub(crate) fn scan(&self, table: &str) -> impl Iterator<Item = RowId> + '_ {
        self.tables.get(table).into_iter().flat_map(|rows| rows.values().copied())
    }

    fn intern(&mut self, table: &str, key: Key) -> RowId {
        if let Some(row) = self.tables.get(table).and_then(|rows| rows.get(&key)) {
            return *row;
        }
        let id = RecordId::new(table, key.clone());
        let slot = Row { id, image: None };
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
        self.tables.entry_ref(table).or_default().insert(key, row);
        row
    }
}
