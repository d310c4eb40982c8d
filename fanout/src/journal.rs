//! `Journal`: the one place that appends to the log. Changes of the feed, rows read from tables and
//! pushed events meet here, so that what is older never follows what is newer.
//!
//! A row that is read from a table says how it was at some moment after the reading began. If one of its
//! changes was appended in the meantime, it may be older than that change, so it is not appended: the
//! feed tells the rest. A change that was appended before the reading began is contained in the row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use revenant_log::{Event, EventLog, Key, Op, Seq, SourcePos, Transaction};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::error::Error;
use crate::source::{SourceRow, SourceTransaction};
use crate::window::{Figures, Window, row_key, row_of};

/// Rows of one transaction of loaded rows.
const LOAD_ROWS: usize = 500;

/// Bytes of the log that are read at once to recall the window.
const RECALL_BYTES: usize = 8 << 20;

/// Records from the log's end in which the window is looked for first.
const RECALL_FIRST: u64 = 4096;

/// What appends to the log.
pub struct Journal {
    log: Arc<dyn EventLog>,
    window_us: i64,
    inner: Mutex<Inner>,
    figures: watch::Sender<Position>,
}

struct Inner {
    window: Window,
    /// Rows that changed since a reading began, by reading.
    readings: HashMap<u64, HashSet<Box<[u8]>>>,
    next_reading: u64,
    /// An append failed: what the window knows may not be in the log.
    doubtful: bool,
}

/// How far the feed was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Highest versionstamp appended.
    pub high: u64,
    /// Its commit time.
    pub newest_us: Option<i64>,
    /// What was appended since the start.
    pub figures: Figures,
}

/// A reading of rows that is under way: see [`Journal::begin_reading`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Reading(u64);

/// A row as a reading found it; without one it does not exist.
#[derive(Clone, Debug)]
pub struct Found {
    /// The row's table.
    pub table: Arc<str>,
    /// Its key.
    pub key: Key,
    /// What it is.
    pub row: Option<SourceRow>,
}

impl Journal {
    /// A journal of `log`, which recalls at least the last three windows, of `window_us` microseconds each,
    /// that the log holds.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn open(log: Arc<dyn EventLog>, window_us: i64) -> Result<Self, Error> {
        let window = recall(log.as_ref(), window_us)?;
        let figures = watch::Sender::new(position(&window));
        let inner = Inner { window, readings: HashMap::new(), next_reading: 0, doubtful: false };
        Ok(Self { log, window_us, inner: Mutex::new(inner), figures })
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    /// How far the feed was read.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.figures.borrow()
    }

    /// Appends what of `read` is not in the log yet; durable on return. Returns whether any of it was new.
    ///
    /// # Errors
    /// The log refuses. What was in hand may or may not be appended; the next call finds out from the
    /// log, and knows again only the last three windows: begin there.
    pub async fn admit(&self, read: Vec<SourceTransaction>) -> Result<bool, Error> {
        let mut inner = self.settled().await?;
        let news = read.iter().any(|one| !inner.window.knows(one.versionstamp));
        let fresh = inner.window.admit(read);
        if !fresh.is_empty() {
            inner.touch(&fresh);
            inner.doubtful = true;
            self.log.append(fresh, None).await?;
            inner.doubtful = false;
        }
        self.publish(&inner);
        Ok(news)
    }

    /// Appends one pushed event; durable on return.
    ///
    /// # Errors
    /// The log refuses.
    pub async fn push(&self, time_us: i64, event: Event) -> Result<Seq, Error> {
        let mut inner = self.settled().await?;
        let feed_high = inner.window.high();
        let pushed = vec![Transaction { time_us, feed_high, events: vec![event] }];
        inner.touch(&pushed);
        Ok(self.log.append(pushed, None).await?.last_seq)
    }

    /// Begins a reading: from now on it is noted which rows change. Ended by [`Journal::settle`] or
    /// [`Journal::abandon`].
    pub async fn begin_reading(&self) -> Reading {
        let mut inner = self.inner.lock().await;
        let id = inner.next_reading;
        inner.next_reading += 1;
        inner.readings.insert(id, HashSet::new());
        Reading(id)
    }

    /// Ends a reading for nothing.
    pub async fn abandon(&self, reading: Reading) {
        self.inner.lock().await.readings.remove(&reading.0);
    }

    /// Whether a row of `table` changed since the reading began.
    pub async fn touched(&self, reading: &Reading, table: &str, key: &Key) -> bool {
        let inner = self.inner.lock().await;
        inner.readings.get(&reading.0).is_some_and(|rows| rows.contains(&row_key(table, key)))
    }

    /// Ends a reading: appends the rows it found, less those that changed since it began. Durable on
    /// return. Returns how many were appended.
    ///
    /// # Errors
    /// The log refuses. Then some of them may be appended; reading them again does no harm.
    pub async fn settle(
        &self,
        reading: Reading,
        op: Op,
        time_us: i64,
        found: Vec<Found>,
    ) -> Result<usize, Error> {
        let mut inner = self.settled().await?;
        let touched = inner.readings.remove(&reading.0).unwrap_or_default();
        let mut events: Vec<Event> = found
            .into_iter()
            .filter(|found| !touched.contains(&row_key(&found.table, &found.key)))
            .map(|found| event_of(op, found))
            .collect();
        let count = events.len();
        let feed_high = inner.window.high();
        let mut transactions = Vec::new();
        while !events.is_empty() {
            let rest = events.split_off(LOAD_ROWS.min(events.len()));
            transactions.push(Transaction { time_us, feed_high, events });
            events = rest;
        }
        if !transactions.is_empty() {
            // Other readings that are under way must not undo these.
            inner.touch(&transactions);
            self.log.append(transactions, None).await?;
        }
        Ok(count)
    }

    /// Goes on as if everything up to `time_us` was read.
    pub async fn leap(&self, time_us: i64) {
        let mut inner = self.inner.lock().await;
        inner.window.leap(time_us);
        self.publish(&inner);
    }

    /// Forgets what was committed before `before_us`: see [`Window::forget`].
    pub async fn forget(&self, before_us: i64) {
        self.inner.lock().await.window.forget(before_us);
    }

    /// The inner parts, with a window that says what the log holds.
    async fn settled(&self) -> Result<MutexGuard<'_, Inner>, Error> {
        let mut inner = self.inner.lock().await;
        if inner.doubtful {
            let mut window = recall(self.log.as_ref(), self.window_us)?;
            window.keep_figures_of(&inner.window);
            inner.window = window;
            inner.doubtful = false;
        }
        Ok(inner)
    }

    fn publish(&self, inner: &Inner) {
        self.figures.send_replace(position(&inner.window));
    }
}

