//! Flipped bits and missing files: found, named, and never served.

use std::path::Path;
use std::sync::Arc;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Disk, Sim};
use revenant_log::verify::verify_on;
use revenant_log::{Error, Seq, Witnesses};

use crate::model::{Model, decode, small, transaction};

/// A cleanly closed log with a sealed segment, an active one and a spare.
fn closed() -> (Disk, Model) {
    let sim = Sim::default();
    let mut model = Model::default();
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    for number in 1..=12 {
        let transactions = [transaction(number, 2, 3000)];
        model.submit(&transactions);
        log.append(&transactions).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    log.close().unwrap();
    (sim.disk(), model)
}

#[test]
fn verify_finds_nothing_in_a_whole_log() {
    let (disk, model) = closed();
    let report = verify_on(&Sim::boot(disk), Path::new("/log")).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.sealed, report.torn_bytes), (1, 0));
    assert_eq!(report.records, model.records.len() as u64);
    assert_eq!(report.transactions, 12);
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found_and_named() {
    let (disk, _) = closed();
    let path = Path::new("/log/seg/0000000001.log");
    let bytes = disk.contents()[path].len();
    let mut flips = 0;
    // Every bit of headers, frame headers, padding, index and trailer; payloads by one bit a byte.
    for offset in 0..bytes {
        for bit in 0..8 {
            if bit != offset % 8 && (4096 + 256..bytes - 1024).contains(&offset) {
                continue;
            }
            let mut damaged = disk.clone();
            damaged.flip(path, offset, 1 << bit);
            let report = verify_on(&Sim::boot(damaged), Path::new("/log")).unwrap();
            let finding = report.findings.first();
            let finding = finding.unwrap_or_else(|| panic!("bit {bit} of byte {offset} unnoticed"));
            assert_eq!(finding.path, path, "bit {bit} of byte {offset}: {finding:?}");
            flips += 1;
        }
    }
    println!("flips found: {flips} of {flips}");
}

#[test]
fn a_flipped_bit_never_loses_or_changes_a_record_silently() {
    let (disk, model) = closed();
    for number in [1, 2] {
        let path = format!("/log/seg/{number:010}.log");
        let path = Path::new(&path);
        let bytes = disk.contents()[path].len();
        for offset in (0..bytes).step_by(3) {
            let mut damaged = disk.clone();
            damaged.flip(path, offset, 1 << (offset % 8));
            let sim = Sim::boot(damaged);
            let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
            let Ok((log, _)) = opened else { continue };
            let mut from = Seq::FIRST;
            while from <= log.durable_seq() {
                match log.read(from, 1 << 16) {
                    Ok(batch) => {
                        for record in decode(&batch) {
                            let index = usize::try_from(record.seq.0 - 1).unwrap();
                            assert_eq!(record.event.source.versionstamp, model.records[index].0);
                            from = record.seq.next();
                        }
                    }
                    Err(Error::Corrupt { .. }) => break,
                    Err(other) => panic!("{other}"),
                }
            }
            let durable = usize::try_from(log.durable_seq().0).unwrap();
            assert_eq!(durable, model.acked, "byte {offset} of segment {number}");
        }
    }
}

#[test]
fn a_refused_open_changes_nothing() {
    let (disk, _) = closed();
    let mut damaged = disk.clone();
    damaged.flip(Path::new("/log/seg/0000000002.log"), 4096 + 200, 4);
    let before = damaged.contents();
    let sim = Sim::boot(damaged);
    let refused = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    assert!(matches!(refused.err(), Some(Error::Corrupt { .. })));
    assert_eq!((sim.disk().contents() == before, sim.ops()), (true, 0));
}

#[test]
fn a_log_that_lost_what_a_witness_knows_is_refused() {
    let (disk, model) = closed();
    let last = model.records.len() as u64;
    let witnesses = Witnesses::none().with("cursor of ssp-1", Seq(last + 1));
    let refused = StepLog::open(Arc::new(Sim::boot(disk)), small("/log"), &witnesses);
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("cursor of ssp-1"), "{text}");
}

#[test]
fn a_missing_segment_is_refused_by_number() {
    let (disk, _) = closed();
    let sim = Sim::boot(disk);
    revenant_log::storage::Storage::remove(&sim, Path::new("/log/seg/0000000001.log")).unwrap();
    let refused = StepLog::open(Arc::new(sim), small("/log"), &Witnesses::none());
    let text = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("segment 1 is missing"), "{text}");
}

#[test]
fn a_newer_format_is_refused_without_touching_a_byte() {
    let (mut disk, _) = closed();
    let path = Path::new("/log/seg/0000000001.log");
    let page = disk.contents()[path][..128].to_vec();
    // Minor version 9, with a checksum that holds.
    let mut newer = page.clone();
    newer[10] = 9;
    let crc = crc32fast::hash(&newer[..124]).to_le_bytes();
    newer[124..].copy_from_slice(&crc);
    for (offset, (old, new)) in page.iter().zip(&newer).enumerate() {
        disk.flip(path, offset, old ^ new);
    }
    let before = disk.contents();
    let sim = Sim::boot(disk);
    let refused = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    assert!(matches!(refused.err(), Some(Error::Unsupported { .. })));
    assert!(sim.disk().contents() == before);
}
