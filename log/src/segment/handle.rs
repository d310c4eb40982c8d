//! `Segment`: an open segment file and what is known of it, shared by the writer and the readers.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;

use crate::chain::ChainHash;
use crate::error::{Corruption, Error};
use crate::frame::{Frame, FrameHeader, FrameRef, RECORDS_HEADER_BYTES};
use crate::segment::compressed::Opened;
use crate::segment::footer::{Footer, INDEX_EVERY, IndexEntry};
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::seq::Seq;
use crate::storage::{Access, File, Storage};
use crate::tail::Records;

/// Most bytes read at once from a segment that is still written or compressed, and how many more than what is wanted: an
/// entry of the index stands at most about this far before it.
const WINDOW_BYTES: usize = 256 << 10;
const SMALL_WINDOW_BYTES: usize = 16 << 10;
const _: () = assert!(SMALL_WINDOW_BYTES as u64 == INDEX_EVERY);

/// An open segment.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// The segment as it was written, be it compressed or not.
    pub(crate) file: Arc<dyn File>,
    /// Bytes on the disk, if it is compressed.
    pub(crate) compressed_bytes: Option<u64>,
    pub(crate) base_seq: Seq,
    pub(crate) base_pos: u64,
    state: RwLock<SegmentState>,
    map: OnceLock<Bytes>,
    /// Of a sealed segment, one bit for each entry of its index: the frames from there to the next entry were
    /// verified in this process.
    vouched: OnceLock<Box<[AtomicU64]>>,
}

/// What changes while a segment is written.
#[derive(Clone, Debug)]
pub(crate) struct SegmentState {
    pub(crate) sealed: bool,
    /// Offset after the last durable frame.
    pub(crate) frames_end: u64,
    pub(crate) next_seq: Seq,
    pub(crate) times: Option<(i64, i64)>,
    /// The chain hash of the last record.
    pub(crate) chain: ChainHash,
    /// `None`: it is in the footer, and nobody needed it so far.
    pub(crate) index: Option<Vec<IndexEntry>>,
}

impl SegmentState {
    /// Whether a trim below `before` takes the segment: it is sealed, and each of its records is below.
    pub(crate) fn trimmed_by(&self, before: Seq) -> bool {
        self.sealed && self.next_seq <= before
    }

    /// Accounts for a durable frame at `offset`.
    pub(crate) fn extend(&mut self, header: &FrameHeader, offset: u64) {
        self.frames_end = offset + header.frame_len();
        if header.is_control() {
            return;
        }
        self.next_seq = header.next_seq();
        self.chain = header.chain.unwrap_or(self.chain);
        let first = self.times.map_or(header.time_us, |times| times.0);
        self.times = Some((first, header.time_us));
        let index = self.index.get_or_insert_default();
        if index.last().is_none_or(|last| offset - last.offset >= INDEX_EVERY) {
            index.push(IndexEntry { seq: header.base_seq, offset, time_us: header.time_us });
        }
    }
}

impl Segment {
    pub(crate) fn new(
        path: PathBuf,
        header: SegmentHeader,
        file: Arc<dyn File>,
        base_seq: Seq,
        base_pos: u64,
        state: SegmentState,
    ) -> Self {
        let state = RwLock::new(state);
        let (map, vouched) = (OnceLock::new(), OnceLock::new());
        let compressed_bytes = None;
        Self { path, header, file, compressed_bytes, base_seq, base_pos, state, map, vouched }
    }

    /// The same segment, sealed, in a compressed file.
    pub(crate) fn in_file(&self, Opened { file, compressed_bytes }: Opened) -> Self {
        let (path, state) = (self.path.clone(), self.state());
        Self::new(path, self.header, file, self.base_seq, self.base_pos, state)
            .compressed_to(compressed_bytes)
    }

    /// Of these bytes on the disk, if it is compressed.
    pub(crate) fn compressed_to(self, compressed_bytes: Option<u64>) -> Self {
        Self { compressed_bytes, ..self }
    }

