//! A compressed segment: the bytes of the sealed segment that it stands for, its *image*, in pieces that are
//! compressed each by itself, so that any place is read by decompressing one piece. Whoever reads one through
//! [`open`] sees the image and nothing else: offsets, positions, checksums and hashes are those of the segment as
//! it was written. Bytes: `FORMAT.md`.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Corruption, Error};
use crate::recovery::read_range;
use crate::segment::header::{
    COMPRESSED, COMPRESSED_MINOR, Form, HEADER_BYTES, MAJOR, SegmentHeader,
};
use crate::seq::Seq;
use crate::storage::{Access, File, Storage};

/// Bytes of the image in a piece, but for the last one.
pub const PIECE_BYTES: u32 = 64 << 10;
/// Pieces of other sizes are read as well, up to this one: what a reader must hold in memory.
pub const MAX_PIECE_BYTES: u32 = 1 << 20;
/// An image is never longer: twice the largest segment, whose footer is far shorter than the rest. What a few
/// forged bytes may make a reader ask memory for.
const MAX_IMAGE_BYTES: u64 = 8 << 30;
/// Bytes of an entry in the table of pieces.
pub const ENTRY_BYTES: usize = 8;
/// Bytes of the trailer, the last bytes of the file.
pub const TRAILER_BYTES: usize = 64;

const MAGIC: [u8; 8] = *b"REVNTZST";

/// Turns an image into pieces. Pure: what it gives is for the caller to write.
pub struct Pieces {
    compressor: Compressor<'static>,
    salt: u32,
    table: Vec<u8>,
}

impl Pieces {
    /// Of the segment with `salt`, compressed by zstd at `level`.
    ///
    /// # Errors
    /// zstd has no memory.
    pub fn new(salt: u32, level: i32) -> io::Result<Self> {
        Ok(Self { compressor: Compressor::new(level)?, salt, table: Vec::new() })
    }

