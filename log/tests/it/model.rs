//! Transactions that can be told apart, and what a log should hold of them.

use std::sync::Arc;

use revenant_log::storage::sim::Dice;
use revenant_log::{
    Error, Event, Key, LogConfig, Op, Record, Seq, SourcePos, Transaction, Value, decode_record,
};

/// The smallest segments, so that a few appends roll.
pub(crate) fn small(dir: impl Into<std::path::PathBuf>) -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, frame_bytes: 2 << 10, ..LogConfig::new(dir) }
}

/// Transaction `number` with `events` events of about `bytes` bytes each.
pub(crate) fn transaction(number: u64, events: u64, bytes: usize) -> Transaction {
    let event = |ordinal: u64| Event {
        op: Op::Update,
        table: Arc::from("file"),
        key: Key::Int(ordinal.cast_signed()),
        version: Some(number),
        body: Some(Value::Bytes(vec![u8::try_from(number % 251).unwrap(); bytes])),
        before: None,
        source: SourcePos { versionstamp: number, ordinal: u32::try_from(ordinal).unwrap() },
        stale: false,
    };
    Transaction {
        time_us: number.cast_signed(),
        feed_high: number,
        events: (0..events).map(event).collect(),
    }
}

/// A few transactions of random shapes, now and then one larger than a frame.
pub(crate) fn batch(dice: &mut Dice, next: &mut u64) -> Vec<Transaction> {
    let count = 1 + dice.below(3);
    (0..count)
        .map(|_| {
            *next += 1;
            let (events, bytes) = match dice.below(8) {
                0 => (1 + dice.below(3), 3000),
                1 => (1 + dice.below(30), 200),
                2 => (1, 15_000),
                _ => (1 + dice.below(3), usize::try_from(dice.below(120)).unwrap()),
            };
            transaction(*next, events, bytes)
        })
        .collect()
}

/// What a log should hold, and how much of it was acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) records: Vec<(u64, u32, bool)>,
    pub(crate) acked: usize,
}

impl Model {
    pub(crate) fn submit(&mut self, transactions: &[Transaction]) {
        for transaction in transactions {
            let last = transaction.events.len() - 1;
            for (index, event) in transaction.events.iter().enumerate() {
                let SourcePos { versionstamp, ordinal } = event.source;
                self.records.push((versionstamp, ordinal, index == last));
            }
        }
    }

    pub(crate) fn ack(&mut self) {
        self.acked = self.records.len();
    }

    /// Checks what a log holds: a prefix of what was submitted, all that was acknowledged, whole
    /// transactions. Returns how many records it holds.
    pub(crate) fn check(&self, read: impl Fn(Seq) -> Vec<Record>, first: Seq, last: Seq) -> usize {
        let judged = self.judge(|from| Ok(read(from)), first, last);
        judged.unwrap_or_else(|verdict| panic!("{verdict}"))
    }

    /// [`Model::check`], with what is wrong as an answer.
    pub(crate) fn judge(
        &self,
        read: impl Fn(Seq) -> Result<Vec<Record>, Error>,
        first: Seq,
        last: Seq,
    ) -> Result<usize, Verdict> {
        let held = usize::try_from(last.0).unwrap();
        if held < self.acked {
            return Err(Verdict::Lost(format!("{held} records, {} were acknowledged", self.acked)));
        }
        if held > self.records.len() {
            return Err(Verdict::Invented(format!("{held} records of {}", self.records.len())));
        }
        let mut from = first;
        while from <= last {
            let records = read(from).map_err(Verdict::Refused)?;
            if records.is_empty() {
                return Err(Verdict::Lost(format!("nothing at {from} of {last}")));
            }
            for record in records {
                let index = usize::try_from(from.0 - 1).unwrap();
                let Some(&(versionstamp, ordinal, ends)) = self.records.get(index) else {
                    return Err(Verdict::Invented(format!("a record at {from} of {last}")));
                };
                let pos = SourcePos { versionstamp, ordinal };
                if record.seq != from {
                    return Err(Verdict::Reordered(format!("{} at {from}", record.seq)));
                }
                if (record.event.source, record.ends_transaction) != (pos, ends) {
                    let got = record.event.source;
                    let known = self.records.iter().any(|one| one.0 == got.versionstamp);
                    let text = format!("{got:?} instead of {pos:?} at {from}");
                    return Err(if known {
                        Verdict::Reordered(text)
                    } else {
                        Verdict::Wrong(text)
                    });
                }
                let body = u8::try_from(versionstamp % 251).unwrap();
                if !matches!(&record.event.body, Some(Value::Bytes(bytes)) if bytes.iter().all(|&b| b == body))
                {
                    return Err(Verdict::Wrong(format!("the body at {from}")));
                }
                from = from.next();
            }
        }
        if held > 0 && !self.records[held - 1].2 {
            return Err(Verdict::Wrong("half a transaction".into()));
        }
        Ok(held)
    }
}

/// What is wrong with a log.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It lacks acknowledged records.
    Lost(String),
    /// It holds records that nobody submitted.
    Invented(String),
    /// It holds records at other seqs.
    Reordered(String),
    /// It holds records with other contents, or half a transaction.
    Wrong(String),
    /// It does not give them.
    Refused(Error),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost(what) => write!(f, "lost: {what}"),
            Self::Invented(what) => write!(f, "invented: {what}"),
            Self::Reordered(what) => write!(f, "reordered: {what}"),
            Self::Wrong(what) => write!(f, "wrong: {what}"),
            Self::Refused(error) => write!(f, "refused: {error}"),
        }
    }
}

pub(crate) fn decode(batch: &revenant_log::WireBatch) -> Vec<Record> {
    (batch.first_seq.0..)
        .zip(&batch.records)
        .map(|(seq, bytes)| decode_record(Seq(seq), bytes).unwrap())
        .collect()
}
