//! The audit chain: of the records and nothing else, and what it finds that checksums do not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use revenant_log::chain::RecordHash;
use revenant_log::frame::{Frame, FrameSpec, Payload, encode_frame};
use revenant_log::segment::header::{HEADER_BYTES, SegmentHeader};
use revenant_log::step::StepLog;
use revenant_log::storage::sim::Sim;
use revenant_log::{
    Anchor, ChainHash, Error, Log, LogConfig, ReadOnlyLog, Seq, Transaction, Witnesses, verify,
    verify_anchors,
};

use crate::model::{small, transaction};

/// Transactions of many shapes, one of them larger than a frame.
fn history() -> Vec<Transaction> {
    (0..24).map(|number| transaction(number, 1 + number % 5, 1000)).collect()
}

fn open(sim: &Sim, config: LogConfig) -> StepLog {
    StepLog::open(Arc::new(sim.clone()), config, &Witnesses::none()).unwrap().0
}

/// A log of [`history`] on the disk, closed.
fn closed(history: Vec<Transaction>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
    for one in history {
        runtime.block_on(log.append(vec![one], None)).unwrap();
    }
    runtime.block_on(log.close()).unwrap();
    dir
}

#[test]
fn logs_of_the_same_records_have_the_same_hashes_however_they_came_to_be() {
    let (a, b) = (Sim::default(), Sim::default());
    let mut at_once = open(&a, LogConfig::new("/log"));
    at_once.append(&history()).unwrap();
    let mut bit_by_bit = open(&b, small("/log"));
    for one in history() {
        bit_by_bit.append(&[one]).unwrap();
        bit_by_bit.keep().unwrap();
        bit_by_bit.idle().unwrap();
        drop(bit_by_bit);
        bit_by_bit = open(&b, small("/log"));
    }
    let mut chain = ChainHash::START;
    let records = at_once.read(Seq::FIRST, usize::MAX).unwrap().records;
    for (seq, record) in (1..).zip(&records) {
        assert_eq!(bit_by_bit.anchor(Seq(seq - 1)).unwrap().hash, chain, "before seq {seq}");
        chain = chain.then(RecordHash::of(record));
        assert_eq!(at_once.anchor(Seq(seq)).unwrap().hash, chain, "seq {seq}");
    }
    assert_eq!(bit_by_bit.anchor(bit_by_bit.durable_seq()).unwrap().hash, chain);
    let beyond = at_once.anchor(at_once.durable_seq().next());
    assert!(matches!(beyond, Err(Error::BadInput(_))), "{beyond:?}");
}

#[test]
fn a_trimmed_log_has_the_hashes_of_what_it_keeps_and_of_the_record_before() {
    let sim = Sim::default();
    let mut log = open(&sim, small("/log"));
    log.append(&history()).unwrap();
    log.keep().unwrap();
    let whole: Vec<_> =
        (0..=log.durable_seq().0).map(|seq| log.anchor(Seq(seq)).unwrap()).collect();
    log.trim(log.durable_seq()).unwrap();
    let first = log.first_seq();
    assert!(first > Seq(2));
    for anchor in whole {
        match log.anchor(anchor.seq) {
            Err(Error::Trimmed { .. }) => assert!(anchor.seq < first.prev()),
            kept => assert_eq!(kept.unwrap(), anchor),
        }
    }
}

#[test]
fn a_log_whose_end_is_damaged_has_no_anchor_of_its_end() {
    let dir = closed(history());
    let log = ReadOnlyLog::open(dir.path()).unwrap();
    let active = log.segments().iter().rfind(|one| one.records() > 0).unwrap().path.clone();
    let mut bytes = fs::read(&active).unwrap();
    bytes[usize::try_from(HEADER_BYTES).unwrap() + 200] ^= 1;
    fs::write(&active, bytes).unwrap();
    let log = ReadOnlyLog::open(dir.path()).unwrap();
    let refused = log.anchor(log.last_seq());
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert!(log.anchor(Seq(1)).is_ok());
}

#[test]
fn a_log_meets_its_own_anchors_and_no_others() {
    let dir = closed(history());
    let log = ReadOnlyLog::open(dir.path()).unwrap();
    let anchors: Vec<_> = (0..=log.last_seq().0).map(|seq| log.anchor(Seq(seq)).unwrap()).collect();
    let report = verify_anchors(dir.path(), &anchors).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.anchors, report.chain), (anchors.len(), anchors[anchors.len() - 1].hash));
    let seq = log.last_seq();
    for wrong in [
        Anchor { seq, hash: anchors[1].hash },
        Anchor { seq: Seq(0), hash: anchors[1].hash },
        Anchor { seq: seq.next(), ..anchors[1] },
    ] {
        let report = verify_anchors(dir.path(), &[anchors[3], wrong]).unwrap();
        assert_eq!((report.findings.len(), report.anchors), (1, 1), "{:?}", report.findings);
        assert_eq!(report.findings[0].seq, wrong.seq);
    }
}

#[test]
fn a_log_written_anew_with_one_record_changed_is_whole_but_meets_no_later_anchor() {
    let real = closed(history());
    let log = ReadOnlyLog::open(real.path()).unwrap();
    let anchors = [10, 30, log.last_seq().0].map(|seq| log.anchor(Seq(seq)).unwrap());
    let mut changed = history();
    changed[7].events[0].version = Some(0); // seq 23
    let forged = closed(changed);
    assert_eq!(verify(forged.path()).unwrap().findings.len(), 0);
    let report = verify_anchors(forged.path(), &anchors).unwrap();
    let seqs: Vec<_> = report.findings.iter().map(|finding| finding.seq).collect();
    assert_eq!(seqs, [anchors[1].seq, anchors[2].seq]);
}