    /// Appends the next [`PIECE_BYTES`] of the image behind its header page, or what is left of it, to `to`.
    ///
    /// # Errors
    /// zstd fails.
    ///
    /// # Panics
    /// If there are more bytes or none.
    pub fn push(&mut self, image: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        assert!((1..=PIECE_BYTES as usize).contains(&image.len()), "{} bytes", image.len());
        let start = to.len();
        // As it stands, unless zstd makes it shorter.
        to.resize(start + image.len(), 0);
        match self.compressor.compress_to_buffer(image, &mut to[start..]) {
            Ok(len) if len < image.len() => to.truncate(start + len),
            _ => to[start..].copy_from_slice(image),
        }
        let crc = piece_crc(self.salt, self.count(), &to[start..]);
        let len = u32::try_from(to.len() - start).expect("at most the image's bytes");
        self.table.extend_from_slice(&len.to_le_bytes());
        self.table.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// Appends what stands behind the last piece of an image of `image_bytes`, its header page included.
    ///
    /// # Panics
    /// If that is not what was pushed.
    pub fn finish(self, image_bytes: u64, to: &mut Vec<u8>) {
        let pieces = self.count();
        assert_eq!(piece_count(image_bytes, PIECE_BYTES), u64::from(pieces), "of {image_bytes}");
        let mut trailer = [0; TRAILER_BYTES];
        trailer[..8].copy_from_slice(&MAGIC);
        trailer[8..16].copy_from_slice(&image_bytes.to_le_bytes());
        trailer[16..20].copy_from_slice(&PIECE_BYTES.to_le_bytes());
        trailer[20..24].copy_from_slice(&pieces.to_le_bytes());
        trailer[56..60].copy_from_slice(&crc32fast::hash(&self.table).to_le_bytes());
        let crc = crc_from(self.salt, &trailer[..60]);
        trailer[60..].copy_from_slice(&crc.to_le_bytes());
        to.extend_from_slice(&self.table);
        to.extend_from_slice(&trailer);
    }

    fn count(&self) -> u32 {
        u32::try_from(self.table.len() / ENTRY_BYTES).expect("a segment is at most some GiB")
    }
}

/// Pieces of an image with its header page.
fn piece_count(image_bytes: u64, piece_bytes: u32) -> u64 {
    image_bytes.saturating_sub(HEADER_BYTES).div_ceil(u64::from(piece_bytes))
}

/// Seeded with salt and number: a piece of another segment or place is none.
fn piece_crc(salt: u32, number: u32, bytes: &[u8]) -> u32 {
    crc_from(salt ^ number, bytes)
}

fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// A segment file, whatever its form.
pub(crate) struct Opened {
    /// The segment as it was written: the file itself, or the image that it stands for.
    pub(crate) file: Arc<dyn File>,
    /// Bytes on the disk, if it is compressed.
    pub(crate) compressed_bytes: Option<u64>,
}

/// Opens a segment file for reading; `None` if it is not there. A file whose header page does not hold is given as
/// it is, for the caller to judge.
///
/// # Errors
/// [`Error::Corrupt`] if it is compressed and its table of pieces does not hold; [`Error::Io`].
pub(crate) fn open(storage: &dyn Storage, path: &Path) -> Result<Option<Opened>, Error> {
    let file = match storage.open(path, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let Some(header) = compressed_header(file.as_ref(), path).map_err(Error::io("read", path))?
    else {
        return Ok(Some(Opened { file, compressed_bytes: None }));
    };
    let bytes = file.length().map_err(Error::io("read", path))?;
    let read = Compressed::read(file, bytes, header).map_err(Error::io("read", path))?;
    let image = read.map_err(|reason| Error::Corrupt {
        path: path.to_owned(),
        offset: bytes.saturating_sub(TRAILER_BYTES as u64),
        seq: Seq::ZERO,
        reason: Corruption::Compressed(reason.to_owned()),
    })?;
    Ok(Some(Opened { file: Arc::new(image), compressed_bytes: Some(bytes) }))
}

/// The header of a compressed segment; `None` for any other file.
fn compressed_header(file: &dyn File, path: &Path) -> io::Result<Option<SegmentHeader>> {
    let mut version = [0; 8];
    let read = file.read_at(&mut version, 8)?;
    let claims = version[..2] == MAJOR.to_le_bytes()
        && version[2..4] == COMPRESSED_MINOR.to_le_bytes()
        && version[4..] == COMPRESSED.to_le_bytes();
    if read < version.len() || !claims {
        return Ok(None);
    }
    let page = read_range(file, 0, HEADER_BYTES)?;
    let decoded = SegmentHeader::decode_any(&page, path);
    Ok(decoded.ok().and_then(|(header, form)| (form == Form::Compressed).then_some(header)))
}

/// The image of a compressed segment, as a file that is only read.
///
/// - Its pieces, one or more, fill the image and the file without gaps.
/// - A piece is decompressed only when its checksum holds.
struct Compressed {
    /// Unlike that of any other, so that a thread knows whose piece it holds.
    id: u64,
    file: Arc<dyn File>,
    header: SegmentHeader,
    image_bytes: u64,
    piece_bytes: u32,
    pieces: Vec<Piece>,
}

/// Where a piece ends in the file, and its checksum.
struct Piece {
    end: u64,
    crc: u32,
}

impl Compressed {
    /// Reads the table of `file`, which has `bytes` bytes. The outer error is the disk's, the inner one says what
    /// does not hold.
    fn read(
        file: Arc<dyn File>,
        bytes: u64,
        header: SegmentHeader,
    ) -> io::Result<Result<Self, &'static str>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut trailer = [0; TRAILER_BYTES];
        let trailer_at = bytes.saturating_sub(TRAILER_BYTES as u64);
        let whole = file.read_at(&mut trailer, trailer_at)? == TRAILER_BYTES;
        let u32_at =
            |at: usize| u32::from_le_bytes(trailer[at..at + 4].try_into().expect("4 bytes"));
        if !whole || crc_from(header.salt, &trailer[..60]) != u32_at(60) {
            return Ok(Err("trailer checksum does not match"));
        }
        let image_bytes = u64::from_le_bytes(trailer[8..16].try_into().expect("8 bytes"));
        let (piece_bytes, count) = (u32_at(16), u32_at(20));
        let fixed = trailer[..8] == MAGIC && trailer[24..56].iter().all(|&byte| byte == 0);
        let sized = piece_bytes.is_power_of_two() && piece_bytes <= MAX_PIECE_BYTES;
        let sized = sized && image_bytes <= MAX_IMAGE_BYTES;
        let counted = || piece_count(image_bytes, piece_bytes) == u64::from(count);
        if !fixed || !sized || count == 0 || !counted() {
            return Ok(Err("trailer fields contradict each other or this format"));
        }
        let table_bytes = u64::from(count) * ENTRY_BYTES as u64;
        let Some(table_at) = trailer_at.checked_sub(table_bytes) else {
            return Ok(Err("the table is longer than the file"));
        };
        let table = read_range(file.as_ref(), table_at, table_bytes)?;
        if crc32fast::hash(&table) != u32_at(56) || table.len() as u64 != table_bytes {
            return Ok(Err("table checksum does not match"));
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let pieces = Vec::with_capacity(table.len() / ENTRY_BYTES);
        let mut image = Self { id, file, header, image_bytes, piece_bytes, pieces };
        let mut end = HEADER_BYTES;
        for (number, entry) in (0..).zip(table.chunks_exact(ENTRY_BYTES)) {
            let (len, crc) = entry.split_at(4);
            let len = u64::from(u32::from_le_bytes(len.try_into().expect("4 bytes")));
            let (start, until) = image.span(number);
            if len == 0 || len > until - start {
                return Ok(Err("a piece is longer than what it stands for, or nothing"));
            }
            end += len;
            let crc = u32::from_le_bytes(crc.try_into().expect("4 bytes"));
            image.pieces.push(Piece { end, crc });
        }
        if end != table_at {
            return Ok(Err("the pieces do not fill the file"));
        }
        Ok(Ok(image))
    }

    /// Where piece `number` starts and ends in the image.
    fn span(&self, number: u32) -> (u64, u64) {
        let start = HEADER_BYTES + u64::from(number) * u64::from(self.piece_bytes);
        (start, (start + u64::from(self.piece_bytes)).min(self.image_bytes))
    }

    /// The piece that `offset` of the image is in.
    fn piece_of(&self, offset: u64) -> u32 {
        let number = offset.saturating_sub(HEADER_BYTES) / u64::from(self.piece_bytes);
        u32::try_from(number).expect("their count is one")
    }

    /// Where piece `number` starts and ends in the file.
    fn place(&self, number: u32) -> (u64, u64) {
        let at = number as usize;
        (
            at.checked_sub(1).map_or(HEADER_BYTES, |before| self.pieces[before].end),
            self.pieces[at].end,
        )
    }

    /// Decompresses piece `number` into `to`, which is as long as its part of the image.
    fn decompress(
        &self,
        number: u32,
        input: &mut Vec<u8>,
        decompressor: &mut Decompressor<'static>,
        to: &mut [u8],
    ) -> io::Result<()> {
        let (from, until) = self.place(number);
        let damaged = |reason| {
            let offset = self.span(number).0;
            io::Error::new(
                io::ErrorKind::InvalidData,
                Damage { offset, number, from, until, reason },
            )
        };
        input.resize(usize::try_from(until - from).expect("at most a piece"), 0);
        if self.file.read_at(input, from)? < input.len() {
            return Err(damaged("the file ends in it"));
        }
        if piece_crc(self.header.salt, number, input) != self.pieces[number as usize].crc {
            return Err(damaged("its checksum does not match"));
        }
        if input.len() == to.len() {
            to.copy_from_slice(input);
            return Ok(());
        }
        match decompressor.decompress_to_buffer(input, to) {
            Ok(len) if len == to.len() => Ok(()),
            _ => Err(damaged("it does not decompress to what it stands for")),
        }
    }
}

/// What a thread keeps to read compressed segments with, and the last piece that it read in part: most reads are
/// next to the one before.
#[derive(Default)]
struct Scratch {
    decompressor: Option<Decompressor<'static>>,
    input: Vec<u8>,
    /// Of which image, and which piece.
    held: Option<(u64, u32)>,
    piece: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn fill(&mut self, image: &Compressed, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let decompressor = match &mut self.decompressor {
            Some(ready) => ready,
            none => none.insert(Decompressor::new()?),
        };
        let mut done = 0;
        while done < buffer.len() {
            let (at, to) = (offset + done as u64, &mut buffer[done..]);
            let number = image.piece_of(at);
            let (start, end) = image.span(number);
            let len = usize::try_from(end - start).expect("at most a piece");
            if at == start && to.len() >= len && self.held != Some((image.id, number)) {
                image.decompress(number, &mut self.input, decompressor, &mut to[..len])?;
                done += len;
                continue;
            }
            if self.held != Some((image.id, number)) {
                self.held = None;
                self.piece.resize(len, 0);
                image.decompress(number, &mut self.input, decompressor, &mut self.piece)?;
                self.held = Some((image.id, number));
            }
            let skip = usize::try_from(at - start).expect("within a piece");
            let taken = to.len().min(len - skip);
            to[..taken].copy_from_slice(&self.piece[skip..skip + taken]);
            done += taken;
        }
        Ok(())
    }
}

impl File for Compressed {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.image_bytes.saturating_sub(offset);
        let len = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..len];
        let of_page =
            usize::try_from(HEADER_BYTES.saturating_sub(offset)).expect("a page").min(len);
        if of_page > 0 {
            let at = usize::try_from(offset).expect("within a page");
            buffer[..of_page].copy_from_slice(&self.header.encode()[at..at + of_page]);
        }
        let (rest, offset) = (&mut buffer[of_page..], offset + of_page as u64);
        SCRATCH.with_borrow_mut(|scratch| scratch.fill(self, rest, offset))?;
        Ok(len)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn forget(&self, offset: u64, bytes: u64) {
        let Some(more) = bytes.checked_sub(1) else { return };
        let last = self.image_bytes - 1;
        let (offset, last) = (offset.min(last), offset.saturating_add(more).min(last));
        let from = if offset < HEADER_BYTES { 0 } else { self.place(self.piece_of(offset)).0 };
        let until = self.place(self.piece_of(last)).1;
        self.file.forget(from, until - from);
    }

    fn map(&self) -> io::Result<Bytes> {
        read_range(self, 0, self.image_bytes)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.image_bytes)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// A piece that does not hold, inside of the error of a read.
#[derive(Debug, thiserror::Error)]
#[error("piece {number}, bytes {from} to {until} of the file: {reason}")]
pub(crate) struct Damage {
    /// Where the piece starts in the image.
    pub(crate) offset: u64,
    number: u32,
    from: u64,
    until: u64,
    reason: &'static str,
}

impl Damage {
    /// What a read failed with, if it is that.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    pub(crate) fn corruption(&self) -> Corruption {
        Corruption::Compressed(self.to_string())
    }
}
