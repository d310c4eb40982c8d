//! Sealed segments are compressed in the background, if the configuration asks for it: each into a file of its own,
//! which is synced, read back and compared before it takes the segment's name in one rename. A crash leaves the one
//! or the other. Readers that are in the segment go on in the old file, which is gone when the last of them is.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::error::{Corruption, Error};
use crate::nice;
use crate::recovery::read_range;
use crate::segment::check::Check;
use crate::segment::compressed::{self, Opened, PIECE_BYTES, Pieces};
use crate::segment::handle::Segment;
use crate::segment::header::{Form, HEADER_BYTES};
use crate::segment::name;
use crate::shared::Shared;
use crate::storage::{Access, File};
use crate::writer::SpareSlot;

/// Bytes that are handed to the disk at once, and synced: no more of ours than this stands before a group's sync.
const WRITE_BYTES: usize = 1 << 20;
/// A segment that shrinks by less than an eighth stays as it is: reading it is cheaper.
const GAIN: u64 = 8;
/// From how many bytes of the image on that is judged.
const TRIAL_BYTES: u64 = 2 << 20;
/// How long to wait before what failed or found no space is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What compression did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompressStats {
    /// Segments in use that are compressed.
    pub segments: usize,
    /// Their bytes on the disk.
    pub bytes: u64,
    /// Bytes that they were before.
    pub image_bytes: u64,
    /// Why the last segment that was tried stays as it was; `None` after one that did not.
    pub error: Option<String>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Compressed,
    /// It hardly shrinks.
    NoGain,
    /// It was trimmed meanwhile, or nobody waits for it any more.
    Dropped,
}

/// Compresses `segment`, which is sealed and one of the log's, unless `go_on` says no. Durable on return, and what
/// readers that come from now on read.
///
/// # Errors
/// [`Error::Corrupt`] if the segment is damaged, or what was written does not read back; [`Error::Full`],
/// [`Error::Io`]. The segment is as it was, or compressed.
pub(crate) fn compress(
    shared: &Shared,
    segment: &Arc<Segment>,
    level: i32,
    go_on: &dyn Fn() -> bool,
) -> Result<Outcome, Error> {
    let part = name::part(&segment.path);
    let done = write_and_take(shared, segment, level, go_on, &part);
    if !matches!(done, Ok(Outcome::Compressed)) {
        // Of no use to anyone, and its space may be; the next try or the next opening removes what stays.
        drop(shared.storage.remove(&part));
    }
    done
}

fn write_and_take(
    shared: &Shared,
    segment: &Arc<Segment>,
    level: i32,
    go_on: &dyn Fn() -> bool,
    part: &Path,
) -> Result<Outcome, Error> {
    let storage = shared.storage.as_ref();
    match storage.remove(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", part)(error));
        }
        _ => {}
    }
    let Some(image) = compressed::open(storage, &segment.path)? else {
        return Ok(Outcome::Dropped);
    };
    if image.compressed_bytes.is_some() {
        // An earlier try failed after its rename.
        return take(shared, segment, image, None);
    }
    let image = image.file;
    match write(shared, segment, image.as_ref(), level, go_on, part)? {
        Outcome::Compressed => {}
        other => return Ok(other),
    }
    let gone = || Error::io("open", part)(std::io::ErrorKind::NotFound.into());
    let opened = compressed::open(storage, part)?.ok_or_else(gone)?;
    if !prove(shared, segment, image.as_ref(), opened.file.as_ref(), part, go_on)? {
        return Ok(Outcome::Dropped);
    }
    storage.freeze(part).map_err(Error::io("take write permission from", part))?;
    take(shared, segment, opened, Some(part))
}