    /// Bytes that it takes on the disk, but for the zeros behind what is written.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.compressed_bytes.unwrap_or_else(|| self.with_state(|state| state.frames_end))
    }

    pub(crate) fn state(&self) -> SegmentState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn with_state<T>(&self, read: impl FnOnce(&SegmentState) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut SegmentState)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The log position of `offset`.
    pub(crate) fn pos(&self, offset: u64) -> u64 {
        self.base_pos + (offset - HEADER_BYTES)
    }

    pub(crate) fn corrupt(&self, offset: u64, seq: Seq, reason: Corruption) -> Error {
        Error::Corrupt { path: self.path.clone(), offset, seq, reason }
    }

    /// Writes the footer, cuts the file behind it, and forbids writing. Durable on return.
    pub(crate) fn seal(&self, storage: &dyn Storage) -> Result<(), Error> {
        let state = self.state();
        if state.sealed {
            return Ok(());
        }
        let footer = Footer {
            first_seq: self.base_seq,
            last_seq: state.next_seq.prev(),
            frames_end: state.frames_end,
            base_pos: self.base_pos,
            times: state.times.unwrap_or_default(),
            chain: state.chain,
            index: state.index.unwrap_or_default(),
        }
        .encode(self.header.salt);
        let io = |action| Error::io(action, &self.path);
        // A file whose footer rotted was frozen before.
        storage.thaw(&self.path).map_err(io("allow writing to"))?;
        let file = storage.open(&self.path, Access::Write).map_err(io("open"))?;
        file.write_at(&footer, state.frames_end).map_err(io("write the footer of"))?;
        let len = state.frames_end + footer.len() as u64;
        file.set_len(len).map_err(io("cut"))?;
        file.sync_all().map_err(io("sync"))?;
        storage.freeze(&self.path).map_err(io("take write permission from"))?;
        self.change(|state| state.sealed = true);
        Ok(())
    }

    /// Takes durable records from `records.from` on; true when more are wanted from the next segment.
    pub(crate) fn read(&self, from: Seq, records: &mut Records) -> Result<bool, Error> {
        let (mapped, frames_end, start) = self.start(from, 1)?;
        let mut window = self.window(mapped, records.left())?;
        let vouched = if mapped { self.vouch(&window, from, frames_end)? } else { start };
        let mut offset = start;
        while offset < frames_end {
            let frame = if offset < vouched {
                Frame::vouched(&window.bytes, offset)
            } else {
                window.load_frame(self, offset, frames_end)?;
                window.frame(self, offset)?
            };
            offset += frame.header.frame_len();
            if !frame.header.is_control() && frame.header.next_seq() > from && !records.take(&frame)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Verifies the frames of a sealed segment from the entry of its index for `seq` to the next one, unless that
    /// was done before, and says where they end.
    fn vouch(&self, window: &Window, seq: Seq, frames_end: u64) -> Result<u64, Error> {
        let (entries, entry, mut offset, end) = self.with_state(|state| {
            let index = state.index.as_deref().unwrap_or_default();
            let after = index.partition_point(|entry| entry.seq <= seq);
            let end = index.get(after).map_or(frames_end, |next| next.offset);
            let entry = after.checked_sub(1);
            (index.len(), entry, entry.map_or(HEADER_BYTES, |at| index[at].offset), end)
        });
        let Some(entry) = entry else { return Ok(HEADER_BYTES) };
        let words = || (0..entries.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let word = &self.vouched.get_or_init(words)[entry / 64];
        let bit = 1 << (entry % 64);
        if word.load(Ordering::Relaxed) & bit == 0 {
            while offset < end {
                offset += window.lend(self, offset)?.header.frame_len();
            }
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(end)
    }

    /// The chain hash of `seq`, which is in the segment or right before it.
    pub(crate) fn chain_at(&self, seq: Seq) -> Result<ChainHash, Error> {
        // Two entries back, so that the first frame read ends before `seq` and vouches for the rest.
        let (mapped, frames_end, mut offset) = self.start(seq, 2)?;
        let mut window = self.window(mapped, WINDOW_BYTES)?;
        let mut chain = ChainHash::START;
        while offset < frames_end {
            window.load_frame(self, offset, frames_end)?;
            let frame = window.frame(self, offset)?;
            let Some(after) = frame.chain_until(chain, seq) else { break };
            chain = after;
            offset += frame.header.frame_len();
        }
        Ok(chain)
    }

    /// Whether it is read as a map, being sealed and not compressed, where its frames end, and a frame to start from to
    /// find `seq`: by the index, so many entries `back` from the one after it.
    pub(crate) fn start(&self, seq: Seq, back: usize) -> Result<(bool, u64, u64), Error> {
        if self.with_state(|state| state.index.is_none()) {
            let footer = Footer::read(self.file.as_ref(), self.header.salt);
            // Without an index, frames are found all the same, from the first one on; `verify` tells.
            let footer = footer.map_err(Error::io("read", &self.path))?.unwrap_or_else(|reason| {
                tracing::error!(segment = %self.path.display(), %reason, "an index is damaged");
                None
            });
            let index = footer.map(|footer| footer.index).unwrap_or_default();
            self.change(|state| {
                state.index.get_or_insert(index);
            });
        }
        Ok(self.with_state(|state| {
            let index = state.index.as_deref().unwrap_or_default();
            let after = index.partition_point(|entry| entry.seq <= seq);
            let start = after.checked_sub(back).map_or(HEADER_BYTES, |at| index[at].offset);
            (state.sealed && self.compressed_bytes.is_none(), state.frames_end, start)
        }))
    }

    /// For reading about `most` bytes of records, of all of it if it is `mapped`.
    pub(crate) fn window(&self, mapped: bool, most: usize) -> Result<Window, Error> {
        let bytes = if mapped { self.map()? } else { Bytes::new() };
        let step = most.saturating_add(SMALL_WINDOW_BYTES).min(WINDOW_BYTES);
        Ok(Window { whole: mapped, start: 0, bytes, step })
    }

    /// The map of a sealed segment; readers share one.
    fn map(&self) -> Result<Bytes, Error> {
        if let Some(map) = self.map.get() {
            return Ok(map.clone());
        }
        let map = self.file.map().map_err(Error::io("map", &self.path))?;
        Ok(self.map.get_or_init(|| map).clone())
    }
}

/// A part of a segment in memory: all of a sealed one as a map, some of one that is still written or compressed.
pub(crate) struct Window {
    whole: bool,
    start: u64,
    bytes: Bytes,
    /// Bytes read at once.
    step: usize,
}

impl Window {
    /// Sees to it that the frame at `offset` of `segment`, whose frames end at `frames_end`, is in memory
    /// as far as it is there at all.
    pub(crate) fn load_frame(
        &mut self,
        segment: &Segment,
        offset: u64,
        frames_end: u64,
    ) -> Result<(), Error> {
        if self.whole {
            return Ok(());
        }
        let left = usize::try_from(frames_end - offset).unwrap_or(usize::MAX);
        if !self.holds(offset, RECORDS_HEADER_BYTES.min(left)) {
            self.load(segment, offset, left.min(self.step))?;
        }
        if let Ok(header) = FrameHeader::decode(self.from(offset), segment.header.salt, offset) {
            let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
            if !self.holds(offset, len) {
                self.load(segment, offset, left.min(len.max(self.step)))?;
            }
        }
        Ok(())
    }

    /// The frame at `offset` of `segment`, verified.
    pub(crate) fn frame(&self, segment: &Segment, offset: u64) -> Result<Frame, Error> {
        let FrameRef { header, payload } = self.lend(segment, offset)?;
        Ok(Frame { header, payload: self.bytes.slice_ref(payload) })
    }

    /// As [`Window::frame`], for as long as the window stays.
    pub(crate) fn lend(&self, segment: &Segment, offset: u64) -> Result<FrameRef<'_>, Error> {
        FrameRef::decode(self.from(offset), offset, segment.header.salt)
            .map_err(|reason| segment.corrupt(offset, segment.base_seq, reason))
    }

    /// The frame at `offset`, whose header this is and which was lent before.
    pub(crate) fn vouched(&self, offset: u64, header: FrameHeader) -> FrameRef<'_> {
        FrameRef::vouched(self.from(offset), header)
    }

    /// What it holds from `offset` on.
    fn from(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    fn holds(&self, offset: u64, len: usize) -> bool {
        offset >= self.start && offset + len as u64 <= self.start + self.bytes.len() as u64
    }

    fn load(&mut self, segment: &Segment, offset: u64, len: usize) -> Result<(), Error> {
        // The memory of the bytes before is used again, unless a record of them is still held.
        let mut bytes = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
        bytes.resize(len, 0);
        let read = segment.file.read_at(&mut bytes, offset);
        bytes.truncate(read.map_err(Error::io("read", &segment.path))?);
        (self.start, self.bytes) = (offset, bytes.freeze());
        Ok(())
    }
}
