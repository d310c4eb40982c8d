//! The log ahead of what is stored: records of many frames, decoded by several threads and collapsed to sorted rows. Of
//! each row the last record counts, and rows are stored in key order, which is several times as fast as in the log's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use revenant_log::{DecodeError, Frames, LocatedFrame, RawRecord, Seq};

use crate::apply::{Changes, Merged, Sorted};
use crate::collapse::{Rows, Touched};
use crate::error::Error;

/// Bytes of frames that are collapsed together. The more, the fewer rows are stored twice, and the more memory is
/// taken, up to as much again.
const BATCH_BYTES: usize = 256 << 20;
/// Bytes of frames that a thread takes at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Of chunks as long as they are to be, so many are a batch.
const CHUNKS: usize = BATCH_BYTES / CHUNK_BYTES;
/// One thread stores what these prepare: more of them would wait for it.
const MOST_THREADS: usize = 4;
/// Parts of a batch, each small enough for a processor's cache, and few enough to be written to all at once.
const PARTS: usize = 16;
/// Bytes of rows that are made ready to be stored at once, and how often, ahead of what is stored.
const READY_BYTES: usize = 1 << 20;
const READY: usize = 4;

/// What a batch brings the rows to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// The first seq of its records.
    pub(crate) first_seq: Seq,
    /// Its end, which ends a transaction.
    pub(crate) end: End,
}

/// The end of some records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) seq: Seq,
    /// When the source committed the last of them, microseconds since 1970.
    pub(crate) time_us: i64,
    /// The highest versionstamp of the source's feed among them.
    pub(crate) feed_high: u64,
}

impl End {
    fn take(&mut self, record: &RawRecord<'_>) {
        self.feed_high = self.feed_high.max(record.feed_high);
        if record.seq > self.seq {
            (self.seq, self.time_us) = (record.seq, record.time_us);
        }
    }

    fn join(self, other: Self) -> Self {
        let later = if self.seq > other.seq { self } else { other };
        Self { feed_high: self.feed_high.max(other.feed_high), ..later }
    }
}

/// Frames that end with a transaction.
struct Chunk {
    frames: Vec<LocatedFrame>,
    /// The last seq that counts.
    last: Seq,
}

/// Reads a log's whole transactions from one seq to another.
pub(crate) struct Preparer<'a> {
    frames: Frames<'a>,
    next: Seq,
    to: Seq,
    threads: usize,
}

impl<'a> Preparer<'a> {
    /// Reads `frames`, which begin with the one that holds `next`, up to the last transaction that ends at or before
    /// `to`.
    pub(crate) fn new(frames: Frames<'a>, next: Seq, to: Seq) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { frames, next, to, threads: threads.min(MOST_THREADS) }
    }

    /// Whether there is certainly no batch any more.
    pub(crate) fn is_done(&self) -> bool {
        self.next > self.to
    }

