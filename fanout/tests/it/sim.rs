//! `Sim`: a database in memory, whose transactions take their versionstamp early and become visible late,
//! as SurrealDB's do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use revenant_fanout::{
    ChangePage, FeedTime, Source, SourceError, SourceRow, SourceTable, SourceTransaction,
};
use revenant_log::{Event, Key, Op, SourcePos, Value};
use tokio::sync::{Barrier, Notify};

/// 2026-01-01, microseconds since 1970.
const EPOCH_US: i64 = 1_767_225_600_000_000;

/// A row: its version and what it holds.
pub(crate) type Row = (u64, Value);

#[derive(Clone)]
pub(crate) struct Sim(Arc<Inner>);

struct Inner {
    begun: Instant,
    data: Mutex<Data>,
    down: AtomicBool,
    /// Transactions of one page.
    page: AtomicU64,
    bell: Notify,
    deaf: AtomicBool,
    /// Where readers of a first page wait for each other.
    meeting: Mutex<Option<Arc<Barrier>>>,
}

#[derive(Default)]
struct Data {
    next_versionstamp: u64,
    tables: BTreeMap<String, BTreeMap<Key, Row>>,
    feedless: BTreeSet<String>,
    /// Visible transactions.
    feed: BTreeMap<u64, SourceTransaction>,
    locked: BTreeSet<(String, Key)>,
    /// The feed does not reach back before this.
    lost_us: i64,
    schema_changed: bool,
}

/// A transaction that has its versionstamp and is not visible yet.
pub(crate) struct Open {
    sim: Sim,
    versionstamp: u64,
    time_us: i64,
    writes: Vec<(String, Key, Option<i64>)>,
}

impl Sim {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            data: Mutex::default(),
            down: AtomicBool::new(false),
            page: AtomicU64::new(50),
            bell: Notify::new(),
            deaf: AtomicBool::new(false),
            meeting: Mutex::default(),
        }))
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.0.data.lock().unwrap()
    }

    fn clock_us(&self) -> i64 {
        EPOCH_US + i64::try_from(self.0.begun.elapsed().as_micros()).unwrap()
    }

    /// Whether it answers.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// Whether it rings when something changes.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Has the readers of first pages of tables wait until there are `count` of them.
    pub(crate) fn meet(&self, count: usize) {
        *self.0.meeting.lock().unwrap() = Some(Arc::new(Barrier::new(count)));
    }

    /// Transactions of one page of the feed.
    pub(crate) fn set_page(&self, page: u64) {
        self.0.page.store(page, Ordering::SeqCst);
    }

    /// Defines a table.
    pub(crate) fn define(&self, table: &str, feed: bool) {
        let mut data = self.data();
        data.tables.entry(table.to_owned()).or_default();
        if feed {
            data.feedless.remove(table);
        } else {
            data.feedless.insert(table.to_owned());
        }
        data.schema_changed = true;
    }

    /// Removes a table and its rows, which the feed does not tell.
    pub(crate) fn remove(&self, table: &str) {
        let mut data = self.data();
        data.tables.remove(table);
        data.schema_changed = true;
    }

    /// Forgets the feed up to now.
    pub(crate) fn lose_feed(&self) {
        let now = self.clock_us();
        let mut data = self.data();
        data.lost_us = now;
        data.feed.clear();
    }

    /// Takes a versionstamp and the rows; `None` if another transaction has one of them.
    pub(crate) fn begin(&self, writes: Vec<(&str, Key, Option<i64>)>) -> Option<Open> {
        let time_us = self.clock_us();
        let mut data = self.data();
        let writes: Vec<_> =
            writes.into_iter().map(|(table, key, n)| (table.to_owned(), key, n)).collect();
        let rows: Vec<_> = writes.iter().map(|(t, k, _)| (t.clone(), k.clone())).collect();
        if rows.iter().any(|row| data.locked.contains(row)) {
            return None;
        }
        data.locked.extend(rows);
        data.next_versionstamp += 1;
        let versionstamp = data.next_versionstamp;
        Some(Open { sim: self.clone(), versionstamp, time_us, writes })
    }

    /// Writes at once.
    pub(crate) fn write(&self, writes: Vec<(&str, Key, Option<i64>)>) -> u64 {
        self.begin(writes).expect("nobody else has the rows").commit()
    }

    /// All rows of all tables.
    pub(crate) fn rows(&self) -> BTreeMap<(String, Key), Value> {
        let data = self.data();
        let tables = data.tables.iter();
        tables
            .flat_map(|(table, rows)| {
                rows.iter().map(|(key, row)| ((table.clone(), key.clone()), row.1.clone()))
            })
            .collect()
    }

    /// Every visible transaction with an event, by versionstamp.
    pub(crate) fn feed(&self) -> BTreeMap<u64, SourceTransaction> {
        let data = self.data();
        let feed = data.feed.iter().filter(|(_, transaction)| !transaction.events.is_empty());
        feed.map(|(versionstamp, transaction)| (*versionstamp, transaction.clone())).collect()
    }

    fn answer(&self) -> Result<(), SourceError> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(SourceError::Unavailable("it is down".into()));
        }
        Ok(())
    }

    fn page(&self, from: impl Fn(&SourceTransaction) -> bool) -> ChangePage {
        let page = usize::try_from(self.0.page.load(Ordering::SeqCst)).unwrap();
        let mut data = self.data();
        let mut found = data.feed.values().filter(|transaction| from(transaction)).cloned();
        let transactions: Vec<_> = found.by_ref().take(page).collect();
        let next = found.next().map(|transaction| transaction.versionstamp);
        drop(found);
        ChangePage { transactions, next, schema_changed: std::mem::take(&mut data.schema_changed) }
    }
}

