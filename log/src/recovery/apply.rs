//! What open writes once everything is decided: it cuts the torn group, removes what is left of trims and
//! of spares, and appends the OPEN frame.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Decision, End, Found, GoOn, Plan, Recovered, RecoveryReport, Unused};
use crate::chain::ChainHash;
use crate::config::LogConfig;
use crate::error::Error;
use crate::frame::{Control, FrameSpec, Open, Payload, SYNC_WORD, encode_frame};
use crate::segment::handle::{Segment, SegmentState};
use crate::segment::header::{HEADER_BYTES, LogId};
use crate::segment::name;
use crate::seq::Seq;
use crate::storage::{Access, Storage};
use crate::writer::{CONTROL_BYTES, prepare};

/// Does what was decided; durable on return.
pub(super) fn carry_out(
    storage: &dyn Storage,
    config: &LogConfig,
    decision: Decision,
) -> Result<Recovered, Error> {
    let Decision { mut report, unused, parts, started, plan } = decision;
    for part in &parts {
        storage.remove(part).map_err(Error::io("remove", part))?;
    }
    let Plan::GoOn(plan) = plan else {
        discard(storage, &config.dir, &unused, &mut report)?;
        return create(storage, config, report, started);
    };
    let GoOn { last, end, mut segments, first_seq } = *plan;
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
    let open = Open {
        log_id: last.header.log_id,
        epoch: end.scan.epoch + 1,
        base_pos: last.open.base_pos,
        base_seq: last.open.base_seq,
        first_seq,
        chain: end.scan.chain,
    };
    let ended = cut(storage, config, &last, &end, &mut report)?;
    // Before anything is appended: a torn roll behind a torn OPEN frame would look like damage.
    discard(storage, &config.dir, &unused, &mut report)?;
    storage.sync_dir(&folder).map_err(Error::io("sync", &folder))?;
    if end.scan.whole_end + CONTROL_BYTES / 2 <= last.header.capacity {
        segments.push(Arc::new(begin(ended, open)?));
    } else {
        // No room for another OPEN frame and what follows it: the log goes on in the next segment.
        let (base_pos, base_seq) = (ended.pos(end.scan.whole_end), end.scan.next_seq);
        let open = Open { base_pos, base_seq, ..open };
        segments.push(Arc::new(ended));
        segments
            .push(Arc::new(begin(next_segment(storage, config, &open, last.number + 1)?, open)?));
        report.unsealed.push(last.number);
    }
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

/// Cuts what is torn off the last segment and makes durable what is left of it.
fn cut(
    storage: &dyn Storage,
    config: &LogConfig,
    last: &Found,
    end: &End,
    report: &mut RecoveryReport,
) -> Result<Segment, Error> {
    let io = |action| Error::io(action, &last.path);
    let file = storage.open(&last.path, Access::Write).map_err(io("open"))?;
    let from = end.scan.whole_end;
    if end.dirty_end > from {
        let range = usize::try_from(from).unwrap_or(usize::MAX)
            ..usize::try_from(end.dirty_end).unwrap_or(usize::MAX);
        let debris = end.bytes.slice(range);
        quarantine(storage, &config.dir, &last.path, from, &debris, report)?;
        file.write_at(&vec![0; debris.len()], from).map_err(io("cut"))?;
        file.sync().map_err(io("sync"))?;
    }
    // After a failed sync the system may show bytes that the disk does not hold and never will, since it
    // takes them for written (Rebello et al., ATC 2020): what no one vouches for is written once more.
    let unvouched = report.floor.max(last.open.base_pos) - last.open.base_pos + HEADER_BYTES;
    if unvouched < from {
        let range = usize::try_from(unvouched).unwrap_or(usize::MAX)
            ..usize::try_from(from).unwrap_or(usize::MAX);
        file.write_at(&end.bytes.slice(range), unvouched).map_err(io("write again"))?;
    }
    file.sync().map_err(io("sync"))?;
    let mut index = end.scan.index.clone();
    index.retain(|entry| entry.offset < from);
    let state = SegmentState {
        sealed: false,
        frames_end: from,
        next_seq: end.scan.next_seq,
        times: end.scan.times,
        chain: end.scan.chain,
        index: Some(index),
    };
    let (path, open) = (last.path.clone(), &last.open);
    Ok(Segment::new(path, last.header, file, open.base_seq, open.base_pos, state))
}

/// Prepares the segment that `open` will open.
fn next_segment(
    storage: &dyn Storage,
    config: &LogConfig,
    open: &Open,
    number: u64,
) -> Result<Segment, Error> {
    let spare = prepare(storage, &config.dir, open.log_id, number, config.segment_bytes)?;
    let state = SegmentState {
        sealed: false,
        frames_end: HEADER_BYTES,
        next_seq: open.base_seq,
        times: None,
        chain: open.chain,
        index: Some(Vec::new()),
    };
    let path = name::path(&config.dir, number);
    Ok(Segment::new(path, spare.header, spare.file, open.base_seq, open.base_pos, state))
}

/// Appends `open` to the segment, which takes it into use. Durable on return.
fn begin(segment: Segment, open: Open) -> Result<Segment, Error> {
    let (from, next_seq) = segment.with_state(|state| (state.frames_end, state.next_seq));
    let spec = FrameSpec {
        base_seq: next_seq,
        synced_pos: segment.pos(from),
        time_us: 0,
        payload: Payload::Control(&Control::Open(open).encode()),
    };
    let mut bytes = Vec::new();
    encode_frame(&spec, segment.header.salt, from, &mut bytes);
    segment.file.write_at(&bytes, from).map_err(Error::io("write", &segment.path))?;
    segment.file.sync().map_err(Error::io("sync", &segment.path))?;
    segment.change(|state| state.frames_end = from + bytes.len() as u64);
    Ok(segment)
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
    let len = bytes.len() as u64;
    let (path, file) = loop {
        let path = folder.join(format!("{stem}-{offset}-{attempt}.bytes"));
        match storage.open(&path, Access::Create) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(Error::space("create", &path, len)(error)),
        }
    };
    let kept = file.write_at(bytes, 0).map_err(Error::space("write", &path, len));
    if let Err(error) =
        kept.and_then(|()| file.sync_all().map_err(Error::space("sync", &path, len)))
    {
        drop(storage.remove(&path)); // half a copy helps nobody, and its space may
        return Err(error);
    }
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
    let open = Open {
        log_id: id,
        epoch: 1,
        base_pos: 0,
        base_seq: Seq::FIRST,
        first_seq: Seq::FIRST,
        chain: ChainHash::START,
    };
    let segment = begin(next_segment(storage, config, &open, 1)?, open)?;
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
