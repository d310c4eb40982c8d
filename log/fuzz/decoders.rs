//! Every decoder of the log, given any bytes: an error or a value whose own bytes read back the same, and
//! never a panic. Each is given the bytes as they come, and once more with the checksums mended, which gets
//! behind them. Shared by the seeded driver (`just fuzz-smoke`) and the cargo-fuzz targets.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use revenant_log::frame::{Control, FRAME_HEADER_BYTES, Frame, FrameHeader, RECORDS_HEADER_BYTES};
use revenant_log::segment::compressed::{
    ENTRY_BYTES as COMPRESSED_ENTRY_BYTES, TRAILER_BYTES as COMPRESSED_TRAILER_BYTES,
};
use revenant_log::segment::footer::{Footer, TRAILER_BYTES};
use revenant_log::segment::header::SegmentHeader;
use revenant_log::step::StepLog;
use revenant_log::storage::sim::{Disk, Sim};
use revenant_log::storage::{Access, Storage as _};
use revenant_log::verify::verify_on;
use revenant_log::{
    Error, LogConfig, Seq, SnapshotItem, WireBatch, Witnesses, decode_record, encode_record,
};

/// A decoder: its name, which is its corpus's too, and what is tried with the bytes.
pub(crate) struct Decoder {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is tried; how many decodings that were.
    pub(crate) run: fn(&[u8]) -> u64,
}

/// All of them.
pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "frame", run: frame },
    Decoder { name: "record", run: record },
    Decoder { name: "footer", run: footer },
    Decoder { name: "header", run: header },
    Decoder { name: "control", run: control },
    Decoder { name: "batch", run: batch },
    Decoder { name: "snapshot", run: snapshot },
    Decoder { name: "segment", run: segment },
    Decoder { name: "compressed", run: compressed },
];

/// Runs the decoder of this name.
#[allow(dead_code)] // the seeded driver goes through all of them
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    (decoder.expect("each target names its decoder").run)(bytes);
}

/// With the salt and the offset at which frames and footers are read, their checksums are plain ones.
const PLAIN: u32 = 0;

fn frame(bytes: &[u8]) -> u64 {
    let mut mended = bytes.to_vec();
    mend_frame(&mut mended);
    for bytes in [bytes.to_vec(), mended] {
        let header = FrameHeader::decode(&bytes, PLAIN, 0);
        let bytes = Bytes::from(bytes);
        let Ok(frame) = Frame::decode(&bytes, 0, 0, PLAIN) else { continue };
        assert_eq!(Ok(frame.header), header);
        assert!(frame.header.frame_len() <= bytes.len() as u64);
        let records =
            (0..frame.header.record_count as usize).map(|index| frame.record(index).len());
        let table = 4 * frame.header.record_count as usize;
        let is_control = frame.header.is_control();
        assert!(is_control || records.sum::<usize>() + table == frame.payload.len());
    }
    2
}

fn mend_frame(bytes: &mut [u8]) {
    let Some(&words) = bytes.get(30) else { return };
    let end = FRAME_HEADER_BYTES + usize::from(words) * 8;
    if bytes.len() < end {
        return;
    }
    bytes[..4].copy_from_slice(b"RVF1");
    let len = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
    let len = len.min(bytes.len() - end);
    bytes[8..12].copy_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes());
    let payload = crc32fast::hash(&bytes[end..end + len]);
    bytes[12..16].copy_from_slice(&payload.to_le_bytes());
    let crc = crc_from(PLAIN, &bytes[8..end]);
    bytes[4..8].copy_from_slice(&crc);
}

fn crc_from(seed: u32, bytes: &[u8]) -> [u8; 4] {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(bytes);
    crc.finalize().to_le_bytes()
}

fn record(bytes: &[u8]) -> u64 {
    if let Ok(record) = decode_record(Seq(7), bytes) {
        let mut again = Vec::new();
        encode_record(&record, &mut again);
        let twice = decode_record(Seq(7), &again).expect("what was encoded decodes");
        let mut thrice = Vec::new();
        encode_record(&twice, &mut thrice);
        assert_eq!(again, thrice);
    }
    1
}

