//! What open does after a crash: verify, cut a torn group, or refuse. Everything is decided before
//! anything is written; a refused open leaves every byte as it was.
//!
//! The acknowledged floor is the highest log position that any valid frame knew to be durable. Damage
//! below it is corruption. Damage above it is a torn group that nobody was told of: it is copied to
//! `quarantine/` and cut.

mod apply;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{LogConfig, Witness, Witnesses};
use crate::error::{Corruption, Error};
use crate::frame::{Control, Frame, Open};
use crate::segment::compressed::{self, Opened};
use crate::segment::footer::Footer;
use crate::segment::handle::{Segment, SegmentState};
use crate::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use crate::segment::loaded::check_length;
use crate::segment::name;
use crate::segment::scan::{Scan, chain_at, scan, tail};
use crate::seq::Seq;
use crate::storage::{Access, File, Lock, LockError, Storage};
use crate::writer::{CONTROL_BYTES, GROUP_BYTES};

pub(crate) use apply::remove_in_order;

/// The file that one writer holds locked.
pub const LOCK_FILE: &str = "LOCK";

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
    /// The segment as it was written.
    file: Arc<dyn File>,
    /// Bytes on the disk, if it is compressed.
    compressed_bytes: Option<u64>,
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

/// What opening will do, decided without a single write.
pub(crate) struct Decision {
    report: RecoveryReport,
    unused: Vec<Unused>,
    /// What compressions that were cut short left.
    parts: Vec<PathBuf>,
    started: Instant,
    plan: Plan,
}

enum Plan {
    /// There is no log yet.
    Create,
    GoOn(Box<GoOn>),
}

/// A log that is whole but for what nobody was told of.
struct GoOn {
    last: Found,
    end: End,
    /// All but the last.
    segments: Vec<Arc<Segment>>,
    first_seq: Seq,
}

/// Takes the directory `config.dir` for one writer and opens the log in it, or creates it. A refusal
/// changes nothing, not even the lock file.
pub(crate) fn open_for_writing(
    storage: &dyn Storage,
    config: &LogConfig,
    witnesses: &Witnesses,
) -> Result<(Box<dyn Lock>, Recovered), Error> {
    let dir = &config.dir;
    let lock = match take_lock(storage, dir)? {
        Some(lock) => lock,
        None => {
            // Nobody has the log open: it is looked at before the lock file is made.
            decide(storage, config, witnesses)?;
            storage.create_dir(dir).map_err(Error::io("create", dir))?;
            let path = dir.join(LOCK_FILE);
            match storage.open(&path, Access::Create) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(Error::space("create", &path, 0)(error));
                }
                _ => {}
            }
            let gone = || Error::io("lock", &path)(std::io::ErrorKind::NotFound.into());
            take_lock(storage, dir)?.ok_or_else(gone)?
        }
    };
    let decision = decide(storage, config, witnesses)?;
    if let Err(error) = lock.claim() {
        // The lock holds all the same; only who has it cannot be read from the file.
        tracing::warn!(%error, path = %dir.join(LOCK_FILE).display(), "cannot note the owner");
    }
    Ok((lock, apply::carry_out(storage, config, decision)?))
}

/// `None`: there is no lock file.
fn take_lock(storage: &dyn Storage, dir: &Path) -> Result<Option<Box<dyn Lock>>, Error> {
    let path = dir.join(LOCK_FILE);
    match storage.lock(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Missing) => Ok(None),
        Err(LockError::Held { owner }) => Err(Error::Locked { path: dir.to_owned(), owner }),
        Err(LockError::Io(source)) => Err(Error::io("lock", &path)(source)),
    }
}

