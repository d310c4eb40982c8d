//! The writer: turns transactions into groups of frames, one write and one sync each, and rolls to the
//! next segment. Single-threaded and deterministic; `log.rs` gives it a thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::chain::{ChainHash, RecordHash};
use crate::config::LogConfig;
use crate::error::{Corruption, Error};
use crate::frame::{
    Control, FRAME_HEADER_BYTES, Frame, FrameSpec, Open, Payload, encode_frame, frame_bytes,
};
use crate::log::TrimReport;
use crate::record::{Transaction, encode_parts};
use crate::recovery::remove_in_order;
use crate::segment::handle::{Segment, SegmentState};
use crate::segment::header::{HEADER_BYTES, LogId, SegmentHeader};
use crate::segment::name;
use crate::seq::Seq;
use crate::shared::Shared;
use crate::storage::{Access, File, Storage};

/// Most bytes of one group, unless a single transaction is larger. A torn tail cannot be longer.
pub(crate) const GROUP_BYTES: u64 = 16 << 20;
/// Largest encoded transaction, bytes.
pub(crate) const MAX_TRANSACTION_BYTES: usize = 1 << 30;
/// Most bytes that an OPEN frame, a mark and the like take in a segment besides records.
pub(crate) const CONTROL_BYTES: u64 = 1024;

/// What a disk loses at once: the larger of the usual sectors, 512 and 4096 bytes.
const SECTOR_BYTES: u64 = 4096;
/// Bytes that records leave free in a segment: for marks up to the next sector, and control frames before them.
const FREE_BYTES: u64 = SECTOR_BYTES + CONTROL_BYTES;

/// A transaction as bytes.
pub(crate) struct Prepared {
    /// Where each record ends, and its hash.
    records: Vec<(u32, RecordHash)>,
    bytes: Vec<u8>,
    time_us: i64,
}

impl Prepared {
    /// Encodes `transaction`, outside of any lock.
    pub(crate) fn new(transaction: &Transaction) -> Result<Self, Error> {
        let Some(last) = transaction.events.len().checked_sub(1) else {
            return Err(Error::BadInput("a transaction without events".into()));
        };
        let mut prepared = Self {
            records: Vec::with_capacity(transaction.events.len()),
            bytes: Vec::with_capacity(transaction.events.len() * 128),
            time_us: transaction.time_us,
        };
        for (index, event) in transaction.events.iter().enumerate() {
            let Transaction { time_us, feed_high, .. } = *transaction;
            let start = prepared.bytes.len();
            encode_parts(time_us, index == last, feed_high, event, &mut prepared.bytes);
            if prepared.bytes.len() > MAX_TRANSACTION_BYTES {
                return Err(Error::BadInput(format!(
                    "a transaction of more than {MAX_TRANSACTION_BYTES} bytes"
                )));
            }
            let end = u32::try_from(prepared.bytes.len()).expect("checked above");
            prepared.records.push((end, RecordHash::of(&prepared.bytes[start..])));
        }
        Ok(prepared)
    }

