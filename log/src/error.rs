//! What can go wrong with a log, where, and what the caller must do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::segment::compressed::Damage;
use crate::seq::Seq;

/// A failure of the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, in the present tense.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes below the acknowledged floor are damaged, or a part of the log is missing.
    #[error("corrupt log: {} at offset {offset} (seq {seq}): {reason}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where in the file the first damaged frame or field starts.
        offset: u64,
        /// The first seq that cannot be read.
        seq: Seq,
        /// What is wrong.
        reason: Corruption,
    },
    /// A file was written by a newer format, or is no log file at all.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it says of itself.
        reason: String,
    },
    /// Someone else has the directory.
    #[error("{} is in use by process {owner}; stop it first, or use another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The owner's process id as it wrote it, or "unknown".
        owner: String,
    },
    /// The directory holds no log.
    #[error("{} holds no log", path.display())]
    NotALog {
        /// The directory.
        path: PathBuf,
    },
    /// A witness knows of acknowledged records that the log does not have.
    #[error(
        "the log ends at seq {last}, but {witness} was acknowledged up to seq {witnessed}: restore the log from a copy, or discard that witness"
    )]
    Lost {
        /// Where the log ends.
        last: Seq,
        /// Who knows of more.
        witness: String,
        /// Up to where.
        witnessed: Seq,
    },
    /// An earlier write or sync failed; nothing more is accepted until the log is opened anew.
    #[error("the log stopped after a failed write or sync: {0}; open it again")]
    Poisoned(String),
    /// The disk is full. What was refused did not happen; appends succeed again when there is space.
    #[error(
        "the disk is full, {} needs {bytes} bytes: free space, trim the log or release its ballast, then try again", path.display()
    )]
    Full {
        /// The file that there is no space for.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// The archive did not take a segment that was to be trimmed. It is kept, with all behind it.
    #[error("{} is not trimmed, since the archive did not take it", path.display())]
    NotArchived {
        /// The segment's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// The caller expected the log to end elsewhere. Nothing was appended.
    #[error("the next seq is {next}, not {expected}")]
    WrongSeq {
        /// What the caller expected.
        expected: Seq,
        /// What it is.
        next: Seq,
    },
    /// The records were trimmed away.
    #[error("records below seq {first} are trimmed")]
    Trimmed {
        /// The lowest seq that can still be read.
        first: Seq,
    },
    /// What was handed over cannot be a transaction. Nothing was appended.
    #[error("bad transaction: {0}")]
    BadInput(String),
    /// A setting is out of bounds.
    #[error("bad log setting {name}: {reason}")]
    BadConfig {
        /// The field of `LogConfig`.
        name: &'static str,
        /// What it must be.
        reason: String,
    },
}

/// What is wrong with bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Corruption {
    /// The segment header's checksum or fields do not hold.
    #[error("segment header: {0}")]
    Header(String),
    /// A frame does not start with the sync word.
    #[error("no frame starts here")]
    SyncWord,
    /// A frame header's checksum does not hold.
    #[error("frame header checksum does not match")]
    HeaderChecksum,
    /// A frame's payload checksum does not hold.
    #[error("payload checksum does not match")]
    PayloadChecksum,
    /// A frame's fields contradict each other or what came before.
    #[error("frame: {0}")]
    Frame(String),
    /// Padding is not zero.
    #[error("padding is not zero")]
    Padding,
    /// A record's bytes cannot be read.
    #[error("record: {0}")]
    Record(String),
    /// The footer does not hold.
    #[error("footer: {0}")]
    Footer(String),
    /// The pieces of a compressed segment, or the table of them, do not hold. The offset is that of the segment as
    /// it was written; the text says where in the file.
    #[error("compressed segment: {0}")]
    Compressed(String),
    /// The audit chain does not join.
    #[error("audit chain: {0}")]
    Chain(String),
    /// A segment is missing.
    #[error("segment {0} is missing")]
    MissingSegment(u64),
    /// The log ends before what is known to have been acknowledged.
    #[error("acknowledged bytes up to position {floor} are gone")]
    BelowFloor {
        /// The acknowledged floor.
        floor: u64,
    },
    /// More bytes are damaged than one crash can leave.
    #[error("{0} bytes are damaged, more than were ever in flight")]
    TooLong(u64),
    /// A sealed segment holds bytes that belong to nothing.
    #[error("{0}")]
    Other(String),
}

/// What a caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change the input or the setting; nothing happened.
    FixInput,
    /// Try again later; nothing happened.
    Retry,
    /// Open the log again; the last appends may have happened.
    Reopen,
    /// Restore or repair; do not append.
    Restore,
}

impl Error {
    /// The disk refused, or gave a piece of a compressed segment that does not hold.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match Damage::of(&source) {
            Some(damage) => {
                let (offset, reason) = (damage.offset, damage.corruption());
                Self::Corrupt { path, offset, seq: Seq::ZERO, reason }
            }
            None => Self::Io { action, path, source },
        }
    }

    /// [`Error::io`] for a new file of `bytes` bytes: [`Error::Full`] if there is no space for it.
    pub(crate) fn space(
        action: &'static str,
        path: &Path,
        bytes: u64,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, bytes },
            _ => Self::Io { action, path, source },
        }
    }

    /// What the caller must do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongSeq { .. }
            | Self::BadInput(_)
            | Self::BadConfig { .. }
            | Self::NotALog { .. }
            | Self::Unsupported { .. } => ErrorKind::FixInput,
            Self::Full { .. } | Self::Locked { .. } | Self::NotArchived { .. } => ErrorKind::Retry,
            Self::Io { .. } | Self::Poisoned(_) | Self::Closed => ErrorKind::Reopen,
            Self::Corrupt { .. } | Self::Lost { .. } | Self::Trimmed { .. } => ErrorKind::Restore,
        }
    }
}
