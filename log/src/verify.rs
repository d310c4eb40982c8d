//! `verify`: every byte of a log read and checked, whole or damaged, beside a running writer or not; and
//! its audit chain computed anew, against anchors that someone else kept.
//! Never writes.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::chain::{Anchor, ChainHash, RecordHash};
use crate::error::{Corruption, Error};
use crate::frame::{Control, Frame, Open};
use crate::record::decode_record;
use crate::segment::footer::Footer;
use crate::segment::header::HEADER_BYTES;
use crate::segment::loaded::{Loaded, segment_files};
use crate::segment::name;
use crate::seq::Seq;
use crate::storage::Storage;
use crate::storage::fs::Fs;

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
    /// The chain hash of `last_seq`; as text, 64 hex digits.
    #[serde(serialize_with = "as_text")]
    pub chain: ChainHash,
    /// Anchors that the chain meets.
    pub anchors: usize,
    /// Bytes behind the last whole transaction: a group being written, or torn by a crash. Normal.
    pub torn_bytes: u64,
    /// What is wrong. Empty: all is whole.
    pub findings: Vec<Finding>,
}

fn as_text<S: serde::Serializer>(hash: &ChainHash, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(hash)
}

/// Reads every byte of the log in `dir`: headers, checksums, padding, continuity, footers, records, and
/// the audit chain from the first record that is kept.
///
/// # Errors
/// It could not look: [`Error::NotALog`], [`Error::Io`]. Damage is not an error but a finding.
pub fn verify(dir: &Path) -> Result<VerifyReport, Error> {
    verify_on(&Fs, dir, &[])
}

/// [`verify`], and every anchor that the log does not meet is a finding: with it, so is a log whose records
/// were changed and every checksum mended.
///
/// # Errors
/// As [`verify`].
pub fn verify_anchors(dir: &Path, anchors: &[Anchor]) -> Result<VerifyReport, Error> {
    verify_on(&Fs, dir, anchors)
}

/// [`verify_anchors`] on another disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(
    storage: &dyn Storage,
    dir: &Path,
    anchors: &[Anchor],
) -> Result<VerifyReport, Error> {
    for _ in 1..MOST_LOOKS {
        let walk = walk(storage, dir, anchors)?;
        if !walk.trimmed {
            return Ok(walk.finish(dir));
        }
    }
    Ok(walk(storage, dir, anchors)?.finish(dir))
}

fn walk<'a>(storage: &dyn Storage, dir: &Path, anchors: &'a [Anchor]) -> Result<Walk<'a>, Error> {
    let files = segment_files(storage, dir)?;
    let Some((first_number, _)) = files.first() else {
        return Err(Error::NotALog { path: dir.to_owned() });
    };
    let last_used = last_used(storage, &files)?;
    let mut walk = Walk { first_number: *first_number, last_used, anchors, ..Walk::default() };
    for (index, (number, path)) in files.iter().enumerate() {
        if index > 0 && files[index - 1].0 + 1 != *number {
            let path = name::path(dir, number - 1);
            let seq = walk.before.as_ref().map_or(Seq::ZERO, |before| before.next_seq);
            let reason = Corruption::MissingSegment(number - 1).to_string();
            walk.report.findings.push(Finding { path, offset: 0, seq, reason });
        }
        walk.segment(storage, *number, path)?;
    }
    Ok(walk)
}

