//! `ReadOnlyLog` and `verify`: a log directory looked at without touching it, beside a running writer
//! or not, whole or damaged.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::error::{Corruption, Error};
use crate::frame::{Control, Frame, Open};
use crate::record::{Record, decode_record};
use crate::recovery::read_all;
use crate::segment::footer::Footer;
use crate::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use crate::segment::name;
use crate::segment::scan::{Scan, scan, tail};
use crate::seq::Seq;
use crate::storage::fs::Fs;
use crate::storage::{Access, Storage};

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
}

impl SegmentInfo {
    /// Number of its records.
    #[must_use]
    pub fn records(&self) -> u64 {
        (self.last_seq.0 + 1).saturating_sub(self.first_seq.0)
    }
}

/// A log directory, opened without writing to it.
pub struct ReadOnlyLog {
    id: LogId,
    epoch: u64,
    segments: Vec<SegmentInfo>,
}

impl ReadOnlyLog {
    /// Looks at the log in `dir` as it is now; later appends are not seen.
    ///
    /// # Errors
    /// [`Error::NotALog`] if there are no segments; [`Error::Corrupt`] and [`Error::Unsupported`] if a
    /// header cannot be read, [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let mut log = Self { id: LogId([0; 16]), epoch: 0, segments: Vec::new() };
        for (number, path) in segment_files(&Fs, dir)? {
            let Some(loaded) = Loaded::read(&Fs, number, &path)? else { continue };
            log.take(&loaded);
        }
        if log.segments.iter().all(|segment| segment.state == SegmentUse::Spare) {
            return Err(Error::NotALog { path: dir.to_owned() });
        }
        Ok(log)
    }

    fn take(&mut self, loaded: &Loaded) {
        let bytes = loaded.bytes.len() as u64;
        let info = |state, first_seq: Seq, next_seq: Seq, times_us| SegmentInfo {
            number: loaded.number,
            path: loaded.path.clone(),
            state,
            first_seq,
            last_seq: next_seq.prev(),
            times_us,
            bytes,
        };
        let Some(open) = &loaded.scan.open else {
            let next = self.last_seq().next();
            self.segments.push(info(SegmentUse::Spare, next, next, None));
            return;
        };
        self.id = open.log_id;
        self.epoch = loaded.scan.epoch.max(self.epoch);
        let sealed = matches!(loaded.footer, Ok(Some(_)));
        let state = if sealed { SegmentUse::Sealed } else { SegmentUse::Active };
        let times = loaded.scan.times;
        self.segments.push(info(state, open.base_seq, loaded.scan.next_seq, times));
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

    /// Records from `from` on, to the end as it was when the log was opened. Ends after the first error.
    #[must_use]
    pub fn records(&self, from: Seq) -> Records<'_> {
        let segments: Vec<_> = self.used().filter(|segment| segment.last_seq >= from).collect();
        Records { segments: segments.into_iter(), from, current: None, failed: false }
    }
}

/// Records of a [`ReadOnlyLog`], in order.
pub struct Records<'a> {
    segments: std::vec::IntoIter<&'a SegmentInfo>,
    from: Seq,
    current: Option<Cursor>,
    failed: bool,
}

/// A place inside a segment.
struct Cursor {
    loaded: Arc<Loaded>,
    last_seq: Seq,
    offset: u64,
    frame: Option<(u64, Frame, usize)>,
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
        if self.failed {
            return None;
        }
        let result = self.step().transpose();
        self.failed = matches!(result, Some(Err(_)));
        result
    }
}

