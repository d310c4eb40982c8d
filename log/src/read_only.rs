//! `ReadOnlyLog`: a log directory looked at without touching it, beside a running writer or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::chain::{Anchor, ChainHash};
use crate::error::{Corruption, Error};
use crate::frame::{Control, Frame, Open};
use crate::record::{DecodeError, Record, decode_record};
use crate::recovery::{OPEN_END, read_range};
use crate::segment::compressed::{self, Opened};
use crate::segment::footer::Footer;
use crate::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use crate::segment::loaded::{Loaded, segment_files};
use crate::seq::Seq;
use crate::storage::fs::Fs;
use crate::verify::MOST_LOOKS;

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentUse {
    /// It never changes any more.
    Sealed,
    /// It is written, or was when the writer stopped.
    Active,
    /// It is prepared for later.
    Spare,
}

/// A segment as it stands on disk.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// What it is for.
    pub state: SegmentUse,
    /// Seq of its first record, or the next one if it holds none.
    pub first_seq: Seq,
    /// Seq of its last record; `first_seq - 1` if it holds none.
    pub last_seq: Seq,
    /// Commit times of its first and its last frame, microseconds since 1970.
    pub times_us: Option<(i64, i64)>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether it was compressed after it was sealed.
    pub compressed: bool,
}

impl SegmentInfo {
    /// Number of its records.
    #[must_use]
    pub fn records(&self) -> u64 {
        (self.last_seq.0 + 1).saturating_sub(self.first_seq.0)
    }
}

/// A log directory, opened without writing to it.
///
/// Beside a running writer its end may be a group that is written but not yet synced, and so not yet
/// acknowledged. The bytes of the last segment in use are kept, so that they are read once.
pub struct ReadOnlyLog {
    id: LogId,
    epoch: u64,
    segments: Vec<SegmentInfo>,
    /// The last segment in use.
    last: Option<Arc<Loaded>>,
    /// Damage behind the last readable record.
    damage: Option<Damage>,
}

/// A place that cannot be read.
#[derive(Clone, Debug)]
struct Damage {
    path: PathBuf,
    offset: u64,
    seq: Seq,
    reason: Corruption,
}

impl From<Damage> for Error {
    fn from(Damage { path, offset, seq, reason }: Damage) -> Self {
        Self::Corrupt { path, offset, seq, reason }
    }
}

/// What one file tells of its segment.
struct Seen {
    info: SegmentInfo,
    open: Open,
    epoch: u64,
    /// The chain hash of its last record.
    chain: ChainHash,
    /// Its file, if that was read.
    loaded: Option<Arc<Loaded>>,
    damage: Option<Damage>,
}