fn footer(bytes: &[u8]) -> u64 {
    let mut mended = bytes.to_vec();
    if let Some(start) = bytes.len().checked_sub(TRAILER_BYTES) {
        mended[start..start + 8].copy_from_slice(b"REVNTEND");
        mended[start + 96..start + 120].fill(0);
        let frames_end =
            u64::from_le_bytes(mended[start + 32..start + 40].try_into().expect("8 bytes"));
        if let Some(index) = usize::try_from(frames_end).ok().and_then(|end| mended.get(end..start))
        {
            let crc = crc32fast::hash(index);
            mended[start + 120..start + 124].copy_from_slice(&crc.to_le_bytes());
        }
        let crc = crc_from(PLAIN, &mended[start..start + 124]);
        mended[start + 124..].copy_from_slice(&crc);
    }
    for bytes in [bytes.to_vec(), mended] {
        let path = Path::new("/footer");
        let mut disk = Disk::default();
        disk.put(path, Some(bytes.clone()));
        let file = Sim::boot(disk).open(path, Access::Read).expect("it was put there");
        if let Ok(Some(footer)) = Footer::read(file.as_ref(), PLAIN).expect("the disk works") {
            let at = usize::try_from(footer.frames_end).expect("it is in the file");
            assert_eq!(footer.encode(PLAIN), bytes[at..]);
        }
    }
    2
}

fn header(bytes: &[u8]) -> u64 {
    let mut mended = bytes.to_vec();
    if mended.len() >= 128 {
        let crc = crc32fast::hash(&mended[..124]);
        mended[124..128].copy_from_slice(&crc.to_le_bytes());
    }
    for bytes in [bytes, &mended] {
        if let Ok(header) = SegmentHeader::decode(bytes, Path::new("segment")) {
            // All but the features that a reader may ignore.
            let mut page = bytes[..4096].to_vec();
            page[16..20].fill(0);
            page[124..128].fill(0);
            let mut again = header.encode();
            again[124..128].fill(0);
            assert!(page[70..124].iter().any(|&byte| byte != 0) || page == again);
        }
    }
    2
}

fn control(bytes: &[u8]) -> u64 {
    if let Ok(control) = Control::decode(bytes) {
        assert_eq!(Control::decode(&control.encode()), Ok(control));
    }
    1
}

fn mend_item(bytes: &[u8]) -> Vec<u8> {
    let mut mended = bytes.to_vec();
    if mended.len() >= 6 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&mended[..2]);
        crc.update(&mended[6..]);
        mended[2..6].copy_from_slice(&crc.finalize().to_le_bytes());
    }
    mended
}

fn batch(bytes: &[u8]) -> u64 {
    for bytes in [bytes.to_vec(), mend_item(bytes)] {
        let item = Bytes::from(bytes);
        if let Ok(batch) = WireBatch::decode(&item) {
            assert_eq!(batch.encode(), item);
            let decoded = batch.decode_records().map_or(0, |records| records.len());
            assert!(decoded <= batch.records.len());
        }
    }
    2
}

fn snapshot(bytes: &[u8]) -> u64 {
    for bytes in [bytes.to_vec(), mend_item(bytes)] {
        if let Ok(item) = SnapshotItem::decode(&bytes.into()) {
            let again = item.encode();
            let twice = SnapshotItem::decode(&again).expect("what was encoded decodes");
            assert_eq!(twice.encode(), again);
        }
    }
    2
}

/// The bytes as the only segment of a log: opened for writing, read whole, verified.
fn segment(bytes: &[u8]) -> u64 {
    log_of(mend_segment(bytes))
}

/// The same of a compressed segment, whose pieces are then what they are.
fn compressed(bytes: &[u8]) -> u64 {
    log_of(bytes.to_vec()) + log_of(mend_compressed(bytes))
}

