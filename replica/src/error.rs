//! What can go wrong with a replica, and what the caller must do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use revenant_log::{ErrorKind, Seq};

/// A failure of the replica. The log is the truth: every one of these can be mended by a rebuild.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database file failed; it is moved aside at the next open and built anew from the log.
    #[error("{action} the replica")]
    Database {
        /// What was tried, in the present tense.
        action: &'static str,
        /// What redb said.
        source: Box<redb::Error>,
    },
    /// A row or a count in the file does not hold.
    #[error("the replica is damaged: {0}; it is moved aside at the next open")]
    Damaged(String),
    /// Another process has the file.
    #[error("{} is in use by another process; stop it first", .0.display())]
    Locked(PathBuf),
    /// Records that do not follow what was applied.
    #[error("record {found} does not follow {applied}, the last applied")]
    Gap {
        /// The last seq applied.
        applied: Seq,
        /// The seq that came.
        found: Seq,
    },
    /// The records that are needed were trimmed from the log: the tables must be cloned again.
    #[error(
        "the replica is at seq {applied}, but the log starts at {first}: clone the tables again"
    )]
    Trimmed {
        /// The last seq applied.
        applied: Seq,
        /// The lowest seq in the log.
        first: Seq,
    },
    /// The log ends before what was applied: it is an older copy, or another one of the same name.
    #[error(
        "the replica is at seq {applied}, but the log ends at {last}: move the replica's file aside, and it is built anew"
    )]
    Ahead {
        /// The last seq applied.
        applied: Seq,
        /// The highest seq in the log.
        last: Seq,
    },
    /// A checkpoint to start from has more than what is asked for.
    #[error("the checkpoint is at seq {checkpoint}, beyond {asked}: start from an older one")]
    Beyond {
        /// The checkpoint's.
        checkpoint: Seq,
        /// The seq asked for.
        asked: Seq,
    },
    /// The log failed.
    #[error("read the log")]
    Log(#[from] revenant_log::Error),
    /// A file could not be moved, created or renamed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// What the caller must do. [`ErrorKind::Reopen`]: open the replica again, which moves a bad file aside;
    /// [`ErrorKind::Restore`]: clone the tables again, or move the file aside, as the text says.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Database { .. } | Self::Damaged(_) | Self::Io { .. } => ErrorKind::Reopen,
            Self::Locked(_) => ErrorKind::Retry,
            Self::Gap { .. } | Self::Beyond { .. } => ErrorKind::FixInput,
            Self::Trimmed { .. } | Self::Ahead { .. } => ErrorKind::Restore,
            Self::Log(error) => error.kind(),
        }
    }

    pub(crate) fn database<E: Into<redb::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Database { action, source: Box::new(source.into()) }
    }
}

/// Runs what touches the file. redb panics on some damaged files instead of returning an error; nothing
/// of the replica is used after a panic but to open it anew.
pub(crate) fn guarded<T>(action: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::Damaged(format!("redb panicked: {}", text.unwrap_or("without a reason"))))
    })
}
