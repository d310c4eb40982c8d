//! Names of segment files: `seg/<number, ten digits>.log`. The number counts from 1 without gaps.

use std::path::{Path, PathBuf};

/// The folder of the segments within a log's directory.
pub const SEGMENTS: &str = "seg";

/// The file of segment `number` of the log in `dir`.
#[must_use]
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(SEGMENTS).join(format!("{number:010}.log"))
}

/// The number in a file's name; `None` for other files.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}