/// The only segment of a log, but for a successor that it lacks if it is sealed.
fn log_of(file: Vec<u8>) -> u64 {
    let path = Path::new("/log/seg/0000000001.log");
    let mut disk = Disk::default();
    disk.put(path, Some(file));
    let config =
        LogConfig { segment_bytes: 64 << 10, frame_bytes: 2 << 10, ..LogConfig::new("/log") };
    let found = verify_on(&Sim::boot(disk.clone()), Path::new("/log"), &[]);
    assert!(matches!(found, Ok(_) | Err(Error::NotALog { .. })), "{found:?}");
    let sim = Sim::boot(disk);
    match StepLog::open(Arc::new(sim.clone()), config, &Witnesses::none()) {
        Err(_) => assert_eq!(sim.ops(), 0, "a refused open changes nothing"),
        Ok((log, _)) => {
            let mut from = log.first_seq();
            while from <= log.durable_seq() {
                let Ok(batch) = log.read(from, 1 << 16) else { break };
                from = batch.last_seq().next();
            }
        }
    }
    1
}

/// The header page, the pieces, their table and the trailer with checksums that hold.
fn mend_compressed(bytes: &[u8]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut file = bytes.to_vec();
    let Some(trailer) = file.len().checked_sub(COMPRESSED_TRAILER_BYTES) else { return file };
    if trailer < PAGE {
        return file;
    }
    file[..8].copy_from_slice(b"REVNTLOG");
    file[8..16].copy_from_slice(&[1, 0, 1, 0, 1, 0, 0, 0]);
    let crc = crc32fast::hash(&file[..124]).to_le_bytes();
    file[124..128].copy_from_slice(&crc);
    let u32_at =
        |file: &[u8], at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("4 bytes"));
    let salt = u32_at(&file, 64);
    let count = u32_at(&file, trailer + 20);
    let table = (count as usize).checked_mul(COMPRESSED_ENTRY_BYTES);
    if let Some(table) = table.and_then(|bytes| trailer.checked_sub(bytes))
        && table >= PAGE
    {
        let mut start = PAGE;
        for number in 0..count {
            let at = table + number as usize * COMPRESSED_ENTRY_BYTES;
            let end = start.saturating_add(u32_at(&file, at) as usize).min(table);
            let crc = crc_from(salt ^ number, &file[start..end]);
            file[at + 4..at + 8].copy_from_slice(&crc);
            start = end;
        }
        let crc = crc32fast::hash(&file[table..trailer]).to_le_bytes();
        file[trailer + 56..trailer + 60].copy_from_slice(&crc);
    }
    file[trailer..trailer + 8].copy_from_slice(b"REVNTZST");
    file[trailer + 24..trailer + 56].fill(0);
    let crc = crc_from(salt, &file[trailer..trailer + 60]);
    file[trailer + 60..].copy_from_slice(&crc);
    file
}

/// A header page and frames whose checksums hold, in a file of the length that the header names.
fn mend_segment(bytes: &[u8]) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut file = bytes.to_vec();
    if file.len() < PAGE || file.len() > 64 << 10 || file[69] & 2 == 0 {
        return file; // as it came, now and then
    }
    file.resize(64 << 10, 0);
    let capacity = file.len() as u64;
    file[48..56].copy_from_slice(&capacity.to_le_bytes());
    let crc = crc32fast::hash(&file[..124]);
    file[124..128].copy_from_slice(&crc.to_le_bytes());
    let salt = u32::from_le_bytes(file[64..68].try_into().expect("4 bytes"));
    let mut at = PAGE;
    while at + RECORDS_HEADER_BYTES <= file.len() && &file[at..at + 4] == b"RVF1" {
        mend_frame(&mut file[at..]);
        let end = at + FRAME_HEADER_BYTES + usize::from(file[at + 30]) * 8;
        if end > file.len() {
            break;
        }
        let seed = salt ^ u32::try_from(at).unwrap_or(0);
        let crc = crc_from(seed, &file[at + 8..end]);
        file[at + 4..at + 8].copy_from_slice(&crc);
        let len = u32::from_le_bytes(file[at + 8..at + 12].try_into().expect("4 bytes")) as usize;
        at = (end + len).next_multiple_of(8);
    }
    file
}