impl Records<'_> {
    fn step(&mut self) -> Result<Option<Located>, Error> {
        loop {
            let Some(cursor) = &mut self.current else {
                let Some(segment) = self.segments.next() else { return Ok(None) };
                let loaded = Loaded::read(&Fs, segment.number, &segment.path)?;
                let Some(loaded) = loaded else { continue };
                let index = loaded.scan.index.partition_point(|entry| entry.seq <= self.from);
                let offset = index
                    .checked_sub(1)
                    .map_or(HEADER_BYTES, |index| loaded.scan.index[index].offset);
                let loaded = Arc::new(loaded);
                let last_seq = segment.last_seq;
                self.current = Some(Cursor { loaded, last_seq, offset, frame: None });
                continue;
            };
            match cursor.next(self.from)? {
                Some(located) => return Ok(Some(located)),
                None => self.current = None,
            }
        }
    }
}

impl Cursor {
    fn next(&mut self, from: Seq) -> Result<Option<Located>, Error> {
        loop {
            if let Some((offset, frame, index)) = &mut self.frame
                && *index < frame.header.record_count as usize
            {
                let seq = Seq(frame.header.base_seq.0 + *index as u64);
                let bytes = frame.record(*index);
                *index += 1;
                if seq > self.last_seq {
                    return Ok(None);
                }
                if seq < from {
                    continue;
                }
                let record = decode_record(seq, &bytes).map_err(|error| {
                    self.loaded.corrupt(*offset, seq, Corruption::Record(error.to_string()))
                })?;
                let segment = self.loaded.number;
                return Ok(Some(Located { record, bytes, segment, offset: *offset }));
            }
            if self.offset >= self.loaded.scan.whole_end {
                return match &self.loaded.scan.stopped {
                    Some(reason) if self.loaded.scan.next_seq <= self.last_seq => {
                        let seq = self.loaded.scan.next_seq;
                        Err(self.loaded.corrupt(self.offset, seq, reason.clone()))
                    }
                    _ => Ok(None),
                };
            }
            let salt = self.loaded.header.salt;
            let frame = Frame::decode(&self.loaded.bytes, 0, self.offset, salt)
                .map_err(|reason| self.loaded.corrupt(self.offset, self.last_seq, reason))?;
            let offset = self.offset;
            self.offset += frame.header.len();
            self.frame = Some((offset, frame, 0));
        }
    }
}

/// A segment file in memory, walked to where it stops making sense.
struct Loaded {
    number: u64,
    path: PathBuf,
    header: SegmentHeader,
    bytes: Bytes,
    footer: Result<Option<Footer>, Corruption>,
    scan: Scan,
}

impl Loaded {
    /// `None`: the file went away, or is a spare in the making.
    fn read(storage: &dyn Storage, number: u64, path: &Path) -> Result<Option<Self>, Error> {
        let file = match storage.open(path, Access::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", path))?,
        };
        let bytes = read_all(file.as_ref()).map_err(Error::io("read", path))?;
        let start = usize::try_from(HEADER_BYTES).unwrap_or(0);
        let header = match SegmentHeader::decode(&bytes, path) {
            Ok(header) => header,
            Err(error @ Error::Corrupt { .. }) => {
                let rest = bytes.get(start..).unwrap_or_default();
                let spare = rest.iter().all(|&byte| byte == 0);
                return if spare { Ok(None) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let footer = Footer::read(file.as_ref(), header.salt).map_err(Error::io("read", path))?;
        let until = match &footer {
            Ok(Some(footer)) => footer.frames_end,
            _ => u64::MAX,
        };
        let scan = scan(&bytes, header.salt, until);
        Ok(Some(Self { number, path: path.to_owned(), header, bytes, footer, scan }))
    }

    fn corrupt(&self, offset: u64, seq: Seq, reason: Corruption) -> Error {
        Error::Corrupt { path: self.path.clone(), offset, seq, reason }
    }
}

fn segment_files(storage: &dyn Storage, dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let folder = dir.join(name::SEGMENTS);
    let names = match storage.list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotALog { path: dir.to_owned() });
        }
        other => other.map_err(Error::io("list", &folder))?,
    };
    let mut files: Vec<_> = names
        .iter()
        .filter_map(|file| name::number(file))
        .map(|number| (number, name::path(dir, number)))
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// Something that is wrong with a log.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// The first seq that cannot be trusted.
    pub seq: Seq,
    /// What is wrong.
    pub reason: String,
}

