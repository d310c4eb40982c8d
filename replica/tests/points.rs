//! A show, run with the tests: rebuilds of a real history's log to 25 seqs and 25 times equal a model. The last
//! line is JSON.
//!
//! `cargo test -q -p revenant-replica --test points`

use std::path::Path;
use std::process::ExitCode;

use revenant_log::{
    Event, Key, Log, LogConfig, Op, RecordId, SourcePos, Transaction, Value, Witnesses,
};
use revenant_replica::check_points;
use revenant_testdata::history::{self, Reader};
use serde_json::json;

const POINTS: usize = 25;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let dir = tempfile::tempdir()?;
    let log_dir = dir.path().join("log");
    write_log(&log_dir)?;
    let report = check_points(&log_dir, dir.path(), POINTS)?;
    for wrong in report.wrong.iter().take(20) {
        println!("{wrong}");
    }
    let pass = report.wrong.is_empty() && report.seqs == POINTS && report.times == POINTS;
    println!(
        "{}",
        json!({
            "show": "replay-points",
            "pass": pass,
            "seqs": report.seqs,
            "times": report.times,
            "records": report.records,
            "rows_compared": report.rows,
            "wrong": report.wrong.len(),
        })
    );
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A log of the small history: a transaction for each of its own, with a row for the author, one for the commit,
/// and one for each path, in small segments.
fn write_log(dir: &Path) -> Result<(), Failure> {
    let config =
        LogConfig { segment_bytes: 128 << 10, frame_bytes: 8 << 10, ..LogConfig::new(dir) };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (log, _) = Log::open(config, Witnesses::none())?;
    runtime.block_on(async {
        for (number, transaction) in (1..).zip(Reader::small()) {
            log.append(vec![of_history(number, transaction?)], None).await?;
        }
        Ok::<_, Failure>(log.close().await?)
    })
}

fn of_history(number: u64, transaction: history::Transaction) -> Transaction {
    let history::Transaction { commit, time, author, words, changes } = transaction;
    let event = |op, table: &str, key: Key, body: Option<Value>| Event {
        op,
        table: table.into(),
        key,
        version: Some(number),
        body,
        before: None,
        source: SourcePos { versionstamp: number, ordinal: 0 },
        stale: false,
    };
    let link = |table: &str, key: &str| Value::RecordId(Box::new(RecordId::new(table, key)));
    let object = |fields: Vec<(&str, Value)>| {
        Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let by = object(vec![("last", link("commit", &commit)), ("words", Value::Int(words))]);
    let mut events = vec![event(Op::Update, "author", author.as_str().into(), Some(by))];
    let fields = vec![("author", link("author", &author)), ("time", Value::Int(time))];
    events.push(event(Op::Create, "commit", commit.as_str().into(), Some(object(fields))));
    for change in changes {
        let body = object(vec![("commit", link("commit", &commit))]);
        let (op, body) = match change.op {
            history::Op::Create => (Op::Create, Some(body)),
            history::Op::Update => (Op::Update, Some(body)),
            history::Op::Delete => (Op::Delete, None),
        };
        events.push(event(op, "file", Key::String(change.path), body));
    }
    // Times of commits are those of a source's clock: they grow, but for a few that came late.
    let late = if number % 10 == 0 { 15 } else { 0 };
    let time_us = (i64::try_from(number).unwrap_or(i64::MAX) * 10 - late) * 1_000_000;
    Transaction { time_us, feed_high: number, events }
}
