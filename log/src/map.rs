//! Memory maps of sealed segments: the only `unsafe` of the project.
//!
//! A sealed segment is never written or cut again, only unlinked, which keeps a map valid. The pages
//! are read in before the map is handed out, so that a bad disk or a short file is an error here and
//! not a signal later.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::{Advice, Mmap};

/// All bytes of `file`.
///
/// # Errors
/// What the system says when a page cannot be read.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the file is sealed: this program never writes or cuts it again, and takes away its write
    // permission, so the bytes behind the map do not change while it lives.
    let map = unsafe { Mmap::map(file)? };
    match map.advise(Advice::PopulateRead) {
        Ok(()) => {}
        // Linux before 5.14 does not know the advice; then pages are read on first touch.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(Bytes::from_owner(map))
}