/// Writes the pieces of `image` to the new file `part` and syncs it.
fn write(
    shared: &Shared,
    segment: &Segment,
    image: &dyn File,
    level: i32,
    go_on: &dyn Fn() -> bool,
    part: &Path,
) -> Result<Outcome, Error> {
    let read = |error| Error::io("read", &segment.path)(error);
    let image_bytes = image.length().map_err(read)?;
    let space = |action| Error::space(action, part, image_bytes);
    let zstd = |error| Error::io("compress", &segment.path)(error);
    let file = shared.storage.open(part, Access::Create).map_err(space("create"))?;
    let mut pieces = Pieces::new(segment.header.salt, level).map_err(zstd)?;
    let mut waiting = segment.header.encode_as(Form::Compressed);
    let (mut written, mut at) = (0, HEADER_BYTES);
    while at < image_bytes {
        let piece = read_range(image, at, PIECE_BYTES.into()).map_err(read)?;
        if piece.is_empty() || !go_on() {
            return Ok(Outcome::Dropped);
        }
        pieces.push(&piece, &mut waiting).map_err(zstd)?;
        at += piece.len() as u64;
        let so_far = written + waiting.len() as u64;
        let judged = at >= TRIAL_BYTES || at >= image_bytes;
        if judged && so_far + at / GAIN > at {
            return Ok(Outcome::NoGain);
        }
        if waiting.len() >= WRITE_BYTES {
            file.write_at(&waiting, written).map_err(space("write"))?;
            file.sync().map_err(Error::io("sync", part))?;
            written = so_far;
            waiting.clear();
        }
    }
    pieces.finish(image_bytes, &mut waiting);
    file.write_at(&waiting, written).map_err(space("write"))?;
    file.sync_all().map_err(Error::io("sync", part))?;
    Ok(Outcome::Compressed)
}

/// Reads what was written back from the disk: it must be the image, byte for byte, and that must be whole. False:
/// it was told to stop.
fn prove(
    shared: &Shared,
    segment: &Segment,
    image: &dyn File,
    written: &dyn File,
    part: &Path,
    go_on: &dyn Fn() -> bool,
) -> Result<bool, Error> {
    let len = image.length().map_err(Error::io("read", &segment.path))?;
    written.forget(0, len);
    let mut at = 0;
    while at < len {
        let before = read_range(image, at, WRITE_BYTES as u64);
        let after = read_range(written, at, WRITE_BYTES as u64).map_err(Error::io("read", part))?;
        if before.map_err(Error::io("read", &segment.path))? != after || after.is_empty() {
            let reason = Corruption::Compressed("it is not what was compressed".into());
            let (path, seq) = (part.to_owned(), segment.base_seq);
            return Err(Error::Corrupt { path, offset: at, seq, reason });
        }
        at += after.len() as u64;
        if !go_on() {
            return Ok(false);
        }
    }
    let whole = || {
        let mut check = Check::open(shared.storage.as_ref(), part, segment.header.number)?;
        while check.step()? > 0 && go_on() {}
        Ok(check.chain())
    };
    let chain = whole().map_err(|flaw: crate::segment::check::Flaw| {
        // What is compressed is the segment, so that is where the damage is.
        let (path, reason) = (segment.path.clone(), Corruption::Other(flaw.reason));
        Error::Corrupt { path, offset: flaw.offset, seq: flaw.seq, reason }
    })?;
    if !go_on() {
        return Ok(false);
    }
    if chain != segment.with_state(|state| state.chain) {
        let reason = Corruption::Chain("the segment holds other records than were appended".into());
        return Err(segment.corrupt(HEADER_BYTES, segment.base_seq, reason));
    }
    Ok(true)
}

/// Lets the file `part`, if it has not got it already, take the segment's name, and readers read it.
fn take(
    shared: &Shared,
    segment: &Arc<Segment>,
    opened: Opened,
    part: Option<&Path>,
) -> Result<Outcome, Error> {
    let storage = shared.storage.as_ref();
    let folder = segment.path.parent().unwrap_or(Path::new("."));
    // A trim may be at it: what it removed must not come back.
    let _files = shared.files();
    if !shared.has(segment) {
        return Ok(Outcome::Dropped);
    }
    if let Some(part) = part {
        storage.rename(part, &segment.path).map_err(Error::io("replace", &segment.path))?;
    }
    storage.sync_dir(folder).map_err(Error::io("sync", folder))?;
    shared.replace(segment, segment.in_file(opened));
    Ok(Outcome::Compressed)
}

