//! T: from the acknowledgement of an append to a reader at the tail that has the record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use revenant_log::Seq;
use serde_json::json;

use crate::Settings;
use crate::body::body;
use crate::floor::{percentile, wake_up};
use crate::peer::{Failure, Size, ours, runtime};
use crate::table::{Row, Table};

const APPENDS: u64 = 2000;

/// One writer and `tailers` readers.
pub fn run(settings: &Settings, table: &mut Table) -> Result<(), Failure> {
    let wake = wake_up();
    table.add(Row {
        detail: "one thread wakes another that waits".into(),
        numbers: json!({ "us": wake }),
        ..Row::words("T", "floor", format!("{wake:.1} us"))
    });
    for tailers in [1, 16] {
        let mut late = tail(settings, tailers)?;
        let (p50, p99) = (percentile(&mut late, 0.5), percentile(&mut late, 0.99));
        table.add(Row {
            detail: "two wake-ups / from the ack to the record at the reader".into(),
            ratio: Some(2.0 * wake / p50.max(0.1)),
            wanted: (tailers == 1).then_some(1.0),
            numbers: json!({ "p50_us": p50, "p99_us": p99 }),
            ..Row::words(
                &format!("T {tailers}"),
                "revenant-log",
                format!("p50 {p50:.1} p99 {p99:.1} us"),
            )
        });
    }
    table.add(Row::words("T", "all embedded peers", "no tail to wait on"));
    Ok(())
}

/// How much later than its acknowledgement each reader had each record, microseconds; 0 if it had it before.
fn tail(settings: &Settings, tailers: usize) -> Result<Vec<f64>, Failure> {
    let home = tempfile::tempdir_in(&settings.dir)?;
    let peer = ours::open_counted(home.path(), Size::Full)?;
    let started = Instant::now();
    let readers: Vec<_> = (0..tailers)
        .map(|_| {
            let log = peer.log.clone();
            runtime().spawn(async move {
                let (mut watch, mut had) = (log.watch(), Vec::new());
                let mut next = Seq::FIRST;
                while next.0 <= APPENDS {
                    watch.wait_past(next.prev()).await?;
                    let batch = log.read(next, 1 << 20)?;
                    let now = started.elapsed();
                    had.extend(batch.records.iter().map(|_| now));
                    next = batch.last_seq().next();
                }
                Ok::<_, revenant_log::Error>(had)
            })
        })
        .collect();
    let log = peer.log.clone();
    let writer = runtime().spawn(async move {
        let mut acked = Vec::new();
        for number in 1..=APPENDS {
            log.append(vec![ours::transaction(&body(number))], None).await?;
            acked.push(started.elapsed());
        }
        Ok::<_, revenant_log::Error>(acked)
    });
    let acked: Arc<[Duration]> = runtime().block_on(writer)??.into();
    let mut late = Vec::new();
    for reader in readers {
        let had = runtime().block_on(reader)??;
        late.extend(
            had.iter()
                .zip(acked.iter())
                .map(|(had, acked)| had.saturating_sub(*acked).as_secs_f64() * 1e6),
        );
    }
    runtime().block_on(peer.log.close())?;
    Ok(late)
}
