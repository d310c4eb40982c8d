//! The end of a sealed segment: a sparse index and a trailer. Bytes: `FORMAT.md`.

use std::io;

use crate::chain::ChainHash;
use crate::error::Corruption;
use crate::seq::Seq;
use crate::storage::File;

/// Bytes of the trailer, the last bytes of a sealed segment.
pub const TRAILER_BYTES: usize = 128;
/// Bytes of an index entry.
pub const ENTRY_BYTES: usize = 24;
/// Frame bytes between two index entries.
pub const INDEX_EVERY: u64 = 16 << 10;

const MAGIC: [u8; 8] = *b"REVNTEND";

/// Where a frame starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its first seq.
    pub seq: Seq,
    /// Its offset in the file.
    pub offset: u64,
    /// Commit time of its first record, microseconds since 1970.
    pub time_us: i64,
}

/// What a sealed segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// First seq, or the seq that would be next if the segment holds no record.
    pub first_seq: Seq,
    /// Last seq; `first_seq - 1` if the segment holds no record.
    pub last_seq: Seq,
    /// Offset right after the last frame; the index starts here.
    pub frames_end: u64,
    /// Log position of the first frame.
    pub base_pos: u64,
    /// Commit time of the first and the last record.
    pub times: (i64, i64),
    /// The chain hash of the last record.
    pub chain: ChainHash,
    /// One entry for at least every [`INDEX_EVERY`] bytes of frames that hold records.
    pub index: Vec<IndexEntry>,
}

impl Footer {
    /// The bytes that follow the last frame of the segment with `salt`.
    #[must_use]
    pub fn encode(&self, salt: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.index.len() * ENTRY_BYTES + TRAILER_BYTES);
        for entry in &self.index {
            bytes.extend_from_slice(&entry.seq.0.to_le_bytes());
            bytes.extend_from_slice(&entry.offset.to_le_bytes());
            bytes.extend_from_slice(&entry.time_us.to_le_bytes());
        }
        let index_crc = crc32fast::hash(&bytes);
        let start = bytes.len();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(self.index.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.0.to_le_bytes());
        bytes.extend_from_slice(&self.last_seq.0.to_le_bytes());
        bytes.extend_from_slice(&self.frames_end.to_le_bytes());
        bytes.extend_from_slice(&self.base_pos.to_le_bytes());
        bytes.extend_from_slice(&self.times.0.to_le_bytes());
        bytes.extend_from_slice(&self.times.1.to_le_bytes());
        bytes.extend_from_slice(&self.chain.0);
        bytes.resize(start + TRAILER_BYTES - 8, 0);
        bytes.extend_from_slice(&index_crc.to_le_bytes());
        let crc = seeded(salt, &bytes[start..]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the footer of a file. `None`: the file does not end in a trailer, so it is not sealed.
    ///
    /// # Errors
    /// The outer error is the disk's; the inner one says that the trailer is there, but it or the index
    /// does not hold.
    pub fn read(file: &dyn File, salt: u32) -> io::Result<Result<Option<Self>, Corruption>> {
        let (mut footer, start, index_crc) = match Self::read_trailer(file, salt)? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(reason) => return Ok(Err(reason)),
        };
        let mut body = vec![0; usize::try_from(start - footer.frames_end).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut body, footer.frames_end)?;
        if read < body.len() || crc32fast::hash(&body) != index_crc {
            return Ok(Err(broken("index checksum does not match")));
        }
        footer.index = body.chunks_exact(ENTRY_BYTES).map(IndexEntry::decode).collect();
        Ok(Ok(Some(footer)))
    }

    /// [`Footer::read`] without the index, which grows with the segment: it is left empty and unchecked.
    ///
    /// # Errors
    /// As there.
    pub fn glance(file: &dyn File, salt: u32) -> io::Result<Result<Option<Self>, Corruption>> {
        let found = Self::read_trailer(file, salt)?;
        Ok(found.map(|found| found.map(|(footer, _, _)| footer)))
    }

    /// The footer without its index, the offset of the trailer, and the checksum of the index.
    #[allow(clippy::type_complexity)] // two errors, as for `read`
    fn read_trailer(
        file: &dyn File,
        salt: u32,
    ) -> io::Result<Result<Option<(Self, u64, u32)>, Corruption>> {
        let len = file.length()?;
        let Some(start) = len.checked_sub(TRAILER_BYTES as u64) else { return Ok(Ok(None)) };
        let mut trailer = [0; TRAILER_BYTES];
        if file.read_at(&mut trailer, start)? < TRAILER_BYTES {
            return Ok(Ok(None));
        }
        let decoded = Self::decode_trailer(&trailer, start, salt);
        Ok(decoded.map(|found| found.map(|(footer, index_crc)| (footer, start, index_crc))))
    }

    /// The trailer's fields, with the checksum of the index that stands before it.
    fn decode_trailer(
        trailer: &[u8; TRAILER_BYTES],
        start: u64,
        salt: u32,
    ) -> Result<Option<(Self, u32)>, Corruption> {
        let u32_at =
            |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("4 bytes"));
        let u64_at =
            |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("8 bytes"));
        if seeded(salt, &trailer[..TRAILER_BYTES - 4]) != u32_at(TRAILER_BYTES - 4) {
            let claims = trailer[..8] == MAGIC;
            return if claims { Err(broken("trailer checksum does not match")) } else { Ok(None) };
        }
        if trailer[..8] != MAGIC || trailer[96..TRAILER_BYTES - 8].iter().any(|&byte| byte != 0) {
            return Err(broken("trailer fields that this format fixes differ"));
        }
        let (count, frames_end) = (u64_at(8), u64_at(32));
        let bytes = count.checked_mul(ENTRY_BYTES as u64);
        if bytes.and_then(|bytes| bytes.checked_add(frames_end)) != Some(start) {
            return Err(broken("the index does not fill the space between frames and trailer"));
        }
        let footer = Self {
            first_seq: Seq(u64_at(16)),
            last_seq: Seq(u64_at(24)),
            frames_end,
            base_pos: u64_at(40),
            times: (u64_at(48).cast_signed(), u64_at(56).cast_signed()),
            chain: ChainHash(trailer[64..96].try_into().expect("32 bytes")),
            index: Vec::new(),
        };
        Ok(Some((footer, u32_at(TRAILER_BYTES - 8))))
    }
}

impl IndexEntry {
    fn decode(bytes: &[u8]) -> Self {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Self { seq: Seq(u64_at(0)), offset: u64_at(8), time_us: u64_at(16).cast_signed() }
    }
}

fn broken(reason: &str) -> Corruption {
    Corruption::Footer(reason.to_owned())
}

fn seeded(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}
