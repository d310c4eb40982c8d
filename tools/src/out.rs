//! `Out`: data on standard output, buffered; a closed pipe is an error that ends the run quietly.

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use serde::Serialize;

/// Standard output.
pub(crate) struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    /// Takes standard output.
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Whether a person is likely to be reading.
    pub(crate) fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// A line of text.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        writeln!(self.0, "{text}")
    }

    /// A line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    /// Hands everything over.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// Microseconds since 1970 as people and RFC 3339 write them.
pub(crate) fn time(time_us: i64) -> String {
    jiff::Timestamp::from_microsecond(time_us)
        .map_or_else(|_| format!("{time_us} us"), |time| format!("{time:.6}"))
}