/// What [`verify`] read and found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Segments in use.
    pub segments: usize,
    /// Of these, sealed.
    pub sealed: usize,
    /// Frames whose checksums hold.
    pub frames: u64,
    /// Records that can be read.
    pub records: u64,
    /// Transactions that can be read.
    pub transactions: u64,
    /// Bytes read.
    pub bytes: u64,
    /// The lowest and the highest seq.
    pub first_seq: Seq,
    /// See `first_seq`.
    pub last_seq: Seq,
    /// Bytes behind the last whole transaction: a group being written, or torn by a crash. Normal.
    pub torn_bytes: u64,
    /// What is wrong. Empty: all is whole.
    pub findings: Vec<Finding>,
}

/// Reads every byte of the log in `dir`: headers, checksums, padding, continuity, footers, records.
///
/// # Errors
/// It could not look: [`Error::NotALog`], [`Error::Io`]. Damage is not an error but a finding.
pub fn verify(dir: &Path) -> Result<VerifyReport, Error> {
    verify_on(&Fs, dir)
}

/// [`verify`] on another disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(storage: &dyn Storage, dir: &Path) -> Result<VerifyReport, Error> {
    let mut report = VerifyReport::default();
    let files = segment_files(storage, dir)?;
    if files.is_empty() {
        return Err(Error::NotALog { path: dir.to_owned() });
    }
    let mut before: Option<(u64, Open, Seq, u64)> = None;
    let mut trimmed_below = Seq::FIRST;
    for (index, (number, path)) in files.iter().enumerate() {
        if index > 0 && files[index - 1].0 + 1 != *number {
            let path = name::path(dir, number - 1);
            let reason = Corruption::MissingSegment(number - 1).to_string();
            let seq = before.as_ref().map_or(Seq::ZERO, |(_, _, next, _)| *next);
            report.findings.push(Finding { path, offset: 0, seq, reason });
        }
        let loaded = match Loaded::read(storage, *number, path) {
            Ok(Some(loaded)) => loaded,
            Ok(None) => continue,
            Err(Error::Corrupt { path, offset, seq, reason }) => {
                let next = before.as_ref().map_or(Seq::FIRST, |(_, _, next, _)| *next);
                let (seq, reason) = (seq.max(next), reason.to_string());
                report.findings.push(Finding { path, offset, seq, reason });
                continue;
            }
            Err(Error::Unsupported { path, reason }) => {
                report.findings.push(Finding { path, offset: 0, seq: Seq::ZERO, reason });
                continue;
            }
            Err(error) => return Err(error),
        };
        report.bytes += loaded.bytes.len() as u64;
        let has_successor = files.get(index + 1).is_some_and(|(number, path)| {
            matches!(Loaded::read(storage, *number, path), Ok(Some(next)) if next.scan.open.is_some())
        });
        check_segment(&loaded, has_successor, &mut report);
        let Some(open) = loaded.scan.open.clone() else { continue };
        trimmed_below = trimmed_below.max(loaded.scan.first_seq);
        match &before {
            None => report.first_seq = open.base_seq,
            Some((pos, first, next, _))
                if *pos != open.base_pos
                    || *next != open.base_seq
                    || first.log_id != open.log_id =>
            {
                report.findings.push(Finding {
                    path: path.clone(),
                    offset: HEADER_BYTES,
                    seq: *next,
                    reason: format!(
                        "it starts at seq {} position {} of log {}, expected seq {next} position {pos}",
                        open.base_seq, open.base_pos, open.log_id
                    ),
                });
            }
            Some(_) => {}
        }
        let end = open.base_pos + (loaded.scan.whole_end - HEADER_BYTES);
        report.last_seq = loaded.scan.next_seq.prev();
        before = Some((end, open, loaded.scan.next_seq, *number));
    }
    if report.first_seq > trimmed_below {
        let number = files[0].0.saturating_sub(1);
        report.findings.push(Finding {
            path: name::path(dir, number),
            offset: 0,
            seq: trimmed_below,
            reason: Corruption::MissingSegment(number).to_string(),
        });
    }
    Ok(report)
}