    pub(crate) fn count(&self) -> u64 {
        self.records.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// An upper bound of the bytes it takes on disk, however it is split into frames.
    fn disk_bytes(&self, frame_limit: usize) -> u64 {
        let frames = (self.bytes.len() / frame_limit + 1).min(self.records.len()) as u64 * 2;
        frame_bytes(self.records.len(), self.bytes.len()) + frames * frame_bytes(0, 0)
    }
}

/// A prepared segment that is not in use yet.
pub(crate) struct Spare {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn File>,
}

/// The segment in use and the spare for the next one. Locked while one is being prepared, so that a file is
/// either prepared or used, whoever comes first.
pub(crate) struct SpareSlot {
    slot: Mutex<Slot>,
    /// What there was no space for at the last try; apart from the slot, which is locked for as long as a file is
    /// prepared.
    lacks: Mutex<Option<(PathBuf, u64)>>,
    ready: AtomicBool,
}

struct Slot {
    /// Number of the segment that the writer uses.
    used: u64,
    spare: Option<Spare>,
}

impl SpareSlot {
    fn new(used: u64) -> Self {
        let slot = Mutex::new(Slot { used, spare: None });
        Self { slot, lacks: Mutex::default(), ready: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of appends while the disk is full.
    pub(crate) fn shortage(&self) -> Option<Error> {
        let lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lacks.map(|(path, bytes)| Error::Full { path, bytes })
    }

    /// Whether the next segment is prepared.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn note(&self, prepared: Result<Spare, Error>) -> Result<Spare, Error> {
        let lacks = match &prepared {
            Err(Error::Full { path, bytes }) => Some((path.clone(), *bytes)),
            _ => None,
        };
        *self.lacks.lock().unwrap_or_else(PoisonError::into_inner) = lacks;
        prepared
    }

    /// Prepares the spare after the segment in use, if there is none.
    pub(crate) fn keep(
        &self,
        storage: &dyn Storage,
        config: &LogConfig,
        id: LogId,
    ) -> Result<(), Error> {
        let mut slot = self.lock();
        if slot.spare.is_none() {
            let number = slot.used + 1;
            let prepared = prepare(storage, &config.dir, id, number, config.segment_bytes);
            slot.spare = Some(self.note(prepared)?);
            self.ready.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the segment after the one in use, of at least `capacity` bytes, into use.
    fn take(
        &self,
        storage: &dyn Storage,
        config: &LogConfig,
        id: LogId,
        capacity: u64,
    ) -> Result<Spare, Error> {
        let mut slot = self.lock();
        let number = slot.used + 1;
        let spare = match slot.spare.take() {
            Some(spare) if spare.header.capacity >= capacity => spare,
            // The keeper tries again and again; an append on a full disk does not wait for another try.
            None if capacity <= config.segment_bytes
                && let Some(full) = self.shortage() =>
            {
                return Err(full);
            }
            _ => self.note(prepare(storage, &config.dir, id, number, capacity))?,
        };
        self.ready.store(false, Ordering::Relaxed);
        assert_eq!(spare.header.number, number, "spares are kept for the next segment");
        slot.used = number;
        Ok(spare)
    }
}

/// Creates segment `number` with written extents, durable with its name on return.
pub(crate) fn prepare(
    storage: &dyn Storage,
    dir: &Path,
    log_id: LogId,
    number: u64,
    capacity: u64,
) -> Result<Spare, Error> {
    let path = name::path(dir, number);
    let folder = dir.join(name::SEGMENTS);
    let io = |action| Error::io(action, &path);
    let full = |source: std::io::Error| {
        let error = Error::space("prepare", &path, capacity)(source);
        if let Error::Full { .. } = error {
            // Give the partial file's space back; the name is free again for the next try.
            drop(storage.remove(&path));
        }
        error
    };
    let file = match storage.open(&path, Access::Create) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            check_unused(storage, &path)?;
            storage.remove(&path).map_err(io("remove"))?;
            storage.open(&path, Access::Create)
        }
        other => other,
    }
    .map_err(full)?;
    let created_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let header = SegmentHeader {
        log_id,
        number,
        capacity,
        created_ns: u64::try_from(created_ns).unwrap_or(u64::MAX),
        salt: u32::from_le_bytes(LogId::random().0[..4].try_into().expect("4 bytes")),
    };
    // Zeros first: a file without a header is an unfinished spare, whatever else a crash left of it.
    write_zeros(file.as_ref(), 0, capacity).map_err(full)?;
    file.write_at(&header.encode(), 0).map_err(full)?;
    file.sync_all().map_err(full)?;
    storage.sync_dir(&folder).map_err(Error::io("sync", &folder))?;
    Ok(Spare { header, file })
}

/// Bytes of zeros written at once. Linux keeps a file in pieces of memory as large as the writes that made it, and
/// looks through a whole one at every small write and sync: 16 to 64 KiB took 115 us for both, 4 KiB 127, and 2 MiB,
/// which are mapped eleven times faster later, 130 to 140.
const ZEROS_BYTES: usize = 64 << 10;

/// Writes zeros up to `end`, so that the file has its space for good.
pub(crate) fn write_zeros(file: &dyn File, mut offset: u64, end: u64) -> std::io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    while offset < end {
        let len = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeros.len());
        file.write_at(&zeros[..len], offset)?;
        offset += len as u64;
    }
    Ok(())
}

/// An unfinished or too small spare may be replaced; a file with a first frame never is.
fn check_unused(storage: &dyn Storage, path: &Path) -> Result<(), Error> {
    let mut frame = [0; FRAME_HEADER_BYTES];
    let file = storage.open(path, Access::Read).map_err(Error::io("open", path))?;
    file.read_at(&mut frame, HEADER_BYTES).map_err(Error::io("read", path))?;
    if frame.iter().any(|&byte| byte != 0) {
        let reason = Corruption::Other("it is in use, and was about to be prepared anew".into());
        let path = path.to_owned();
        return Err(Error::Corrupt { path, offset: HEADER_BYTES, seq: Seq::ZERO, reason });
    }
    Ok(())
}