impl Inner {
    fn touch(&mut self, transactions: &[Transaction]) {
        if self.readings.is_empty() {
            return;
        }
        for event in transactions.iter().flat_map(|transaction| &transaction.events) {
            let row = row_of(event);
            for rows in self.readings.values_mut() {
                rows.insert(row.clone());
            }
        }
    }
}

fn position(window: &Window) -> Position {
    Position { high: window.high(), newest_us: window.newest_us(), figures: window.figures() }
}

fn event_of(op: Op, found: Found) -> Event {
    let Found { table, key, row } = found;
    let (version, body) = match row {
        Some(row) => (row.version, Some(row.body)),
        None => (None, None),
    };
    Event { op, table, key, version, body, before: None, source: SourcePos::UNKNOWN, stale: false }
}

/// The window as of the log's end.
fn recall(log: &dyn EventLog, window_us: i64) -> Result<Window, Error> {
    let (first, last) = (log.first_seq(), log.durable_seq());
    let mut reach = RECALL_FIRST;
    loop {
        let from = Seq(last.0.saturating_sub(reach - 1).max(first.0));
        let mut window = Window::default();
        let oldest_us = recall_from(log, from, last, &mut window)?;
        // A record is at most one window older than any that was appended before it.
        let enough = match (oldest_us, window.newest_us()) {
            (Some(oldest), Some(newest)) => newest.saturating_sub(oldest) >= 4 * window_us,
            _ => false,
        };
        if enough || from <= first {
            return Ok(window);
        }
        reach = reach.saturating_mul(4);
    }
}

/// Recalls the records from `from` to `last`; returns the commit time of the first with a position.
fn recall_from(
    log: &dyn EventLog,
    from: Seq,
    last: Seq,
    window: &mut Window,
) -> Result<Option<i64>, Error> {
    let mut oldest_us = None;
    let mut next = from;
    while next <= last {
        let batch = log.read(next, RECALL_BYTES)?;
        for record in batch.decode_records()? {
            if oldest_us.is_none() && record.event.source != SourcePos::UNKNOWN {
                oldest_us = Some(record.time_us);
            }
            window.recall(&record);
        }
        next = batch.last_seq().next();
    }
    Ok(oldest_us)
}