fn check_segment(loaded: &Loaded, has_successor: bool, report: &mut VerifyReport) {
    let scan = &loaded.scan;
    let mut find = |offset: u64, seq: Seq, reason: String| {
        report.findings.push(Finding { path: loaded.path.clone(), offset, seq, reason });
    };
    let debris = tail(&loaded.bytes, loaded.header.salt, scan.whole_end);
    let Some(open) = &scan.open else {
        if debris.dirty_end > HEADER_BYTES && has_successor {
            find(HEADER_BYTES, Seq::ZERO, "the first frame does not open the segment".into());
        } else {
            report.torn_bytes += debris.dirty_end - HEADER_BYTES;
        }
        return;
    };
    if loaded.header.number != loaded.number || loaded.header.log_id != open.log_id {
        find(0, open.base_seq, format!("it is segment {} of another place", loaded.header.number));
    }
    match &loaded.footer {
        Ok(Some(footer)) => {
            let fits = scan.whole_end == footer.frames_end
                && scan.next_seq.prev() == footer.last_seq
                && footer.first_seq == open.base_seq
                && footer.base_pos == open.base_pos
                && scan.times.unwrap_or_default() == footer.times
                && scan.index == footer.index;
            if !fits {
                let reason = scan.stopped.as_ref().map_or_else(
                    || "the footer does not match the frames".to_owned(),
                    ToString::to_string,
                );
                find(scan.frames_end, scan.next_seq, reason);
            }
        }
        Err(reason) => find(scan.frames_end, scan.next_seq, reason.to_string()),
        Ok(None) if has_successor => {
            // Waiting to be sealed: frames, then zeros to the full length. Anything else is damage.
            let whole = loaded.bytes.len() as u64 == loaded.header.capacity;
            if !whole || debris.dirty_end > scan.whole_end {
                let reason = scan.stopped.as_ref().map_or_else(
                    || "it has a successor, but no footer".to_owned(),
                    ToString::to_string,
                );
                find(scan.frames_end, scan.next_seq, reason);
            }
        }
        Ok(None) => {
            let pos = open.base_pos + (scan.whole_end - HEADER_BYTES);
            let floor = scan.synced_pos.max(debris.synced_pos);
            if pos < floor {
                let reason = scan.stopped.clone().unwrap_or(Corruption::BelowFloor { floor });
                find(scan.whole_end, scan.next_seq, reason.to_string());
            } else {
                report.torn_bytes += debris.dirty_end - scan.whole_end;
            }
        }
    }
    report.segments += 1;
    report.sealed += usize::from(matches!(loaded.footer, Ok(Some(_))));
    count_frames(loaded, report);
}

fn count_frames(loaded: &Loaded, report: &mut VerifyReport) {
    let mut offset = HEADER_BYTES;
    while offset < loaded.scan.whole_end {
        let Ok(frame) = Frame::decode(&loaded.bytes, 0, offset, loaded.header.salt) else { return };
        report.frames += 1;
        if frame.header.is_control() && Control::decode(&frame.payload).is_err() {
            return;
        }
        for index in 0..frame.header.record_count as usize {
            let seq = Seq(frame.header.base_seq.0 + index as u64);
            match decode_record(seq, &frame.record(index)) {
                Ok(record) => {
                    report.records += 1;
                    report.transactions += u64::from(record.ends_transaction);
                }
                Err(error) => report.findings.push(Finding {
                    path: loaded.path.clone(),
                    offset,
                    seq,
                    reason: Corruption::Record(error.to_string()).to_string(),
                }),
            }
        }
        offset += frame.header.len();
    }
}
