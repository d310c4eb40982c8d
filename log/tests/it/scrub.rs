//! The scrub finds what rots under a running log, and says so without stopping it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use revenant_log::storage::sim::Sim;
use revenant_log::{Error, Log, LogConfig, Seq, Witnesses, verify};

use crate::model::{decode, small, transaction};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn scrubbed(config: LogConfig) -> LogConfig {
    LogConfig { scrub_bytes_per_s: 1 << 30, scrub_every: Duration::from_millis(1), ..config }
}

/// Appends to a log until `segments` of it are sealed.
async fn sealed(log: &Log, segments: usize) {
    let mut number = 0;
    while log.stats().sealed < segments {
        number += 1;
        log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_log_is_verified_again_and_again_and_nothing_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { frame_bytes: 1 << 10, ..scrubbed(small(dir.path())) };
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    sealed(&log, 3).await;
    log.append(vec![transaction(1, 90, 3000)], None).await.unwrap(); // larger than a segment
    sealed(&log, log.stats().segments).await;
    let passes = log.stats().scrub.passes;
    until("verified", || log.stats().scrub.passes >= passes + 3).await;
    let stats = log.stats();
    assert!(stats.scrub.findings.is_empty(), "{:?}", stats.scrub.findings);
    assert!(stats.scrub.bytes > 3 * (64 << 10) / 2, "{:?}", stats.scrub);
    assert_eq!(stats.state, "ok");
    log.trim(log.durable_seq()).await.unwrap();
    log.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_under_a_running_log_is_found_named_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { ring_bytes: 1000, ..scrubbed(small(dir.path())) };
    let (log, _) = Log::open(config, Witnesses::none()).unwrap();
    sealed(&log, 3).await;
    let path = dir.path().join("seg/0000000002.log");
    let whole = std::fs::read(&path).unwrap();
    // The header page, the OPEN frame, records, the index, the trailer.
    let places = [10, 100, 4096, 4200, whole.len() / 2, whole.len() - 200, whole.len() - 1];
    for at in places {
        let flip = |mask: u8| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[whole[at] ^ mask], at as u64)
                .unwrap();
        };
        let mode = std::fs::metadata(&path).unwrap().permissions();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
        flip(1);
        until("found", || log.stats().state == "damaged").await;
        let found = log.stats().scrub.findings;
        assert_eq!(found.len(), 1, "byte {at}: {found:?}");
        assert!(found[0].path == path && found[0].offset <= whole.len() as u64, "{found:?}");
        let told = verify(dir.path()).unwrap().findings;
        assert!(told.iter().any(|one| one.path == path), "byte {at}: {told:?}");
        // What is whole is read and appended on.
        log.append(vec![transaction(1, 1, 10)], None).await.unwrap();
        let last = log.durable_seq();
        for seq in [Seq::FIRST, last] {
            assert_eq!(decode(&log.read(seq, 1).unwrap())[0].seq, seq);
        }
        flip(0);
        std::fs::set_permissions(&path, mode).unwrap();
        until("mended", || log.stats().state == "ok").await;
        assert!(log.stats().scrub.findings.is_empty());
    }
    log.close().await.unwrap();
}

#[tokio::test]
async fn a_finding_goes_with_the_segment_that_is_trimmed() {
    let sim = Sim::default();
    let config = LogConfig { ring_bytes: 1000, ..scrubbed(small("/log")) };
    let (log, _) = Log::open_on(Arc::new(sim.clone()), config, Witnesses::none()).unwrap();
    sealed(&log, 2).await;
    sim.rot("/log/seg/0000000001.log".as_ref(), 5000);
    until("found", || log.stats().state == "damaged").await;
    assert!(matches!(log.read(Seq::FIRST, 1), Err(Error::Corrupt { .. })));
    log.trim(log.durable_seq()).await.unwrap();
    until("gone", || log.stats().state == "ok").await;
    log.close().await.unwrap();
}
