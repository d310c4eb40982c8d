//! Rebuilds of a log to many points, each compared with a model: an ordered map that is told the log's decoded
//! records one by one, and shares no code with what stores rows.

use std::collections::BTreeMap;
use std::path::Path;

use revenant_log::{Key, Op, ReadOnlyLog, Record, Seq, Value};
use serde::Serialize;

use crate::error::Error;
use crate::rebuild::{RebuildConfig, rebuild, seq_at};
use crate::snapshot::Snapshot;

/// Rows read at once.
const PAGE_ROWS: usize = 1_000;
/// Bytes read at once.
const PAGE_BYTES: usize = 4 << 20;

/// What comparing rebuilds with the model found.
#[derive(Clone, Debug, Serialize)]
pub struct PointsReport {
    /// Rebuilds to a seq, each equal to the model unless it is among `wrong`.
    pub seqs: usize,
    /// Rebuilds to a time.
    pub times: usize,
    /// Records of the log.
    pub records: u64,
    /// Rows compared in all.
    pub rows: u64,
    /// What differed, in words.
    pub wrong: Vec<String>,
}

type Rows = BTreeMap<(String, Key), (Option<u64>, Value)>;

/// Rebuilds the log in `log_dir` to `count` seqs that are spread over it, any of which may lie inside a
/// transaction, and to the commit times of the records there, in files in `dir` that are removed again.
///
/// # Errors
/// [`Error::Trimmed`] if the log does not start at its first seq; [`Error::Log`], [`Error::Io`]. A rebuild
/// that differs is no error.
pub fn check_points(log_dir: &Path, dir: &Path, count: usize) -> Result<PointsReport, Error> {
    let log = ReadOnlyLog::open(log_dir)?;
    let last = log.last_seq().0;
    let mut report = PointsReport { seqs: 0, times: 0, records: last, rows: 0, wrong: Vec::new() };
    let (mut model, mut ahead) = (Model::default(), log.records(Seq::FIRST).peekable());
    for point in 1..=count as u64 {
        // Without the end, and where that leaves room, not at the same step each.
        let to = Seq((last * point / (count as u64 + 1) + point % 7).clamp(1, last.max(1)));
        while let Some(located) =
            ahead.next_if(|next| next.as_ref().map_or(true, |located| located.record.seq <= to))
        {
            model.take(located?.record);
        }
        report.seqs += 1;
        report.compare(log_dir, dir, to, &format!("seq {to}"), &model)?;
    }
    let times = times(&log, count)?;
    for time_us in times {
        let mut model = Model::default();
        for located in log.records(Seq::FIRST) {
            let record = located?.record;
            if record.time_us > time_us {
                break;
            }
            model.take(record);
        }
        report.times += 1;
        let to = seq_at(log_dir, time_us)?;
        report.compare(log_dir, dir, to, &format!("time {time_us}"), &model)?;
    }
    Ok(report)
}

/// Commit times of records that are spread over the log.
fn times(log: &ReadOnlyLog, count: usize) -> Result<Vec<i64>, Error> {
    let last = log.last_seq().0;
    let mut times = Vec::new();
    for point in 1..=count as u64 {
        let at = Seq((last * point / (count as u64 + 1)).clamp(1, last.max(1)));
        if let Some(located) = log.records(at).next() {
            times.push(located?.record.time_us);
        }
    }
    Ok(times)
}

impl PointsReport {
    fn compare(
        &mut self,
        log_dir: &Path,
        dir: &Path,
        to: Seq,
        point: &str,
        model: &Model,
    ) -> Result<(), Error> {
        let out = dir.join(format!("point-{to}.redb"));
        let rebuilt = rebuild(log_dir, &out, &RebuildConfig { to: Some(to), from: None }, |_| {})?;
        let snapshot = Snapshot::open(&out)?;
        if Seq(rebuilt.seq) != model.whole_seq || snapshot.seq() != model.whole_seq {
            let (found, due) = (snapshot.seq(), model.whole_seq);
            self.wrong.push(format!("{point}: rows as of seq {found}, {due} was due"));
        }
        let mut missing: BTreeMap<_, _> = model.whole.iter().collect();
        for table in snapshot.tables()? {
            let mut after = None;
            loop {
                let page = snapshot.page(&table.name, after.as_ref(), PAGE_ROWS, PAGE_BYTES)?;
                let Some(end) = page.last() else { break };
                after = Some(end.key.clone());
                for row in page {
                    self.rows += 1;
                    let id = (table.name.clone(), row.key);
                    let due = missing.remove(&id);
                    let same = due.is_some_and(|(version, body)| {
                        *version == row.version && body.identical(&row.body)
                    });
                    if !same {
                        let (table, key) = id;
                        self.wrong.push(format!("{point}: {table}:{key} differs"));
                    }
                }
            }
        }
        let missing =
            missing.keys().map(|(table, key)| format!("{point}: {table}:{key} is missing"));
        self.wrong.extend(missing);
        drop(snapshot);
        std::fs::remove_file(&out).map_err(|source| Error::Io {
            action: "remove",
            path: out.clone(),
            source,
        })
    }
}

/// The rows after whole transactions, and what the one under way changes.
#[derive(Default)]
struct Model {
    whole: Rows,
    whole_seq: Seq,
    open: Vec<Record>,
}

impl Model {
    fn take(&mut self, record: Record) {
        let ends = record.ends_transaction;
        let seq = record.seq;
        self.open.push(record);
        if !ends {
            return;
        }
        self.whole_seq = seq;
        for record in self.open.drain(..) {
            let event = record.event;
            if event.stale {
                continue;
            }
            let id = (event.table.to_string(), event.key);
            match event.body {
                Some(body) if event.op != Op::Delete => {
                    self.whole.insert(id, (event.version, body))
                }
                _ => self.whole.remove(&id),
            };
        }
    }
}
