//! Frames and footers as bytes: what of them is damage.

use std::path::Path;

use bytes::Bytes;
use revenant_log::frame::{Frame, FrameHeader, FrameSpec, Payload, encode_frame};
use revenant_log::segment::footer::{Footer, IndexEntry};
use revenant_log::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use revenant_log::storage::sim::{Disk, Sim};
use revenant_log::storage::{Access, Storage as _};
use revenant_log::{ChainHash, Corruption, Seq, verify};

use crate::model::{small, transaction};

const SALT: u32 = 77;

fn frame(base_seq: Seq, record: &[u8], salt: u32, offset: u64) -> Vec<u8> {
    let ends = [u32::try_from(record.len()).unwrap()];
    let chain = ChainHash([5; 32]);
    let payload = Payload::Records { ends: &ends, bytes: record, ends_transaction: true, chain };
    let mut bytes = Vec::new();
    encode_frame(
        &FrameSpec { base_seq, synced_pos: 0, time_us: 1, payload },
        salt,
        offset,
        &mut bytes,
    );
    bytes
}

#[test]
fn a_frame_at_another_place_or_of_another_segment_is_none() {
    let bytes = frame(Seq(3), b"record", SALT, 8192);
    assert_eq!(FrameHeader::decode(&bytes, SALT, 8192).unwrap().base_seq, Seq(3));
    for (salt, offset) in
        [(SALT + 1, 8192), (SALT, 8200), (SALT, 4096), (0, 8192), (SALT, 8192 + (1 << 32))]
    {
        let none = FrameHeader::decode(&bytes, salt, offset);
        assert_eq!(none, Err(Corruption::HeaderChecksum), "salt {salt} offset {offset}");
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_damage() {
    let bytes = frame(Seq(3), b"a record", SALT, 0);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let damaged = Frame::decode(&flipped.into(), 0, 0, SALT);
        assert!(damaged.is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

/// The segment's second frame with records is given another first seq, with checksums that hold.
#[test]
fn frames_that_skip_a_seq_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (log, _) =
        revenant_log::Log::open(small(dir.path()), revenant_log::Witnesses::none()).unwrap();
    for number in 1..=2 {
        runtime.block_on(log.append(vec![transaction(number, 1, 20)], None)).unwrap();
    }
    runtime.block_on(log.close()).unwrap();
    let path = dir.path().join("seg/0000000001.log");
    let file = Bytes::from(std::fs::read(&path).unwrap());
    let salt = SegmentHeader::decode(&file, &path).unwrap().salt;
    let mut offset = HEADER_BYTES;
    let second = loop {
        let frame = Frame::decode(&file, 0, offset, salt).unwrap();
        if !frame.header.is_control() && frame.header.base_seq == Seq(2) {
            break frame;
        }
        offset += frame.header.frame_len();
    };
    let record = second.record(0);
    let ends = [u32::try_from(record.len()).unwrap()];
    let chain = second.header.chain.unwrap();
    let payload = Payload::Records { ends: &ends, bytes: &record, ends_transaction: true, chain };
    let (synced_pos, time_us) = (second.header.synced_pos, second.header.time_us);
    let mut skipped = Vec::new();
    let spec = FrameSpec { base_seq: Seq(3), synced_pos, time_us, payload };
    encode_frame(&spec, salt, offset, &mut skipped);
    let mut bytes = file.to_vec();
    let start = usize::try_from(offset).unwrap();
    bytes[start..start + skipped.len()].copy_from_slice(&skipped);
    // The marks behind it would tell as well.
    bytes[start + skipped.len()..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.records, 1, "{report:?}");
}

#[test]
fn an_index_whose_checksum_does_not_hold_is_damage() {
    let index = vec![IndexEntry { seq: Seq(1), offset: HEADER_BYTES, time_us: 5 }];
    let footer = Footer {
        first_seq: Seq(1),
        last_seq: Seq(2),
        frames_end: 0,
        base_pos: 3,
        times: (5, 6),
        chain: ChainHash([7; 32]),
        index,
    };
    let whole = footer.encode(SALT);
    let path = Path::new("/footer");
    let read = |bytes: Vec<u8>| {
        let mut disk = Disk::default();
        disk.put(path, Some(bytes));
        let file = Sim::boot(disk).open(path, Access::Read).unwrap();
        Footer::read(file.as_ref(), SALT).unwrap()
    };
    assert_eq!(read(whole.clone()), Ok(Some(footer)));
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Without its magic or its checksum, the end of a file may be a frame's or a spare's.
        let seen = read(flipped);
        assert!(!matches!(seen, Ok(Some(_))), "bit {} of byte {}", bit % 8, bit / 8);
    }
}

#[test]
fn every_flipped_bit_of_a_segment_header_is_damage() {
    let log_id = LogId([7; 16]);
    let header = SegmentHeader { log_id, number: 3, capacity: 65536, created_ns: 5, salt: SALT };
    let page = header.encode();
    let path = Path::new("segment");
    assert_eq!(SegmentHeader::decode(&page, path).unwrap(), header);
    for bit in 0..page.len() * 8 {
        let mut flipped = page.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let decoded = SegmentHeader::decode(&flipped, path);
        assert!(decoded.is_err(), "bit {} of byte {}", bit % 8, bit / 8);
    }
}
