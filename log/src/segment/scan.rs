//! Walking the frames of a segment that may end anywhere: pure, over its bytes.

use bytes::Bytes;

use crate::chain::ChainHash;
use crate::error::Corruption;
use crate::frame::{ALIGN, Control, FRAME_HEADER_BYTES, Frame, FrameHeader, Open, SYNC_WORD};
use crate::segment::footer::{Footer, INDEX_EVERY, IndexEntry};
use crate::segment::header::HEADER_BYTES;
use crate::seq::Seq;

/// What a walk over frames found.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The first OPEN frame.
    pub(crate) open: Option<Open>,
    /// The epoch of the last OPEN frame.
    pub(crate) epoch: u64,
    /// The lowest seq that is kept, by the last frame that says so.
    pub(crate) first_seq: Seq,
    /// Offset after the last valid frame.
    pub(crate) frames_end: u64,
    /// Offset after the last frame that ends outside of a transaction, and the seq after it.
    pub(crate) whole_end: u64,
    /// The seq after the last whole transaction.
    pub(crate) next_seq: Seq,
    /// Commit times of the first and the last frame with records.
    pub(crate) times: Option<(i64, i64)>,
    /// The chain hash of the last record of the last whole transaction.
    pub(crate) chain: ChainHash,
    /// Sparse index.
    pub(crate) index: Vec<IndexEntry>,
    /// The highest log position that a frame knew to be durable.
    pub(crate) synced_pos: u64,
    /// Why the walk ended before the end of the bytes.
    pub(crate) stopped: Option<Corruption>,
}

/// Walks the frames of `file`, the whole bytes of a segment with `salt`, up to `until` at most.
pub(crate) fn scan(file: &Bytes, salt: u32, until: u64) -> Scan {
    let mut scan = Scan::begin();
    let mut reached = None;
    while scan.frames_end < until.min(file.len() as u64) {
        let offset = scan.frames_end;
        let frame = match Frame::decode(file, 0, offset, salt) {
            Ok(frame) => frame,
            Err(reason) => {
                scan.stopped = Some(reason);
                break;
            }
        };
        if let Err(reason) = scan.take(&frame, offset, &mut reached) {
            scan.stopped = Some(reason);
            break;
        }
    }
    scan
}

impl Scan {
    /// Before the first frame.
    pub(crate) fn begin() -> Self {
        Self {
            open: None,
            epoch: 0,
            first_seq: Seq::ZERO,
            frames_end: HEADER_BYTES,
            whole_end: HEADER_BYTES,
            next_seq: Seq::ZERO,
            times: None,
            chain: ChainHash::START,
            index: Vec::new(),
            synced_pos: 0,
            stopped: None,
        }
    }

    /// Whether the footer of a sealed segment says what its frames do.
    pub(crate) fn meets(&self, footer: &Footer) -> bool {
        let starts =
            |open: &Open| footer.first_seq == open.base_seq && footer.base_pos == open.base_pos;
        self.open.as_ref().is_some_and(starts)
            && self.whole_end == footer.frames_end
            && self.next_seq.prev() == footer.last_seq
            && self.times.unwrap_or_default() == footer.times
            && self.chain == footer.chain
            && self.index == footer.index
    }

