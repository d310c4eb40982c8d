//! Plants one fault behind the services' back, so that it can be seen that the checker finds it.
//!
//! Faults of the log and of the replica go into files: the log is written anew with the fault in it and with
//! the same identity, every checksum valid, and takes the place of the real one.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use revenant_log::frame::{Control, Frame, FrameSpec, Payload, encode_frame};
use revenant_log::segment::header::{HEADER_BYTES, SegmentHeader};
use revenant_log::{
    Log, LogConfig, LogId, Op, ReadOnlyLog, RecordId, Seq, SourcePos, Transaction, Value, Witnesses,
};
use revenant_replica::{RebuildConfig, rebuild};
use serde::Serialize;

use super::services::{Services, Who};
use super::site::{Client, Site};
use super::wait;

/// Transactions that are appended at once.
const APPEND: usize = 200;

/// Which fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Tamper {
    /// A transaction is missing from the log.
    Drop,
    /// A transaction is in the log twice.
    Repeat,
    /// Two transactions that change the same row have changed places in the log.
    Swap,
    /// An edge of a view is deleted.
    Edge,
    /// A row of the replica has another value.
    Row,
}

/// Plants it. Everything has arrived everywhere before, and the checker runs right after.
pub(super) async fn plant(
    tamper: Tamper,
    site: &Site,
    client: &Client,
    services: &mut Services,
) -> Result<()> {
    match tamper {
        Tamper::Drop | Tamper::Repeat | Tamper::Swap => {
            let (id, mut transactions) = read(&site.log_dir())?;
            edit(tamper, &mut transactions)?;
            let forged = site.dir.join("forged");
            write(&forged, id, transactions).await?;
            exchange(&forged, &site.log_dir())
        }
        Tamper::Edge => {
            let db = site.connect().await?;
            let statement = "DELETE (SELECT VALUE id FROM _00_list_ref LIMIT 1)";
            db.run(statement, []).await.map(|_| ()).context("delete an edge")
        }
        Tamper::Row => row(site, client, services).await,
    }
}

/// The replica of a log in which one row has another value takes the place of the real one, while the
/// scheduler is stopped.
async fn row(site: &Site, client: &Client, services: &mut Services) -> Result<()> {
    services.get(Who::Scheduler)?.stop().await?;
    let (id, mut transactions) = read(&site.log_dir())?;
    let body = transactions
        .iter_mut()
        .rev()
        .flat_map(|transaction| transaction.events.iter_mut().rev())
        .filter(|event| !event.stale)
        .find_map(|event| match &mut event.body {
            Some(Value::Object(body)) => Some(body),
            _ => None,
        });
    body.context("the log holds no row")?.insert("tampered".into(), Value::Bool(true));
    let forged = site.dir.join("forged");
    write(&forged, id, transactions).await?;
    let file = site.dir.join("forged.redb");
    rebuild(&forged, &file, &RebuildConfig::default(), |_| {}).context("rebuild the replica")?;
    let real = only_file(&site.replica_dir())?;
    std::fs::rename(&file, &real).context("exchange the replica")?;
    std::fs::remove_dir_all(&forged).context("remove the forged log")?;
    services.get(Who::Scheduler)?.restart(site, Who::Scheduler)?;
    wait::scheduler(site, client).await?;
    for index in 0..site.ssps.len() {
        wait::ssp(site, client, index).await?;
    }
    Ok(())
}

fn only_file(dir: &Path) -> Result<std::path::PathBuf> {
    let files = std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|ending| ending == "redb") {
            return Ok(path);
        }
    }
    bail!("{} holds no replica", dir.display())
}

/// The transactions of a log.
fn read(dir: &Path) -> Result<(LogId, Vec<Transaction>)> {
    let log = ReadOnlyLog::open(dir).context("open the log")?;
    let mut transactions = Vec::new();
    let mut events = Vec::new();
    for located in log.records(Seq::FIRST) {
        let record = located.context("read the log")?.record;
        let (time_us, feed_high) = (record.time_us, record.feed_high);
        events.push(record.event);
        if record.ends_transaction {
            let events = std::mem::take(&mut events);
            transactions.push(Transaction { time_us, feed_high, events });
        }
    }
    Ok((log.id(), transactions))
}

