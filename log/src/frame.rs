//! One atomic unit as checksummed bytes. Pure: no I/O, and no idea of what records mean.
//! Bytes: `FORMAT.md`.

use bytes::Bytes;

use crate::chain::{CHAIN_BYTES, ChainHash, RecordHash};
use crate::error::Corruption;
use crate::seq::Seq;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 48;
/// Bytes of the header of a frame with records, its chain hash included.
pub const RECORDS_HEADER_BYTES: usize = FRAME_HEADER_BYTES + CHAIN_BYTES;
/// Frames start at multiples of this.
pub const ALIGN: u64 = 8;
/// The first bytes of every frame.
pub const SYNC_WORD: [u8; 4] = *b"RVF1";

const VERSION: u8 = 1;
/// Extension words of 8 bytes of a frame with records: the chain hash. A control frame has none.
const CHAIN_WORDS: u8 = 4;
const _: () = assert!(CHAIN_WORDS as usize * 8 == CHAIN_BYTES);
/// The frame holds no records but a control message.
const CONTROL: u16 = 1 << 0;
/// The frame's last record ends a transaction.
const ENDS_TRANSACTION: u16 = 1 << 1;
const KNOWN_FLAGS: u16 = CONTROL | ENDS_TRANSACTION;

/// A frame to be written.
#[derive(Clone, Copy, Debug)]
pub struct FrameSpec<'a> {
    /// First seq of its records; for a control frame, the next seq.
    pub base_seq: Seq,
    /// Log position known durable when the frame was encoded.
    pub synced_pos: u64,
    /// Commit time of the first record, microseconds since 1970.
    pub time_us: i64,
    /// What it holds.
    pub payload: Payload<'a>,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A control message.
    Control(&'a [u8]),
    /// Records, each given by where it ends in `bytes`.
    Records {
        /// Ends of the records within `bytes`, ascending.
        ends: &'a [u32],
        /// The records, joined.
        bytes: &'a [u8],
        /// Whether the last one ends its transaction.
        ends_transaction: bool,
        /// The chain hash of the last one.
        chain: ChainHash,
    },
}

/// The bytes a frame with these records takes on disk.
#[must_use]
pub fn frame_bytes(records: usize, bytes: usize) -> u64 {
    pad((RECORDS_HEADER_BYTES + records * 4 + bytes) as u64)
}

/// The next multiple of [`ALIGN`].
#[must_use]
pub fn pad(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// Appends the frame's bytes to `to`; `offset` is where they will stand in the file with `salt`.
pub fn encode_frame(frame: &FrameSpec<'_>, salt: u32, offset: u64, to: &mut Vec<u8>) {
    let start = to.len();
    to.resize(start + FRAME_HEADER_BYTES, 0);
    let (count, flags, words) = match frame.payload {
        Payload::Control(message) => {
            to.extend_from_slice(message);
            (0, CONTROL, 0)
        }
        Payload::Records { ends, bytes, ends_transaction, chain } => {
            to.extend_from_slice(&chain.0);
            for end in ends {
                to.extend_from_slice(&end.to_le_bytes());
            }
            to.extend_from_slice(bytes);
            (ends.len(), if ends_transaction { ENDS_TRANSACTION } else { 0 }, CHAIN_WORDS)
        }
    };
    let header_len = header_bytes(words);
    let payload = &to[start + header_len..];
    let payload_len = u32::try_from(payload.len()).expect("the writer splits frames below 4 GiB");
    let payload_crc = crc32fast::hash(payload);
    let header = &mut to[start..start + header_len];
    header[0..4].copy_from_slice(&SYNC_WORD);
    header[8..12].copy_from_slice(&payload_len.to_le_bytes());
    header[12..16].copy_from_slice(&payload_crc.to_le_bytes());
    header[16..24].copy_from_slice(&frame.base_seq.0.to_le_bytes());
    let count = u32::try_from(count).expect("a record takes at least its end, 4 bytes");
    header[24..28].copy_from_slice(&count.to_le_bytes());
    header[28..30].copy_from_slice(&flags.to_le_bytes());
    header[30] = words;
    header[31] = VERSION;
    header[32..40].copy_from_slice(&frame.synced_pos.to_le_bytes());
    header[40..48].copy_from_slice(&frame.time_us.to_le_bytes());
    let crc = header_crc(&header[8..], salt, offset);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    let len = pad((to.len() - start) as u64);
    to.resize(start + usize::try_from(len).expect("it was in memory"), 0);
}

fn header_bytes(words: u8) -> usize {
    FRAME_HEADER_BYTES + usize::from(words) * 8
}

/// Seeded with salt and place: recycled, misdirected and nested frames are none.
fn header_crc(bytes: &[u8], salt: u32, offset: u64) -> u32 {
    // Offsets stay below 4 GiB times the size of a run; folding keeps the high half in the seed.
    let low = u32::try_from(offset & 0xffff_ffff).expect("masked");
    let high = u32::try_from(offset >> 32).expect("shifted");
    let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ low ^ high.rotate_left(16));
    hasher.update(bytes);
    hasher.finalize()
}

