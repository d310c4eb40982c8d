//! Histories: transactions as JSON lines, oldest first, plain or compressed with zstd. A line that is
//! no transaction is an error that names its number; nothing is skipped.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The first bytes of a zstd frame (RFC 8878).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The longest line: no transaction of a real history comes near.
const LINE_BYTES: u64 = 64 << 20;

/// The first 600 transactions of a real history.
const SMALL: &[u8] = include_bytes!("../small-history.jsonl.zst");

/// One line: what one author changed at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Its name; unique in its history.
    pub commit: String,
    /// Unix seconds. Not monotonic, as in real life.
    pub time: i64,
    /// Who did it.
    pub author: String,
    /// Words of its subject line.
    pub words: i64,
    /// In order; never empty.
    pub changes: Vec<Change>,
}

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The kind of change.
    pub op: Op,
    /// The path, with any characters a path may have.
    pub path: String,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// The path is new, or exists again.
    Create,
    /// It was changed.
    Update,
    /// It is gone.
    Delete,
}

/// Why a history cannot be played.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// There is no such file, or it may not be read.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be read on, or its compression is damaged.
    #[error("read {} at line {line}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The line being read.
        line: u64,
        /// What the system says.
        source: io::Error,
    },
    /// A line is no transaction.
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a history as a stream; memory does not grow with it, save for the names of its commits.
/// Ends after the first error.
pub struct Reader {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    line: u64,
    commits: HashSet<String>,
    failed: bool,
}

impl Reader {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// [`HistoryError::Open`].
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        Self::new(path, Box::new(BufReader::new(file))).map_err(failed)
    }

    /// The small history that is kept in the repository.
    ///
    /// # Panics
    /// Never: it is part of the program, and tested.
    #[must_use]
    pub fn small() -> Self {
        let bytes = Box::new(Cursor::new(SMALL));
        Self::new(Path::new("small-history.jsonl.zst"), bytes).expect("memory can be read")
    }

    fn new(path: &Path, mut bytes: Box<dyn BufRead + Send>) -> io::Result<Self> {
        let lines: Box<dyn BufRead + Send> = if bytes.fill_buf()?.starts_with(&ZSTD_MAGIC) {
            Box::new(BufReader::new(zstd::Decoder::with_buffer(bytes)?))
        } else {
            bytes
        };
        let commits = HashSet::new();
        Ok(Self { path: path.to_owned(), lines, line: 0, commits, failed: false })
    }

    fn read(&mut self) -> Result<Option<Transaction>, HistoryError> {
        let mut text = Vec::new();
        loop {
            self.line += 1;
            text.clear();
            let read = self.lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut text);
            let count = read.map_err(|source| {
                let path = self.path.clone();
                HistoryError::Io { path, line: self.line, source }
            })?;
            if count == 0 {
                return Ok(None);
            }
            if count as u64 == LINE_BYTES {
                return Err(self.bad(format!("longer than {LINE_BYTES} bytes")));
            }
            if !text.trim_ascii().is_empty() {
                break;
            }
        }
        let transaction: Transaction =
            serde_json::from_slice(&text).map_err(|error| self.bad(error.to_string()))?;
        self.check(&transaction)?;
        self.commits.insert(transaction.commit.clone());
        Ok(Some(transaction))
    }

    fn check(&self, transaction: &Transaction) -> Result<(), HistoryError> {
        if transaction.commit.is_empty() || transaction.author.is_empty() {
            return Err(self.bad("an empty name".into()));
        }
        if self.commits.contains(&transaction.commit) {
            return Err(self.bad(format!("commit {:?} was there before", transaction.commit)));
        }
        if transaction.changes.is_empty() {
            return Err(self.bad("a transaction without changes".into()));
        }
        if transaction.changes.iter().any(|change| change.path.is_empty()) {
            return Err(self.bad("an empty path".into()));
        }
        Ok(())
    }

    fn bad(&self, reason: String) -> HistoryError {
        HistoryError::Line { path: self.path.clone(), line: self.line, reason }
    }
}

impl Iterator for Reader {
    type Item = Result<Transaction, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.read().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
