//! `Error`: why the service could not start or go on. What a request gets is in `http`.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::config::ConfigError;
use crate::edge::SinkError;

/// Why the service stopped or never started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The scheduler answers, but not as a scheduler of ours.
    #[error("the scheduler at {url} {reason}")]
    Scheduler {
        /// Its address.
        url: String,
        /// What is wrong with its answer.
        reason: String,
    },
    /// The scheduler does not answer, or broke off.
    #[error("the scheduler at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// Another registration of this SSP's id, or the scheduler's own decision, ended this one.
    #[error("the scheduler ended registration {epoch}: {reason}")]
    Fenced {
        /// The epoch that ended.
        epoch: u64,
        /// What the scheduler said.
        reason: String,
    },
    /// Records do not continue where the last ones ended.
    #[error("the feed broke at seq {expected}: {reason}")]
    Feed {
        /// The seq that was due.
        expected: u64,
        /// What came instead.
        reason: String,
    },
    /// The system gives no thread.
    #[error("cannot start the sequencer's thread")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// The edge sink failed where no retry is made.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What the caller must do about an [`enum@Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the configuration.
    Input,
    /// Try again later.
    Retry,
    /// Register again.
    Register,
}

impl Error {
    /// What the caller must do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Listen { .. } | Self::Scheduler { .. } => ErrorKind::Input,
            Self::Unreachable { .. } | Self::Feed { .. } | Self::Thread { .. } | Self::Sink(_) => {
                ErrorKind::Retry
            }
            Self::Fenced { .. } => ErrorKind::Register,
        }
    }
}
