//! The real file system.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Access, File, Lock, LockError, Storage};

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fs;

impl Storage for Fs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_dir(parent),
            _ => self.sync_dir(Path::new(".")),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        match access {
            Access::Read => options.read(true),
            Access::Write => options.read(true).write(true),
            Access::Create => options.read(true).write(true).create_new(true),
        };
        Ok(Arc::new(options.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn freeze(&self, path: &Path) -> io::Result<()> {
        change_mode(path, |mode| mode & !0o222)
    }

    fn thaw(&self, path: &Path) -> io::Result<()> {
        change_mode(path, |mode| mode | 0o200)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        // Writable, since a lock over NFS asks for it.
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LockError::Missing);
            }
            other => other.map_err(LockError::Io)?,
        };
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                let read = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let known = read.is_ok() && !owner.is_empty();
                return Err(LockError::Held {
                    owner: if known { owner.to_owned() } else { "unknown".to_owned() },
                });
            }
            Err(error) => return Err(LockError::Io(error.into())),
        }
        Ok(Box::new(FileLock { file }))
    }
}

fn change_mode(path: &Path, change: impl FnOnce(u32) -> u32) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(change(mode)))
}

struct FileLock {
    file: fs::File,
}

impl Lock for FileLock {
    fn claim(&self) -> io::Result<()> {
        let owner = format!("{}\n", std::process::id());
        self.file.write_all_at(owner.as_bytes(), 0)?;
        self.file.set_len(owner.len() as u64)
    }
}

impl File for fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match std::os::unix::fs::FileExt::read_at(
                self,
                &mut buffer[done..],
                offset + done as u64,
            ) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }

    fn forget(&self, offset: u64, bytes: u64) {
        let advice = rustix::fs::Advice::DontNeed;
        let Some(bytes) = std::num::NonZeroU64::new(bytes) else { return };
        if let Err(error) = rustix::fs::fadvise(self, offset, Some(bytes), advice) {
            tracing::trace!(%error, "what is read may be what the system remembers");
        }
    }

    fn map(&self) -> io::Result<Bytes> {
        crate::map::map(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        fs::File::set_len(self, bytes)
    }
}
