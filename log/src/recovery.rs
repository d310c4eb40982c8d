//! What open does after a crash: verify, cut a torn group, or refuse. Everything is decided before
//! anything is written; a refused open leaves every byte as it was.
//!
//! The acknowledged floor is the highest log position that any valid frame knew to be durable. Damage
//! below it is corruption. Damage above it is a torn group that nobody was told of: it is copied to
//! `quarantine/` and cut.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{LogConfig, Witnesses};
use crate::error::{Corruption, Error};
use crate::frame::{ALIGN, Control, Frame, FrameSpec, Open, Payload, SYNC_WORD, encode_frame};
use crate::segment::footer::Footer;
use crate::segment::handle::{Segment, SegmentState};
use crate::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use crate::segment::loaded::check_length;
use crate::segment::name;
use crate::segment::scan::{Scan, scan, tail};
use crate::seq::Seq;
use crate::storage::{Access, File, Storage};
use crate::writer::{CONTROL_BYTES, GROUP_BYTES, prepare};

/// Everything that opening a log found and did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryReport {
    /// The log did not exist before.
    pub created: bool,
    /// The log ended in a mark or right after a group: nothing was torn.
    pub clean: bool,
    /// Bytes of the torn group that were cut.
    pub torn_bytes: u64,
    /// Where a copy of them is.
    pub quarantined: Option<PathBuf>,
    /// Segments that a crash kept from being sealed, to be sealed now.
    pub unsealed: Vec<u64>,
    /// Trimmed segments that were still there, removed now.
    pub trimmed: Vec<u64>,
    /// Bytes of segments read to open.
    pub scanned_bytes: u64,
    /// The acknowledged floor, a log position.
    pub floor: u64,
    /// The lowest seq that is kept.
    pub first_seq: u64,
    /// The highest durable seq.
    pub last_seq: u64,
    /// How long it took, microseconds.
    pub micros: u64,
}

/// An opened log, ready for its writer.
pub(crate) struct Recovered {
    pub(crate) id: LogId,
    pub(crate) epoch: u64,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) first_seq: Seq,
    pub(crate) next_seq: Seq,
    pub(crate) report: RecoveryReport,
}

/// A segment file as found.
struct Found {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    header: SegmentHeader,
    open: Open,
    /// The footer of a sealed segment.
    footer: Option<Footer>,
}

/// A file that holds no acknowledged frame: a spare, finished or not.
struct Unused {
    number: u64,
    path: PathBuf,
    /// What a torn roll left in it.
    debris: Option<Bytes>,
}

/// The header page and the OPEN frame of a segment end before this offset.
pub(crate) const OPEN_END: u64 = HEADER_BYTES + CONTROL_BYTES;

