//! What can go wrong with the scheduler, and what its operator must do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::ConfigError;
use crate::source::SourceError;

/// A failure of the scheduler.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another scheduler has the data directory.
    #[error("{} is in use by process {owner}; stop it first, or use another directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The owner's process id as it wrote it, or "unknown".
        owner: String,
    },
    /// The log failed.
    #[error("the log failed")]
    Log(#[from] revenant_log::Error),
    /// Bytes that the log gave back are no records.
    #[error("the log gave back what is no record")]
    Records(#[from] revenant_log::WireError),
    /// The replica failed.
    #[error("the replica failed")]
    Replica(#[from] revenant_replica::Error),
    /// The state store failed.
    #[error("{action} {}: {reason}", path.display())]
    Store {
        /// What was tried, in the present tense.
        action: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What redb or the bytes said.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The address cannot be listened on.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, in the present tense.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the scheduler ended that should not.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// What a caller must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Change a setting; nothing happened.
    FixInput,
    /// Try again.
    Retry,
    /// Start again; the last appends may have happened.
    Reopen,
    /// Restore or repair.
    Restore,
}

impl Error {
    /// What the caller must do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Listen { .. } | Self::Source(SourceError::Refused(_)) => {
                ErrorKind::FixInput
            }
            Self::Locked { .. } | Self::Source(_) | Self::Io { .. } => ErrorKind::Retry,
            Self::Log(error) => match error.kind() {
                revenant_log::ErrorKind::FixInput => ErrorKind::FixInput,
                revenant_log::ErrorKind::Retry => ErrorKind::Retry,
                revenant_log::ErrorKind::Reopen => ErrorKind::Reopen,
                revenant_log::ErrorKind::Restore => ErrorKind::Restore,
            },
            Self::Replica(_) | Self::Ended(_) => ErrorKind::Reopen,
            Self::Records(_) | Self::Store { .. } => ErrorKind::Restore,
        }
    }
}
