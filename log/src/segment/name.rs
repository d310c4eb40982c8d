//! Names of segment files: `seg/<number, ten digits>.log`. The number counts from 1 without gaps.

use std::path::{Path, PathBuf};

/// The folder of the segments within a log's directory.
pub const SEGMENTS: &str = "seg";

const PART: &str = ".part";

/// The file of segment `number` of the log in `dir`.
#[must_use]
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(SEGMENTS).join(format!("{number:010}.log"))
}

/// What a compressed segment is written to before it takes the place of the segment at `path`. Not a segment's name.
#[must_use]
pub fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART);
    name.into()
}

/// Whether a file in the folder of segments is one that [`part`] names: of a compression that was cut short, if
/// nobody is at it.
#[must_use]
pub fn is_part(name: &str) -> bool {
    name.strip_suffix(PART).and_then(number).is_some()
}

/// The number in a file's name; `None` for other files.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}