fn edit(tamper: Tamper, transactions: &mut Vec<Transaction>) -> Result<()> {
    let fed = |transaction: &Transaction| transaction.events[0].source != SourcePos::UNKNOWN;
    let from = transactions.iter().position(fed).context("the log holds no change of the feed")?;
    // In the middle of what was captured: sealed, replayed, long applied.
    let at = from + (transactions.len() - from) / 2;
    match tamper {
        Tamper::Drop => {
            transactions.remove(at);
        }
        Tamper::Repeat => transactions.insert(at + 1, transactions[at].clone()),
        _ => {
            let (one, other) = pair(transactions, at)?;
            transactions.swap(one, other);
        }
    }
    Ok(())
}

/// Two transactions from `at` on that change the same row.
fn pair(transactions: &[Transaction], at: usize) -> Result<(usize, usize)> {
    let mut seen: HashMap<RecordId, usize> = HashMap::new();
    for (index, transaction) in transactions.iter().enumerate().skip(at) {
        let changes =
            transaction.events.iter().filter(|event| !event.stale && event.op != Op::Load);
        for event in changes {
            if let Some(before) = seen.insert(event.record_id(), index)
                && before != index
            {
                return Ok((before, index));
            }
        }
    }
    bail!("no two transactions change the same row")
}

/// Writes a log with the identity `id`.
async fn write(dir: &Path, id: LogId, transactions: Vec<Transaction>) -> Result<()> {
    let mut config = LogConfig::new(dir);
    config.segment_bytes = 4 << 20;
    config.frame_bytes = 512 << 10;
    let (log, _) = Log::open(config, Witnesses::none()).context("open the forged log")?;
    for part in transactions.chunks(APPEND) {
        log.append(part.to_vec(), None).await.context("append to the forged log")?;
    }
    log.close().await.context("close the forged log")?;
    for segment in ReadOnlyLog::open(dir)?.segments() {
        rename(&segment.path, id).with_context(|| format!("edit {}", segment.path.display()))?;
    }
    Ok(())
}

/// Gives a segment the identity `id`, in its header and in every frame that names it.
fn rename(path: &Path, id: LogId) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    let mut header = SegmentHeader::decode(&bytes, path)?;
    header.log_id = id;
    let page = header.encode();
    bytes[..page.len()].copy_from_slice(&page);
    let whole = Bytes::from(bytes.clone());
    let mut offset = HEADER_BYTES;
    while let Ok(frame) = Frame::decode(&whole, 0, offset, header.salt) {
        let control = frame.header.is_control().then(|| Control::decode(&frame.payload));
        if let Some(Ok(Control::Open(mut open))) = control {
            open.log_id = id;
            let payload = Control::Open(open).encode();
            let spec = FrameSpec {
                base_seq: frame.header.base_seq,
                synced_pos: frame.header.synced_pos,
                time_us: frame.header.time_us,
                payload: Payload::Control(&payload),
            };
            let mut renamed = Vec::new();
            encode_frame(&spec, header.salt, offset, &mut renamed);
            let at = usize::try_from(offset)?;
            bytes[at..at + renamed.len()].copy_from_slice(&renamed);
        }
        offset += frame.header.frame_len();
    }
    Ok(std::fs::write(path, bytes)?)
}

/// The forged log takes the real one's place, which is kept beside it.
fn exchange(forged: &Path, real: &Path) -> Result<()> {
    let aside = real.with_extension("before");
    std::fs::rename(real, &aside).with_context(|| format!("move {} aside", real.display()))?;
    std::fs::rename(forged, real).with_context(|| format!("put {} in place", forged.display()))
}
