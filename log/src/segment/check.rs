//! A sealed segment read again and verified in pieces: all that its file can tell by itself, down to the records and
//! their hashes. Never writes, and holds one piece in memory, whatever the segment's size.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::chain::{ChainHash, RecordHash};
use crate::error::{Corruption, Error};
use crate::frame::{Frame, FrameHeader, RECORDS_HEADER_BYTES};
use crate::record::decode_record;
use crate::recovery::read_range;
use crate::segment::compressed::{self, Damage};
use crate::segment::footer::Footer;
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::segment::scan::Scan;
use crate::seq::Seq;
use crate::storage::{File, Storage};

/// Bytes read at once, unless a frame is longer.
const PIECE_BYTES: u64 = 256 << 10;

/// What is wrong with a segment, and where.
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    pub(crate) offset: u64,
    /// The first seq that cannot be trusted.
    pub(crate) seq: Seq,
    pub(crate) reason: String,
}

impl Flaw {
    /// Of a read at `offset` that failed.
    fn of(offset: u64, seq: Seq, error: &std::io::Error) -> Self {
        match Damage::of(error) {
            Some(damage) => {
                let reason = damage.corruption().to_string();
                Self { offset: damage.offset, seq, reason }
            }
            None => Self { offset, seq, reason: format!("it cannot be read: {error}") },
        }
    }
}

/// A sealed segment on its way to be verified.
pub(crate) struct Check {
    file: Arc<dyn File>,
    salt: u32,
    footer: Footer,
    scan: Scan,
    /// The seq after the last record, inside a transaction or not.
    reached: Option<Seq>,
    chain: ChainHash,
}

impl Check {
    /// Reads the header and the footer.
    pub(crate) fn open(storage: &dyn Storage, path: &Path, number: u64) -> Result<Self, Flaw> {
        let flaw = |offset: u64, reason: String| Flaw { offset, seq: Seq::ZERO, reason };
        let read = |error: std::io::Error| Flaw::of(0, Seq::ZERO, &error);
        let opened = compressed::open(storage, path).map_err(|error| match error {
            Error::Corrupt { offset, seq, reason, .. } => {
                Flaw { offset, seq, reason: reason.to_string() }
            }
            Error::Io { source, .. } => read(source),
            other => flaw(0, other.to_string()),
        })?;
        let gone = || read(std::io::ErrorKind::NotFound.into());
        let file = opened.ok_or_else(gone)?.file;
        let len = file.length().map_err(read)?;
        file.forget(0, len);
        let page = read_range(file.as_ref(), 0, HEADER_BYTES).map_err(read)?;
        let header =
            SegmentHeader::decode(&page, path).map_err(|error| flaw(0, error.to_string()))?;
        if header.number != number {
            return Err(flaw(40, format!("it is segment {}, renamed", header.number)));
        }
        let footer = Footer::read(file.as_ref(), header.salt).map_err(read)?;
        let footer = footer.map_err(|reason| flaw(len, reason.to_string()))?;
        let none = || flaw(len, Corruption::Footer("it is gone".into()).to_string());
        Ok(Self {
            file,
            salt: header.salt,
            footer: footer.ok_or_else(none)?,
            scan: Scan::begin(),
            reached: None,
            chain: ChainHash::START,
        })
    }

    /// The offset up to which all is whole.
    pub(crate) fn offset(&self) -> u64 {
        self.scan.frames_end
    }

    /// Verifies the next piece and says how many bytes that were; 0 at the end, when all is whole.
    pub(crate) fn step(&mut self) -> Result<u64, Flaw> {
        let (start, end) = (self.offset(), self.footer.frames_end);
        if start == end {
            return self.finish().map(|()| 0);
        }
        let mut bytes = self.read(start, PIECE_BYTES)?;
        let first = self.header(&bytes)?;
        if first.frame_len() > bytes.len() as u64 {
            bytes = self.read(start, first.frame_len())?;
        }
        loop {
            let at = usize::try_from(self.offset() - start).unwrap_or(usize::MAX);
            let rest = &bytes[at.min(bytes.len())..];
            let whole = start + bytes.len() as u64 == end;
            if rest.is_empty() || (rest.len() < RECORDS_HEADER_BYTES && !whole) {
                break;
            }
            let header = self.header(rest)?;
            if header.frame_len() > rest.len() as u64 && !whole {
                break;
            }
            let frame = Frame::decode(&bytes, start, self.offset(), self.salt);
            self.take(&frame.map_err(|reason| self.flaw(reason))?)?;
        }
        match self.offset() - start {
            0 => Err(self.flaw(Corruption::Frame("the file ends in it".into()))),
            verified => Ok(verified),
        }
    }

    fn read(&self, offset: u64, most: u64) -> Result<Bytes, Flaw> {
        let len = most.min(self.footer.frames_end - offset);
        self.file.forget(offset, len); // what the disk holds counts, not what the system remembers of it
        let bytes = read_range(self.file.as_ref(), offset, len);
        bytes.map_err(|error| Flaw::of(offset, self.seq(), &error))
    }

    fn header(&self, bytes: &[u8]) -> Result<FrameHeader, Flaw> {
        FrameHeader::decode(bytes, self.salt, self.offset()).map_err(|reason| self.flaw(reason))
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Flaw> {
        let offset = self.offset();
        let mut chain = self.chain;
        for index in 0..frame.header.record_count as usize {
            let seq = Seq(frame.header.base_seq.0 + index as u64);
            let bytes = frame.record(index);
            if let Err(error) = decode_record(seq, &bytes) {
                let reason = Corruption::Record(error.to_string()).to_string();
                return Err(Flaw { offset, seq, reason });
            }
            chain = chain.then(RecordHash::of(&bytes));
        }
        if frame.header.chain.is_some_and(|noted| noted != chain) {
            let reason = "the hash of the frame's records is another than it says";
            return Err(self.flaw(Corruption::Chain(reason.into())));
        }
        let taken = self.scan.take(frame, offset, &mut self.reached);
        taken.map_err(|reason| self.flaw(reason))?;
        // Of a segment's first frame, the OPEN frame, the scan takes the hash to go on from.
        self.chain = if offset == HEADER_BYTES { self.scan.chain } else { chain };
        Ok(())
    }

    fn finish(&self) -> Result<(), Flaw> {
        if self.scan.meets(&self.footer) {
            return Ok(());
        }
        let reason = "the footer does not match the frames".into();
        Err(Flaw { offset: self.offset(), seq: self.seq(), reason })
    }

    /// The chain hash of the last record, once all is whole.
    pub(crate) fn chain(&self) -> ChainHash {
        self.chain
    }

    fn seq(&self) -> Seq {
        self.reached.unwrap_or(self.footer.first_seq)
    }

    fn flaw(&self, reason: Corruption) -> Flaw {
        Flaw { offset: self.offset(), seq: self.seq(), reason: reason.to_string() }
    }
}
