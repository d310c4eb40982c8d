//! The process that appends: it says on its output what it is about to append, and what was acknowledged.

use std::path::Path;

use revenant_log::{Error, Log, Seq, Transaction, Witnesses};

use crate::model::{small, transaction};

/// Transaction `number`, of one to three records.
pub(crate) fn sent(number: u64) -> Transaction {
    transaction(number, 1 + number % 3, 700)
}

/// Trims now and then, keeping so many records.
const KEPT: u64 = 100;

/// Appends so many transactions to the log in `dir`, or until it stops.
pub(crate) fn live(dir: &Path, appends: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let log = match Log::open(small(dir), Witnesses::none()) {
        Ok((log, _)) => log,
        Err(error) => return println!("not open: {error}"),
    };
    for number in 1..=appends {
        println!("send {number}");
        match runtime.block_on(log.append(vec![sent(number)], None)) {
            Ok(_) => println!("ack {number}"),
            Err(Error::Full { .. }) => println!("full {number}"),
            Err(error) => return println!("stopped: {error}"),
        }
        let before = log.durable_seq().0.saturating_sub(KEPT);
        if number % 20 == 0
            && let Err(error) = runtime.block_on(log.trim(Seq(before)))
        {
            println!("not trimmed: {error}");
        }
    }
    if let Err(error) = runtime.block_on(log.close()) {
        println!("not closed: {error}");
    }
}