/// Opens the log in `config.dir` for writing; the directory is locked already.
pub(crate) fn recover(
    storage: &dyn Storage,
    config: &LogConfig,
    witnesses: &Witnesses,
) -> Result<Recovered, Error> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let (mut found, unused) = find(storage, &config.dir, &mut report)?;
    if found.is_empty() {
        for witness in &witnesses.0 {
            check_witness(witness, Seq::ZERO)?;
        }
        check_never_used(&unused, &config.dir, report.floor)?;
        discard(storage, &config.dir, &unused, &mut report)?;
        return create(storage, config, report, started);
    }
    check_chain(&found)?;
    let last = found.pop().expect("not empty");
    if last.footer.is_some() {
        // Only a segment with a durable successor is sealed.
        return Err(missing(&config.dir, last.number + 1));
    }
    let end = examine_end(&last, &unused, &mut report)?;
    for witness in &witnesses.0 {
        check_witness(witness, end.scan.next_seq.prev())?;
    }
    let mut segments = Vec::with_capacity(found.len() + 1);
    let mut first_seq = end.scan.first_seq.max(Seq::FIRST);
    for (index, segment) in found.iter().enumerate() {
        let next = found.get(index + 1).unwrap_or(&last);
        first_seq = first_seq.max(segment.open.first_seq);
        segments.push(complete(segment, next, &mut report)?);
    }
    let kept_from = segments.first().map_or(last.open.base_seq, |segment| segment.base_seq);
    if kept_from > first_seq {
        return Err(missing(&config.dir, found.first().map_or(last.number, |f| f.number) - 1));
    }
    // From here on the disk is changed.
    let folder = config.dir.join(name::SEGMENTS);
    segments.retain(|segment: &Arc<Segment>| {
        let kept = segment.with_state(|state| state.next_seq) > first_seq;
        if !kept {
            report.trimmed.push(segment.header.number);
        }
        kept
    });
    let trimmed: Vec<_> = report.trimmed.iter().map(|&at| name::path(&config.dir, at)).collect();
    remove_in_order(storage, &config.dir, &trimmed)?;
    let active = cut(storage, config, &last, &end, first_seq, &mut report)?;
    discard(storage, &config.dir, &unused, &mut report)?;
    storage.sync_dir(&folder).map_err(Error::io("sync", &folder))?;
    segments.push(active);
    report.first_seq = first_seq.0;
    report.last_seq = end.scan.next_seq.prev().0;
    report.clean = report.torn_bytes == 0;
    report.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Recovered {
        id: last.header.log_id,
        epoch: end.scan.epoch + 1,
        segments,
        first_seq,
        next_seq: end.scan.next_seq,
        report,
    })
}

fn check_witness((name, seq): &(String, Seq), last: Seq) -> Result<(), Error> {
    if *seq > last {
        return Err(Error::Lost { last, witness: name.clone(), witnessed: *seq });
    }
    Ok(())
}

/// A first segment that was never opened is a log that was never acknowledged; a later one alone is
/// what is left of a log, and so is one in which a frame knows of durable ones before it.
fn check_never_used(unused: &[Unused], dir: &Path, floor: u64) -> Result<(), Error> {
    match unused.first() {
        Some(spare) if spare.number > 1 => Err(missing(dir, spare.number - 1)),
        Some(spare) if floor > 0 => Err(Error::Corrupt {
            path: spare.path.clone(),
            offset: HEADER_BYTES,
            seq: Seq::FIRST,
            reason: Corruption::BelowFloor { floor },
        }),
        _ => Ok(()),
    }
}

/// Removes spares, finished or not; what a torn roll left in one is kept in `quarantine/`.
fn discard(
    storage: &dyn Storage,
    dir: &Path,
    unused: &[Unused],
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    for spare in unused {
        if let Some(debris) = &spare.debris {
            quarantine(storage, dir, &spare.path, HEADER_BYTES, debris, report)?;
        }
        storage.remove(&spare.path).map_err(Error::io("remove", &spare.path))?;
    }
    Ok(())
}

fn missing(dir: &Path, number: u64) -> Error {
    Error::Corrupt {
        path: name::path(dir, number),
        offset: 0,
        seq: Seq::ZERO,
        reason: Corruption::MissingSegment(number),
    }
}

/// Every segment file, in use or not, in order of number.
fn find(
    storage: &dyn Storage,
    dir: &Path,
    report: &mut RecoveryReport,
) -> Result<(Vec<Found>, Vec<Unused>), Error> {
    let folder = dir.join(name::SEGMENTS);
    let mut numbers: Vec<u64> = match storage.list(&folder) {
        Ok(names) => names.iter().filter_map(|file| name::number(file)).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("list", &folder)(error)),
    };
    numbers.sort_unstable();
    let (mut found, mut unused) = (Vec::new(), Vec::new());
    for (index, &number) in numbers.iter().enumerate() {
        if index > 0 && numbers[index - 1] + 1 != number {
            return Err(missing(dir, number - 1));
        }
        let path = name::path(dir, number);
        let is_last = index + 1 == numbers.len();
        match examine(storage, number, &path, is_last, report)? {
            Examined::Used(segment) if unused.is_empty() => found.push(*segment),
            Examined::Used(segment) => {
                return Err(Error::Corrupt {
                    path: name::path(dir, segment.number - 1),
                    offset: HEADER_BYTES,
                    seq: segment.open.base_seq,
                    reason: Corruption::Other("a segment before one in use is empty".into()),
                });
            }
            Examined::Unused(spare) => unused.push(spare),
        }
    }
    Ok((found, unused))
}