/// The thread that compresses.
pub(crate) struct Compressor {
    shared: Arc<Shared>,
    spare: Arc<SpareSlot>,
    level: i32,
    /// What the writer may need at any time, and so must stay free.
    segment_bytes: u64,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    /// There may be one that nobody looked at yet.
    sealed: bool,
    stop: bool,
    error: Option<String>,
}

impl Compressor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        spare: Arc<SpareSlot>,
        level: i32,
        segment_bytes: u64,
    ) -> Self {
        let (state, wake) = (Mutex::default(), Condvar::new());
        Self { shared, spare, level, segment_bytes, state, wake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stats(&self) -> CompressStats {
        let mut stats = CompressStats { error: self.lock().error.clone(), ..Default::default() };
        for segment in self.shared.segments() {
            if let Some(bytes) = segment.compressed_bytes {
                stats.segments += 1;
                stats.bytes += bytes;
                stats.image_bytes += segment.file.length().unwrap_or(0);
            }
        }
        stats
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_all();
    }

    /// There may be more to compress.
    pub(crate) fn sealed(&self) {
        self.lock().sealed = true;
        self.wake.notify_all();
    }

    /// Compresses what is sealed, the oldest first, until it is stopped.
    pub(crate) fn run(&self) {
        nice::let_others_first();
        // Segments up to this number are compressed, or stay as they are.
        let mut past = 0;
        loop {
            self.lock().sealed = false;
            let next = self.shared.segments().into_iter().find(|segment| {
                let sealed = segment.with_state(|state| state.sealed);
                segment.header.number > past && sealed && segment.compressed_bytes.is_none()
            });
            let Some(segment) = next else {
                if !self.wait(None) {
                    return;
                }
                continue;
            };
            if !self.has_room(&segment) {
                self.note(Some("there is no room for it beside the next segment".into()));
                if !self.wait(Some(RETRY)) {
                    return;
                }
                continue;
            }
            let go_on = || !self.lock().stop;
            match compress(&self.shared, &segment, self.level, &go_on) {
                Ok(Outcome::Dropped) if !go_on() => return,
                Ok(_) => self.note(None),
                Err(error @ Error::Corrupt { .. }) => {
                    let path = segment.path.display();
                    tracing::error!(%path, %error, "a segment is not compressed");
                    self.note(Some(error.to_string()));
                }
                Err(error) => {
                    self.note(Some(error.to_string()));
                    if !self.wait(Some(RETRY)) {
                        return;
                    }
                    continue;
                }
            }
            past = segment.header.number;
        }
    }

    /// Whether the writer would still have its next segment beside the one that is compressed.
    fn has_room(&self, segment: &Segment) -> bool {
        let folder = segment.path.parent().unwrap_or(Path::new("."));
        let free = self.shared.storage.free_bytes(folder).unwrap_or(0);
        self.spare.is_ready() && free >= segment.disk_bytes() + self.segment_bytes
    }

    fn note(&self, error: Option<String>) {
        let mut state = self.lock();
        if let Some(error) = &error
            && state.error.as_ref() != Some(error)
        {
            tracing::warn!(%error, "a segment waits to be compressed");
        }
        state.error = error;
    }

    /// Until there is more to do, or for `most`. False: stopped.
    fn wait(&self, most: Option<Duration>) -> bool {
        let state = self.lock();
        let state = match most {
            Some(most) => {
                let waited = self.wake.wait_timeout_while(state, most, |state| !state.stop);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self
                .wake
                .wait_while(state, |state| !state.stop && !state.sealed)
                .unwrap_or_else(PoisonError::into_inner),
        };
        !state.stop
    }
}
