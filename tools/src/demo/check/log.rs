//! The log against the feed and against what writers were told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead as _;

use anyhow::{Context as _, Result};
use revenant_log::{Event, Op, ReadOnlyLog, Record, RecordId, Seq, SourcePos, Value};

use super::super::load::{Ack, file_id};
use super::super::site::Site;
use super::database::{Database, without_id};
use super::{Fault, Verdict};

/// A change as feed and log both tell it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    versionstamp: u64,
    id: RecordId,
    op: u8,
    body: Option<Value>,
}

pub(super) fn check(
    site: &Site,
    log: &ReadOnlyLog,
    database: &Database,
    verdict: &mut Verdict,
) -> Result<()> {
    let mut expected: BTreeMap<Told, u64> = BTreeMap::new();
    for change in &database.changes {
        let told = Told {
            versionstamp: change.versionstamp,
            id: change.id.clone(),
            op: number(change.op),
            body: change.body.clone(),
        };
        *expected.entry(told).or_default() += 1;
    }
    verdict.changes = database.changes.len() as u64;

    let acks = acks(site)?;
    verdict.transactions = acks.len() as u64;
    let mut reading = Reading::new(&acks);
    for located in log.records(Seq::FIRST) {
        let record = located?.record;
        verdict.log_records += 1;
        reading.take(&record, &mut expected, verdict);
    }
    for (told, count) in expected.into_iter().filter(|(_, count)| *count > 0) {
        // What was there before the scheduler first started is in the log as loaded rows.
        if told.versionstamp > site.loaded_to {
            let at = told.versionstamp;
            verdict
                .fault(Fault::Lost, || format!("{} at {at} ({count}x) is not in the log", told.id));
        }
    }
    for ack in reading.unseen() {
        let commit = &ack.commit;
        verdict
            .fault(Fault::Lost, || format!("acknowledged transaction {commit} is not in the log"));
    }
    Ok(())
}

/// Walks the log once.
struct Reading<'a> {
    next: Seq,
    /// Where each row's newest change stands in the source.
    newest: HashMap<RecordId, SourcePos>,
    /// What was acknowledged and not yet seen.
    acks: HashMap<RecordId, &'a Ack>,
    /// Rows that the transaction under way changes.
    transaction: HashSet<RecordId>,
}

impl<'a> Reading<'a> {
    fn new(acks: &'a [Ack]) -> Self {
        let by_commit = acks.iter().map(|ack| (RecordId::new("commit", ack.commit.as_str()), ack));
        Self {
            next: Seq::FIRST,
            newest: HashMap::new(),
            acks: by_commit.collect(),
            transaction: HashSet::new(),
        }
    }

    fn take(&mut self, record: &Record, expected: &mut BTreeMap<Told, u64>, verdict: &mut Verdict) {
        let event = &record.event;
        if record.seq != self.next {
            let next = self.next;
            verdict.fault(Fault::OutOfOrder, || format!("seq {} where {next} is due", record.seq));
        }
        self.next = record.seq.next();
        let id = event.record_id();
        if !matches!(event.op, Op::Load | Op::Reconcile) {
            self.order(record, &id, verdict);
            take_change(record, &id, expected, verdict);
        }
        self.transaction.insert(id);
        if record.ends_transaction {
            self.end(event, verdict);
        }
    }

    /// Changes of one row follow each other as they were committed, save for those marked as late.
    fn order(&mut self, record: &Record, id: &RecordId, verdict: &mut Verdict) {
        let source = record.event.source;
        let newest = self.newest.entry(id.clone()).or_default();
        if source < *newest && !record.event.stale {
            verdict.fault(Fault::OutOfOrder, || {
                format!("{id} at seq {} was changed before what the log has earlier", record.seq)
            });
        }
        *newest = source.max(*newest);
    }

    /// A transaction of the history is in the log whole. Loaded rows come in transactions of their own.
    fn end(&mut self, event: &Event, verdict: &mut Verdict) {
        let transaction = std::mem::take(&mut self.transaction);
        let loaded = matches!(event.op, Op::Load | Op::Reconcile);
        for id in transaction.iter().filter(|id| id.table == "commit") {
            let Some(ack) = self.acks.remove(id) else { continue };
            if loaded {
                continue;
            }
            let author = RecordId::new("author", ack.author.as_str());
            let due = ack.written.iter().map(|path| file_id(path)).chain([author]);
            for due in due.filter(|due| !transaction.contains(due)) {
                verdict.fault(Fault::Lost, || {
                    format!("{due} is missing from transaction {} in the log", ack.commit)
                });
            }
        }
    }

    fn unseen(self) -> impl Iterator<Item = &'a Ack> {
        self.acks.into_values()
    }
}

fn take_change(
    record: &Record,
    id: &RecordId,
    expected: &mut BTreeMap<Told, u64>,
    verdict: &mut Verdict,
) {
    let event = &record.event;
    let told = Told {
        versionstamp: event.source.versionstamp,
        id: id.clone(),
        op: number(event.op),
        body: event.body.as_ref().map(without_id),
    };
    match expected.get_mut(&told) {
        Some(count) if *count > 0 => *count -= 1,
        known => {
            let why = if known.is_some() { "is in the log twice" } else { "was never made so" };
            let seq = record.seq;
            verdict.fault(Fault::Duplicated, || {
                format!("{id} at {} (seq {seq}) {why}", told.versionstamp)
            });
        }
    }
}

fn number(op: Op) -> u8 {
    match op {
        Op::Create => 0,
        Op::Update => 1,
        Op::Delete => 2,
        Op::Load => 3,
        Op::Reconcile => 4,
    }
}

fn acks(site: &Site) -> Result<Vec<Ack>> {
    let path = site.acks_file();
    let file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let lines = std::io::BufReader::new(file).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}