enum Examined {
    Used(Box<Found>),
    Unused(Unused),
}

fn examine(
    storage: &dyn Storage,
    number: u64,
    path: &Path,
    is_last: bool,
    report: &mut RecoveryReport,
) -> Result<Examined, Error> {
    let file = storage.open(path, Access::Read).map_err(Error::io("open", path))?;
    let io = |action| Error::io(action, path);
    let start = read_range(file.as_ref(), 0, OPEN_END).map_err(io("read"))?;
    let spare = |debris| Examined::Unused(Unused { number, path: path.to_owned(), debris });
    let header = match SegmentHeader::decode(&start, path) {
        Ok(header) => header,
        Err(Error::Unsupported { path, reason }) => {
            return Err(Error::Unsupported { path, reason });
        }
        Err(error) => {
            // A header that was never written, and nothing after it: an unfinished spare.
            let whole = read_all(file.as_ref()).map_err(io("read"))?;
            let rest = whole.get(usize::try_from(HEADER_BYTES).unwrap_or(0)..).unwrap_or_default();
            if is_last && rest.iter().all(|&byte| byte == 0) {
                return Ok(spare(None));
            }
            return Err(error);
        }
    };
    if header.number != number {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            offset: 40,
            seq: Seq::ZERO,
            reason: Corruption::Header(format!("it is segment {}, renamed", header.number)),
        });
    }
    let opening =
        Frame::decode(&start, 0, HEADER_BYTES, header.salt).and_then(
            |frame| match Control::decode(&frame.payload)? {
                Control::Open(open) if frame.header.is_control() => Ok(open),
                _ => Err(Corruption::Frame("the first frame does not open the segment".into())),
            },
        );
    let open = match opening {
        Ok(open) => open,
        Err(reason) => {
            let whole = read_all(file.as_ref()).map_err(io("read"))?;
            report.scanned_bytes += whole.len() as u64;
            let debris = tail(&whole, header.salt, HEADER_BYTES);
            // Frames with a later witness stand behind it, so this segment was acknowledged.
            let used = (whole.len() as u64) < header.capacity;
            if debris.dirty_end > HEADER_BYTES && (!is_last || used) {
                let (path, seq) = (path.to_owned(), Seq::ZERO);
                return Err(Error::Corrupt { path, offset: HEADER_BYTES, seq, reason });
            }
            if !is_last && debris.dirty_end == HEADER_BYTES {
                return Ok(spare(None));
            }
            report.floor = report.floor.max(debris.synced_pos);
            let kept = (debris.dirty_end > HEADER_BYTES).then(|| {
                let end = usize::try_from(debris.dirty_end).unwrap_or(usize::MAX);
                whole.slice(usize::try_from(HEADER_BYTES).unwrap_or(0)..end.min(whole.len()))
            });
            return Ok(spare(kept));
        }
    };
    let footer = match Footer::read(file.as_ref(), header.salt).map_err(io("read"))? {
        Ok(footer) => footer,
        // Sealing may have been cut short. If it was not, the successor's OPEN frame says where this
        // segment ends, its frames are read again, and the footer is written anew.
        Err(_) if !is_last => None,
        Err(reason) => {
            let offset = file.length().map_err(io("read"))?;
            return Err(Error::Corrupt {
                path: path.to_owned(),
                offset,
                seq: open.base_seq,
                reason,
            });
        }
    };
    Ok(Examined::Used(Box::new(Found {
        number,
        path: path.to_owned(),
        file,
        header,
        open,
        footer,
    })))
}