/// The single writer of a log.
pub(crate) struct Writer {
    pub(crate) config: LogConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spare: Arc<SpareSlot>,
    active: Arc<Segment>,
    /// Offset of the next frame in the active segment.
    write_offset: u64,
    next_seq: Seq,
    /// The chain hash of the record before `next_seq`.
    chain: ChainHash,
    /// Log position up to which all is durable.
    synced_pos: u64,
    /// Offset after the marks that stand at `write_offset` until the next group is written over them.
    marks_end: u64,
    /// Whether a mark would say anything new.
    unmarked: bool,
    poisoned: Option<String>,
    /// Empty between groups; its memory serves the next.
    frame: FrameBuffer,
    /// Groups, that is fsyncs, on the commit path.
    pub(crate) groups: u64,
}

impl Writer {
    pub(crate) fn new(
        config: LogConfig,
        shared: Arc<Shared>,
        active: Arc<Segment>,
        next_seq: Seq,
    ) -> Self {
        let (write_offset, chain) = active.with_state(|state| (state.frames_end, state.chain));
        let active_number = active.header.number;
        let synced_pos = active.pos(write_offset);
        Self {
            config,
            shared,
            spare: Arc::new(SpareSlot::new(active_number)),
            active,
            write_offset,
            next_seq,
            chain,
            synced_pos,
            marks_end: write_offset,
            unmarked: true,
            poisoned: None,
            frame: FrameBuffer::default(),
            groups: 0,
        }
    }

    pub(crate) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    pub(crate) fn active_number(&self) -> u64 {
        self.active.header.number
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.poisoned {
            Some(reason) => Err(Error::Poisoned(reason.clone())),
            None => Ok(()),
        }
    }

