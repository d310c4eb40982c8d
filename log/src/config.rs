//! Settings of a log, and the witnesses of what it has acknowledged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::archive::Archive;
use crate::chain::{Anchor, ChainHash};
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
    /// Bytes of a file that holds space back until [`crate::Log::release_ballast`] lets go of it on a full disk; made
    /// again when there is plenty. Default 0: none.
    pub ballast_bytes: u64,
    /// Bytes of sealed segments that are read and verified again per second, beside everything else; 0: none. Default
    /// 0, since a log that is opened for a moment gains nothing; a server sets it.
    pub scrub_bytes_per_s: u64,
    /// How often every sealed segment is verified again, if there is time for it at that rate. Default a day.
    pub scrub_every: Duration,
    /// What gets sealed segments before a trim removes them. Default: nothing.
    pub archive: Option<Arc<dyn Archive>>,
    /// At which level of zstd sealed segments are compressed in the background, 1 to 19; 0: they stay as they are.
    /// Default 0: reading a compressed segment costs decompressing 64 KiB for each place, and a build older than
    /// format 1.1 refuses a log with one.
    pub compress_level: i32,
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
            ballast_bytes: 0,
            scrub_bytes_per_s: 0,
            scrub_every: Duration::from_hours(24),
            archive: None,
            compress_level: 0,
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
        if !(0..=19).contains(&self.compress_level) {
            return bad("compress_level", "must be 1 to 19, or 0 for none".into());
        }
        Ok(())
    }
}

/// Who knows up to which seq the log has acknowledged: cursors, checkpoints, receipts. Opening a log
/// that ends before any of them, or that has another chain hash than a receipt says, is refused.
#[derive(Clone, Debug, Default)]
pub struct Witnesses(pub(crate) Vec<Witness>);

/// Someone who knows of acknowledged records.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub(crate) name: String,
    pub(crate) seq: Seq,
    /// The chain hash of `seq`, from a receipt.
    pub(crate) hash: Option<ChainHash>,
}

impl Witnesses {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds `name`, which knows of records up to and with `seq`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, seq: Seq) -> Self {
        self.0.push(Witness { name: name.into(), seq, hash: None });
        self
    }

    /// Adds `name`, which keeps `receipt`: an anchor taken of this log once. It finds what nothing inside the log can:
    /// an end that was erased with all that knew of it, an older copy put back, records changed with every checksum
    /// mended. Costs a read of a few frames, however long the log; below the first seq that is kept it says nothing.
    #[must_use]
    pub fn with_receipt(mut self, name: impl Into<String>, receipt: Anchor) -> Self {
        let Anchor { seq, hash } = receipt;
        self.0.push(Witness { name: name.into(), seq, hash: Some(hash) });
        self
    }
}
