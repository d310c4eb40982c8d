//! Flipped bits and missing files: found, named, and never served.

use std::path::Path;
use std::sync::Arc;

use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Disk, Sim};
use revenant_log::storage::{Access, Storage as _};
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
    let report = verify_on(&Sim::boot(disk), Path::new("/log"), &[]).unwrap();
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
            let report = verify_on(&Sim::boot(damaged), Path::new("/log"), &[]).unwrap();
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
    sim.remove(Path::new("/log/seg/0000000001.log")).unwrap();
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

/// What opening a damaged disk gives: the records it offers, or a refusal that touched nothing.
fn open_damaged(disk: Disk) -> Result<u64, Error> {
    let before = disk.contents();
    let sim = Sim::boot(disk);
    match StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()) {
        Ok((log, _)) => Ok(log.durable_seq().0),
        Err(error) => {
            assert!(sim.disk().contents() == before, "a refused open changed something");
            Err(error)
        }
    }
}

#[test]
fn a_closed_log_cut_anywhere_is_whole_or_refused() {
    let (disk, model) = closed();
    for number in [1, 2] {
        let path = format!("/log/seg/{number:010}.log");
        let path = Path::new(&path);
        for len in (0..disk.contents()[path].len()).step_by(8) {
            let mut damaged = disk.clone();
            damaged.cut(path, len);
            if let Ok(last) = open_damaged(damaged) {
                assert_eq!(last, model.acked as u64, "segment {number} cut at {len}");
            }
        }
    }
}

#[test]
fn zeroed_sectors_of_a_closed_log_are_harmless_or_refused() {
    let (disk, model) = closed();
    zeroed(&disk, &model);
}

#[test]
fn zeroed_sectors_of_an_idle_log_that_was_killed_are_harmless_or_refused() {
    // The last group ends at many places of a sector.
    for bytes in (20..3000).step_by(993) {
        let sim = Sim::default();
        let mut model = Model::default();
        let (mut log, _) =
            StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
        for number in 1..=3 {
            let transactions = [transaction(number, 2, bytes)];
            model.submit(&transactions);
            log.append(&transactions).unwrap();
            model.ack();
            log.idle().unwrap();
        }
        zeroed(&sim.disk().after_kill(), &model);
    }
}

/// Every sector and every page of every segment, zeroed one at a time.
fn zeroed(disk: &Disk, model: &Model) {
    for (path, bytes) in
        disk.contents().iter().filter(|(path, _)| path.extension().is_some_and(|one| one == "log"))
    {
        for len in [512, 4096] {
            for start in (0..bytes.len()).step_by(len) {
                let mut damaged = disk.clone();
                let end = bytes.len().min(start + len);
                (start..end).for_each(|at| damaged.flip(path, at, bytes[at]));
                if let Ok(last) = open_damaged(damaged) {
                    let what = path.display();
                    assert_eq!(last, model.acked as u64, "{len} bytes of {what} zeroed at {start}");
                }
            }
        }
    }
}

#[test]
fn swapped_and_foreign_segments_are_refused() {
    let (disk, _) = closed();
    let (foreign, _) = closed();
    let name = |number| format!("/log/seg/{number:010}.log");
    let bytes = |disk: &Disk, number| disk.contents()[Path::new(&name(number))].clone();
    for (number, content) in [
        (1, bytes(&disk, 2)),
        (2, bytes(&disk, 1)),
        (1, bytes(&foreign, 1)),
        (2, bytes(&foreign, 2)),
    ] {
        let sim = Sim::boot(disk.clone());
        let path = name(number);
        let path = Path::new(&path);
        sim.remove(path).unwrap();
        sim.open(path, Access::Create).unwrap().write_at(&content, 0).unwrap();
        let refused = open_damaged(sim.disk());
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{number}: {refused:?}");
        assert!(!verify_on(&sim, Path::new("/log"), &[]).unwrap().findings.is_empty());
    }
}

#[test]
fn a_sealed_segment_whose_successor_is_gone_is_refused() {
    let (disk, _) = closed();
    let sim = Sim::boot(disk);
    sim.remove(Path::new("/log/seg/0000000003.log")).unwrap();
    sim.remove(Path::new("/log/seg/0000000002.log")).unwrap();
    let text = open_damaged(sim.disk()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(text.contains("segment 2 is missing"), "{text}");
    let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
    assert!(report.findings[0].reason.contains("segment 2 is missing"), "{report:?}");
}

#[test]
fn flips_in_a_log_of_one_segment_lose_nothing_silently() {
    let sim = Sim::default();
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap();
    for number in 1..=4 {
        log.append(&[transaction(number, 2, 20)]).unwrap();
    }
    log.close().unwrap();
    let path = Path::new("/log/seg/0000000001.log");
    for bit in 0..8 * 8192 {
        let mut damaged = sim.disk();
        damaged.flip(path, bit / 8, 1 << (bit % 8));
        if let Ok(last) = open_damaged(damaged) {
            assert_eq!(last, 8, "bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}

#[test]
fn a_log_opened_often_without_an_append_stays_whole() {
    let sim = Sim::default();
    let mut model = Model::default();
    let open = || StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
    let (mut log, _) = open().unwrap();
    for (number, bytes) in [(1, 40_000), (2, 18_500), (3, 900)] {
        let transactions = [transaction(number, 1, bytes)];
        model.submit(&transactions);
        log.append(&transactions).unwrap();
        model.ack();
    }
    log.close().unwrap();
    for opening in 0..2000 {
        let (log, _) = open().unwrap_or_else(|error| panic!("opening {opening}: {error}"));
        if opening % 100 == 0 {
            let read = |from| decode(&log.read(from, 1 << 16).unwrap());
            model.check(read, log.first_seq(), log.durable_seq());
        }
        if opening % 2 == 0 {
            log.close().unwrap();
        }
    }
    let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}