impl ReadOnlyLog {
    /// Looks at the log in `dir` as it is now; later appends are not seen. Reads sealed segments by their
    /// footers alone.
    ///
    /// # Errors
    /// [`Error::NotALog`] if no segment is in use; [`Error::Corrupt`] and [`Error::Unsupported`] if a
    /// header or an index cannot be read or segments do not follow each other, [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let mut seen = Self::look(dir);
        // A writer may have been at it: only trouble that stands still is believed.
        for _ in 0..MOST_LOOKS {
            let Some(before) = trouble(&seen) else { break };
            seen = Self::look(dir);
            if trouble(&seen).as_ref() == Some(&before) {
                break;
            }
        }
        seen
    }

    fn look(dir: &Path) -> Result<Self, Error> {
        let (id, segments) = (LogId([0; 16]), Vec::new());
        let mut log = Self { id, epoch: 0, segments, last: None, damage: None };
        let mut next: Option<Open> = None;
        // From the last to the first: a segment with a successor in use changes no more, so that a writer
        // who goes on meanwhile leaves no gap between what is seen of two segments.
        for (number, path) in segment_files(&Fs, dir)?.into_iter().rev() {
            match see(number, &path, next.as_ref())? {
                Sight::Gone => continue,
                Sight::Spare(info) => log.segments.push(info),
                Sight::Used(seen) => {
                    if next.is_none() {
                        log.id = seen.open.log_id;
                        log.epoch = seen.epoch;
                        log.last = seen.loaded.clone();
                        log.damage = seen.damage.clone();
                    }
                    check_follows(&seen, log.used().next_back(), next.as_ref())?;
                    log.segments.push(seen.info);
                    next = Some(seen.open);
                }
            }
        }
        log.segments.reverse();
        let end = log.last_seq().next();
        if log.used().next().is_none() {
            return Err(Error::NotALog { path: dir.to_owned() });
        }
        for spare in log.segments.iter_mut().filter(|one| one.state == SegmentUse::Spare) {
            (spare.first_seq, spare.last_seq) = (end, end.prev());
        }
        Ok(log)
    }

    /// The log's identity.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The epoch of its last writer.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All segments, by number.
    #[must_use]
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    fn used(&self) -> impl DoubleEndedIterator<Item = &SegmentInfo> {
        self.segments.iter().filter(|segment| segment.state != SegmentUse::Spare)
    }

    /// The lowest seq that can be read.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.used().next().map_or(Seq::FIRST, |segment| segment.first_seq)
    }

    /// The highest seq that can be read; it ends a transaction.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.used().next_back().map_or(Seq::ZERO, |segment| segment.last_seq)
    }

    /// The chain hash of `seq`, at most [`ReadOnlyLog::last_seq`], to be kept outside of the log.
    ///
    /// # Errors
    /// [`Error::Trimmed`] below `first_seq - 1`; [`Error::BadInput`] above the last seq;
    /// [`Error::Corrupt`], also for the last seq of a log that once had more; [`Error::Io`].
    pub fn anchor(&self, seq: Seq) -> Result<Anchor, Error> {
        let (first, last) = (self.first_seq(), self.last_seq());
        if seq > last {
            return Err(Error::BadInput(format!("there is no seq {seq}, the log ends at {last}")));
        }
        if seq < first.prev() {
            return Err(Error::Trimmed { first });
        }
        if seq == last
            && let Some(damage) = self.damage.clone()
        {
            return Err(damage.into());
        }
        let segment = self.used().find(|segment| segment.last_seq >= seq);
        let Some(segment) = segment else { return Ok(Anchor { seq, hash: ChainHash::START }) };
        let loaded = Loaded::read(&Fs, segment.number, &segment.path)?;
        let loaded = loaded.ok_or(Error::Trimmed { first: segment.last_seq.next() })?;
        Ok(Anchor { seq, hash: loaded.chain_at(seq)? })
    }

    /// Records from `from` on, to the end as it was when the log was opened. Ends after the first error,
    /// which damage behind the last readable record is too.
    #[must_use]
    pub fn records(&self, from: Seq) -> Records<'_> {
        Records { frames: self.frames(from), current: None }
    }

    /// Frames with records from the one that holds `from` on, to the end as it was when the log was opened;
    /// the last may hold records that follow that end. Ends after the first error, as
    /// [`ReadOnlyLog::records`].
    #[must_use]
    pub fn frames(&self, from: Seq) -> Frames<'_> {
        let segments: Vec<_> = self.used().filter(|segment| segment.last_seq >= from).collect();
        let (last, damage) = (self.last.clone(), self.damage.clone());
        Frames { segments: segments.into_iter(), from, current: None, last, damage, failed: false }
    }
}

/// What is wrong with what was seen, as text to compare.
fn trouble(seen: &Result<ReadOnlyLog, Error>) -> Option<String> {
    match seen {
        Ok(log) => log.damage.as_ref().map(|damage| format!("{damage:?}")),
        Err(error) => Some(error.to_string()),
    }
}

enum Sight {
    /// Trimmed meanwhile, or a spare in the making.
    Gone,
    Spare(SegmentInfo),
    Used(Box<Seen>),
}

/// Looks at one file; `next` is its successor, if that is in use.
fn see(number: u64, path: &Path, next: Option<&Open>) -> Result<Sight, Error> {
    if next.is_some()
        && let Some(seen) = see_sealed(number, path)?
    {
        return Ok(Sight::Used(Box::new(seen)));
    }
    let Some(loaded) = Loaded::read(&Fs, number, path)? else { return Ok(Sight::Gone) };
    let bytes = loaded.bytes.len() as u64;
    let Some(open) = loaded.scan.open.clone() else {
        if next.is_some() || bytes < loaded.header.capacity {
            let reason = loaded.scan.stopped.clone().unwrap_or(Corruption::SyncWord);
            return Err(loaded.corrupt(HEADER_BYTES, Seq::ZERO, reason));
        }
        let (first_seq, path) = (Seq::FIRST, path.to_owned());
        let (last_seq, times_us, state) = (Seq::ZERO, None, SegmentUse::Spare);
        let compressed = false;
        let info =
            SegmentInfo { number, path, state, first_seq, last_seq, times_us, bytes, compressed };
        return Ok(Sight::Spare(info));
    };
    let damage = loaded.lost().filter(|_| next.is_none()).map(|reason| Damage {
        path: path.to_owned(),
        offset: loaded.scan.whole_end,
        seq: loaded.scan.next_seq,
        reason,
    });
    let sealed = matches!(loaded.footer, Ok(Some(_)));
    let info = SegmentInfo {
        number,
        path: path.to_owned(),
        state: if sealed { SegmentUse::Sealed } else { SegmentUse::Active },
        first_seq: open.base_seq,
        last_seq: next.map_or(loaded.scan.next_seq, |next| next.base_seq).prev(),
        times_us: loaded.scan.times,
        bytes: loaded.compressed_bytes.unwrap_or(bytes),
        compressed: loaded.compressed_bytes.is_some(),
    };
    let (epoch, chain) = (loaded.scan.epoch, loaded.scan.chain);
    let loaded = Some(Arc::new(loaded));
    Ok(Sight::Used(Box::new(Seen { info, open, epoch, chain, loaded, damage })))
}