/// A frame's header whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub payload_len: u32,
    payload_crc: u32,
    /// See [`FrameSpec::base_seq`].
    pub base_seq: Seq,
    /// Records in the payload.
    pub record_count: u32,
    flags: u16,
    /// See [`FrameSpec::synced_pos`].
    pub synced_pos: u64,
    /// See [`FrameSpec::time_us`].
    pub time_us: i64,
    /// The chain hash of its last record; `None` in a control frame.
    pub chain: Option<ChainHash>,
}

impl FrameHeader {
    /// Reads the header that stands at `offset` of the file with `salt`.
    ///
    /// # Errors
    /// What of it does not hold.
    pub fn decode(bytes: &[u8], salt: u32, offset: u64) -> Result<Self, Corruption> {
        if bytes.len() < FRAME_HEADER_BYTES || bytes[..4] != SYNC_WORD {
            return Err(Corruption::SyncWord);
        }
        // A count of words that the checksum does not vouch for yet, but that bounds what it covers.
        let bytes = bytes.get(..header_bytes(bytes[30])).ok_or(Corruption::HeaderChecksum)?;
        let stored = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes"));
        if stored != header_crc(&bytes[8..], salt, offset) {
            return Err(Corruption::HeaderChecksum);
        }
        let header = Self::read(bytes);
        let words = if header.is_control() { 0 } else { CHAIN_WORDS };
        if bytes[31] != VERSION || bytes[30] != words || header.flags & !KNOWN_FLAGS != 0 {
            return Err(Corruption::Frame(format!(
                "version {}, {} extension words, flags {:#x}: this build does not know them",
                bytes[31], bytes[30], header.flags
            )));
        }
        if header.is_control() != (header.record_count == 0) {
            return Err(Corruption::Frame(
                "a control frame with records, or none with none".into(),
            ));
        }
        Ok(header)
    }

    /// The fields of a whole header, believed as they are.
    fn read(bytes: &[u8]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Self {
            payload_len: u32_at(8),
            payload_crc: u32_at(12),
            base_seq: Seq(u64_at(16)),
            record_count: u32_at(24),
            flags: u16::from_le_bytes([bytes[28], bytes[29]]),
            synced_pos: u64_at(32),
            time_us: u64_at(40).cast_signed(),
            chain: bytes[FRAME_HEADER_BYTES..].try_into().ok().map(ChainHash),
        }
    }

    /// Whether the payload is a control message.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.flags & CONTROL != 0
    }

    /// Whether the last record ends its transaction.
    #[must_use]
    pub fn ends_transaction(&self) -> bool {
        self.flags & ENDS_TRANSACTION != 0
    }

    /// Bytes of the whole frame with its padding.
    #[must_use]
    pub fn frame_len(&self) -> u64 {
        pad(self.header_len() as u64 + u64::from(self.payload_len))
    }

    fn header_len(&self) -> usize {
        if self.is_control() { FRAME_HEADER_BYTES } else { RECORDS_HEADER_BYTES }
    }

    /// The seq after the last record.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        Seq(self.base_seq.0.saturating_add(u64::from(self.record_count)))
    }
}

