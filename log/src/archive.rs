//! What becomes of a sealed segment before a trim removes it: an archive is given it first, and what the archive does
//! not take is not removed.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chain::ChainHash;
use crate::error::Error;
use crate::segment::check::Check;
use crate::segment::handle::Segment;
use crate::segment::header::LogId;
use crate::segment::name;
use crate::seq::Seq;
use crate::shared::Shared;
use crate::storage::Storage as _;
use crate::storage::fs::Fs;

/// A sealed segment that a trim is about to remove.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// Its file, which never changes any more.
    pub path: &'a Path,
    /// The log it belongs to.
    pub log_id: LogId,
    /// Its number.
    pub number: u64,
    /// Seq of its first record.
    pub first_seq: Seq,
    /// Seq of its last record; `first_seq - 1` if it holds none.
    pub last_seq: Seq,
    /// The chain hash of `last_seq`, as in its footer.
    pub chain: ChainHash,
}

/// Where sealed segments go before they are removed.
pub trait Archive: Debug + Send + Sync + 'static {
    /// Takes `segment`, which is removed after it. Durable on return. Is called again for the same segment after a
    /// restart, and must not mind.
    ///
    /// # Errors
    /// Why it cannot take it; the segment stays, is not trimmed, and is offered again at the next trim.
    fn take(&self, segment: &Sealed<'_>) -> io::Result<()>;
}

/// Copies segments to `<dir>/<log id>/<number>.log`, each verified to its last record.
#[derive(Clone, Debug)]
pub struct DirArchive {
    dir: PathBuf,
}

impl DirArchive {
    /// An archive in `dir`, on another disk at best; created when first used.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }
}

impl Archive for DirArchive {
    fn take(&self, segment: &Sealed<'_>) -> io::Result<()> {
        let folder = self.dir.join(segment.log_id.to_string());
        Fs.create_dir(&self.dir)?;
        Fs.create_dir(&folder)?;
        let path = name::path(&folder, segment.number);
        let path = folder.join(path.file_name().unwrap_or_default());
        if path.exists() {
            // Of an earlier try that was cut short before the trim; another log's has another folder.
            return verify(&path, segment);
        }
        let part = path.with_extension("part");
        if part.exists() {
            fs::remove_file(&part)?; // of a try that was cut short; it may be read-only
        }
        fs::copy(segment.path, &part)?; // with its permissions
        fs::File::open(&part)?.sync_all()?;
        verify(&part, segment)?;
        fs::rename(&part, &path)?;
        Fs.sync_dir(&folder)
    }
}

/// Reads all of a copy: it must be whole, and the same records as the segment.
fn verify(path: &Path, segment: &Sealed<'_>) -> io::Result<()> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let read = || {
        let mut check = Check::open(&Fs, path, segment.number)?;
        while check.step()? > 0 {}
        Ok(check.chain())
    };
    let chain = read().map_err(|flaw: crate::segment::check::Flaw| {
        bad(format!(
            "the copy {} is damaged at offset {}: {}",
            path.display(),
            flaw.offset,
            flaw.reason
        ))
    })?;
    if chain != segment.chain {
        return Err(bad(format!("{} holds other records", path.display())));
    }
    Ok(())
}

/// Gives an archive what trims are about to remove, and remembers what it took.
#[derive(Debug)]
pub(crate) struct Archiver {
    archive: Arc<dyn Archive>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last segment that was taken.
    number: u64,
    error: Option<String>,
}

impl Archiver {
    pub(crate) fn new(archive: Arc<dyn Archive>) -> Self {
        Self { archive, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last segment that was taken since the log was opened, 0 for none, and why the next one was not.
    pub(crate) fn progress(&self) -> (u64, Option<String>) {
        let state = self.lock();
        (state.number, state.error.clone())
    }

    /// Offers every segment that a trim below `before` would remove, the oldest first, up to one that is not taken;
    /// the number of the last one that may be removed. Blocks.
    pub(crate) fn take(&self, shared: &Shared, before: Seq) -> (u64, Result<(), Error>) {
        let mut last = self.lock().number;
        for segment in shared.segments() {
            let (goes, next_seq, chain) =
                segment.with_state(|state| (state.trimmed_by(before), state.next_seq, state.chain));
            if !goes {
                break;
            }
            if segment.header.number <= last {
                continue;
            }
            let sealed = Sealed {
                path: &segment.path,
                log_id: shared.id,
                number: segment.header.number,
                first_seq: segment.base_seq,
                last_seq: next_seq.prev(),
                chain,
            };
            let taken = self.archive.take(&sealed);
            let mut state = self.lock();
            state.error = taken.as_ref().err().map(ToString::to_string);
            if let Err(source) = taken {
                return (last, Err(not_archived(&segment)(source)));
            }
            state.number = segment.header.number;
            last = state.number;
        }
        (last, Ok(()))
    }
}

fn not_archived(segment: &Segment) -> impl FnOnce(io::Error) -> Error {
    let path = segment.path.clone();
    move |source| Error::NotArchived { path, source }
}