/// The highest segment in use: later ones come into use, if at all, after this look began.
fn last_used(storage: &dyn Storage, files: &[(u64, PathBuf)]) -> Result<u64, Error> {
    for (number, path) in files.iter().rev() {
        match Loaded::read(storage, *number, path) {
            Ok(Some(loaded)) if loaded.scan.open.is_some() => return Ok(*number),
            Ok(_) | Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// A walk over segments by number.
#[derive(Default)]
struct Walk<'a> {
    anchors: &'a [Anchor],
    first_number: u64,
    last_used: u64,
    /// A segment in use went away during the walk: what follows it joins nothing that was seen.
    trimmed: bool,
    before: Option<Before>,
    trimmed_below: Seq,
    report: VerifyReport,
}

/// The end of a segment, where the next one must start.
struct Before {
    open: Open,
    end_pos: u64,
    next_seq: Seq,
    chain: ChainHash,
}

impl Walk<'_> {
    fn segment(&mut self, storage: &dyn Storage, number: u64, path: &Path) -> Result<(), Error> {
        let mut seen = self.look(storage, number, path)?;
        // A writer may have been at it: only what stands still is judged.
        for _ in 0..MOST_LOOKS {
            let Some((_, part)) = &seen else { break };
            if part.findings.is_empty() {
                break;
            }
            let again = self.look(storage, number, path)?;
            let still = match (&seen, &again) {
                (Some((a, _)), Some((b, _))) => {
                    a.as_ref().map(|one| &one.bytes) == b.as_ref().map(|one| &one.bytes)
                }
                (a, b) => a.is_none() == b.is_none(),
            };
            seen = again;
            if still {
                break;
            }
        }
        match seen {
            Some((loaded, part)) => {
                self.report.add(part);
                if let Some(loaded) = loaded {
                    self.follow(&loaded);
                }
            }
            None => self.trimmed |= number <= self.last_used,
        }
        Ok(())
    }

    /// One segment with what is right and wrong within it. `None`: it was trimmed meanwhile, or is a spare
    /// in the making.
    fn look(
        &self,
        storage: &dyn Storage,
        number: u64,
        path: &Path,
    ) -> Result<Option<(Option<Loaded>, VerifyReport)>, Error> {
        let mut part = VerifyReport::default();
        match Loaded::read(storage, number, path) {
            Ok(None) => Ok(None),
            Ok(Some(loaded)) => {
                part.bytes = loaded.bytes.len() as u64;
                let place = self.place(storage, &loaded);
                check_segment(&loaded, place, self.anchors, &mut part);
                Ok(Some((Some(loaded), part)))
            }
            Err(Error::Corrupt { path, offset, seq, reason }) => {
                let next = self.before.as_ref().map_or(Seq::FIRST, |before| before.next_seq);
                let (seq, reason) = (seq.max(next), reason.to_string());
                part.findings.push(Finding { path, offset, seq, reason });
                Ok(Some((None, part)))
            }
            Err(Error::Unsupported { path, reason }) => {
                part.findings.push(Finding { path, offset: 0, seq: Seq::ZERO, reason });
                Ok(Some((None, part)))
            }
            Err(error) => Err(error),
        }
    }

    /// Before, at or behind the last segment in use; one that was sealed since has a successor by now.
    fn place(&self, storage: &dyn Storage, loaded: &Loaded) -> Ordering {
        let place = loaded.number.cmp(&self.last_used);
        if place.is_eq()
            && matches!(loaded.footer, Ok(Some(_)))
            && let Some(folder) = loaded.path.parent().and_then(Path::parent)
        {
            let number = loaded.number + 1;
            let successor = Loaded::read(storage, number, &name::path(folder, number));
            if matches!(successor, Ok(Some(next)) if next.scan.open.is_some()) {
                return Ordering::Less;
            }
        }
        place
    }

    /// Checks that a segment in use starts where the one before ended.
    fn follow(&mut self, loaded: &Loaded) {
        let Some(open) = loaded.scan.open.clone().filter(|_| loaded.number <= self.last_used)
        else {
            return;
        };
        self.trimmed_below = self.trimmed_below.max(loaded.scan.first_seq);
        match &self.before {
            None => {
                if open.base_seq == Seq::FIRST && open.chain != ChainHash::START {
                    let reason = Corruption::Chain("it does not start with zeros".into());
                    self.report.find(loaded, open.base_seq, reason.to_string());
                }
                self.report.first_seq = open.base_seq;
                let before = open.base_seq.prev();
                self.report.meet(self.anchors, before, open.chain, loaded, HEADER_BYTES);
            }
            Some(before)
                if before.end_pos != open.base_pos
                    || before.next_seq != open.base_seq
                    || before.open.log_id != open.log_id =>
            {
                let reason = format!(
                    "it starts at seq {} position {} of log {}, expected seq {} position {} of log {}",
                    open.base_seq,
                    open.base_pos,
                    open.log_id,
                    before.next_seq,
                    before.end_pos,
                    before.open.log_id
                );
                self.report.find(loaded, before.next_seq, reason);
            }
            Some(before) if before.chain != open.chain => {
                let reason = Corruption::Chain("it does not go on from the segment before".into());
                self.report.find(loaded, before.next_seq, reason.to_string());
            }
            Some(_) => {}
        }
        let next_seq = loaded.scan.next_seq;
        self.report.last_seq = next_seq.prev();
        let end_pos = open.base_pos + (loaded.scan.whole_end - HEADER_BYTES);
        let chain = loaded.scan.chain;
        self.report.chain = chain;
        self.before = Some(Before { open, end_pos, next_seq, chain });
    }

    fn finish(mut self, dir: &Path) -> VerifyReport {
        if self.report.first_seq > self.trimmed_below.max(Seq::FIRST) {
            let number = self.first_number.saturating_sub(1);
            self.report.findings.push(Finding {
                path: name::path(dir, number),
                offset: 0,
                seq: self.trimmed_below,
                reason: Corruption::MissingSegment(number).to_string(),
            });
        }
        let (first, last) = (self.report.first_seq.prev(), self.report.last_seq);
        for anchor in self.anchors.iter().filter(|one| !(first..=last).contains(&one.seq)) {
            let reason = format!("it holds no seq {}, an anchor is of {anchor}", anchor.seq);
            let path = dir.to_owned();
            self.report.findings.push(Finding { path, offset: 0, seq: anchor.seq, reason });
        }
        self.report
    }
}

/// More often than a writer changes one segment between two looks: it is written, waits, is sealed.
pub(crate) const MOST_LOOKS: usize = 8;

impl VerifyReport {
    fn add(&mut self, part: Self) {
        self.segments += part.segments;
        self.sealed += part.sealed;
        self.frames += part.frames;
        self.records += part.records;
        self.transactions += part.transactions;
        self.bytes += part.bytes;
        self.torn_bytes += part.torn_bytes;
        self.anchors += part.anchors;
        self.findings.extend(part.findings);
    }

    /// Something is wrong with how a segment starts.
    fn find(&mut self, loaded: &Loaded, seq: Seq, reason: String) {
        let path = loaded.path.clone();
        self.findings.push(Finding { path, offset: HEADER_BYTES, seq, reason });
    }

    /// Compares the anchors of `seq` with its chain hash, which the frame at `offset` gives.
    fn meet(
        &mut self,
        anchors: &[Anchor],
        seq: Seq,
        chain: ChainHash,
        loaded: &Loaded,
        offset: u64,
    ) {
        for anchor in anchors.iter().filter(|anchor| anchor.seq == seq) {
            if anchor.hash == chain {
                self.anchors += 1;
                continue;
            }
            let reason =
                format!("the hash of seq {seq} is {chain}, an anchor says {}", anchor.hash);
            let (path, reason) = (loaded.path.clone(), Corruption::Chain(reason).to_string());
            self.findings.push(Finding { path, offset, seq, reason });
        }
    }
}

/// `place`: before, at or behind the last segment in use.
fn check_segment(loaded: &Loaded, place: Ordering, anchors: &[Anchor], report: &mut VerifyReport) {
    let scan = &loaded.scan;
    let mut find = |offset: u64, seq: Seq, reason: String| {
        report.findings.push(Finding { path: loaded.path.clone(), offset, seq, reason });
    };
    let stopped = |otherwise: &str| {
        scan.stopped.as_ref().map_or_else(|| otherwise.to_owned(), ToString::to_string)
    };
    if loaded.header.number != loaded.number {
        find(40, Seq::ZERO, format!("it is segment {}, renamed", loaded.header.number));
    }
    let debris = loaded.tail();
    let sealed = (loaded.bytes.len() as u64) < loaded.header.capacity;
    let Some(open) = &scan.open else {
        // A spare is never compressed, so its zeros are those of a damaged piece.
        let dirty = debris.dirty_end > HEADER_BYTES || loaded.compressed_bytes.is_some();
        if dirty && (place.is_le() || sealed) {
            find(HEADER_BYTES, Seq::ZERO, stopped("the first frame does not open the segment"));
        } else {
            report.torn_bytes += debris.dirty_end - HEADER_BYTES;
        }
        return;
    };
    if place.is_gt() {
        return; // it came into use after this look began
    }
    if loaded.header.log_id != open.log_id {
        find(24, open.base_seq, format!("it belongs to log {}", open.log_id));
    }
    match &loaded.footer {
        Ok(Some(footer)) => {
            if !scan.meets(footer) {
                find(
                    scan.frames_end,
                    scan.next_seq,
                    stopped("the footer does not match the frames"),
                );
            } else if place.is_eq() {
                let reason = Corruption::MissingSegment(loaded.number + 1).to_string();
                find(scan.frames_end, scan.next_seq, reason);
            }
        }
        Err(reason) => find(scan.frames_end, scan.next_seq, reason.to_string()),
        Ok(None) if place.is_lt() => {
            if !waits_for_seal(loaded) {
                find(scan.frames_end, scan.next_seq, stopped("it has a successor, but no footer"));
            }
        }
        Ok(None) => match loaded.lost() {
            Some(reason) => find(scan.whole_end, scan.next_seq, reason.to_string()),
            None => report.torn_bytes += debris.dirty_end - scan.whole_end,
        },
    }
    report.segments += 1;
    report.sealed += usize::from(matches!(loaded.footer, Ok(Some(_))));
    check_frames(loaded, open.chain, anchors, report);
}

/// Frames, then zeros to the full length, in which the footer may be written in part.
fn waits_for_seal(loaded: &Loaded) -> bool {
    let scan = &loaded.scan;
    let Some(open) = &scan.open else { return false };
    let footer = Footer {
        first_seq: open.base_seq,
        last_seq: scan.next_seq.prev(),
        frames_end: scan.whole_end,
        base_pos: open.base_pos,
        times: scan.times.unwrap_or_default(),
        chain: scan.chain,
        index: scan.index.clone(),
    };
    let expected = footer.encode(loaded.header.salt);
    let start = usize::try_from(scan.whole_end).unwrap_or(usize::MAX);
    let rest = loaded.bytes.get(start..).unwrap_or_default();
    let written = |(at, &byte): (usize, &u8)| byte == 0 || expected.get(at) == Some(&byte);
    loaded.bytes.len() as u64 >= loaded.header.capacity && rest.iter().enumerate().all(written)
}

/// Reads the records of a segment and computes its part of the chain anew; `chain` is what it goes on from.
fn check_frames(
    loaded: &Loaded,
    mut chain: ChainHash,
    anchors: &[Anchor],
    report: &mut VerifyReport,
) {
    let mut offset = HEADER_BYTES;
    let find = |report: &mut VerifyReport, offset: u64, seq: Seq, reason: Corruption| {
        let (path, reason) = (loaded.path.clone(), reason.to_string());
        report.findings.push(Finding { path, offset, seq, reason });
    };
    while offset < loaded.scan.whole_end {
        let Ok(frame) = Frame::decode(&loaded.bytes, 0, offset, loaded.header.salt) else { return };
        report.frames += 1;
        if frame.header.is_control() && Control::decode(&frame.payload).is_err() {
            return;
        }
        for index in 0..frame.header.record_count as usize {
            let seq = Seq(frame.header.base_seq.0 + index as u64);
            let bytes = frame.record(index);
            match decode_record(seq, &bytes) {
                Ok(record) => {
                    report.records += 1;
                    report.transactions += u64::from(record.ends_transaction);
                }
                Err(error) => find(report, offset, seq, Corruption::Record(error.to_string())),
            }
            chain = chain.then(RecordHash::of(&bytes));
            report.meet(anchors, seq, chain, loaded, offset);
        }
        if frame.header.chain.is_some_and(|noted| noted != chain) {
            let reason = "the hash of the frame's records is another than it says";
            find(report, offset, frame.header.base_seq, Corruption::Chain(reason.into()));
            return;
        }
        offset += frame.header.frame_len();
    }
}