/// A frame whose checksums hold, in bytes that someone else keeps.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> FrameRef<'a> {
    /// Reads the frame that `bytes` start with and that stands at `offset` of the file with `salt`.
    ///
    /// # Errors
    /// What of it does not hold, its padding included.
    pub fn decode(bytes: &'a [u8], offset: u64, salt: u32) -> Result<Self, Corruption> {
        let header = FrameHeader::decode(bytes, salt, offset)?;
        let len = usize::try_from(header.frame_len()).map_err(|_| Corruption::PayloadChecksum)?;
        if bytes.len() < len {
            return Err(Corruption::Frame("the frame ends beyond the file".into()));
        }
        let payload_end = header.header_len() + header.payload_len as usize;
        let payload = &bytes[header.header_len()..payload_end];
        if crc32fast::hash(payload) != header.payload_crc {
            return Err(Corruption::PayloadChecksum);
        }
        if bytes[payload_end..len].iter().any(|&byte| byte != 0) {
            return Err(Corruption::Padding);
        }
        let frame = Self { header, payload };
        frame.check_ends()?;
        Ok(frame)
    }

    /// The frame that `bytes` start with, whose `header` was read from them by [`FrameRef::decode`].
    pub(crate) fn vouched(bytes: &'a [u8], header: FrameHeader) -> Self {
        let start = header.header_len();
        Self { header, payload: &bytes[start..start + header.payload_len as usize] }
    }

    /// Records do not overlap, leave nothing out, and none is empty.
    fn check_ends(&self) -> Result<(), Corruption> {
        let (table, body) = self
            .payload
            .split_at_checked(self.header.record_count as usize * 4)
            .ok_or_else(|| Corruption::Frame("shorter than its table of records".into()))?;
        let mut previous = 0;
        for end in table.chunks_exact(4).map(end_at) {
            if end <= previous {
                return Err(Corruption::Frame("record ends do not ascend".into()));
            }
            previous = end;
        }
        if self.header.record_count > 0 && previous != body.len() {
            return Err(Corruption::Frame("records do not fill the payload".into()));
        }
        Ok(())
    }

    /// Its records with their seqs, in order; none in a control frame.
    #[must_use]
    pub fn records(self) -> FrameRecords<'a> {
        let (table, bodies) = self.payload.split_at(self.header.record_count as usize * 4);
        FrameRecords { next: self.header.base_seq, start: 0, table, bodies }
    }
}

/// Records of a frame with their seqs, in bytes that someone else keeps: nothing is copied or allocated.
#[derive(Clone, Debug)]
pub struct FrameRecords<'a> {
    next: Seq,
    /// Where the next record starts in `bodies`.
    start: usize,
    /// Ends of the records that are left.
    table: &'a [u8],
    bodies: &'a [u8],
}

impl FrameRecords<'_> {
    /// Those from `seq` on.
    #[must_use]
    pub fn starting(mut self, seq: Seq) -> Self {
        let skipped = usize::try_from(seq.0.saturating_sub(self.next.0)).unwrap_or(usize::MAX);
        let skipped = skipped.min(self.table.len() / 4);
        let (before, table) = self.table.split_at(skipped * 4);
        if let Some((_, last)) = before.split_last_chunk::<4>() {
            self.start = end_at(last);
        }
        Self { next: Seq(self.next.0 + skipped as u64), table, ..self }
    }
}

impl<'a> Iterator for FrameRecords<'a> {
    type Item = (Seq, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, table) = self.table.split_first_chunk::<4>()?;
        let end = end_at(entry);
        let (seq, record) = (self.next, &self.bodies[self.start..end]);
        (self.next, self.start, self.table) = (seq.next(), end, table);
        Some((seq, record))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.table.len() / 4;
        (left, Some(left))
    }
}

impl ExactSizeIterator for FrameRecords<'_> {}

/// The end of a record, as the table of its frame gives it.
fn end_at(entry: &[u8]) -> usize {
    u32::from_le_bytes(entry.try_into().expect("4 bytes")) as usize
}