/// Looks at everything and writes nothing.
fn decide(
    storage: &dyn Storage,
    config: &LogConfig,
    witnesses: &Witnesses,
) -> Result<Decision, Error> {
    let started = Instant::now();
    let mut report = RecoveryReport::default();
    let (numbers, parts) = list(storage, &config.dir)?;
    let (mut found, unused) = find(storage, &config.dir, &numbers, &mut report)?;
    let Some(last) = found.pop() else {
        for witness in &witnesses.0 {
            check_witness(witness, Seq::ZERO)?;
        }
        check_never_used(&unused, &config.dir, report.floor)?;
        return Ok(Decision { report, unused, parts, started, plan: Plan::Create });
    };
    check_chain(&found, &last)?;
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
    let go_on = GoOn { last, end, segments, first_seq };
    for witness in &witnesses.0 {
        go_on.check_hash(witness)?;
    }
    let plan = Plan::GoOn(Box::new(go_on));
    Ok(Decision { report, unused, parts, started, plan })
}

fn check_witness(witness: &Witness, last: Seq) -> Result<(), Error> {
    if witness.seq > last {
        let Witness { name, seq, .. } = witness;
        return Err(Error::Lost { last, witness: name.clone(), witnessed: *seq });
    }
    Ok(())
}

impl GoOn {
    /// Compares the chain hash that a receipt gives with the one of the log, if that still has it.
    fn check_hash(&self, witness: &Witness) -> Result<(), Error> {
        let Witness { name, seq, hash: Some(noted) } = witness else { return Ok(()) };
        if *seq < self.first_seq.prev() {
            return Ok(());
        }
        let before = self.segments.iter().rev().find(|one| one.base_seq <= *seq);
        let (path, hash) = match before.or(self.segments.first()) {
            Some(segment) if *seq < self.last.open.base_seq => {
                (&segment.path, segment.chain_at(*seq)?)
            }
            _ => {
                let (path, salt) = (&self.last.path, self.last.header.salt);
                let hash = chain_at(&self.end.bytes, salt, self.end.scan.whole_end, *seq);
                let corrupt = |(offset, reason)| {
                    let path = path.clone();
                    Error::Corrupt { path, offset, seq: *seq, reason }
                };
                (path, hash.map_err(corrupt)?)
            }
        };
        if hash != *noted {
            let reason = format!("the hash of seq {seq} is {hash}, {name} says {noted}");
            let (path, reason) = (path.clone(), Corruption::Chain(reason));
            return Err(Error::Corrupt { path, offset: HEADER_BYTES, seq: *seq, reason });
        }
        Ok(())
    }
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

fn missing(dir: &Path, number: u64) -> Error {
    Error::Corrupt {
        path: name::path(dir, number),
        offset: 0,
        seq: Seq::ZERO,
        reason: Corruption::MissingSegment(number),
    }
}

/// The numbers of all segment files, ascending, and what compressions that were cut short left.
fn list(storage: &dyn Storage, dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>), Error> {
    let folder = dir.join(name::SEGMENTS);
    let names = match storage.list(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(Error::io("list", &folder))?,
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(|file| name::number(file)).collect();
    numbers.sort_unstable();
    let parts = names.iter().filter(|file| name::is_part(file));
    Ok((numbers, parts.map(|file| folder.join(file)).collect()))
}

/// The segments of these numbers, in use or not.
fn find(
    storage: &dyn Storage,
    dir: &Path,
    numbers: &[u64],
    report: &mut RecoveryReport,
) -> Result<(Vec<Found>, Vec<Unused>), Error> {
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
    let io = |action| Error::io(action, path);
    let opened = compressed::open(storage, path)?;
    let Opened { file, compressed_bytes } =
        opened.ok_or_else(|| io("open")(std::io::ErrorKind::NotFound.into()))?;
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
        Err(reason) if compressed_bytes.is_some() => {
            // Only what was sealed is compressed.
            let (path, seq) = (path.to_owned(), Seq::ZERO);
            return Err(Error::Corrupt { path, offset: HEADER_BYTES, seq, reason });
        }
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
    let footer = match Footer::glance(file.as_ref(), header.salt).map_err(io("read"))? {
        Ok(None) if compressed_bytes.is_some() => {
            let reason = Corruption::Footer("it is gone".into());
            let (path, offset) = (path.to_owned(), file.length().map_err(io("read"))?);
            return Err(Error::Corrupt { path, offset, seq: open.base_seq, reason });
        }
        Ok(footer) => footer,
        // Sealing may have been cut short. If it was not, the successor's OPEN frame says where this
        // segment ends, its frames are read again, and the footer is written anew.
        Err(_) if !is_last && compressed_bytes.is_none() => None,
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
        compressed_bytes,
        header,
        open,
        footer,
    })))
}

