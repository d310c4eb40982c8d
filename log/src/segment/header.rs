//! The first page of a segment, written when the segment is prepared. Bytes: `FORMAT.md`.

use std::path::Path;

use uuid::Uuid;

use crate::error::{Corruption, Error};
use crate::seq::Seq;

/// Bytes of the header page; frames start here.
pub const HEADER_BYTES: u64 = 4096;
/// The format this build writes: other majors and newer minors are refused.
pub const MAJOR: u16 = 1;
/// The minor version of a segment as it is written and sealed; see [`MAJOR`].
pub const MINOR: u16 = 0;
/// The minor version of a segment that was compressed afterwards, and of no other.
pub const COMPRESSED_MINOR: u16 = 1;
/// The feature bit, of those that a reader must know, of a compressed segment.
pub const COMPRESSED: u32 = 1 << 0;

const MAGIC: [u8; 8] = *b"REVNTLOG";
const USED_BYTES: usize = 128;
const CRC32: u8 = 1;
const ALIGN_LOG2: u8 = 3;

/// Which log a segment belongs to, for as long as the log exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(*Uuid::new_v4().as_bytes())
    }

    /// Reads the 32 hex digits that `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| Uuid::try_parse(text).ok().map(|id| Self(*id.as_bytes())))?
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogId({self})")
    }
}

/// What a segment's first page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log.
    pub log_id: LogId,
    /// The segment's number.
    pub number: u64,
    /// The file's length while it is written.
    pub capacity: u64,
    /// When it was prepared, nanoseconds since 1970.
    pub created_ns: u64,
    /// Random: seeds the frame checksums, so that no frame of another file is taken for one of this.
    pub salt: u32,
}

/// How the bytes behind the page stand for the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// They are it.
    Plain,
    /// They are its compressed pieces: see [`super::compressed`].
    Compressed,
}

impl Form {
    fn version(self) -> (u16, u32) {
        match self {
            Self::Plain => (MINOR, 0),
            Self::Compressed => (COMPRESSED_MINOR, COMPRESSED),
        }
    }
}

impl SegmentHeader {
    /// The page of a segment that is not compressed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encode_as(Form::Plain)
    }

    /// The page.
    #[must_use]
    pub fn encode_as(&self, form: Form) -> Vec<u8> {
        let (minor, features) = form.version();
        let mut page = vec![0; usize::try_from(HEADER_BYTES).expect("a page fits in memory")];
        page[0..8].copy_from_slice(&MAGIC);
        page[8..10].copy_from_slice(&MAJOR.to_le_bytes());
        page[10..12].copy_from_slice(&minor.to_le_bytes());
        page[12..16].copy_from_slice(&features.to_le_bytes());
        // 16..20 compatible features: none yet.
        page[20..24].copy_from_slice(&4096u32.to_le_bytes());
        page[24..40].copy_from_slice(&self.log_id.0);
        page[40..48].copy_from_slice(&self.number.to_le_bytes());
        page[48..56].copy_from_slice(&self.capacity.to_le_bytes());
        page[56..64].copy_from_slice(&self.created_ns.to_le_bytes());
        page[64..68].copy_from_slice(&self.salt.to_le_bytes());
        page[68] = CRC32;
        page[69] = ALIGN_LOG2;
        let crc = crc32fast::hash(&page[..USED_BYTES - 4]);
        page[USED_BYTES - 4..USED_BYTES].copy_from_slice(&crc.to_le_bytes());
        page
    }

    /// Reads the page of the file `path`, which is not compressed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another format or version, or a compressed segment; [`Error::Corrupt`] for damage
    /// anywhere in the page.
    pub fn decode(page: &[u8], path: &Path) -> Result<Self, Error> {
        match Self::decode_any(page, path)? {
            (header, Form::Plain) => Ok(header),
            (_, Form::Compressed) => Err(Error::Unsupported {
                path: path.to_owned(),
                reason: "a compressed segment, where one as it was written is asked for".into(),
            }),
        }
    }

    /// Reads the page of the file `path`, compressed or not.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another format or version; [`Error::Corrupt`] for damage anywhere in the page.
    pub fn decode_any(page: &[u8], path: &Path) -> Result<(Self, Form), Error> {
        let corrupt = |offset: u64, reason: &str| Error::Corrupt {
            path: path.to_owned(),
            offset,
            seq: Seq::ZERO,
            reason: Corruption::Header(reason.to_owned()),
        };
        if (page.len() as u64) < HEADER_BYTES {
            return Err(corrupt(page.len() as u64, "the file ends inside the header"));
        }
        let u16_at = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("8 bytes"));
        let intact = u32_at(USED_BYTES - 4) == crc32fast::hash(&page[..USED_BYTES - 4]);
        if page[..8] != MAGIC {
            return Err(if intact {
                Error::Unsupported { path: path.to_owned(), reason: "not a log segment".into() }
            } else {
                corrupt(0, "neither the magic nor the checksum holds")
            });
        }
        let (major, minor, features) = (u16_at(8), u16_at(10), u32_at(12));
        if !intact {
            return Err(corrupt(0, "checksum does not match"));
        }
        let known = |form: &Form| {
            let (its_minor, its_features) = form.version();
            major == MAJOR && minor == its_minor && features == its_features
        };
        let form = [Form::Plain, Form::Compressed].into_iter().find(known);
        let form = form.ok_or_else(|| Error::Unsupported {
            path: path.to_owned(),
            reason: format!(
                "format {major}.{minor} with features {features:#x}; this build reads {MAJOR}.{MINOR} without, \
                 and {MAJOR}.{COMPRESSED_MINOR} with {COMPRESSED:#x}"
            ),
        })?;
        if u32_at(20) != 4096 || page[68] != CRC32 || page[69] != ALIGN_LOG2 {
            return Err(corrupt(20, "fields that this format fixes differ"));
        }
        if let Some(at) = page[USED_BYTES..4096].iter().position(|&byte| byte != 0) {
            return Err(corrupt((USED_BYTES + at) as u64, "unused bytes are not zero"));
        }
        let header = Self {
            log_id: LogId(page[24..40].try_into().expect("16 bytes")),
            number: u64_at(40),
            capacity: u64_at(48),
            created_ns: u64_at(56),
            salt: u32_at(64),
        };
        Ok((header, form))
    }
}
