//! Random transactions, and the rows they should leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use revenant_log::{
    Event, Key, LogId, Op, RawRecord, Record, Seq, SourcePos, Transaction, Value, encode_record,
};
use revenant_replica::{Error, Replica, Snapshot};

pub(crate) const LOG: LogId = LogId([7; 16]);

pub(crate) type Rows = BTreeMap<(String, Key), (Option<u64>, String)>;

/// A stream of transactions over few keys, with the rows after each.
pub(crate) struct Stream {
    pub(crate) transactions: Vec<Transaction>,
    /// Rows after the transaction that ends at the seq.
    pub(crate) rows: BTreeMap<Seq, Rows>,
}

pub(crate) fn stream(seed: u64, count: usize) -> Stream {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = Rows::new();
    let mut stream = Stream { transactions: Vec::new(), rows: BTreeMap::new() };
    stream.rows.insert(Seq::ZERO, rows.clone());
    let mut seq = Seq::ZERO;
    for number in 0..count {
        let events: Vec<_> = (0..random.random_range(1..5)).map(|_| event(&mut random)).collect();
        for event in &events {
            seq = seq.next();
            let id = (event.table.to_string(), event.key.clone());
            match &event.body {
                _ if event.stale => {}
                Some(body) => {
                    rows.insert(id, (event.version, body.to_string()));
                }
                None => {
                    rows.remove(&id);
                }
            }
        }
        let time_us = i64::try_from(number).unwrap();
        stream.transactions.push(Transaction { time_us, feed_high: 0, events });
        stream.rows.insert(seq, rows.clone());
    }
    stream
}

fn event(random: &mut StdRng) -> Event {
    let key = match random.random_range(0..4) {
        0 => Key::Int(random.random_range(-3..3)),
        1 => Key::from(["a/b.go", "c", "12"][random.random_range(0..3)]),
        2 => Key::Uuid([random.random_range(0..3); 16]),
        _ => Key::Array(vec![Value::Int(random.random_range(0..3)), Value::String("x".into())]),
    };
    let op = [Op::Create, Op::Update, Op::Delete, Op::Load, Op::Reconcile]
        [random.random_range(0..5usize)];
    let gone = op == Op::Delete || (op == Op::Reconcile && random.random());
    let body = (!gone).then(|| {
        let fields = [("n".to_owned(), Value::Int(random.random_range(0..100)))];
        Value::Object(fields.into())
    });
    Event {
        op,
        table: Arc::from(["commit", "file"][random.random_range(0..2)]),
        key,
        version: random.random::<bool>().then(|| random.random_range(1..9)),
        body,
        before: None,
        source: SourcePos::UNKNOWN,
        stale: random.random_range(0..10) == 0,
    }
}

/// The records of transactions that start at `next`.
pub(crate) fn records(transactions: &[Transaction], mut next: Seq) -> Vec<Record> {
    let mut records = Vec::new();
    for transaction in transactions {
        for (index, event) in transaction.events.iter().enumerate() {
            records.push(Record {
                seq: next,
                time_us: transaction.time_us,
                ends_transaction: index + 1 == transaction.events.len(),
                feed_high: 0,
                event: event.clone(),
            });
            next = next.next();
        }
    }
    records
}

/// All rows of a snapshot, read in pages of `page` rows, which must come in key order.
pub(crate) fn rows(snapshot: &Snapshot, page: usize) -> Rows {
    let mut rows = Rows::new();
    for table in snapshot.tables().unwrap() {
        let mut after: Option<Key> = None;
        let mut count = 0;
        loop {
            let read = snapshot.page(&table.name, after.as_ref(), page, 200).unwrap();
            let Some(last) = read.last() else { break };
            for row in &read {
                assert!(after.as_ref().is_none_or(|after| *after < row.key), "out of order");
                after = Some(row.key.clone());
                count += 1;
                let held = (row.version, row.body.to_string());
                rows.insert((table.name.clone(), row.key.clone()), held);
            }
            after = Some(last.key.clone());
        }
        assert_eq!(count, table.rows);
    }
    rows
}

/// Applies `records` as a log hands them over: as bytes.
pub(crate) fn apply(replica: &Replica, records: &[Record]) -> Result<Seq, Error> {
    let encoded = |record: &Record| {
        let mut bytes = Vec::new();
        encode_record(record, &mut bytes);
        bytes
    };
    let bytes: Vec<_> = records.iter().map(encoded).collect();
    let raw = records.iter().zip(&bytes);
    let raw: Vec<_> =
        raw.map(|(record, bytes)| RawRecord::read(record.seq, bytes).unwrap()).collect();
    replica.apply(&raw)
}