fn check_chain(found: &[Found]) -> Result<(), Error> {
    for pair in found.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let broken = |what: String| Error::Corrupt {
            path: b.path.clone(),
            offset: HEADER_BYTES,
            seq: b.open.base_seq,
            reason: Corruption::Other(what),
        };
        if a.header.log_id != b.header.log_id || b.open.log_id != b.header.log_id {
            return Err(broken(format!("it belongs to log {}", b.header.log_id)));
        }
        if let Some(footer) = &a.footer {
            let end = a.open.base_pos + (footer.frames_end - HEADER_BYTES);
            let next = Seq(footer.last_seq.0 + 1);
            if b.open.base_pos != end
                || b.open.base_seq != next
                || footer.base_pos != a.open.base_pos
            {
                return Err(broken(format!(
                    "it starts at seq {} position {}, the segment before ends before seq {next} at {end}",
                    b.open.base_seq, b.open.base_pos
                )));
            }
        }
    }
    Ok(())
}

/// The last segment in use, scanned, and where it is cut.
struct End {
    scan: Scan,
    bytes: Bytes,
    /// Offset after the last byte that is not zero.
    dirty_end: u64,
}

fn examine_end(last: &Found, unused: &[Unused], report: &mut RecoveryReport) -> Result<End, Error> {
    let bytes = read_all(last.file.as_ref()).map_err(Error::io("read", &last.path))?;
    report.scanned_bytes += bytes.len() as u64;
    let scan = scan(&bytes, last.header.salt, u64::MAX);
    let corrupt = |offset: u64, reason: Corruption| Error::Corrupt {
        path: last.path.clone(),
        offset,
        seq: scan.next_seq,
        reason,
    };
    if let Some(reason) = check_length(bytes.len() as u64, &last.header) {
        return Err(corrupt(scan.whole_end, reason));
    }
    let pos = |offset: u64| last.open.base_pos + (offset - HEADER_BYTES);
    let debris = tail(&bytes, last.header.salt, scan.frames_end);
    let floor = report.floor.max(scan.synced_pos).max(debris.synced_pos);
    report.floor = floor;
    if pos(scan.whole_end) < floor {
        let reason = match &scan.stopped {
            Some(reason) if debris.dirty_end > scan.frames_end => reason.clone(),
            _ => Corruption::BelowFloor { floor },
        };
        return Err(corrupt(scan.whole_end, reason));
    }
    let torn = debris.dirty_end - scan.whole_end;
    let alone = scan.times.is_none();
    if torn > GROUP_BYTES + CONTROL_BYTES && !alone {
        return Err(corrupt(scan.whole_end, Corruption::TooLong(torn)));
    }
    if torn > 0 && unused.iter().any(|spare| spare.debris.is_some()) {
        // A segment is used only after all before it is durable.
        let reason = scan.stopped.clone();
        let reason = reason.unwrap_or_else(|| Corruption::Other("half a transaction".into()));
        return Err(corrupt(scan.whole_end, reason));
    }
    let dirty_end = debris.dirty_end;
    Ok(End { scan, bytes, dirty_end })
}

