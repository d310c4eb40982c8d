//! The same upserts applied by a replica and by SurrealDB's embedded engine (surrealkv), on the same disk. Prints a
//! line for each, then one line of JSON. Of the ways to hand SurrealDB its rows, the fastest counts.
//!
//! `cargo bench --profile dev -p revenant-surreal --bench upserts [-- DIR]`, in the profile in which SurrealDB is
//! built for everything else; the directory decides which disk is measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use revenant_log::value::Object;
use revenant_log::{
    Event, Key, LogId, Op, RawRecord, Record, RecordId, Seq, SourcePos, Value, encode_record,
};
use revenant_replica::{Replica, ReplicaConfig};
use revenant_surreal::{Db, Target};
use serde_json::json;

/// Records in all; a third of them create a row, the rest change one.
const RECORDS: u64 = 40_000;
/// Records in one transaction, for either; the fastest counts.
const COMMITS: [usize; 3] = [100, 1_000, 10_000];
/// Bytes of text in each row.
const BODY_BYTES: usize = 200;
/// What is asked for: so many times SurrealDB's rate.
const LEAST: f64 = 10.0;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Cargo passes `--bench`; a directory is the only other argument.
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let base = given.map_or_else(std::env::temp_dir, Into::into);
    let dir = base.join(format!("revenant-upserts-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = measure(&dir).await;
    std::fs::remove_dir_all(&dir)?;
    if !result? {
        std::process::exit(1);
    }
    Ok(())
}

async fn measure(dir: &Path) -> Result<bool, Failure> {
    let records = records();
    let mut rows = BTreeMap::new();
    for record in &records {
        rows.insert(record.event.key.clone(), record.event.body.clone());
    }
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for commit in COMMITS {
        let seconds =
            replica(&dir.join(format!("replica-{commit}")), &records, commit, rows.len())?;
        println!("replica    {commit:6} in a commit: {:8.0} upserts/s", rate(seconds));
        ours = ours.min(seconds);
        for way in [Way::Insert, Way::Upserts] {
            let path = dir.join(format!("surrealkv-{commit}-{way:?}"));
            let seconds = surrealdb(&path, &records, commit, way, &rows).await?;
            println!(
                "SurrealDB  {commit:6} in a commit: {:8.0} upserts/s by {way:?}",
                rate(seconds)
            );
            theirs = theirs.min(seconds);
        }
    }
    let ratio = theirs / ours;
    let pass = ratio >= LEAST;
    println!("ratio {ratio:.1}, at least {LEAST} is due");
    println!(
        "{}",
        json!({
            "show": "bench-replica-surrealdb", "pass": pass, "records": RECORDS, "rows": rows.len(),
            "replica_per_s": rate(ours), "surrealdb_per_s": rate(theirs), "ratio": ratio, "least": LEAST,
        })
    );
    Ok(pass)
}

fn rate(seconds: f64) -> f64 {
    (RECORDS as f64 / seconds).round()
}

/// The same dice for every run: keys as random ids are, rows of a number and a text.
fn records() -> Vec<Record> {
    let mut state = 1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut keys: Vec<Key> = Vec::new();
    (1..=RECORDS)
        .map(|seq| {
            let new = keys.is_empty() || random() % 3 == 0;
            if new {
                keys.push(Key::String(format!("{:016x}", random())));
            }
            let last = keys.len() - 1;
            let key = if new { last } else { usize::try_from(random()).unwrap_or(0) % (last + 1) };
            let event = Event {
                op: if new { Op::Create } else { Op::Update },
                table: "file".into(),
                key: keys[key].clone(),
                version: Some(seq),
                body: Some(Value::Object(body(random().cast_signed()))),
                before: None,
                source: SourcePos { versionstamp: seq, ordinal: 0 },
                stale: false,
            };
            Record { seq: Seq(seq), time_us: 0, ends_transaction: true, feed_high: seq, event }
        })
        .collect()
}

fn body(number: i64) -> Object {
    let text = Value::String("x".repeat(BODY_BYTES));
    [("n".to_owned(), Value::Int(number)), ("text".to_owned(), text)].into()
}

/// Seconds until everything is applied and durable.
fn replica(path: &Path, records: &[Record], commit: usize, rows: usize) -> Result<f64, Failure> {
    let encoded = records.iter().map(|record| {
        let mut bytes = Vec::new();
        encode_record(record, &mut bytes);
        (record.seq, bytes)
    });
    let encoded: Vec<_> = encoded.collect();
    let (replica, _) = Replica::open(path, LogId([1; 16]), &ReplicaConfig::default())?;
    let started = Instant::now();
    for chunk in encoded.chunks(commit) {
        let raw = chunk.iter().map(|(seq, bytes)| RawRecord::read(*seq, bytes));
        replica.apply(&raw.collect::<Result<Vec<_>, _>>()?)?;
    }
    replica.checkpoint()?;
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(replica.snapshot()?.tables()?[0].rows, rows as u64, "every row is there");
    Ok(seconds)
}

/// How SurrealDB is given its rows.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One statement for all rows.
    Insert,
    /// One statement for each.
    Upserts,
}

/// Seconds until everything is committed.
async fn surrealdb(
    path: &Path,
    records: &[Record],
    commit: usize,
    way: Way,
    rows: &BTreeMap<Key, Option<Value>>,
) -> Result<f64, Failure> {
    let target = Target {
        url: format!("surrealkv://{}", path.display()),
        user: String::new(),
        password: String::new(),
        namespace: "bench".into(),
        database: "bench".into(),
    };
    let db = Db::connect(&target).await?;
    db.run("DEFINE TABLE file SCHEMALESS", []).await?;
    let started = Instant::now();
    for chunk in records.chunks(commit) {
        let rows = chunk.iter().map(|record| row(record, way)).collect();
        let statement = match way {
            Way::Insert => {
                "INSERT INTO file $rows ON DUPLICATE KEY UPDATE n = $input.n, text = $input.text RETURN NONE"
            }
            Way::Upserts => "FOR $row IN $rows { UPSERT $row.id CONTENT $row.body RETURN NONE }",
        };
        db.run(statement, [("rows", Value::Array(rows))]).await?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let stored = db.run("SELECT * FROM file ORDER BY id", []).await?;
    let Some(Value::Array(stored)) = stored.first() else { return Err("no rows".into()) };
    assert_eq!(stored.len(), rows.len(), "every row is there");
    for (row, (key, body)) in stored.iter().zip(rows) {
        let Some(Value::RecordId(id)) = row.field("id") else {
            return Err("a row without id".into());
        };
        assert_eq!(id.key, *key, "the rows that were sent");
        let n = body.as_ref().and_then(|body| body.field("n"));
        assert_eq!(row.field("n"), n, "its last change");
    }
    Ok(seconds)
}

fn row(record: &Record, way: Way) -> Value {
    let id = RecordId { table: "file".into(), key: record.event.key.clone() };
    let id = Value::RecordId(Box::new(id));
    let body = record.event.body.clone().unwrap_or(Value::None);
    match (way, body) {
        (Way::Insert, Value::Object(mut body)) => {
            body.insert("id".to_owned(), id);
            Value::Object(body)
        }
        (_, body) => Value::Object([("id".to_owned(), id), ("body".to_owned(), body)].into()),
    }
}
