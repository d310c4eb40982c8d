//! `Window`: what is remembered of the feed's recent past, so that reading it again appends nothing
//! twice and a late change overwrites nothing newer. Pure: no I/O, no clock.

use std::collections::{BTreeMap, HashMap};

use revenant_log::{Event, Record, SourcePos, Transaction, encode_key};

use crate::source::SourceTransaction;

/// The feed's recent past.
///
/// - A versionstamp that was admitted is admitted never again while it is remembered.
/// - Of one row, an event that is older than an admitted one is marked stale.
/// - [`Window::high`] never goes back.
#[derive(Debug, Default)]
pub struct Window {
    seen: BTreeMap<u64, i64>,
    rows: HashMap<Box<[u8]>, (SourcePos, i64)>,
    high: u64,
    newest_us: Option<i64>,
    figures: Figures,
}

/// What was admitted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Transactions with at least one event.
    pub transactions: u64,
    /// Transactions that were read again.
    pub repeated: u64,
    /// Transactions that became visible after a later one was read.
    pub late: u64,
    /// Events that a newer one of the same row had overtaken.
    pub stale: u64,
}

impl Window {
    /// The highest versionstamp known; 0 for none.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.high
    }

    /// Commit time of the newest transaction known.
    #[must_use]
    pub fn newest_us(&self) -> Option<i64> {
        self.newest_us
    }

    /// Figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Whether nothing of `versionstamp` remains to be admitted.
    #[must_use]
    pub fn knows(&self, versionstamp: u64) -> bool {
        self.seen.contains_key(&versionstamp)
    }

    /// Remembers a record that the log already holds.
    pub fn recall(&mut self, record: &Record) {
        self.high = self.high.max(record.feed_high);
        let source = record.event.source;
        if source == SourcePos::UNKNOWN {
            return;
        }
        self.note(source.versionstamp, record.time_us);
        if !record.event.stale {
            let row = row_of(&record.event);
            let kept = self.rows.entry(row).or_insert((source, record.time_us));
            *kept = (*kept).max((source, record.time_us));
        }
    }

    /// Takes in what was read, and returns what is to be appended, in this order.
    ///
    /// What is returned counts as known at once: if the append fails, the window has to be built anew.
    pub fn admit(&mut self, read: Vec<SourceTransaction>) -> Vec<Transaction> {
        let mut fresh = Vec::with_capacity(read.len());
        for transaction in read {
            let SourceTransaction { versionstamp, time_us, mut events } = transaction;
            if self.knows(versionstamp) {
                self.figures.repeated += 1;
                continue;
            }
            self.figures.late += u64::from(versionstamp < self.high);
            self.note(versionstamp, time_us);
            for event in &mut events {
                self.place(event, versionstamp, time_us);
            }
            if !events.is_empty() {
                self.figures.transactions += 1;
                fresh.push(Transaction { time_us, feed_high: self.high, events });
            }
        }
        fresh
    }

    /// Forgets what was committed before `before_us`. The caller never reads from so far back again.
    pub fn forget(&mut self, before_us: i64) {
        self.seen.retain(|_, time_us| *time_us >= before_us);
        self.rows.retain(|_, (_, time_us)| *time_us >= before_us);
    }

    /// Counts everything committed up to `time_us` as read.
    pub fn leap(&mut self, time_us: i64) {
        self.newest_us = self.newest_us.max(Some(time_us));
    }

    /// Goes on counting where `other` stopped.
    pub fn keep_figures_of(&mut self, other: &Self) {
        self.figures = other.figures;
    }

    /// How many transactions are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn note(&mut self, versionstamp: u64, time_us: i64) {
        self.seen.insert(versionstamp, time_us);
        self.high = self.high.max(versionstamp);
        self.newest_us = self.newest_us.max(Some(time_us));
    }

    fn place(&mut self, event: &mut Event, versionstamp: u64, time_us: i64) {
        assert_eq!(event.source.versionstamp, versionstamp, "an event stands in its transaction");
        match self.rows.entry(row_of(event)) {
            std::collections::hash_map::Entry::Occupied(kept) if kept.get().0 > event.source => {
                event.stale = true;
                self.figures.stale += 1;
            }
            entry => {
                entry.insert_entry((event.source, time_us));
            }
        }
    }
}

/// The row's address in bytes.
pub(crate) fn row_of(event: &Event) -> Box<[u8]> {
    row_key(&event.table, &event.key)
}

/// The address of row `key` of `table` in bytes.
pub(crate) fn row_key(table: &str, key: &revenant_log::Key) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(table.len() + 24);
    bytes.extend_from_slice(table.as_bytes());
    bytes.push(0);
    encode_key(key, &mut bytes);
    bytes.into_boxed_slice()
}