/// A sealed segment by its header, first frame and footer; `None` if these do not say enough.
fn see_sealed(number: u64, path: &Path) -> Result<Option<Seen>, Error> {
    let Some(Opened { file, compressed_bytes }) = compressed::open(&Fs, path)? else {
        return Ok(None);
    };
    let io = |action| Error::io(action, path);
    let start = read_range(file.as_ref(), 0, OPEN_END).map_err(io("read"))?;
    let header = SegmentHeader::decode(&start, path)?;
    let Ok(Some(footer)) = Footer::read(file.as_ref(), header.salt).map_err(io("read"))? else {
        return Ok(None);
    };
    let Ok(frame) = Frame::decode(&start, 0, HEADER_BYTES, header.salt) else { return Ok(None) };
    let Ok(Control::Open(open)) = Control::decode(&frame.payload) else { return Ok(None) };
    let info = SegmentInfo {
        number,
        path: path.to_owned(),
        state: SegmentUse::Sealed,
        first_seq: footer.first_seq,
        last_seq: footer.last_seq,
        times_us: (footer.last_seq >= footer.first_seq).then_some(footer.times),
        bytes: compressed_bytes.map_or_else(|| file.length(), Ok).map_err(io("read"))?,
        compressed: compressed_bytes.is_some(),
    };
    let (epoch, chain) = (open.epoch, footer.chain);
    Ok(Some(Seen { info, epoch, open, chain, loaded: None, damage: None }))
}

/// `seen` must be what `next`, the segment `after` it, follows.
fn check_follows(
    seen: &Seen,
    after: Option<&SegmentInfo>,
    next: Option<&Open>,
) -> Result<(), Error> {
    let (Some(after), Some(next)) = (after, next) else { return Ok(()) };
    let reason = if seen.info.number + 1 != after.number {
        Corruption::MissingSegment(after.number - 1)
    } else if seen.open.log_id != next.log_id {
        Corruption::Other(format!("it belongs to log {}", next.log_id))
    } else if seen.info.last_seq.next() != next.base_seq {
        let end = seen.info.last_seq;
        Corruption::Other(format!(
            "it starts at seq {}, the segment before ends at seq {end}",
            next.base_seq
        ))
    } else if seen.chain != next.chain {
        Corruption::Chain("it does not go on from the segment before".into())
    } else {
        return Ok(());
    };
    let (path, seq) = (after.path.clone(), next.base_seq);
    Err(Error::Corrupt { path, offset: HEADER_BYTES, seq, reason })
}

/// Frames of a [`ReadOnlyLog`], in order.
pub struct Frames<'a> {
    segments: std::vec::IntoIter<&'a SegmentInfo>,
    from: Seq,
    current: Option<Cursor>,
    /// The last segment.
    last: Option<Arc<Loaded>>,
    damage: Option<Damage>,
    failed: bool,
}

/// A place inside a segment.
struct Cursor {
    loaded: Arc<Loaded>,
    last_seq: Seq,
    offset: u64,
}

/// A frame with records, and its place.
#[derive(Clone)]
pub struct LocatedFrame {
    /// The frame.
    pub frame: Frame,
    /// Offset in the segment.
    pub offset: u64,
    /// Number of its records that can be read.
    pub count: usize,
    loaded: Arc<Loaded>,
}

impl LocatedFrame {
    /// Seq of its record `index`.
    #[must_use]
    pub fn seq(&self, index: usize) -> Seq {
        Seq(self.frame.header.base_seq.0 + index as u64)
    }

