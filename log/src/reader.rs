//! `Reader`: a walk over the durable records of a log, lent frame by frame. Nothing is allocated or copied for a
//! record, and of sealed segments nothing at all, unless they are compressed: they are read where they are mapped.

use std::sync::Arc;

use crate::error::{Corruption, Error};
use crate::frame::{FrameHeader, FrameRecords, FrameRef};
use crate::segment::handle::{Segment, Window};
use crate::seq::Seq;
use crate::shared::Shared;

/// Bytes of records that are read at once from a segment that is still written or compressed.
const READ_AHEAD: usize = usize::MAX;

/// A walk over durable records, from [`crate::Log::reader`]. What it lends lives until the next call.
///
/// - The checksums of every frame are verified on the way, each time anew.
/// - It never lends a record above the durable seq.
pub struct Reader {
    shared: Arc<Shared>,
    /// Seq of the next record to lend.
    next: Seq,
    /// The durable seq when it was last asked for.
    durable: Seq,
    at: Option<Place>,
}

/// A place between two frames of a segment.
struct Place {
    segment: Arc<Segment>,
    window: Window,
    offset: u64,
    /// Where its frames ended when that was last asked for.
    frames_end: u64,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, from: Seq) -> Self {
        Self { shared, next: from.max(Seq::FIRST), durable: Seq::ZERO, at: None }
    }

    /// Seq of the next record that it lends.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// The records of the next frame; `None` at the durable end, where it goes on when there is more.
    ///
    /// # Errors
    /// [`Error::Trimmed`] if the next record is given up; [`Error::Corrupt`] and [`Error::Io`] from the disk.
    /// After one it starts anew at the same record.
    pub fn next_frame(&mut self) -> Result<Option<FrameRecords<'_>>, Error> {
        if self.next > self.durable {
            self.durable = self.shared.durable_seq();
        }
        if self.next > self.durable {
            return Ok(None);
        }
        let result = self.advance();
        if result.is_err() {
            self.at = None;
        }
        if result.is_err() && self.next < self.shared.first_seq() {
            return Err(Error::Trimmed { first: self.shared.first_seq() }); // trimmed meanwhile
        }
        let (header, offset) = result?;
        let from = std::mem::replace(&mut self.next, header.next_seq());
        let place = self.at.as_ref().expect("where the frame was found");
        Ok(Some(place.window.vouched(offset, header).records().starting(from)))
    }

    /// Goes behind the frame that holds the next record; its header and offset.
    fn advance(&mut self) -> Result<(FrameHeader, u64), Error> {
        if let Some(place) = &mut self.at
            && let Some(found) = place.advance(self.next)?
        {
            return Ok(found);
        }
        let place = self.at.insert(find(&self.shared, self.next)?);
        let found = place.advance(self.next)?;
        found.ok_or_else(|| place.missing(place.frames_end, self.next))
    }
}

/// A frame at or before the one that holds `seq`, which is durable.
fn find(shared: &Shared, seq: Seq) -> Result<Place, Error> {
    if seq < shared.first_seq() {
        return Err(Error::Trimmed { first: shared.first_seq() });
    }
    let segment = shared.segment(|segment| segment.base_seq <= seq);
    let segment = segment.ok_or_else(|| Error::Trimmed { first: shared.first_seq() })?;
    let (mapped, frames_end, offset) = segment.start(seq, 1)?;
    let window = segment.window(mapped, READ_AHEAD)?;
    Ok(Place { segment, window, offset, frames_end })
}

impl Place {
    /// Goes behind the frame that holds `seq`; `None` if it is not in this segment.
    fn advance(&mut self, seq: Seq) -> Result<Option<(FrameHeader, u64)>, Error> {
        loop {
            if self.offset >= self.frames_end {
                self.frames_end = self.segment.with_state(|state| state.frames_end);
            }
            if self.offset >= self.frames_end {
                return Ok(None);
            }
            let offset = self.offset;
            self.window.load_frame(&self.segment, offset, self.frames_end)?;
            let FrameRef { header, .. } = self.window.lend(&self.segment, offset)?;
            self.offset += header.frame_len();
            if header.is_control() || header.next_seq() <= seq {
                continue;
            }
            if header.base_seq > seq {
                return Err(self.missing(offset, seq));
            }
            return Ok(Some((header, offset)));
        }
    }

    fn missing(&self, offset: u64, seq: Seq) -> Error {
        self.segment.corrupt(offset, seq, Corruption::Other(format!("seq {seq} is not in it")))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("next", &self.next).finish_non_exhaustive()
    }
}