/// Each segment must continue the one before.
fn check_chain(found: &[Found], last: &Found) -> Result<(), Error> {
    let successors = found.iter().skip(1).chain([last]);
    for (a, b) in found.iter().zip(successors) {
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
            if b.open.chain != footer.chain {
                return Err(broken("the audit chain does not go on in it".into()));
            }
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
            chain: footer.chain,
            index: None,
        },
        None => {
            let bytes = read_all(found.file.as_ref()).map_err(Error::io("read", &found.path))?;
            report.scanned_bytes += bytes.len() as u64;
            report.unsealed.push(found.number);
            let end = HEADER_BYTES + next.open.base_pos.saturating_sub(found.open.base_pos);
            let scan = scan(&bytes, found.header.salt, end);
            let joins = scan.next_seq == next.open.base_seq && scan.chain == next.open.chain;
            if scan.whole_end != end || !joins {
                return Err(Error::Corrupt {
                    path: found.path.clone(),
                    offset: scan.whole_end,
                    seq: scan.next_seq,
                    reason: scan.stopped.unwrap_or(if joins {
                        Corruption::BelowFloor { floor: next.open.base_pos }
                    } else {
                        Corruption::Chain("the next segment does not go on from it".into())
                    }),
                });
            }
            SegmentState {
                sealed: false,
                frames_end: scan.whole_end,
                next_seq: scan.next_seq,
                times: scan.times,
                chain: scan.chain,
                index: Some(scan.index),
            }
        }
    };
    let (path, file) = (found.path.clone(), Arc::clone(&found.file));
    let Open { base_seq, base_pos, .. } = found.open;
    let segment = Segment::new(path, found.header, file, base_seq, base_pos, state);
    Ok(Arc::new(segment.compressed_to(found.compressed_bytes)))
}

/// All bytes of a file.
pub(crate) fn read_all(file: &dyn File) -> std::io::Result<Bytes> {
    read_range(file, 0, file.length()?)
}

/// Bytes from `offset` on, `most` of them or as many as there are.
pub(crate) fn read_range(file: &dyn File, offset: u64, most: u64) -> std::io::Result<Bytes> {
    let left = file.length()?.saturating_sub(offset).min(most);
    let left = usize::try_from(left).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    let mut bytes = vec![0; left];
    let read = read_pieces(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

/// Bytes from which on it takes longer to read them than to have another thread read half of them.
const PIECE_BYTES: usize = 8 << 20;

/// Fills `buffer` from `offset`, less at the end of the file.
fn read_pieces(file: &dyn File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    if buffer.len() <= PIECE_BYTES {
        return file.read_at(buffer, offset);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let piece = buffer.len().div_ceil(threads).max(PIECE_BYTES);
    std::thread::scope(|scope| {
        let starts = (offset..).step_by(piece);
        let pieces: Vec<_> = buffer
            .chunks_mut(piece)
            .zip(starts)
            .map(|(piece, at)| scope.spawn(move || Ok((piece.len(), file.read_at(piece, at)?))))
            .collect();
        let mut filled = 0;
        let mut whole = true;
        for piece in pieces {
            let read: std::io::Result<(usize, usize)> =
                piece.join().expect("reading does not panic");
            let (most, read) = read?;
            // Nothing counts after the end of the file.
            filled += if whole { read } else { 0 };
            whole &= read == most;
        }
        Ok(filled)
    })
}
