//! `Doubt`: an empty file that stands beside a replica's while that is open and not proven. redb may panic on a
//! damaged page, even twice, which ends the process: who finds the file knows that it came to nothing last
//! time, and looks at every page first.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Doubt(PathBuf);

impl Doubt {
    /// The one for the replica's file `path`.
    pub(crate) fn at(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(".unproven");
        Self(name.into())
    }

    /// Has it stand; also says whether it stood. Not durable: what it is for outlives a process, not the
    /// machine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn raise(path: &Path) -> Result<(Self, bool), Error> {
        let doubt = Self::at(path);
        match OpenOptions::new().write(true).create_new(true).open(&doubt.0) {
            Ok(_) => Ok((doubt, false)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok((doubt, true)),
            Err(error) => Err(doubt.io("create")(error)),
        }
    }

    /// Takes it away.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn settle(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.io("remove")(error)),
            _ => Ok(()),
        }
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = self.0.clone();
        move |source| Error::Io { action, path, source }
    }
}