impl Open {
    /// Makes it visible.
    pub(crate) fn commit(self) -> u64 {
        let mut data = self.sim.data();
        let mut events = Vec::new();
        for (ordinal, (table, key, n)) in self.writes.iter().enumerate() {
            data.locked.remove(&(table.clone(), key.clone()));
            let captured = !data.feedless.contains(table);
            let Some(rows) = data.tables.get_mut(table) else { continue };
            let before = rows.get(key).cloned();
            let (op, version, body) = match (n, &before) {
                (None, None) => continue,
                (None, Some(_)) => (Op::Delete, None, None),
                (Some(n), before) => {
                    let version = before.as_ref().map_or(1, |row| row.0 + 1);
                    let op = if before.is_some() { Op::Update } else { Op::Create };
                    (op, Some(version), Some(body(*n)))
                }
            };
            match &body {
                Some(body) => drop(rows.insert(key.clone(), (version.unwrap(), body.clone()))),
                None => drop(rows.remove(key)),
            }
            let source = SourcePos {
                versionstamp: self.versionstamp,
                ordinal: u32::try_from(ordinal).unwrap(),
            };
            if captured {
                events.push(Event {
                    op,
                    table: table.as_str().into(),
                    key: key.clone(),
                    version,
                    body,
                    before: before.map(|row| row.1),
                    source,
                    stale: false,
                });
            }
        }
        let (versionstamp, time_us) = (self.versionstamp, self.time_us);
        data.feed.insert(versionstamp, SourceTransaction { versionstamp, time_us, events });
        drop(data);
        if !self.sim.0.deaf.load(Ordering::SeqCst) {
            self.sim.0.bell.notify_one();
        }
        versionstamp
    }
}

fn body(n: i64) -> Value {
    Value::Object([("n".to_owned(), Value::Int(n))].into())
}

#[async_trait]
impl Source for Sim {
    async fn tables(&self) -> Result<Vec<SourceTable>, SourceError> {
        self.answer()?;
        let data = self.data();
        let tables = data.tables.keys();
        Ok(tables
            .map(|name| {
                let feed = !data.feedless.contains(name);
                let fix = (!feed).then(|| format!("ALTER TABLE {name} CHANGEFEED 3d"));
                SourceTable { name: name.clone(), feed, fix }
            })
            .collect())
    }

    async fn now(&self) -> Result<FeedTime, SourceError> {
        self.answer()?;
        Ok(FeedTime { time_us: self.clock_us() })
    }

    async fn changes_since_time(&self, time_us: i64) -> Result<ChangePage, SourceError> {
        tokio::time::sleep(Duration::from_micros(200)).await;
        self.answer()?;
        if time_us < self.data().lost_us - 1_000_000 {
            return Err(SourceError::Lost(format!("{time_us} is too far back")));
        }
        Ok(self.page(|transaction| transaction.time_us >= time_us))
    }

    async fn changes_from(&self, versionstamp: u64) -> Result<ChangePage, SourceError> {
        tokio::time::sleep(Duration::from_micros(200)).await;
        self.answer()?;
        Ok(self.page(|transaction| transaction.versionstamp >= versionstamp))
    }

    async fn rows(
        &self,
        table: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<SourceRow>, SourceError> {
        self.answer()?;
        let meeting = self.0.meeting.lock().unwrap().clone();
        if let Some(meeting) = meeting.filter(|_| after.is_none()) {
            meeting.wait().await;
        }
        let rows: Vec<SourceRow> = {
            let data = self.data();
            let rows = data.tables.get(table).into_iter().flatten();
            rows.filter(|(key, _)| after.is_none_or(|after| *key > after))
                .take(limit)
                .map(|(key, (version, body))| SourceRow {
                    key: key.clone(),
                    version: Some(*version),
                    body: body.clone(),
                })
                .collect()
        };
        // What was read is on its way while others write.
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.answer()?;
        Ok(rows)
    }

    async fn row(&self, table: &str, key: &Key) -> Result<Option<SourceRow>, SourceError> {
        self.answer()?;
        let data = self.data();
        let row = data.tables.get(table).and_then(|rows| rows.get(key));
        Ok(row.map(|(version, body)| SourceRow {
            key: key.clone(),
            version: Some(*version),
            body: body.clone(),
        }))
    }

    async fn wait_doorbell(&self) -> Result<(), SourceError> {
        self.0.bell.notified().await;
        self.answer()
    }
}
