//! What travels between the scheduler and an SSP: batches of encoded records, and the pages of a
//! snapshot. Frame headers never leave the log. Every item carries its own CRC32.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::raw::RawRecord;
use crate::record::{DecodeError, Record, decode_record};
use crate::segment::header::LogId;
use crate::seq::Seq;
use crate::value::{Key, Value};

/// The layout this build sends and reads.
pub const WIRE_VERSION: u8 = 1;
/// Largest item that is sent or taken, bytes.
pub const MAX_ITEM_BYTES: usize = 64 << 20;

const BATCH: u8 = b'B';
const SNAPSHOT: u8 = b'S';
const PREFIX_BYTES: usize = 6;
const BATCH_HEADER_BYTES: usize = 44;

/// Why bytes are no item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The checksum does not hold.
    #[error("wire item: checksum does not match")]
    Checksum,
    /// A layout this build does not know, or another kind of item.
    #[error(
        "wire item: kind {kind:#x} of layout {version}, expected {expected:#x} of {WIRE_VERSION}"
    )]
    Kind {
        /// What came.
        kind: u8,
        /// Of which layout.
        version: u8,
        /// What was expected.
        expected: u8,
    },
    /// The layout does not match the bytes.
    #[error("wire item: malformed: {0}")]
    Malformed(String),
    /// A record's bytes cannot be read.
    #[error("wire item: record {seq}")]
    Record {
        /// Which record.
        seq: Seq,
        /// Why.
        source: DecodeError,
    },
}

/// Records that follow each other, as they stand in the log. Empty: a heartbeat.
///
/// It may end inside a transaction: the receiver applies a transaction when its last record came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireBatch {
    /// The log they come from.
    pub log_id: LogId,
    /// The log's epoch.
    pub epoch: u64,
    /// The seq right before the first record; for a heartbeat the last one sent.
    pub prev_seq: Seq,
    /// Seq of the first record.
    pub first_seq: Seq,
    /// The records, as [`crate::record::encode_record`] wrote them.
    pub records: Vec<Bytes>,
}

impl WireBatch {
    /// Whether there is no record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Seq of the last record; `prev_seq` if there is none.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.prev_seq.0 + self.records.len() as u64)
    }

    /// The batch as one item.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let body: usize = self.records.iter().map(|record| 4 + record.len()).sum();
        let mut to = BytesMut::with_capacity(PREFIX_BYTES + BATCH_HEADER_BYTES + body);
        start(BATCH, &mut to);
        to.put_slice(&self.log_id.0);
        to.put_u64_le(self.epoch);
        to.put_u64_le(self.prev_seq.0);
        to.put_u64_le(self.first_seq.0);
        to.put_u32_le(u32::try_from(self.records.len()).expect("bounded by MAX_ITEM_BYTES"));
        for record in &self.records {
            to.put_u32_le(u32::try_from(record.len()).expect("bounded by MAX_ITEM_BYTES"));
            to.put_slice(record);
        }
        finish(to)
    }

    /// Reads an item without copying the records.
    ///
    /// # Errors
    /// It is damaged, of another kind or layout, or its numbers contradict each other.
    pub fn decode(item: &Bytes) -> Result<Self, WireError> {
        let body = open(BATCH, item)?;
        let malformed = |what: &str| WireError::Malformed(what.to_owned());
        if body.len() < BATCH_HEADER_BYTES {
            return Err(malformed("shorter than a batch header"));
        }
        let u64_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("4 bytes"));
        let count = u32_at(40) as usize;
        let mut records = Vec::with_capacity(count.min(body.len() / 4));
        let mut at = BATCH_HEADER_BYTES;
        for _ in 0..count {
            if body.len() < at + 4 {
                return Err(malformed("a record's length is missing"));
            }
            let end = at + 4 + u32_at(at) as usize;
            if body.len() < end {
                return Err(malformed("a record ends beyond the item"));
            }
            records.push(body.slice(at + 4..end));
            at = end;
        }
        let batch = Self {
            log_id: LogId(body[..16].try_into().expect("16 bytes")),
            epoch: u64_at(16),
            prev_seq: Seq(u64_at(24)),
            first_seq: Seq(u64_at(32)),
            records,
        };
        if at != body.len() || batch.prev_seq.0.checked_add(1) != Some(batch.first_seq.0) {
            return Err(malformed(
                "bytes left over, or the first seq does not follow the previous",
            ));
        }
        Ok(batch)
    }

    /// The records, decoded.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn decode_records(&self) -> Result<Vec<Record>, WireError> {
        (self.first_seq.0..)
            .zip(&self.records)
            .map(|(seq, bytes)| {
                decode_record(Seq(seq), bytes)
                    .map_err(|source| WireError::Record { seq: Seq(seq), source })
            })
            .collect()
    }

    /// The records, their rows left as bytes.
    ///
    /// # Errors
    /// The first record that cannot be read.
    pub fn raw_records(&self) -> Result<Vec<RawRecord<'_>>, WireError> {
        (self.first_seq.0..)
            .zip(&self.records)
            .map(|(seq, bytes)| {
                RawRecord::read(Seq(seq), bytes)
                    .map_err(|source| WireError::Record { seq: Seq(seq), source })
            })
            .collect()
    }
}

