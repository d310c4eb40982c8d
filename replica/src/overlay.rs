//! A replica's file opened for looking: redb may repair what a kill left, but every byte it writes stays in
//! memory and the file is as it was.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::error::Error;

/// Bytes that are copied when one of them is written; redb writes whole pages of this size.
const BLOCK_BYTES: usize = 4096;

/// The file with what was written over it.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: File,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// By the number of the block.
    blocks: HashMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Overlay {
    /// # Errors
    /// [`Error::Locked`] while a process has the file open for writing; [`Error::Io`].
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = lock_shared(path)?;
        let len = file.metadata().map_err(unread(path))?.len();
        Ok(Self { file, written: Mutex::new(Written { len, blocks: HashMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills `out` from the file, with zeros beyond its end.
    fn read_file(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match self.file.read_at(out, offset)? {
                0 => {
                    out.fill(0);
                    break;
                }
                count => {
                    offset += count as u64;
                    out = &mut out[count..];
                }
            }
        }
        Ok(())
    }
}

/// The file `path`, which nobody opens for writing while it is held.
///
/// # Errors
/// As [`Overlay::open`].
pub(crate) fn lock_shared(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(unread(path))?;
    file.try_lock_shared().map_err(|error| match error {
        TryLockError::WouldBlock => Error::Locked(path.to_owned()),
        TryLockError::Error(source) => unread(path)(source),
    })?;
    Ok(file)
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action: "read", path, source }
}

/// The blocks that `len` bytes from `offset` on touch: number, start inside the block, and the range of
/// those bytes.
fn blocks(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = usize::try_from(at % BLOCK_BYTES as u64).unwrap_or(0);
        let count = (BLOCK_BYTES - start).min(len - done);
        let range = done..done + count;
        done += count;
        (count > 0).then_some((at / BLOCK_BYTES as u64, start, range))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_file(offset, out)?;
        let written = self.written();
        for (block, start, range) in blocks(offset, out.len()) {
            if let Some(bytes) = written.blocks.get(&block) {
                let count = range.len();
                out[range].copy_from_slice(&bytes[start..start + count]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (block, start, range) in blocks(offset, data.len()) {
            let count = range.len();
            let bytes = match written.blocks.entry(block) {
                Entry::Occupied(bytes) => bytes.into_mut(),
                Entry::Vacant(place) => {
                    let mut bytes = Box::new([0; BLOCK_BYTES]);
                    self.read_file(block * BLOCK_BYTES as u64, bytes.as_mut_slice())?;
                    place.insert(bytes)
                }
            };
            bytes[start..start + count].copy_from_slice(&data[range]);
        }
        Ok(())
    }
}