    /// Takes the next frame; `reached` is the seq after the last record, inside a transaction or not.
    pub(crate) fn take(
        &mut self,
        frame: &Frame,
        offset: u64,
        reached: &mut Option<Seq>,
    ) -> Result<(), Corruption> {
        let header = &frame.header;
        let control = header.is_control().then(|| Control::decode(&frame.payload)).transpose()?;
        let Some(open) = self.open.as_ref() else {
            let Some(Control::Open(open)) = control else {
                return Err(Corruption::Frame("the first frame does not open the segment".into()));
            };
            *reached = Some(open.base_seq);
            self.next_seq = open.base_seq;
            self.first_seq = open.first_seq;
            self.epoch = open.epoch;
            self.chain = open.chain;
            self.open = Some(open);
            self.step(header, offset);
            return Ok(());
        };
        if Some(header.base_seq) != *reached {
            return Err(Corruption::Frame(format!(
                "it starts at seq {}, {} was next",
                header.base_seq,
                reached.unwrap_or_default()
            )));
        }
        if header.synced_pos > open.base_pos + (offset - HEADER_BYTES) {
            return Err(Corruption::Frame("it knows of durable bytes after itself".into()));
        }
        match control {
            Some(_) if *reached != Some(self.next_seq) => {
                return Err(Corruption::Frame("control frame inside a transaction".into()));
            }
            Some(Control::Open(open)) if open.chain != self.chain => {
                return Err(Corruption::Chain("it does not go on from the record before".into()));
            }
            Some(Control::Open(open)) => {
                self.epoch = open.epoch;
                self.first_seq = self.first_seq.max(open.first_seq);
            }
            Some(Control::Trim { first_seq }) => self.first_seq = self.first_seq.max(first_seq),
            Some(Control::Mark) => {}
            None => {
                let last = self.index.last().map_or(0, |entry| entry.offset);
                if last == 0 || offset - last >= INDEX_EVERY {
                    self.index.push(IndexEntry {
                        seq: header.base_seq,
                        offset,
                        time_us: header.time_us,
                    });
                }
                let first = self.times.map_or(header.time_us, |times| times.0);
                self.times = Some((first, header.time_us));
                *reached = Some(header.next_seq());
            }
        }
        if header.is_control() || header.ends_transaction() {
            self.next_seq = header.next_seq();
            self.chain = header.chain.unwrap_or(self.chain);
            self.step(header, offset);
        } else {
            self.frames_end = offset + header.frame_len();
            self.synced_pos = self.synced_pos.max(header.synced_pos);
        }
        Ok(())
    }

    fn step(&mut self, header: &FrameHeader, offset: u64) {
        self.frames_end = offset + header.frame_len();
        self.whole_end = self.frames_end;
        self.synced_pos = self.synced_pos.max(header.synced_pos);
    }
}

/// The chain hash of `seq`, which is in the segment or right before it: in `file`, its bytes, the frames up to `until`.
///
/// # Errors
/// The offset of a frame that does not hold, and why.
pub(crate) fn chain_at(
    file: &Bytes,
    salt: u32,
    until: u64,
    seq: Seq,
) -> Result<ChainHash, (u64, Corruption)> {
    let (mut chain, mut offset) = (ChainHash::START, HEADER_BYTES);
    while offset < until {
        let frame = Frame::decode(file, 0, offset, salt).map_err(|reason| (offset, reason))?;
        let Some(after) = frame.chain_until(chain, seq) else { break };
        chain = after;
        offset += frame.header.frame_len();
    }
    Ok(chain)
}

/// What stands behind the last valid frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Offset after the last byte that is not zero; the start if all are zero.
    pub(crate) dirty_end: u64,
    /// The highest log position that a valid frame in there knew to be durable.
    pub(crate) synced_pos: u64,
}

/// Bytes up to and with the last one that is not zero. By pages, since most of a segment may be zeros.
fn dirty_len(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    while end >= ZEROS.len() && bytes[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    bytes[..end].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)
}

/// Looks for life behind `from`: bytes that are not zero, and frames that can still be read.
pub(crate) fn tail(file: &Bytes, salt: u32, from: u64) -> Tail {
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(file.len());
    let dirty = dirty_len(&file[start..]);
    let mut found = Tail { dirty_end: from + dirty as u64, synced_pos: 0 };
    let mut offset = from.next_multiple_of(ALIGN);
    while offset + FRAME_HEADER_BYTES as u64 <= found.dirty_end {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if file[at..at + 4] == SYNC_WORD
            && let Ok(header) = FrameHeader::decode(&file[at..], salt, offset)
        {
            found.synced_pos = found.synced_pos.max(header.synced_pos);
        }
        offset += ALIGN;
    }
    found
}
