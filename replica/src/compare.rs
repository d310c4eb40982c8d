//! Two snapshots side by side: a rebuilt replica against a live one, row by row.

use std::collections::BTreeSet;

use revenant_log::RecordId;
use serde::Serialize;

use crate::error::Error;
use crate::snapshot::Snapshot;
use crate::tables::Row;

/// Rows read at once from either side.
const PAGE_ROWS: usize = 1_000;
/// Bytes read at once from either side.
const PAGE_BYTES: usize = 4 << 20;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Whether both have the same rows.
    pub equal: bool,
    /// The seq of the left one.
    pub left_seq: u64,
    /// The seq of the right one.
    pub right_seq: u64,
    /// Rows that both have, and equally so.
    pub same_rows: u64,
    /// Rows that differ, listed or not.
    pub different_rows: u64,
    /// The first of them, by table and key.
    pub differences: Vec<Difference>,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its id.
    pub id: String,
    /// How it differs.
    pub kind: DifferenceKind,
    /// The row on the left, as SurrealQL; `None` if there is none.
    pub left: Option<String>,
    /// The row on the right.
    pub right: Option<String>,
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// Only the left side has it.
    OnlyLeft,
    /// Only the right side has it.
    OnlyRight,
    /// The bodies are not identical.
    Body,
    /// The bodies are identical, the versions are not.
    Version,
}

/// Compares all rows of two snapshots: key, version and body, types included. Lists at most `limit`
/// differences and counts the rest.
///
/// # Errors
/// [`Error::Database`], [`Error::Damaged`].
pub fn compare(left: &Snapshot, right: &Snapshot, limit: usize) -> Result<Comparison, Error> {
    let mut tables = BTreeSet::new();
    for snapshot in [left, right] {
        tables.extend(snapshot.tables()?.into_iter().map(|table| table.name));
    }
    let mut found = Comparison {
        equal: true,
        left_seq: left.seq().0,
        right_seq: right.seq().0,
        same_rows: 0,
        different_rows: 0,
        differences: Vec::new(),
    };
    for table in &tables {
        let (mut lefts, mut rights) = (Rows::new(left, table), Rows::new(right, table));
        loop {
            let (a, b) = match (lefts.peek()?, rights.peek()?) {
                (None, None) => break,
                (Some(a), Some(b)) if a.key < b.key => (lefts.next(), None),
                (Some(a), Some(b)) if a.key > b.key => (None, rights.next()),
                (Some(_), Some(_)) => (lefts.next(), rights.next()),
                (Some(_), None) => (lefts.next(), None),
                (None, Some(_)) => (None, rights.next()),
            };
            match difference(table, a.as_ref(), b.as_ref()) {
                None => found.same_rows += 1,
                Some(difference) => {
                    found.equal = false;
                    found.different_rows += 1;
                    if found.differences.len() < limit {
                        found.differences.push(difference);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn difference(table: &str, left: Option<&Row>, right: Option<&Row>) -> Option<Difference> {
    let kind = match (left, right) {
        (Some(left), Some(right)) if !left.body.identical(&right.body) => DifferenceKind::Body,
        (Some(left), Some(right)) if left.version != right.version => DifferenceKind::Version,
        (Some(_), None) => DifferenceKind::OnlyLeft,
        (None, Some(_)) => DifferenceKind::OnlyRight,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let key = &left.or(right)?.key;
    let text = |row: Option<&Row>| {
        row.map(|row| match (kind, row.version) {
            (DifferenceKind::Version, Some(version)) => format!("version {version}"),
            (DifferenceKind::Version, None) => "no version".to_owned(),
            _ => row.body.to_string(),
        })
    };
    let id = RecordId::new(table, key.clone()).to_string();
    Some(Difference { id, kind, left: text(left), right: text(right) })
}

/// The rows of one table of a snapshot, one after the other.
struct Rows<'a> {
    snapshot: &'a Snapshot,
    table: &'a str,
    page: std::vec::IntoIter<Row>,
    last: Option<revenant_log::Key>,
    next: Option<Row>,
}

impl<'a> Rows<'a> {
    fn new(snapshot: &'a Snapshot, table: &'a str) -> Self {
        Self { snapshot, table, page: Vec::new().into_iter(), last: None, next: None }
    }

    fn peek(&mut self) -> Result<Option<&Row>, Error> {
        if self.next.is_none() {
            self.next = self.page.next();
        }
        if self.next.is_none() {
            let page = self.snapshot.page(self.table, self.last.as_ref(), PAGE_ROWS, PAGE_BYTES)?;
            self.last = page.last().map(|row| row.key.clone()).or(self.last.take());
            self.page = page.into_iter();
            self.next = self.page.next();
        }
        Ok(self.next.as_ref())
    }

    fn next(&mut self) -> Option<Row> {
        self.next.take()
    }
}