/// A row as a snapshot carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotRow {
    /// Its key within the table.
    pub key: Key,
    /// `_00_rv`, if known.
    pub version: Option<u64>,
    /// The row.
    pub body: Value,
}

/// One step of a snapshot: `Begin`, then `Rows` table by table, then `End`; or `Ended` anywhere after `Begin`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SnapshotItem {
    /// What follows.
    Begin {
        /// The log whose rows these are.
        log_id: LogId,
        /// The log's epoch.
        epoch: u64,
        /// Rows are as of this seq.
        seq: Seq,
        /// Every table with the number of its rows.
        tables: Vec<(String, u64)>,
    },
    /// Rows of one table, in key order.
    Rows {
        /// The table.
        table: String,
        /// Its next rows.
        rows: Vec<SnapshotRow>,
    },
    /// Nothing is missing if this came and the number agrees.
    End {
        /// Rows sent in all.
        rows: u64,
    },
    /// Nothing follows, though more was to come: who receives it has to begin anew.
    Ended {
        /// Why, for people.
        reason: String,
    },
}

impl SnapshotItem {
    /// The step as one item.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        start(SNAPSHOT, &mut to);
        let to = postcard::to_extend(self, to).expect("memory takes any bytes");
        finish(to)
    }

    /// Reads an item.
    ///
    /// # Errors
    /// It is damaged, or of another kind or layout.
    pub fn decode(item: &Bytes) -> Result<Self, WireError> {
        let body = open(SNAPSHOT, item)?;
        match postcard::take_from_bytes(&body) {
            Ok((item, [])) => Ok(item),
            Ok(_) => Err(WireError::Malformed("bytes left over".into())),
            Err(error) => Err(WireError::Malformed(error.to_string())),
        }
    }
}

/// Builds the item of [`SnapshotItem::Rows`] from rows that are encoded already, without reading them.
pub struct RowsItem {
    table: String,
    count: usize,
    /// Room for all that stands before the rows, then the rows.
    bytes: BytesMut,
    /// Bytes of that room.
    room: usize,
}

/// Bytes of the variant's number in front of [`SnapshotItem::Rows`].
const VARIANT_BYTES: usize = 1;
/// The number.
const ROWS_VARIANT: u8 = 1;
/// Most bytes that postcard makes of a length.
const LENGTH_MOST: usize = 10;

impl RowsItem {
    /// An item for rows of `table`, with room for about `capacity` bytes of them.
    #[must_use]
    pub fn new(table: &str, capacity: usize) -> Self {
        let room = PREFIX_BYTES + VARIANT_BYTES + LENGTH_MOST + table.len() + LENGTH_MOST;
        let mut bytes = BytesMut::with_capacity(room + capacity);
        bytes.resize(room, 0);
        Self { table: table.to_owned(), count: 0, bytes, room }
    }

    /// Adds the next row in key order: what postcard makes of its [`SnapshotRow`].
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.count += 1;
    }

    /// Rows in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of its rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.room
    }

    /// Whether there is no row in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The item, byte for byte as [`SnapshotItem::encode`] makes it of the same rows.
    #[must_use]
    pub fn encode(mut self) -> Bytes {
        let mut head = Vec::with_capacity(self.room);
        head.extend_from_slice(&start_of(SNAPSHOT));
        head.push(ROWS_VARIANT);
        let head = postcard::to_extend(&self.table, head).expect("memory takes any bytes");
        let head = postcard::to_extend(&self.count, head).expect("memory takes any bytes");
        let begin = self.room - head.len();
        self.bytes[begin..self.room].copy_from_slice(&head);
        finish(self.bytes.split_off(begin))
    }
}

/// Kind, layout, and room for the checksum.
fn start_of(kind: u8) -> [u8; PREFIX_BYTES] {
    [kind, WIRE_VERSION, 0, 0, 0, 0]
}

fn start(kind: u8, to: &mut BytesMut) {
    to.put_slice(&start_of(kind));
}

fn finish(mut item: BytesMut) -> Bytes {
    let crc = checksum(item[0], item[1], &item[PREFIX_BYTES..]);
    item[2..PREFIX_BYTES].copy_from_slice(&crc.to_le_bytes());
    item.freeze()
}

fn open(expected: u8, item: &Bytes) -> Result<Bytes, WireError> {
    if item.len() < PREFIX_BYTES {
        return Err(WireError::Malformed("shorter than its prefix".into()));
    }
    let (kind, version) = (item[0], item[1]);
    let crc = u32::from_le_bytes(item[2..PREFIX_BYTES].try_into().expect("4 bytes"));
    if checksum(kind, version, &item[PREFIX_BYTES..]) != crc {
        return Err(WireError::Checksum);
    }
    if kind != expected || version != WIRE_VERSION {
        return Err(WireError::Kind { kind, version, expected });
    }
    Ok(item.slice(PREFIX_BYTES..))
}

fn checksum(kind: u8, version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind, version]);
    hasher.update(body);
    hasher.finalize()
}
