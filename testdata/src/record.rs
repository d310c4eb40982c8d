//! A history as the log holds it: transactions of events, without a database.

use std::collections::BTreeMap;

use revenant_log::{Event, Key, Op, RecordId, SourcePos, Transaction, Value};

use crate::history;

/// The transactions of `history`: each a row of `commit`, and a row of `file` for each path it changes. Commit times
/// never go back, as those of a database do not.
#[must_use]
pub fn transactions(history: &[history::Transaction]) -> Vec<Transaction> {
    let mut versions = BTreeMap::new();
    let mut time_us = 0;
    (1..)
        .zip(history)
        .map(|(number, commit)| {
            time_us = time_us.max(commit.time * 1_000_000);
            let mut event = |table: &str, key: &str, op, fields: Vec<(&str, Value)>| {
                let version: &mut u64 =
                    versions.entry((table.to_owned(), key.to_owned())).or_default();
                *version += 1;
                let id = Value::RecordId(Box::new(RecordId::new(table, key)));
                let fields = fields.into_iter().chain([("id", id)]);
                let fields = fields.map(|(name, value)| (name.to_owned(), value)).collect();
                Event {
                    op,
                    table: table.into(),
                    key: Key::from(key),
                    version: (op != Op::Delete).then_some(*version),
                    body: (op != Op::Delete).then_some(Value::Object(fields)),
                    before: None,
                    source: SourcePos { versionstamp: number, ordinal: 0 },
                    stale: false,
                }
            };
            let author = Value::String(commit.author.clone());
            let fields = vec![("author", author), ("words", Value::Int(commit.words))];
            let mut events = vec![event("commit", &commit.commit, Op::Create, fields)];
            for change in &commit.changes {
                let op = match change.op {
                    history::Op::Create => Op::Create,
                    history::Op::Update => Op::Update,
                    history::Op::Delete => Op::Delete,
                };
                let link = RecordId::new("commit", commit.commit.as_str());
                let last = vec![("commit", Value::RecordId(Box::new(link)))];
                events.push(event("file", &change.path, op, last));
            }
            Transaction { time_us, feed_high: number, events }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_an_event_and_times_do_not_go_back() {
        let history: Vec<_> = history::Reader::small().collect::<Result<_, _>>().unwrap();
        let transactions = transactions(&history);
        assert_eq!(transactions.len(), history.len());
        for (commit, transaction) in history.iter().zip(&transactions) {
            assert_eq!(transaction.events.len(), 1 + commit.changes.len());
            assert!(transaction.time_us >= commit.time * 1_000_000);
        }
        assert!(transactions.is_sorted_by_key(|transaction| transaction.time_us));
    }
}