    /// Number of its segment.
    #[must_use]
    pub fn segment(&self) -> u64 {
        self.loaded.number
    }

    /// Says that its record `index` cannot be read, and why.
    #[must_use]
    pub fn corrupt(&self, index: usize, error: &DecodeError) -> Error {
        let reason = Corruption::Record(error.to_string());
        self.loaded.corrupt(self.offset, self.seq(index), reason)
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<LocatedFrame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.step().transpose();
        self.failed = matches!(result, Some(Err(_)));
        result
    }
}

impl Frames<'_> {
    fn step(&mut self) -> Result<Option<LocatedFrame>, Error> {
        loop {
            let Some(cursor) = &mut self.current else {
                let Some(segment) = self.segments.next() else {
                    return self.damage.take().map_or(Ok(None), |damage| Err(damage.into()));
                };
                let loaded = match self.last.take_if(|last| last.number == segment.number) {
                    Some(last) => Some(last),
                    None if segment.state == SegmentUse::Sealed => {
                        Loaded::map(&Fs, segment.number, &segment.path)?.map(Arc::new)
                    }
                    // A writer beside us may be about to seal it, which cuts the file: a map would lose its pages.
                    None => Loaded::read(&Fs, segment.number, &segment.path)?.map(Arc::new),
                };
                let Some(loaded) = loaded else {
                    return Err(Error::Trimmed { first: segment.last_seq.next() });
                };
                let index = loaded.scan.index.partition_point(|entry| entry.seq <= self.from);
                let offset = index
                    .checked_sub(1)
                    .map_or(HEADER_BYTES, |index| loaded.scan.index[index].offset);
                self.current = Some(Cursor { loaded, last_seq: segment.last_seq, offset });
                continue;
            };
            match cursor.next(self.from)? {
                Some(frame) => return Ok(Some(frame)),
                None => self.current = None,
            }
        }
    }
}

impl Cursor {
    fn next(&mut self, from: Seq) -> Result<Option<LocatedFrame>, Error> {
        loop {
            if self.offset >= self.loaded.scan.whole_end {
                return match &self.loaded.scan.stopped {
                    Some(reason) if self.loaded.scan.next_seq <= self.last_seq => {
                        let seq = self.loaded.scan.next_seq;
                        Err(self.loaded.corrupt(self.offset, seq, reason.clone()))
                    }
                    _ => Ok(None),
                };
            }
            // Loading it verified every frame before that end.
            let frame = Frame::vouched(&self.loaded.bytes, self.offset);
            let offset = self.offset;
            self.offset += frame.header.frame_len();
            let base_seq = frame.header.base_seq;
            let end = frame.header.next_seq().min(self.last_seq.next());
            if end <= from || end <= base_seq {
                continue;
            }
            let count = usize::try_from(end.0 - base_seq.0).unwrap_or(usize::MAX);
            return Ok(Some(LocatedFrame {
                frame,
                offset,
                count,
                loaded: Arc::clone(&self.loaded),
            }));
        }
    }
}

/// Records of a [`ReadOnlyLog`], in order.
pub struct Records<'a> {
    frames: Frames<'a>,
    /// A frame and the number of its next record.
    current: Option<(LocatedFrame, usize)>,
}

/// A record with the place of its frame.
#[derive(Clone, Debug)]
pub struct Located {
    /// The record.
    pub record: Record,
    /// Its bytes as the log holds them.
    pub bytes: Bytes,
    /// Number of its segment.
    pub segment: u64,
    /// Offset of its frame in the segment.
    pub offset: u64,
}

impl Iterator for Records<'_> {
    type Item = Result<Located, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((frame, next)) = &mut self.current else {
                match self.frames.next()? {
                    Ok(frame) => self.current = Some((frame, 0)),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            let index = *next;
            *next += 1;
            if index >= frame.count {
                self.current = None;
                continue;
            }
            let (seq, bytes) = (frame.seq(index), frame.frame.record(index));
            if seq < self.frames.from {
                continue;
            }
            let (segment, offset) = (frame.segment(), frame.offset);
            return Some(match decode_record(seq, &bytes) {
                Ok(record) => Ok(Located { record, bytes, segment, offset }),
                Err(error) => {
                    self.frames.failed = true;
                    let error = frame.corrupt(index, &error);
                    self.current = None;
                    Err(error)
                }
            });
        }
    }
}
