//! `Storage`: the only door to the disk. `fs` is the real one; `sim` (feature `sim`) crashes on purpose.

pub mod fs;
#[cfg(feature = "sim")]
pub mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// A disk. Paths are as the caller forms them; errors are the system's own.
pub trait Storage: Send + Sync + 'static {
    /// Creates `dir` and its parents if absent.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files in `dir`, in no order.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file.
    ///
    /// # Errors
    /// As the system says; `Access::Create` refuses a file that exists.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Removes a file; durable after `sync_dir`.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives the file `from` the name `to`, whose file, if there is one, is removed in the same instant; durable
    /// after `sync_dir`.
    ///
    /// # Errors
    /// As the system says; then nothing happened.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the entries of `dir` durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Forbids writing to a file that will not change any more.
    ///
    /// # Errors
    /// As the system says.
    fn freeze(&self, path: &Path) -> io::Result<()>;
    /// Allows writing again to a file that was frozen.
    ///
    /// # Errors
    /// As the system says.
    fn thaw(&self, path: &Path) -> io::Result<()>;
    /// Bytes that new files in `dir` may take; `u64::MAX` where nobody knows.
    ///
    /// # Errors
    /// As the system says.
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// Takes the directory for one writer, by the file `path`. Writes nothing.
    ///
    /// # Errors
    /// [`LockError::Held`] names the owner as the file does; [`LockError::Missing`] if it is not there.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing a file that exists.
    Write,
    /// Reading and writing a new file.
    Create,
}

/// An open file; every call names its offset, so that readers and the writer share it.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`, less at the end of the file.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; durable after `sync`.
    ///
    /// # Errors
    /// As the system says; then any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the data durable (`fdatasync`).
    ///
    /// # Errors
    /// As the system says; then nothing unsynced may be trusted.
    fn sync(&self) -> io::Result<()>;
    /// Makes data, length and times durable (`fsync`).
    ///
    /// # Errors
    /// As for `sync`.
    fn sync_all(&self) -> io::Result<()>;
    /// Lets the system drop what it keeps of these bytes in memory, so that the next read is the disk's own; a
    /// hint.
    fn forget(&self, _offset: u64, _bytes: u64) {}
    /// All bytes of a file that never changes any more, without copying where possible.
    ///
    /// # Errors
    /// As the system says; a file shorter than it was is `UnexpectedEof`.
    fn map(&self) -> io::Result<Bytes>;
    /// The length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn length(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Held as long as it lives.
pub trait Lock: Send + Sync {
    /// Notes our process id in the file, for whoever finds it held.
    ///
    /// # Errors
    /// As the system says; the lock is held all the same.
    fn claim(&self) -> io::Result<()>;
}

/// Why a directory could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Another process has it.
    Held {
        /// Its process id as it wrote it, or "unknown".
        owner: String,
    },
    /// There is no such file.
    Missing,
    /// The system refused.
    Io(io::Error),
}
