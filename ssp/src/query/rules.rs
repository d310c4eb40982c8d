//! `Rules`: what the database lets those read who are signed in, table by table, as its schema says. They become
//! conditions of the registrant's query, so that a view lists no row that its registrant could not select.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ir::{Limits, Reach};

/// The select permissions of a database. A table that is not among them does not exist, and is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    tables: BTreeMap<String, TableRules>,
    limits: Arc<Limits>,
}

/// What a table lets others read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRules {
    /// Which of its rows.
    pub select: Permission,
    /// Fields that not everybody may see who sees the row.
    pub hidden: BTreeSet<String>,
}

/// Who may see a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Everybody.
    Full,
    /// Nobody.
    None,
    /// Those for whom this is true of the row.
    Where(String),
}

impl Rules {
    /// The rules of these tables.
    #[must_use]
    pub fn new(tables: BTreeMap<String, TableRules>) -> Self {
        let mut limits = Limits::default();
        for (name, table) in &tables {
            match &table.select {
                Permission::None => drop(limits.denied.insert(name.clone())),
                Permission::Full if table.hidden.is_empty() => {}
                _ => drop(limits.judged.insert(name.clone())),
            }
        }
        Self { tables, limits: Arc::new(limits) }
    }

    /// What the table `name` lets others read.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableRules> {
        self.tables.get(name)
    }

    /// Everybody may read everything there is.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.limits.denied.is_empty() && self.limits.judged.is_empty()
    }

    /// How far links may be followed.
    pub(crate) fn reach(&self) -> Reach {
        if self.is_open() { Reach::default() } else { Reach::within(self.limits.clone()) }
    }

    /// Whether nobody may read the table.
    pub(crate) fn denies(&self, table: &str) -> bool {
        self.table(table).is_none_or(|table| table.select == Permission::None)
    }
}

impl TableRules {
    /// Whether not everybody may see what is under this name.
    pub(crate) fn hides(&self, field: &str) -> bool {
        self.hidden.contains(field)
    }
}

impl Permission {
    /// As the schema has it: `true`, `false`, or a condition.
    #[must_use]
    pub fn of(condition: &str) -> Self {
        match condition.trim() {
            "true" => Self::Full,
            "false" => Self::None,
            condition => Self::Where(condition.to_owned()),
        }
    }
}