    /// Makes as many of `transactions` durable as fit one group, in one write and one sync, and says how
    /// many. They are durable and published on return.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing happened, try again when there is space. Any other: the log is poisoned,
    /// and whether the group is durable is unknown until the log is opened again.
    pub(crate) fn commit<'p>(
        &mut self,
        transactions: impl Iterator<Item = &'p Prepared> + Clone,
    ) -> Result<usize, Error> {
        self.check()?;
        let Some(first) = transactions.clone().next() else { return Ok(0) };
        let needed = first.disk_bytes(self.config.frame_bytes);
        let mut group = Group::default();
        let fits = self.write_offset + needed + FREE_BYTES <= self.active.header.capacity;
        // What is larger than a group starts a segment: a torn tail behind other records is never longer.
        let alone = needed <= GROUP_BYTES || self.active.with_state(|state| state.times.is_none());
        if !fits || !alone {
            self.roll(needed, &mut group)?;
        }
        let mut end = self.write_offset + group.bytes.len() as u64;
        let mut taken = 0;
        for transaction in transactions.clone() {
            let bytes = transaction.disk_bytes(self.config.frame_bytes);
            let fits = end + bytes + FREE_BYTES <= self.active.header.capacity;
            if taken > 0 && (!fits || end + bytes - self.write_offset > GROUP_BYTES) {
                break;
            }
            end += bytes;
            taken += 1;
        }
        // Bytes move when their memory grows, and new memory has to be mapped.
        let most = usize::try_from(end - self.write_offset).expect("in memory");
        group.bytes.reserve(most - group.bytes.len());
        self.encode(transactions.take(taken), &mut group);
        self.write(group)?;
        Ok(taken)
    }

    /// Gives up sealed segments whose every record is below `before`, up to number `last`; the note of it is durable
    /// before the first file goes.
    pub(crate) fn trim_segments(&mut self, before: Seq, last: u64) -> Result<TrimReport, Error> {
        let shared = Arc::clone(&self.shared);
        // Else a segment that is being compressed would come back behind the gap.
        let _files = shared.files();
        let gone: Vec<_> = shared
            .segments()
            .into_iter()
            .take_while(|one| one.header.number <= last)
            .take_while(|one| one.with_state(|state| state.trimmed_by(before)))
            .collect();
        if let Some(last) = gone.last() {
            let first_seq = last.with_state(|state| state.next_seq);
            self.note_trim(first_seq)?;
            shared.set_first_seq(first_seq);
            shared.change_segments(|segments| {
                segments.drain(..gone.len());
            });
            let paths: Vec<_> = gone.iter().map(|segment| segment.path.clone()).collect();
            remove_in_order(shared.storage.as_ref(), &self.config.dir, &paths)?;
        }
        Ok(TrimReport {
            segments: gone.iter().map(|segment| segment.header.number).collect(),
            first_seq: shared.first_seq().0,
        })
    }

    /// Appends a durable note that records below `first_seq` are given up.
    fn note_trim(&mut self, first_seq: Seq) -> Result<(), Error> {
        self.check()?;
        let mut group = Group::default();
        if self.write_offset + CONTROL_BYTES > self.active.header.capacity {
            self.roll(0, &mut group)?;
        }
        self.control(&Control::Trim { first_seq }, &mut group);
        self.write(group)
    }

    /// Leaves a witness of what was acknowledged when nothing was appended for a while. Not synced, and not for
    /// good: the next group is written over it, so that being idle takes no space.
    pub(crate) fn mark_idle(&mut self) -> Result<(), Error> {
        self.check()?;
        if self.unmarked {
            let marks = self.marks().bytes;
            let written = self.active.file.write_at(&marks, self.write_offset);
            self.poison_on(written.map_err(Error::io("write", &self.active.path)))?;
            self.marks_end = self.write_offset + marks.len() as u64;
            self.unmarked = false;
        }
        Ok(())
    }

    /// Leaves a durable witness of what was acknowledged: the end of a log that is closed.
    pub(crate) fn mark_end(&mut self) -> Result<(), Error> {
        self.check()?;
        let marks = self.marks();
        if !marks.bytes.is_empty() {
            self.write(marks)?;
        }
        self.unmarked = false;
        Ok(())
    }

    /// Marks until one stands in a sector of its own, so that no single bad sector takes the last group and
    /// every witness of it. Fewer where the segment ends.
    fn marks(&self) -> Group {
        let apart = self.write_offset.next_multiple_of(SECTOR_BYTES);
        let mut group = Group::default();
        let mut start = self.write_offset;
        loop {
            let mark = start;
            self.control(&Control::Mark, &mut group);
            start = self.write_offset + group.bytes.len() as u64;
            if start > self.active.header.capacity {
                group.bytes.truncate(usize::try_from(mark - self.write_offset).expect("in memory"));
                return group;
            }
            if mark >= apart {
                return group;
            }
        }
    }

    pub(crate) fn is_unmarked(&self) -> bool {
        self.unmarked && self.poisoned.is_none()
    }

    /// Takes the spare into use: its OPEN frame joins the group that is about to be written, so that
    /// rolling costs no sync of its own. All of the segment before is durable already.
    fn roll(&mut self, needed: u64, group: &mut Group) -> Result<(), Error> {
        let number = self.active.header.number + 1;
        let capacity =
            self.config.segment_bytes.max(HEADER_BYTES + needed + CONTROL_BYTES + FREE_BYTES);
        let storage = self.shared.storage.as_ref();
        let spare = self.spare.take(storage, &self.config, self.shared.id, capacity)?;
        self.keep_marks()?;
        let base_pos = self.active.pos(self.write_offset);
        let (write_offset, next_seq, chain) = (self.write_offset, self.next_seq, self.chain);
        self.active.change(|state| state.frames_end = write_offset);
        self.active = Arc::new(Segment::new(
            name::path(&self.config.dir, number),
            spare.header,
            spare.file,
            next_seq,
            base_pos,
            SegmentState {
                sealed: false,
                frames_end: HEADER_BYTES,
                next_seq,
                times: None,
                chain,
                index: Some(Vec::new()),
            },
        ));
        (self.write_offset, self.marks_end) = (HEADER_BYTES, HEADER_BYTES);
        let open = Open {
            log_id: self.shared.id,
            epoch: self.shared.epoch,
            base_pos,
            base_seq: next_seq,
            first_seq: self.shared.first_seq(),
            chain,
        };
        self.control(&Control::Open(open), group);
        group.opens = true;
        Ok(())
    }

    /// Marks that no group will be written over become a durable part of the segment.
    fn keep_marks(&mut self) -> Result<(), Error> {
        if self.write_offset < self.marks_end {
            let synced = self.active.file.sync().map_err(Error::io("sync", &self.active.path));
            self.poison_on(synced)?;
            self.write_offset = self.marks_end;
            self.synced_pos = self.active.pos(self.write_offset);
        }
        Ok(())
    }

    fn control(&self, control: &Control, group: &mut Group) {
        let spec = FrameSpec {
            base_seq: self.next_seq,
            synced_pos: self.synced_pos,
            time_us: 0,
            payload: Payload::Control(&control.encode()),
        };
        group.push(&spec, self.active.header.salt, self.write_offset);
    }

    /// Small transactions share frames; one larger than a frame becomes a run of frames.
    fn encode<'p>(&mut self, transactions: impl Iterator<Item = &'p Prepared>, group: &mut Group) {
        let mut frame = std::mem::take(&mut self.frame);
        for transaction in transactions {
            if frame.bytes.len() + transaction.bytes.len() > self.config.frame_bytes {
                self.flush(&mut frame, true, group);
            }
            let mut start = 0;
            for (index, &(end, hash)) in transaction.records.iter().enumerate() {
                let end = end as usize;
                if frame.bytes.len() + (end - start) > self.config.frame_bytes {
                    self.flush(&mut frame, index == 0, group);
                }
                frame.push(&transaction.bytes[start..end], transaction.time_us);
                self.chain = self.chain.then(hash);
                start = end;
            }
        }
        self.flush(&mut frame, true, group);
        // One record may have been larger than frames are.
        frame.bytes.shrink_to(self.config.frame_bytes);
        self.frame = frame;
    }

    fn flush(&mut self, frame: &mut FrameBuffer, ends_transaction: bool, group: &mut Group) {
        if frame.ends.is_empty() {
            return;
        }
        let spec = FrameSpec {
            base_seq: self.next_seq,
            synced_pos: self.synced_pos,
            time_us: frame.time_us,
            payload: Payload::Records {
                ends: &frame.ends,
                bytes: &frame.bytes,
                ends_transaction,
                chain: self.chain,
            },
        };
        group.push(&spec, self.active.header.salt, self.write_offset);
        self.next_seq = Seq(self.next_seq.0 + frame.ends.len() as u64);
        frame.ends.clear();
        frame.bytes.clear();
    }

    /// Makes `group` durable at the end of the segment, over marks if there are any, and lets readers see it.
    fn write(&mut self, mut group: Group) -> Result<(), Error> {
        let (start, end) = (self.write_offset, self.write_offset + group.bytes.len() as u64);
        let covered = usize::try_from(self.marks_end.max(end) - start).expect("in memory");
        group.bytes.resize(covered, 0);
        let mut bytes = Bytes::from(group.bytes);
        let file = &self.active.file;
        let mut done = file.write_at(&bytes, start).map_err(Error::io("write", &self.active.path));
        if done.is_ok() {
            let begun = Instant::now();
            done = file.sync().map_err(Error::io("sync", &self.active.path));
            self.shared.syncs.note(begun.elapsed());
            self.groups += 1;
        }
        self.poison_on(done)?;
        (self.write_offset, self.marks_end) = (end, end);
        self.synced_pos = self.active.pos(end);
        self.unmarked = true;
        bytes.truncate(usize::try_from(end - start).expect("in memory"));
        self.publish(&bytes, start, group.opens);
        Ok(())
    }

    /// Lets readers see the group.
    fn publish(&self, bytes: &Bytes, start: u64, opens: bool) {
        let mut offset = start;
        let mut frames = Vec::new();
        while offset < start + bytes.len() as u64 {
            // It was encoded a moment ago.
            let frame = Frame::vouched(bytes, offset - start);
            self.active.change(|state| state.extend(&frame.header, offset));
            offset += frame.header.frame_len();
            frames.push(frame);
        }
        if opens {
            self.shared.change_segments(|segments| segments.push(Arc::clone(&self.active)));
        }
        let mut ring = self.shared.ring();
        frames.into_iter().filter(|frame| !frame.header.is_control()).for_each(|f| ring.push(f));
        drop(ring);
        self.shared.advance(self.next_seq.prev());
    }

    fn poison_on<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            let source = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            self.poisoned = Some(format!("{error}{}", source.unwrap_or_default()));
        }
        result
    }
}

/// Frames that one write takes to disk.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    opens: bool,
}

impl Group {
    fn push(&mut self, spec: &FrameSpec<'_>, salt: u32, start: u64) {
        let offset = start + self.bytes.len() as u64;
        encode_frame(spec, salt, offset, &mut self.bytes);
    }
}

#[derive(Default)]
struct FrameBuffer {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    time_us: i64,
}

impl FrameBuffer {
    fn push(&mut self, record: &[u8], time_us: i64) {
        if self.ends.is_empty() {
            self.time_us = time_us;
        }
        self.bytes.extend_from_slice(record);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a transaction is below 1 GiB"));
    }
}
