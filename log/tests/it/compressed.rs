//! Compressed segments: the same records, the same hashes, found and named when they are damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use revenant_log::step::StepLog;
use revenant_log::storage::fs::Fs;
use revenant_log::storage::sim::{Dice, Disk, Fault, Sim};
use revenant_log::storage::{Access, File, Lock, LockError, Storage};
use revenant_log::verify::verify_on;
use revenant_log::{
    DirArchive, Error, Log, LogConfig, ReadOnlyLog, SegmentUse, Seq, Transaction, Witnesses,
    verify, verify_anchors,
};

use crate::model::{Model, batch, decode, small, transaction};

const LEVEL: i32 = 3;

fn segment(number: u64) -> PathBuf {
    format!("/log/seg/{number:010}.log").into()
}

fn open(sim: &Sim) -> StepLog {
    StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none()).unwrap().0
}

/// A log of these transactions with all it could seal sealed.
fn written(transactions: impl IntoIterator<Item = Transaction>) -> (Sim, StepLog, Model) {
    let (sim, mut model) = (Sim::default(), Model::default());
    let mut log = open(&sim);
    for transaction in transactions {
        let one = [transaction];
        model.submit(&one);
        log.append(&one).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    (sim, log, model)
}

fn many(count: u64) -> impl Iterator<Item = Transaction> {
    (1..=count).map(|number| transaction(number, 2, 3000))
}

fn is_compressed(sim: &Sim, number: u64) -> bool {
    sim.disk().bytes(&segment(number)).is_some_and(|bytes| bytes[10..16] == [1, 0, 1, 0, 0, 0])
}

fn check(log: &StepLog, model: &Model) {
    let read = |from| decode(&log.read(from, 1 << 16).unwrap());
    model.check(read, log.first_seq(), log.durable_seq());
}

/// Every record of a log, by the walk that lends them.
fn walked(log: &StepLog, from: Seq) -> Vec<(Seq, Vec<u8>)> {
    let (mut reader, mut records) = (log.reader(from), Vec::new());
    while let Some(frame) = reader.next_frame().unwrap() {
        records.extend(frame.map(|(seq, bytes)| (seq, bytes.to_vec())));
    }
    records
}

#[test]
fn a_compressed_log_gives_the_same_records_hashes_and_positions_before_and_after_a_restart() {
    let (sim, mut log, mut model) = written(many(60));
    let before = walked(&log, Seq::FIRST);
    let anchors: Vec<_> = (0..=120).map(|seq| log.anchor(Seq(seq)).unwrap()).collect();
    let (report, used) = (verify_on(&sim, Path::new("/log"), &anchors).unwrap(), sim.used());
    let reader_before = log.reader(Seq::FIRST);
    let count = log.compress(LEVEL).unwrap();
    assert!(count >= 5 && is_compressed(&sim, 1), "{count} segments");
    assert!(sim.used() < used / 2, "{} bytes of {used}", sim.used());
    assert!(sim.list(Path::new("/log/seg")).unwrap().iter().all(|name| name.ends_with(".log")));
    drop(reader_before);
    for _ in 0..2 {
        check(&log, &model);
        assert!(walked(&log, Seq::FIRST) == before);
        for (from, anchor) in (0_u64..).zip(&anchors) {
            assert_eq!(log.anchor(Seq(from)).unwrap(), *anchor);
            let records = walked(&log, Seq(from));
            assert!(records[..] == before[usize::try_from(from.max(1) - 1).unwrap()..]);
        }
        let after = verify_on(&sim, Path::new("/log"), &anchors).unwrap();
        assert!(after.findings.is_empty(), "{:?}", after.findings);
        let figures = |one: &revenant_log::VerifyReport| {
            (one.sealed, one.records, one.transactions, one.chain, one.anchors)
        };
        assert_eq!(figures(&after), figures(&report));
        drop(log);
        log = open(&sim);
    }
    // Appends, trims and the next segments go on as ever.
    let more: Vec<_> = (61..=90).map(|number| transaction(number, 2, 3000)).collect();
    for one in more {
        model.submit(std::slice::from_ref(&one));
        log.append(&[one]).unwrap();
        model.ack();
        log.keep().unwrap();
    }
    assert_eq!(log.compress(LEVEL).unwrap(), 4);
    assert_eq!(log.compress(LEVEL).unwrap(), 0, "all are compressed");
    log.trim(Seq(50)).unwrap();
    assert!(log.first_seq() > Seq(30));
    check(&log, &model);
    log.close().unwrap();
    check(&open(&sim), &model);
}

#[test]
fn a_segment_that_does_not_shrink_stays_as_it_is() {
    let noise = |seed| {
        let mut dice = Dice::new(seed);
        let mut one = transaction(seed, 1, 0);
        let bytes = (0..6000).map(|_| dice.roll().to_le_bytes()[0]).collect();
        one.events[0].body = Some(revenant_log::Value::Bytes(bytes));
        one
    };
    let (sim, mut log, _) = written((1..40).map(noise));
    let before = sim.disk().contents();
    assert_eq!(log.compress(19).unwrap(), 0);
    assert!(sim.disk().contents() == before);
}

#[test]
fn a_reader_in_a_segment_goes_on_while_it_is_compressed_and_trimmed() {
    let (_, mut log, _) = written(many(40));
    let all = walked(&log, Seq::FIRST);
    let mut reader = log.reader(Seq::FIRST);
    let first: Vec<_> = reader.next_frame().unwrap().unwrap().collect();
    assert_eq!(first[0].0, Seq::FIRST);
    log.compress(LEVEL).unwrap();
    let mut next = reader.next_seq();
    while let Some(frame) = reader.next_frame().unwrap() {
        for (seq, bytes) in frame {
            assert_eq!(seq, next);
            assert!(all[usize::try_from(seq.0 - 1).unwrap()].1 == bytes);
            next = seq.next();
        }
    }
    assert_eq!(next, log.durable_seq().next());
    let trimmed = log.reader(Seq::FIRST);
    log.trim(log.durable_seq()).unwrap();
    let mut trimmed = trimmed;
    assert!(matches!(trimmed.next_frame(), Err(Error::Trimmed { .. })));
}

#[test]
fn every_flipped_bit_of_a_compressed_segment_is_found_named_and_never_served() {
    let (sim, mut log, model) = written(many(12));
    assert_eq!(log.compress(LEVEL).unwrap(), 1);
    log.close().unwrap();
    let (disk, path) = (sim.disk(), segment(1));
    let bytes = disk.bytes(&path).unwrap().len();
    assert!(bytes < 16 << 10, "{bytes} bytes");
    for bit in 0..bytes * 8 {
        let mut damaged = disk.clone();
        damaged.flip(&path, bit / 8, 1 << (bit % 8));
        let sim = Sim::boot(damaged);
        let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
        let finding = report.findings.first().unwrap_or_else(|| panic!("bit {bit} unnoticed"));
        assert_eq!(finding.path, path, "bit {bit}: {finding:?}");
        let opened = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
        let log = match opened {
            Ok((log, _)) => log,
            Err(Error::Corrupt { path: named, .. } | Error::Unsupported { path: named, .. }) => {
                assert_eq!((named, sim.ops()), (path.clone(), 0), "bit {bit}");
                continue;
            }
            Err(other) => panic!("bit {bit}: {other}"),
        };
        let read = |from| log.read(from, 1 << 16).map(|batch| decode(&batch));
        match model.judge(read, log.first_seq(), log.durable_seq()) {
            Err(crate::model::Verdict::Refused(Error::Corrupt { path: named, .. })) => {
                assert_eq!(named, path, "bit {bit}");
            }
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn a_compressed_segment_cut_at_any_byte_or_with_a_sector_of_zeros_is_found() {
    let (sim, mut log, _) = written(many(12));
    log.compress(LEVEL).unwrap();
    log.close().unwrap();
    let (disk, path) = (sim.disk(), segment(1));
    let whole = disk.bytes(&path).unwrap();
    let cuts = (0..whole.len()).map(|len| whole[..len].to_vec());
    let sectors = (0..whole.len()).step_by(512).map(|at| {
        let mut zeroed = whole.clone();
        let end = (at + 512).min(zeroed.len());
        zeroed[at..end].fill(0);
        zeroed
    });
    for (number, bytes) in cuts.chain(sectors).enumerate().filter(|(_, bytes)| *bytes != whole) {
        let mut damaged = disk.clone();
        damaged.put(&path, Some(bytes));
        let sim = Sim::boot(damaged);
        let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
        assert!(!report.findings.is_empty(), "damage {number}");
        let refused = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
        assert!(refused.is_err() && sim.ops() == 0, "damage {number}");
    }
}

#[test]
fn a_trailer_that_contradicts_itself_is_damage_though_its_checksum_holds() {
    let (sim, mut log, _) = written(many(12));
    log.compress(LEVEL).unwrap();
    log.close().unwrap();
    let (disk, path) = (sim.disk(), segment(1));
    let whole = disk.bytes(&path).unwrap();
    let trailer = whole.len() - 64;
    for (at, field) in [
        (8, &0_u64.to_le_bytes()[..]),
        (8, &4096_u64.to_le_bytes()),
        (8, &u64::MAX.to_le_bytes()),
        (16, &0_u32.to_le_bytes()),
        (16, &3_u32.to_le_bytes()),
        (16, &(2_u32 << 20).to_le_bytes()),
        (16, &(1_u32 << 31).to_le_bytes()),
        (20, &0_u32.to_le_bytes()),
        (20, &2_u32.to_le_bytes()),
        (20, &u32::MAX.to_le_bytes()),
        (24, &[1]),
    ] {
        let mut forged = whole.clone();
        forged[trailer + at..trailer + at + field.len()].copy_from_slice(field);
        let salt = u32::from_le_bytes(forged[64..68].try_into().unwrap());
        let mut crc = crc32fast::Hasher::new_with_initial(salt);
        crc.update(&forged[trailer..trailer + 60]);
        forged[trailer + 60..].copy_from_slice(&crc.finalize().to_le_bytes());
        let mut damaged = disk.clone();
        damaged.put(&path, Some(forged));
        let sim = Sim::boot(damaged);
        let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
        assert_eq!(report.findings[0].path, path, "{field:?} at {at}");
        let refused = StepLog::open(Arc::new(sim.clone()), small("/log"), &Witnesses::none());
        assert!(matches!(refused.err(), Some(Error::Corrupt { .. })), "{field:?} at {at}");
    }
}

#[test]
fn a_damaged_piece_leaves_the_others_readable_and_is_named_with_its_place_in_the_file() {
    let cycle = (1..=8).map(|number| transaction(number, 60, 3000));
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::default();
    let config = LogConfig { segment_bytes: 1 << 20, ..small("/log") };
    let (mut log, _) =
        StepLog::open(Arc::new(sim.clone()), config.clone(), &Witnesses::none()).unwrap();
    for one in cycle {
        log.append(&[one]).unwrap();
        log.keep().unwrap();
    }
    let all = walked(&log, Seq::FIRST);
    assert_eq!(log.compress(LEVEL).unwrap(), 1);
    log.close().unwrap();
    let mut disk = sim.disk();
    let bytes = disk.bytes(&segment(1)).unwrap();
    // A byte in the middle of the file is in a piece in the middle of the segment.
    disk.flip(&segment(1), (bytes.len() + 4096) / 2, 1);
    let sim = Sim::boot(disk);
    let (log, _) = StepLog::open(Arc::new(sim.clone()), config, &Witnesses::none()).unwrap();
    let failed = (1..=all.len() as u64).filter(|&seq| match log.read(Seq(seq), 1) {
        Ok(batch) => {
            assert!(batch.records[0] == all[usize::try_from(seq - 1).unwrap()].1);
            false
        }
        Err(Error::Corrupt { path, reason, .. }) => {
            assert!(path == segment(1) && reason.to_string().contains("piece"), "{reason}");
            true
        }
        Err(other) => panic!("{other}"),
    });
    let failed = failed.count();
    assert!((1..60).contains(&failed), "{failed} of {} records", all.len());
    // A look from outside gives all up to the damage, and then names it.
    for (path, bytes) in sim.disk().contents() {
        let to = dir.path().join(path.strip_prefix("/log").unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let read_only = ReadOnlyLog::open(dir.path()).unwrap();
    let records: Vec<_> = read_only.records(Seq::FIRST).collect();
    let (last, whole) = records.split_last().unwrap();
    assert!(whole.len() > 100 && whole.iter().all(Result::is_ok), "{} records", whole.len());
    let text = last.as_ref().err().unwrap().to_string();
    assert!(text.contains("piece") && text.contains("0000000001.log"), "{text}");
}

#[test]
fn a_damaged_segment_is_not_compressed() {
    let (sim, log, _) = written(many(12));
    drop(log);
    let mut log = open(&sim);
    sim.rot(&segment(1), 9000);
    let before = sim.disk().contents();
    let refused = log.compress(LEVEL);
    assert!(
        matches!(&refused, Err(Error::Corrupt { path, .. }) if *path == segment(1)),
        "{refused:?}"
    );
    assert!(sim.disk().contents() == before, "and nothing is left of the try");
}

/// A disk on which something happens at calls that name the file of a compression.
struct Meddled<F> {
    sim: Sim,
    deed: F,
}

impl<F: Fn(&str, &Path) + Send + Sync + 'static> Storage for Meddled<F> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.sim.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        if access == Access::Read {
            (self.deed)("open", path);
        }
        self.sim.open(path, access)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_dir(dir)
    }

    fn freeze(&self, path: &Path) -> io::Result<()> {
        (self.deed)("freeze", path);
        self.sim.freeze(path)
    }

    fn thaw(&self, path: &Path) -> io::Result<()> {
        self.sim.thaw(path)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        self.sim.lock(path)
    }
}

#[test]
fn what_does_not_read_back_never_takes_the_segments_place() {
    let (sim, log, model) = written(many(12));
    drop(log);
    for at in [4, 100, 4096, 4200] {
        let rotting = sim.clone();
        let deed = move |call: &str, path: &Path| {
            if call == "open" && path.extension().is_some_and(|end| end == "part") {
                rotting.rot(path, at);
            }
        };
        let disk = Arc::new(Meddled { sim: sim.clone(), deed });
        let (mut log, _) = StepLog::open(disk, small("/log"), &Witnesses::none()).unwrap();
        let refused = log.compress(LEVEL);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "byte {at}: {refused:?}");
        assert!(!is_compressed(&sim, 1));
        assert!(sim.list(Path::new("/log/seg")).unwrap().iter().all(|one| one.ends_with(".log")));
        check(&log, &model);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_trimmed_while_it_is_compressed_does_not_come_back() {
    let sim = Sim::default();
    let (log, known) = (Arc::new(OnceLock::<Log>::new()), Arc::new(OnceLock::<Seq>::new()));
    let (trimmed, runtime) = (Arc::clone(&known), tokio::runtime::Handle::current());
    let of = Arc::clone(&log);
    // Between the proof and the rename of the third segment's compression, the log is trimmed behind it.
    let deed = move |call: &str, path: &Path| {
        if call == "freeze" && path.ends_with("0000000003.log.part") {
            let log = of.wait();
            let report = runtime.block_on(log.trim(log.durable_seq())).unwrap();
            assert!(report.segments.contains(&3), "{report:?}");
            trimmed.get_or_init(|| log.first_seq());
        }
    };
    let config = LogConfig { compress_level: LEVEL, ring_bytes: 1000, ..small("/log") };
    let disk = Arc::new(Meddled { sim: sim.clone(), deed });
    let (opened, _) = Log::open_on(disk, config, Witnesses::none()).unwrap();
    assert!(log.set(opened).is_ok());
    let log = log.wait();
    for number in 1..=60 {
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
    }
    until("trimmed and compressed", || {
        let stats = log.stats();
        known.get().is_some() && stats.compress.segments == stats.sealed
    })
    .await;
    assert!(!sim.list(Path::new("/log/seg")).unwrap().contains(&"0000000003.log".to_owned()));
    log.close().await.unwrap();
    let opened = open(&Sim::boot(sim.disk()));
    assert_eq!((opened.first_seq(), opened.durable_seq()), (*known.wait(), Seq(120)));
}

#[test]
fn a_reader_goes_on_in_the_file_that_a_compression_replaced() {
    // On the real file system, where a segment is read through a map that is made when it is first read.
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { ring_bytes: 1000, ..small(dir.path()) };
    let (mut log, _) = StepLog::open(Arc::new(Fs), config, &Witnesses::none()).unwrap();
    for number in 1..=24 {
        log.append(&[transaction(number, 2, 3000)]).unwrap();
        log.keep().unwrap();
    }
    let path = dir.path().join("seg/0000000001.log");
    let before = std::fs::read(&path).unwrap();
    let mut started = log.reader(Seq::FIRST);
    started.next_frame().unwrap();
    // As a compression that failed right after its rename leaves it: readers still have the old file.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("seg")).unwrap();
    for entry in std::fs::read_dir(dir.path().join("seg")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), other.path().join("seg").join(entry.file_name())).unwrap();
    }
    let (mut twin, _) =
        StepLog::open(Arc::new(Fs), small(other.path()), &Witnesses::none()).unwrap();
    assert_eq!(twin.compress(LEVEL).unwrap(), 2);
    for number in [1, 2] {
        let name = format!("seg/{number:010}.log");
        std::fs::rename(other.path().join(&name), dir.path().join(&name)).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() != before);
    assert_eq!(walked(&log, Seq::FIRST).len(), 48);
    assert_eq!(log.compress(LEVEL).unwrap(), 2, "what was renamed is taken as it is");
    assert_eq!(walked(&log, Seq::FIRST).len(), 48);
    while started.next_frame().unwrap().is_some() {}
    assert_eq!(started.next_seq(), Seq(49));
}

#[test]
fn a_crash_at_any_call_of_a_compression_leaves_one_whole_segment() {
    let (sim, log, model) = written(many(24));
    drop(log);
    let (mut compressed, mut plain, mut points) = (0, 0, 0);
    let sim = Sim::boot(sim.disk()).recording();
    let mut log = open(&sim);
    let opened = sim.history().len();
    assert_eq!(log.compress(LEVEL).unwrap(), 2);
    log.trim(Seq(30)).unwrap();
    let trimmed_at = sim.history().len();
    log.close().unwrap();
    let mut history = sim.history();
    history.push(sim.disk());
    for (op, disk) in history.iter().enumerate().skip(opened) {
        for seed in 0..64 {
            let mut dice = Dice::new(seed << 20 | op as u64);
            let crashed =
                if seed == 0 { disk.after_kill() } else { disk.after_power_cut(&mut dice) };
            let sim = Sim::boot(crashed);
            let mut log = open(&sim);
            check(&log, &model);
            let left = sim.list(Path::new("/log/seg")).unwrap();
            assert!(left.iter().all(|name| name.ends_with(".log")), "{left:?}");
            if op < trimmed_at {
                let is = is_compressed(&sim, 1);
                (compressed, plain) = (compressed + u64::from(is), plain + u64::from(!is));
            }
            let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
            assert!(report.findings.is_empty(), "call {op}: {:?}", report.findings);
            // And once more, from there.
            log.compress(LEVEL).unwrap();
            check(&log, &model);
            points += 1;
        }
    }
    assert!(compressed > 100 && plain > 100, "{compressed} and {plain} of {points}");
}

#[test]
fn a_failed_call_of_a_compression_changes_nothing_that_is_read_and_the_next_try_succeeds() {
    let (first, log, model) = written(many(24));
    drop(log);
    let mut failed = 0;
    for (op, fault) in (0..40).flat_map(|op| [(op, Fault::Eio), (op, Fault::NoSpace)]) {
        let sim = Sim::boot(first.disk());
        let mut log = open(&sim);
        sim.fail_at(sim.ops() + op, fault);
        let tried = log.compress(LEVEL);
        failed += u64::from(tried.is_err());
        sim.heal();
        check(&log, &model);
        log.append(&[transaction(25, 1, 10)]).expect("the writer is not touched by it");
        let mut model = model.clone();
        model.submit(&[transaction(25, 1, 10)]);
        model.ack();
        let mut dice = Dice::new(op);
        check(&open(&Sim::boot(sim.disk().after_power_cut(&mut dice))), &model);
        log.compress(LEVEL).unwrap();
        check(&log, &model);
        assert!(is_compressed(&sim, 1) && is_compressed(&sim, 2), "call {op}, {fault:?}");
        let report = verify_on(&sim, Path::new("/log"), &[]).unwrap();
        assert!(report.findings.is_empty(), "call {op}: {:?}", report.findings);
    }
    assert!(failed > 10, "{failed} calls failed");
    // A read that fails, too.
    for read in 0..60 {
        let sim = Sim::boot(first.disk());
        let mut log = open(&sim);
        sim.fail_read_at(sim.reads() + read);
        let _tried = log.compress(LEVEL);
        sim.heal();
        log.compress(LEVEL).unwrap();
        check(&log, &model);
        assert!(is_compressed(&sim, 1) && is_compressed(&sim, 2), "read {read}");
    }
}

#[test]
fn random_lives_with_compression_lose_nothing_at_any_crash() {
    for seed in 0..150 {
        let sim = Sim::default().recording();
        let (mut dice, mut model, mut next) = (Dice::new(seed), Model::default(), 0);
        let mut models = vec![(0, model.clone())];
        let mut log = open(&sim);
        for _ in 0..14 {
            match dice.below(8) {
                0 => log.keep().unwrap(),
                1 => {
                    log.keep().unwrap();
                    log.compress(LEVEL).unwrap();
                }
                2 => {
                    let durable = log.durable_seq().0;
                    log.trim(Seq(dice.below(durable + 2))).unwrap();
                }
                3 => {
                    drop(log);
                    log = open(&sim);
                }
                _ => {
                    let sent = if dice.coin() {
                        batch(&mut dice, &mut next)
                    } else {
                        next += 1;
                        vec![transaction(next, 3, 9000)]
                    };
                    model.submit(&sent);
                    models.push((sim.ops(), model.clone()));
                    log.append(&sent).unwrap();
                    model.ack();
                    models.push((sim.ops(), model.clone()));
                }
            }
        }
        for (op, disk) in sim.history().iter().enumerate() {
            let known = models.partition_point(|(ops, _)| *ops <= op as u64);
            let model = &models[known.saturating_sub(1)].1;
            for loss in 0..3 {
                let crashed =
                    disk.after_power_cut(&mut Dice::new(seed << 32 | loss << 20 | op as u64));
                check(&open(&Sim::boot(crashed)), model);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn readers_give_the_same_from_anywhere_before_and_after(
        seed in any::<u64>(),
        rounds in 5_u64..40,
        sizes in proptest::collection::vec(1_usize..20_000, 1..8),
        level in 1..=19,
    ) {
        let (mut dice, mut next) = (Dice::new(seed), 0);
        let sent: Vec<_> = (0..rounds).flat_map(|_| batch(&mut dice, &mut next)).collect();
        let (sim, mut log, _) = written(sent);
        let all = walked(&log, Seq::FIRST);
        let read = |log: &StepLog| -> Vec<_> {
            (1..=all.len() as u64)
                .zip(sizes.iter().cycle())
                .map(|(from, &most)| log.read(Seq(from), most).unwrap().records)
                .collect()
        };
        let before = read(&log);
        let count = log.compress(level).unwrap();
        prop_assert!(read(&log) == before && walked(&log, Seq::FIRST) == all);
        drop(log);
        let log = open(&sim);
        prop_assert!(read(&log) == before && walked(&log, Seq::FIRST) == all, "{} segments", count);
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_log_compresses_what_it_seals_while_it_is_read_scrubbed_archived_and_trimmed() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = LogConfig {
        compress_level: LEVEL,
        scrub_bytes_per_s: 1 << 30,
        scrub_every: Duration::from_millis(1),
        ring_bytes: 1000,
        archive: Some(Arc::new(DirArchive::new(to.path()))),
        ..small(dir.path())
    };
    let (log, _) = Log::open(config.clone(), Witnesses::none()).unwrap();
    for number in 1..=120 {
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
        let batch = log.read(Seq(number), 1 << 20).unwrap();
        assert_eq!(decode(&batch)[0].seq, Seq(number));
    }
    until("sealed and compressed", || {
        let stats = log.stats();
        stats.sealed + 1 == stats.segments && stats.compress.segments == stats.sealed
    })
    .await;
    let stats = log.stats();
    let passes = stats.scrub.passes;
    until("verified", || log.stats().scrub.passes >= passes + 2).await;
    let stats = log.stats();
    assert!(stats.scrub.findings.is_empty(), "{:?}", stats.scrub.findings);
    assert!(stats.compress.bytes * 4 < stats.compress.image_bytes, "{:?}", stats.compress);
    assert_eq!((stats.state, stats.compress.error), ("ok", None));
    assert!(stats.bytes < 200_000, "{} bytes are told to whoever limits the log", stats.bytes);
    let looked = ReadOnlyLog::open(dir.path()).unwrap();
    let sealed = looked.segments().iter().filter(|one| one.state == SegmentUse::Sealed);
    assert!(sealed.clone().count() > 9);
    for segment in sealed {
        assert!(segment.compressed);
        assert_eq!(segment.bytes, std::fs::metadata(&segment.path).unwrap().len());
        assert!(std::fs::metadata(&segment.path).unwrap().permissions().readonly());
    }
    assert_eq!(looked.records(Seq::FIRST).filter(|record| record.is_ok()).count(), 240);
    let anchor = log.anchor(Seq(100)).unwrap();
    let report = verify_anchors(dir.path(), &[anchor]).unwrap();
    assert!(report.findings.is_empty() && report.anchors == 1, "{:?}", report.findings);
    let last = log.durable_seq();
    assert!(log.trim(last).await.unwrap().segments.len() > 9);
    log.close().await.unwrap();
    drop(log);
    // What the archive took is the same files.
    for file in std::fs::read_dir(to.path().join(looked.id().to_string())).unwrap() {
        let from = file.unwrap().path();
        let to = dir.path().join("seg").join(from.file_name().unwrap());
        std::fs::copy(&from, to).unwrap();
    }
    let report = verify(dir.path()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.first_seq, report.last_seq), (Seq::FIRST, last));
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_waits_while_the_disk_has_no_room_beside_the_next_segment() {
    let sim = Sim::default();
    let config = LogConfig { ring_bytes: 1000, ..small("/log") };
    let (log, _) = Log::open_on(Arc::new(sim.clone()), config.clone(), Witnesses::none()).unwrap();
    for number in 1..=40 {
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
    }
    until("sealed", || log.stats().sealed + 1 == log.stats().segments && log.stats().spare_ready)
        .await;
    log.close().await.unwrap();
    drop(log);
    sim.limit(sim.used() + (64 << 10));
    let config = LogConfig { compress_level: LEVEL, ..config };
    let (log, _) = Log::open_on(Arc::new(sim.clone()), config, Witnesses::none()).unwrap();
    until("told", || log.stats().compress.error.is_some()).await;
    assert_eq!(log.stats().compress.segments, 0);
    log.append(vec![transaction(41, 2, 3000)], None).await.unwrap();
    log.close().await.unwrap();
}

#[test]
fn a_level_that_zstd_does_not_have_is_refused() {
    for level in [-1, 20] {
        let config = LogConfig { compress_level: level, ..small("/log") };
        let storage = Arc::new(Sim::boot(Disk::default()));
        let refused = Log::open_on(storage, config, Witnesses::none()).err();
        assert!(
            matches!(&refused, Some(Error::BadConfig { name: "compress_level", .. })),
            "{refused:?}"
        );
    }
}