#[test]
fn a_record_changed_in_place_with_its_checksums_mended_is_found() {
    let dir = closed(history());
    let path = dir.path().join("seg/0000000001.log");
    forge(&path);
    let report = verify(dir.path()).unwrap();
    let finding = &report.findings[0];
    assert_eq!((&finding.path, finding.seq), (&path, Seq::FIRST), "{finding:?}");
    assert!(finding.reason.contains("audit chain"), "{finding:?}");
}

/// Changes a byte of the first record's body and mends the checksums of its frame.
fn forge(path: &Path) {
    let file = Bytes::from(fs::read(path).unwrap());
    let header = SegmentHeader::decode(&file, path).unwrap();
    let mut offset = HEADER_BYTES;
    loop {
        let frame = Frame::decode(&file, 0, offset, header.salt).unwrap();
        let Some(chain) = frame.header.chain else {
            offset += frame.header.frame_len();
            continue;
        };
        let mut record = frame.record(0).to_vec();
        let middle = record.len() / 2;
        record[middle] ^= 1;
        assert_eq!(frame.header.record_count, 1, "the first transaction has one event");
        let ends = [u32::try_from(record.len()).unwrap()];
        let payload =
            Payload::Records { ends: &ends, bytes: &record, ends_transaction: true, chain };
        let (base_seq, synced_pos) = (frame.header.base_seq, frame.header.synced_pos);
        let spec = FrameSpec { base_seq, synced_pos, time_us: frame.header.time_us, payload };
        let mut bytes = Vec::new();
        encode_frame(&spec, header.salt, offset, &mut bytes);
        let mut forged = file.to_vec();
        let start = usize::try_from(offset).unwrap();
        forged[start..start + bytes.len()].copy_from_slice(&bytes);
        fs::write(path, forged).unwrap();
        return;
    }
}

/// Opens the log on `sim`, which has a receipt outside.
fn open_with(sim: &Sim, receipt: Anchor) -> Result<StepLog, Error> {
    let witnesses = Witnesses::none().with_receipt("the receipt", receipt);
    StepLog::open(Arc::new(sim.clone()), small("/log"), &witnesses).map(|(log, _)| log)
}

#[test]
fn a_log_opens_with_every_receipt_it_ever_gave_and_with_no_other() {
    let sim = Sim::default();
    let mut log = open(&sim, small("/log"));
    for transaction in history() {
        log.append(&[transaction]).unwrap();
        log.keep().unwrap();
    }
    let last = log.durable_seq();
    let receipts: Vec<_> = (0..=last.0).map(|seq| log.anchor(Seq(seq)).unwrap()).collect();
    log.close().unwrap();
    let open_with = |receipt| open_with(&Sim::boot(sim.disk()), receipt);
    for &receipt in &receipts {
        assert!(open_with(receipt).is_ok(), "{receipt}");
        let mut forged = receipt;
        forged.hash.0[31] ^= 1;
        let refused = open_with(forged).err().unwrap();
        let named = matches!(&refused, Error::Corrupt { seq, .. } if *seq == receipt.seq);
        assert!(named && refused.to_string().contains("the receipt"), "{refused}");
    }
    let mut later = *receipts.last().unwrap();
    later.seq = later.seq.next();
    assert!(matches!(open_with(later), Err(Error::Lost { .. })));
}

#[test]
fn a_receipt_tells_of_an_older_copy_put_back_and_of_an_end_erased_with_all_that_knew_of_it() {
    let sim = Sim::default();
    let mut log = open(&sim, small("/log"));
    let mut history = history().into_iter();
    log.append(&[history.next().unwrap()]).unwrap();
    let older = sim.disk().after_kill();
    let path = Path::new("/log/seg/0000000001.log");
    let end = older.bytes(path).unwrap().iter().rposition(|&byte| byte != 0).unwrap();
    log.append(&[history.next().unwrap()]).unwrap();
    let receipt = log.anchor(log.durable_seq()).unwrap();
    log.close().unwrap();
    let mut erased = sim.disk().after_kill();
    let mut bytes = erased.bytes(path).unwrap();
    bytes[end + 1..].fill(0);
    erased.put(path, Some(bytes));
    for disk in [older, erased] {
        assert!(
            StepLog::open(Arc::new(Sim::boot(disk.clone())), small("/log"), &Witnesses::none())
                .is_ok()
        );
        let sim = Sim::boot(disk);
        assert!(matches!(open_with(&sim, receipt), Err(Error::Lost { .. })));
        assert_eq!(sim.ops(), 0, "a refused open changes nothing");
    }
}

#[test]
fn a_receipt_of_what_was_trimmed_says_nothing() {
    let sim = Sim::default();
    let mut log = open(&sim, small("/log"));
    let mut receipts = Vec::new();
    while log.first_seq() < Seq(4) {
        for transaction in history() {
            log.append(&[transaction]).unwrap();
            receipts.push(log.anchor(log.durable_seq()).unwrap());
            log.keep().unwrap();
        }
        log.trim(log.durable_seq()).unwrap();
    }
    let first = log.first_seq();
    log.close().unwrap();
    for receipt in receipts {
        let open = |receipt| open_with(&Sim::boot(sim.disk()), receipt).is_ok();
        let forged = Anchor { hash: ChainHash::START, ..receipt };
        assert!(open(receipt));
        assert_eq!(open(forged), receipt.seq < first.prev(), "{receipt}, {first} is kept");
    }
}