/// A frame whose checksums hold, with its bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its payload.
    pub payload: Bytes,
}

impl Frame {
    /// Reads the frame at `offset` of `file`, which holds the file from its start, or from `file_start` on.
    ///
    /// # Errors
    /// What of it does not hold, its padding included.
    pub fn decode(
        file: &Bytes,
        file_start: u64,
        offset: u64,
        salt: u32,
    ) -> Result<Self, Corruption> {
        let at = offset.checked_sub(file_start).and_then(|at| usize::try_from(at).ok());
        let rest = at.and_then(|at| file.get(at..)).ok_or(Corruption::SyncWord)?;
        let FrameRef { header, payload } = FrameRef::decode(rest, offset, salt)?;
        Ok(Self { header, payload: file.slice_ref(payload) })
    }

    /// The chain hash of `seq` or, if that is behind this frame, of its last record; `chain` is the one
    /// before the frame. `None`: `seq` is before it.
    pub(crate) fn chain_until(&self, chain: ChainHash, seq: Seq) -> Option<ChainHash> {
        let header = &self.header;
        if header.is_control() {
            return (header.base_seq <= seq.next()).then(|| match Control::decode(&self.payload) {
                Ok(Control::Open(open)) => open.chain,
                _ => chain,
            });
        }
        if header.next_seq() <= seq.next() {
            return Some(header.chain.unwrap_or(chain));
        }
        let count = usize::try_from(seq.next().0.checked_sub(header.base_seq.0)?).ok()?;
        let records = (0..count).map(|index| RecordHash::of(&self.record(index)));
        Some(records.fold(chain, ChainHash::then))
    }

    /// The frame at `offset` of `file`, whose bytes do not change and which [`Frame::decode`] has verified.
    pub(crate) fn vouched(file: &Bytes, offset: u64) -> Self {
        let at = usize::try_from(offset).expect("a verified place in memory");
        let header = FrameHeader::read(&file[at..at + header_bytes(file[at + 30])]);
        let start = at + header.header_len();
        Self { header, payload: file.slice(start..start + header.payload_len as usize) }
    }

    /// The bytes of record `index`, without copying.
    #[must_use]
    pub fn record(&self, index: usize) -> Bytes {
        self.payload.slice(self.range(index))
    }

    /// As [`Frame::record`], for as long as the frame lives.
    #[must_use]
    pub fn record_ref(&self, index: usize) -> &[u8] {
        &self.payload[self.range(index)]
    }

    /// Where in the payload record `index` stands.
    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let table = self.header.record_count as usize * 4;
        let end = |index: usize| end_at(&self.payload[index * 4..index * 4 + 4]);
        let start = if index == 0 { 0 } else { end(index - 1) };
        table + start..table + end(index)
    }
}

/// What a control frame says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Control {
    /// The first frame of a segment in use, and again at every opening for writing.
    Open(Open),
    /// Records below this are given up; whole segments below it may be unlinked.
    Trim {
        /// The lowest seq that is kept.
        first_seq: Seq,
    },
    /// Nothing but a witness: what stands before it was acknowledged.
    Mark,
}

/// What was known when a segment came into use or was opened again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Open {
    /// The log.
    pub log_id: crate::segment::header::LogId,
    /// Grows by one at every opening for writing.
    pub epoch: u64,
    /// Log position of the segment's first frame.
    pub base_pos: u64,
    /// First seq of the segment.
    pub base_seq: Seq,
    /// The lowest seq that is kept.
    pub first_seq: Seq,
    /// The chain hash of the record before.
    pub chain: ChainHash,
}

impl Control {
    /// The payload: a version byte, then postcard.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("memory takes any bytes")
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(payload: &[u8]) -> Result<Self, Corruption> {
        let bad = || Corruption::Frame("control message not understood".into());
        let (version, body) = payload.split_first().ok_or_else(bad)?;
        match postcard::take_from_bytes(body) {
            Ok((control, rest)) if *version == VERSION && rest.is_empty() => Ok(control),
            _ => Err(bad()),
        }
    }
}