/// A segment that has a successor: all its frames were acknowledged.
fn complete(
    found: &Found,
    next: &Found,
    report: &mut RecoveryReport,
) -> Result<Arc<Segment>, Error> {
    let state = match &found.footer {
        Some(footer) => SegmentState {
            sealed: true,
            frames_end: footer.frames_end,
            next_seq: Seq(footer.last_seq.0 + 1),
            times: (footer.last_seq >= footer.first_seq).then_some(footer.times),
            index: footer.index.clone(),
        },
        None => {
            let bytes = read_all(found.file.as_ref()).map_err(Error::io("read", &found.path))?;
            report.scanned_bytes += bytes.len() as u64;
            report.unsealed.push(found.number);
            let end = HEADER_BYTES + next.open.base_pos.saturating_sub(found.open.base_pos);
            let scan = scan(&bytes, found.header.salt, end);
            if scan.whole_end != end || scan.next_seq != next.open.base_seq {
                return Err(Error::Corrupt {
                    path: found.path.clone(),
                    offset: scan.whole_end,
                    seq: scan.next_seq,
                    reason: scan
                        .stopped
                        .unwrap_or(Corruption::BelowFloor { floor: next.open.base_pos }),
                });
            }
            SegmentState {
                sealed: false,
                frames_end: scan.whole_end,
                next_seq: scan.next_seq,
                times: scan.times,
                index: scan.index,
            }
        }
    };
    Ok(Arc::new(Segment::new(
        found.path.clone(),
        found.header,
        Arc::clone(&found.file),
        found.open.base_seq,
        found.open.base_pos,
        state,
    )))
}

/// Cuts what is torn, and opens the last segment for writing with a new epoch. Durable on return.
fn cut(
    storage: &dyn Storage,
    config: &LogConfig,
    last: &Found,
    end: &End,
    first_seq: Seq,
    report: &mut RecoveryReport,
) -> Result<Arc<Segment>, Error> {
    let io = |action| Error::io(action, &last.path);
    let file = storage.open(&last.path, Access::Write).map_err(io("open"))?;
    let (from, salt) = (end.scan.whole_end, last.header.salt);
    if end.dirty_end > from {
        let range = usize::try_from(from).unwrap_or(usize::MAX)
            ..usize::try_from(end.dirty_end).unwrap_or(usize::MAX);
        let debris = end.bytes.slice(range);
        quarantine(storage, &config.dir, &last.path, from, &debris, report)?;
        file.write_at(&vec![0; debris.len()], from).map_err(io("cut"))?;
        file.sync().map_err(io("sync"))?;
    }
    let mut state = SegmentState {
        sealed: false,
        frames_end: from,
        next_seq: end.scan.next_seq,
        times: end.scan.times,
        index: end.scan.index.clone(),
    };
    state.index.retain(|entry| entry.offset < from);
    let open = Open {
        log_id: last.header.log_id,
        epoch: end.scan.epoch + 1,
        base_pos: last.open.base_pos,
        base_seq: last.open.base_seq,
        first_seq,
        chain: [0; 32],
    };
    let spec = FrameSpec {
        base_seq: end.scan.next_seq,
        synced_pos: last.open.base_pos + (from - HEADER_BYTES),
        time_us: 0,
        payload: Payload::Control(&Control::Open(open).encode()),
    };
    let mut bytes = Vec::new();
    encode_frame(&spec, salt, from, &mut bytes);
    // After a failed sync the system may show bytes that the disk does not hold and never will, since it
    // takes them for written (Rebello et al., ATC 2020): what no one vouches for is written once more.
    let unvouched = report.floor.max(last.open.base_pos) - last.open.base_pos + HEADER_BYTES;
    if unvouched < from {
        let range = usize::try_from(unvouched).unwrap_or(usize::MAX)
            ..usize::try_from(from).unwrap_or(usize::MAX);
        file.write_at(&end.bytes.slice(range), unvouched).map_err(io("write again"))?;
    }
    file.sync().map_err(io("sync"))?;
    file.write_at(&bytes, from).map_err(io("write"))?;
    file.sync().map_err(io("sync"))?;
    state.frames_end = from + bytes.len() as u64;
    debug_assert_eq!(state.frames_end % ALIGN, 0);
    Ok(Arc::new(Segment::new(
        last.path.clone(),
        last.header,
        file,
        last.open.base_seq,
        last.open.base_pos,
        state,
    )))
}

