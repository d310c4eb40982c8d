//! The lock that keeps a second scheduler away from the data. The system lets go of it when the process
//! ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::Error;

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes our process id into the file.
    ///
    /// # Errors
    /// [`Error::Locked`] names the process that has it; [`Error::Io`].
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        let io = |action| move |source| Error::Io { action, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(io("open"))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            let read = file.read_to_string(&mut owner);
            let owner = owner.trim();
            let known = read.is_ok() && !owner.is_empty();
            let owner = if known { owner } else { "unknown" }.to_owned();
            return Err(Error::Locked { path: path.to_owned(), owner });
        }
        file.set_len(0).map_err(io("write"))?;
        writeln!(file, "{}", std::process::id()).map_err(io("write"))?;
        Ok(Self { _file: file })
    }
}
