//! Settings of a log, and the witnesses of what it has acknowledged.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::segment::header::HEADER_BYTES;
use crate::seq::Seq;

/// Settings of a log. Bad values are refused at open.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The log's directory; created if absent.
    pub dir: PathBuf,
    /// Bytes of a segment file while it is written. 64 KiB to 4 GiB; default 64 MiB: what a trim gives
    /// back at once, and the most that opening after a crash must read.
    pub segment_bytes: u64,
    /// Largest payload of one frame. 1 KiB to a quarter of `segment_bytes`; default 1 MiB. A larger
    /// transaction becomes a run of frames.
    pub frame_bytes: usize,
    /// Bytes of transactions that may wait for the writer before appends wait in turn. Default 64 MiB.
    pub queue_bytes: usize,
    /// Bytes of recent records kept in memory for readers at the tail. Default 32 MiB.
    pub ring_bytes: usize,
    /// After how long without appends the tail is marked as acknowledged. Default 20 ms.
    pub idle_mark: Duration,
}

impl LogConfig {
    /// The defaults, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            frame_bytes: 1 << 20,
            queue_bytes: 64 << 20,
            ring_bytes: 32 << 20,
            idle_mark: Duration::from_millis(20),
        }
    }

    /// # Errors
    /// [`Error::BadConfig`] names the field that is out of bounds.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |name, reason: String| Err(Error::BadConfig { name, reason });
        if !(64 << 10..=4 << 30).contains(&self.segment_bytes) {
            return bad("segment_bytes", "must be 64 KiB to 4 GiB".into());
        }
        let most = (self.segment_bytes - HEADER_BYTES) / 4;
        if self.frame_bytes < 1 << 10 || self.frame_bytes as u64 > most {
            return bad("frame_bytes", format!("must be 1 KiB to {most} (a quarter segment)"));
        }
        if self.queue_bytes < 1 << 20 {
            return bad("queue_bytes", "must be at least 1 MiB".into());
        }
        Ok(())
    }
}

/// Who knows up to which seq the log has acknowledged: cursors, checkpoints, receipts. Opening a log
/// that ends before any of them is refused.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(pub(crate) Vec<(String, Seq)>);

impl Witnesses {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds `name`, which knows of records up to and with `seq`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, seq: Seq) -> Self {
        self.0.push((name.into(), seq));
        self
    }
}