fn quarantine(
    storage: &dyn Storage,
    dir: &Path,
    segment: &Path,
    offset: u64,
    bytes: &Bytes,
    report: &mut RecoveryReport,
) -> Result<(), Error> {
    let folder = dir.join("quarantine");
    storage.create_dir(&folder).map_err(Error::io("create", &folder))?;
    let stem = segment.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut attempt = 0;
    let (path, file) = loop {
        let path = folder.join(format!("{stem}-{offset}-{attempt}.bytes"));
        match storage.open(&path, Access::Create) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(Error::io("create", &path)(error)),
        }
    };
    file.write_at(bytes, 0).map_err(Error::io("write", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    storage.sync_dir(&folder).map_err(Error::io("sync", &folder))?;
    let frames = bytes.windows(4).filter(|window| *window == SYNC_WORD).count();
    tracing::warn!(segment = %segment.display(), offset, bytes = bytes.len(), frames,
        quarantine = %path.display(), "cut a torn group that was never acknowledged");
    report.torn_bytes += bytes.len() as u64;
    report.quarantined = Some(path);
    Ok(())
}

/// A new log: one segment with its OPEN frame. Durable on return.
fn create(
    storage: &dyn Storage,
    config: &LogConfig,
    mut report: RecoveryReport,
    started: Instant,
) -> Result<Recovered, Error> {
    let folder = config.dir.join(name::SEGMENTS);
    storage.create_dir(&folder).map_err(Error::io("create", &folder))?;
    storage.sync_dir(&config.dir).map_err(Error::io("sync", &config.dir))?;
    let id = LogId::random();
    let spare = prepare(storage, &config.dir, id, 1, config.segment_bytes)?;
    let open = Open {
        log_id: id,
        epoch: 1,
        base_pos: 0,
        base_seq: Seq::FIRST,
        first_seq: Seq::FIRST,
        chain: [0; 32],
    };
    let spec = FrameSpec {
        base_seq: Seq::FIRST,
        synced_pos: 0,
        time_us: 0,
        payload: Payload::Control(&Control::Open(open).encode()),
    };
    let mut bytes = Vec::new();
    encode_frame(&spec, spare.header.salt, HEADER_BYTES, &mut bytes);
    let path = name::path(&config.dir, 1);
    spare.file.write_at(&bytes, HEADER_BYTES).map_err(Error::io("write", &path))?;
    spare.file.sync().map_err(Error::io("sync", &path))?;
    let state = SegmentState {
        sealed: false,
        frames_end: HEADER_BYTES + bytes.len() as u64,
        next_seq: Seq::FIRST,
        times: None,
        index: Vec::new(),
    };
    let segment = Segment::new(path, spare.header, spare.file, Seq::FIRST, 0, state);
    report.created = true;
    report.clean = true;
    report.first_seq = 1;
    report.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Recovered {
        id,
        epoch: 1,
        segments: vec![Arc::new(segment)],
        first_seq: Seq::FIRST,
        next_seq: Seq::FIRST,
        report,
    })
}

/// Removes trimmed segments, the oldest first and each durably before the next, so that no crash leaves
/// a gap.
pub(crate) fn remove_in_order(
    storage: &dyn Storage,
    dir: &Path,
    trimmed: &[PathBuf],
) -> Result<(), Error> {
    let folder = dir.join(name::SEGMENTS);
    trimmed.iter().try_for_each(|path| {
        storage.remove(path).map_err(Error::io("remove", path))?;
        storage.sync_dir(&folder).map_err(Error::io("sync", &folder))
    })
}

/// All bytes of a file.
pub(crate) fn read_all(file: &dyn File) -> std::io::Result<Bytes> {
    read_range(file, 0, file.length()?)
}

/// Bytes from `offset` on, `most` of them or as many as there are.
pub(crate) fn read_range(file: &dyn File, offset: u64, most: u64) -> std::io::Result<Bytes> {
    let left = file.length()?.saturating_sub(offset).min(most);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX)];
    let read = file.read_at(&mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes.into())
}
