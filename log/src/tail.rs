//! The ring of recent records in memory, from which readers at the tail are served.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frame::Frame;
use crate::seq::Seq;

/// Recent frames, oldest first, contiguous, durable.
#[derive(Debug)]
pub(crate) struct Ring {
    frames: VecDeque<Frame>,
    bytes: usize,
    limit: usize,
}

impl Ring {
    pub(crate) fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds a durable frame; forgets the oldest beyond the limit.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.bytes += frame.payload.len();
        self.frames.push_back(frame);
        while self.bytes > self.limit
            && let Some(oldest) = self.frames.pop_front()
        {
            self.bytes -= oldest.payload.len();
        }
    }

    /// Records from `from` on, of `max_bytes` in all but at least one; `None` if `from` is older than the
    /// ring.
    pub(crate) fn read(&self, from: Seq, max_bytes: usize) -> Option<Vec<Bytes>> {
        if self.frames.front()?.header.base_seq > from {
            return None;
        }
        let start = self.frames.partition_point(|frame| frame.header.next_seq() <= from);
        let mut records = Records::new(from, max_bytes);
        self.frames.range(start..).all(|frame| records.take(frame));
        Some(records.taken)
    }
}

/// Records picked from frames up to a size.
pub(crate) struct Records {
    from: Seq,
    left: usize,
    pub(crate) taken: Vec<Bytes>,
}

impl Records {
    pub(crate) fn new(from: Seq, max_bytes: usize) -> Self {
        Self { from, left: max_bytes, taken: Vec::new() }
    }

    /// Bytes that are still wanted.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Takes what is wanted of `frame`; false when there is enough.
    pub(crate) fn take(&mut self, frame: &Frame) -> bool {
        let skip = usize::try_from(self.from.0.saturating_sub(frame.header.base_seq.0));
        let count = frame.header.record_count as usize;
        for index in skip.unwrap_or(usize::MAX)..count {
            let record = frame.record(index);
            if record.len() > self.left && !self.taken.is_empty() {
                return false;
            }
            self.left = self.left.saturating_sub(record.len());
            self.taken.push(record);
        }
        self.left > 0
    }
}
