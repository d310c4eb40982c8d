//! The ballast: a file whose only use is to be removed when the disk is full, so that a trim or a copy gets done
//! before anything else is deleted (Redpanda and TiKV hold such files). It makes no decisions of its own: the keeper
//! asks for it, an operator lets go of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::storage::{Access, Storage};
use crate::writer::write_zeros;

/// The ballast's file in the log's directory.
pub const BALLAST_FILE: &str = "BALLAST";

/// The ballast of a log.
pub(crate) struct Ballast {
    dir: PathBuf,
    bytes: u64,
    /// Free bytes beside it without which it is not made.
    margin: u64,
    /// Locked while the file is made or removed.
    at_work: Mutex<()>,
    held: AtomicU64,
}

impl Ballast {
    /// `bytes` in `dir`, 0 for none; not made where less than `margin` bytes would be left.
    pub(crate) fn new(dir: &Path, bytes: u64, margin: u64) -> Self {
        let (at_work, held) = (Mutex::new(()), AtomicU64::new(0));
        Self { dir: dir.to_owned(), bytes, margin, at_work, held }
    }

    /// Bytes that are held back now.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Makes the file if it is not there and there is space for it; false if there is none.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn keep(&self, storage: &dyn Storage) -> Result<bool, Error> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(BALLAST_FILE);
        let found = match storage.open(&path, Access::Read) {
            Ok(file) => Some(file.length().map_err(Error::io("look at", &path))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        if found.unwrap_or(0) == self.bytes {
            self.held.store(self.bytes, Ordering::Relaxed);
            return Ok(true);
        }
        if found.is_some() {
            // Another size was asked for, or it was never finished.
            self.remove(storage, &path)?;
        }
        let free =
            storage.free_bytes(&self.dir).map_err(Error::io("ask for the space of", &path))?;
        if self.bytes == 0 || free < self.bytes.saturating_add(self.margin) {
            return Ok(self.bytes == 0);
        }
        match self.make(storage, &path) {
            Ok(()) => {
                self.held.store(self.bytes, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) => {
                self.remove(storage, &path)?;
                if matches!(error, Error::Full { .. }) { Ok(false) } else { Err(error) }
            }
        }
    }

    fn make(&self, storage: &dyn Storage, path: &Path) -> Result<(), Error> {
        let space = |action| Error::space(action, path, self.bytes);
        let file = storage.open(path, Access::Create).map_err(space("create"))?;
        write_zeros(file.as_ref(), 0, self.bytes).map_err(space("write"))?;
        file.sync_all().map_err(space("sync"))
    }

    /// Removes the file and says how many bytes that gave back; 0 if it was not there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn release(&self, storage: &dyn Storage) -> Result<u64, Error> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(BALLAST_FILE);
        let file = match storage.open(&path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(Error::io("open", &path))?,
        };
        let bytes = file.length().map_err(Error::io("look at", &path))?;
        self.remove(storage, &path)?;
        Ok(bytes)
    }

    fn remove(&self, storage: &dyn Storage, path: &Path) -> Result<(), Error> {
        self.held.store(0, Ordering::Relaxed);
        match storage.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}