    /// Prepares the next batch and has it stored by `store`, which gets its rows in key order while more of them are made
    /// ready. Returns whether there was a batch.
    ///
    /// # Errors
    /// [`Error::Log`]; [`Error::Gap`] if records are missing; those of `store`, which must not keep what it has stored
    /// when an item is an error.
    pub(crate) fn batch(
        &mut self,
        store: impl FnOnce(Batch, &mut dyn Iterator<Item = Result<Changes, Error>>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let first_seq = self.next;
        // What is decoded borrows from these.
        let chunks: Vec<OnceLock<Chunk>> = (0..CHUNKS).map(|_| OnceLock::new()).collect();
        let (ready, work) = channel();
        let work = Mutex::new(work);
        let (read, decoded) = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|_| scope.spawn(|| decode(&work, first_seq))).collect();
            let read = self.read(&chunks, ready);
            (read, joined(threads))
        });
        drop(work);
        read?;
        let (mut end, mut touched) = (End::default(), Vec::new());
        for one in decoded? {
            let (reached, one) = one?;
            end = end.join(reached);
            touched.push(one);
        }
        if end.seq < first_seq {
            return Ok(false);
        }
        let next_part = AtomicUsize::new(0);
        let shares = thread::scope(|scope| {
            let sort = || sort(&touched, &next_part);
            joined((0..self.threads).map(|_| scope.spawn(sort)).collect())
        })?;
        drop(touched);
        thread::scope(|scope| {
            // The last item says that it is the last: what ends without one is not whole.
            let (filled, rows) = sync_channel(READY);
            scope.spawn(move || {
                let mut merged = Merged::of(&shares);
                loop {
                    let changes = Changes::next_of(&mut merged, READY_BYTES);
                    let more = changes.is_some();
                    // Nobody receives it if storing failed.
                    if filled.send(changes).is_err() || !more {
                        break;
                    }
                }
            });
            let mut rows = std::iter::from_fn(|| match rows.recv() {
                Ok(changes) => changes.map(Ok),
                Err(_) => Some(Err(Error::Damaged("rows could not be made ready".into()))),
            });
            store(Batch { first_seq, end }, &mut rows)
        })?;
        // To give back so much memory takes a while, which nobody needs to wait for.
        thread::spawn(move || drop(chunks));
        Ok(true)
    }

    /// Fills `chunks` and says so of each.
    fn read<'c>(
        &mut self,
        chunks: &'c [OnceLock<Chunk>],
        ready: Sender<&'c Chunk>,
    ) -> Result<(), Error> {
        let mut bytes = 0;
        for place in chunks {
            let Some(chunk) = self.chunk()? else { break };
            bytes += chunk.frames.iter().map(|frame| frame.frame.payload.len()).sum::<usize>();
            // Nobody receives it if all failed, which they say themselves.
            let received = ready.send(place.get_or_init(|| chunk)).is_ok();
            if !received || bytes >= BATCH_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Frames up to the end of a transaction, more than a chunk's bytes if that takes them.
    fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let (mut frames, mut bytes, mut last) = (Vec::new(), 0, None);
        let mut expected = self.next;
        for frame in self.frames.by_ref() {
            let frame = frame?;
            if frame.seq(0) > self.to {
                break;
            }
            if frame.seq(0) > expected {
                return Err(Error::Gap { applied: expected.prev(), found: frame.seq(0) });
            }
            expected = frame.seq(frame.count);
            bytes += frame.frame.payload.len();
            let whole = last_whole(&frame, self.to)?;
            frames.push(frame);
            last = whole.or(last);
            let ends = whole.is_some_and(|last| last.next() == expected);
            if expected > self.to || (ends && bytes >= CHUNK_BYTES) {
                break;
            }
        }
        let Some(last) = last.filter(|last| *last >= self.next) else { return Ok(None) };
        self.next = last.next();
        if expected > self.next {
            // The end is inside: nothing after it counts.
            self.to = last;
        }
        Ok(Some(Chunk { frames, last }))
    }
}

/// The last record of `frame`, up to `to`, that ends a transaction.
fn last_whole(frame: &LocatedFrame, to: Seq) -> Result<Option<Seq>, Error> {
    let header = &frame.frame.header;
    let end = frame.seq(frame.count);
    if header.next_seq() == end && header.ends_transaction() && end.prev() <= to {
        return Ok(Some(end.prev()));
    }
    let mut whole = None;
    for record in records_of(frame) {
        let record = record?;
        if record.ends_transaction && record.seq <= to {
            whole = Some(record.seq);
        }
    }
    Ok(whole)
}

/// What all `threads` return.
fn joined<T>(threads: Vec<thread::ScopedJoinHandle<'_, T>>) -> Result<Vec<T>, Error> {
    let failed = |_| Error::Damaged("a thread that prepares rows failed".into());
    threads.into_iter().map(|thread| thread.join().map_err(failed)).collect()
}

/// The records in all chunks of `work` that this thread gets, from `first` on.
fn decode<'c>(work: &Mutex<Receiver<&'c Chunk>>, first: Seq) -> Result<(End, Touched<'c>), Error> {
    let (mut end, mut touched) = (End::default(), Touched::new(PARTS));
    loop {
        let chunk = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(chunk) = chunk else { return Ok((end, touched)) };
        for record in chunk.frames.iter().flat_map(records_of) {
            let record = record?;
            if (first..=chunk.last).contains(&record.seq) {
                end.take(&record);
                touched.take(&record);
            }
        }
    }
}

/// The rows of all parts that this thread gets.
fn sort<'c>(touched: &[Touched<'c>], next_part: &AtomicUsize) -> Sorted<'c> {
    let mut rows = Rows::default();
    loop {
        let part = next_part.fetch_add(1, Ordering::Relaxed);
        if part >= PARTS {
            return Sorted::of(&rows);
        }
        rows.add(touched, part);
    }
}

/// The records of `frame`, as far as they can be read.
pub(crate) fn records_of(
    frame: &LocatedFrame,
) -> impl Iterator<Item = Result<RawRecord<'_>, revenant_log::Error>> {
    (0..frame.count).map(|index| {
        let record = RawRecord::read(frame.seq(index), frame.frame.record_ref(index));
        record.map_err(|error: DecodeError| frame.corrupt(index, &error))
    })
}
