//! `Log`: open, append, read, trim. Gives the writer its thread, and the keeper of spares and seals
//! another; holds no format.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot};

use crate::archive::Archiver;
use crate::ballast::Ballast;
use crate::chain::Anchor;
use crate::compress::{CompressStats, Compressor};
use crate::config::{LogConfig, Witnesses};
use crate::durable::DurableSeq;
use crate::error::Error;
use crate::event_log::EventLog;
use crate::latency::LatencyStats;
use crate::lead::Company;
use crate::reader::Reader;
use crate::record::Transaction;
pub use crate::recovery::LOCK_FILE;
use crate::recovery::{RecoveryReport, open_for_writing};
use crate::scrub::{Scrub, ScrubStats};
use crate::segment::header::LogId;
use crate::seq::Seq;
use crate::shared::Shared;
use crate::storage::fs::Fs;
use crate::storage::{Lock, Storage};
use crate::wire::WireBatch;
use crate::writer::{Prepared, Writer};

/// The seqs that an append gave to its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Appended {
    /// Of the first record.
    pub first_seq: Seq,
    /// Of the last record.
    pub last_seq: Seq,
}

/// What a trim did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrimReport {
    /// Numbers of the segments that are gone.
    pub segments: Vec<u64>,
    /// The lowest seq that can be read now.
    pub first_seq: u64,
}

/// Figures of a log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogStats {
    /// `ok`; `damaged`: a sealed segment does not hold, see `scrub`; `full`: no space for the next segment, and it is
    /// tried again every second; or `poisoned`.
    pub state: &'static str,
    /// The lowest seq that can be read.
    pub first_seq: u64,
    /// The highest durable seq.
    pub durable_seq: u64,
    /// Segments in use.
    pub segments: usize,
    /// Of these, sealed.
    pub sealed: usize,
    /// Bytes of frames, headers and footers in them, of compressed ones as they are on the disk.
    pub bytes: u64,
    /// Appends acknowledged.
    pub appends: u64,
    /// Groups, each one write and one sync.
    pub groups: u64,
    /// Appends of these that a lone caller made durable on its own thread.
    pub led: u64,
    /// Whether the next segment is prepared.
    pub spare_ready: bool,
    /// Bytes that the ballast holds back.
    pub ballast_bytes: u64,
    /// How long syncs of groups took.
    pub syncs: LatencyStats,
    /// What the scrub did and found.
    pub scrub: ScrubStats,
    /// The last segment that the archive took since the log was opened, 0 for none.
    pub archived: u64,
    /// Why the archive did not take the next one.
    pub archive_error: Option<String>,
    /// What compression did.
    pub compress: CompressStats,
    /// What opening found and did.
    pub recovery: RecoveryReport,
}

/// An append-only log of events, open for writing. Cheap to clone.
///
/// - An append is acknowledged only when it is durable; a transaction is seen whole or not at all.
/// - Seqs are contiguous from 1. Readers see durable records only.
/// - A failed write or sync poisons the log: nothing more is accepted until it is opened anew.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    committer: Arc<Mutex<Committer>>,
    room: Arc<Semaphore>,
    room_units: u32,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeper: Arc<Keeper>,
    scrub: Arc<Scrub>,
    compressor: Arc<Compressor>,
    archiver: Option<Arc<Archiver>>,
    recovery: RecoveryReport,
}

/// Bytes of the queue are counted in these.
const ROOM_UNIT: usize = 1024;

impl Log {
    /// Opens the log in `config.dir`, or creates it. Blocks while it recovers.
    ///
    /// # Errors
    /// - [`Error::Locked`] if another process has it;
    /// - [`Error::Corrupt`], [`Error::Unsupported`], [`Error::Lost`]: refused;
    ///
    ///   none of these changes a byte of the directory, nor makes it or its lock file;
    /// - [`Error::BadConfig`], [`Error::Full`], [`Error::Io`].
    pub fn open(config: LogConfig, witnesses: Witnesses) -> Result<(Self, RecoveryReport), Error> {
        Self::open_on(Arc::new(Fs), config, witnesses)
    }

    /// [`Log::open`] on another disk.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        config: LogConfig,
        witnesses: Witnesses,
    ) -> Result<(Self, RecoveryReport), Error> {
        config.check()?;
        let (lock, recovered) = open_for_writing(storage.as_ref(), &config, &witnesses)?;
        let active = Arc::clone(recovered.segments.last().expect("recovery returns one"));
        let shared = Arc::new(Shared::new(
            storage,
            recovered.id,
            recovered.epoch,
            recovered.segments,
            (recovered.first_seq, recovered.next_seq.prev()),
            config.ring_bytes,
        ));
        let writer = Writer::new(config.clone(), Arc::clone(&shared), active, recovered.next_seq);
        let report = recovered.report;
        Ok((Self::start(config, shared, writer, lock, report.clone())?, report))
    }

    fn start(
        config: LogConfig,
        shared: Arc<Shared>,
        writer: Writer,
        lock: Box<dyn Lock>,
        recovery: RecoveryReport,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue::new(&writer));
        let compressor = Arc::new(Compressor::new(
            Arc::clone(&shared),
            Arc::clone(&writer.spare),
            config.compress_level,
            config.segment_bytes,
        ));
        let keeper = Arc::new(Keeper {
            config: config.clone(),
            compressor: Arc::clone(&compressor),
            shared: Arc::clone(&shared),
            spare: Arc::clone(&writer.spare),
            ballast: Ballast::new(&config.dir, config.ballast_bytes, 2 * config.segment_bytes),
            wanted: Mutex::new(Wanted {
                number: writer.active_number(),
                again: false,
                stop: false,
            }),
            wake: Condvar::new(),
        });
        let units = (config.queue_bytes / ROOM_UNIT).min(Semaphore::MAX_PERMITS);
        let room_units = u32::try_from(units).unwrap_or(u32::MAX);
        let committer = Arc::new(Mutex::new(Committer {
            writer,
            queue: Arc::clone(&queue),
            keeper: Arc::clone(&keeper),
            left: None,
        }));
        let loop_parts = WriterLoop {
            committer: Arc::clone(&committer),
            queue: Arc::clone(&queue),
            idle_mark: config.idle_mark,
            _lock: lock,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(Error::io("start a thread for", &config.dir))
        };
        let for_keeper = Arc::clone(&keeper);
        let every = config.scrub_every;
        let scrub = Arc::new(Scrub::new(Arc::clone(&shared), config.scrub_bytes_per_s, every));
        let mut threads = vec![
            spawn("log-keeper", Box::new(move || for_keeper.run()))?,
            spawn("log-writer", Box::new(move || loop_parts.run()))?,
        ];
        if config.scrub_bytes_per_s > 0 {
            let scrub = Arc::clone(&scrub);
            threads.push(spawn("log-scrub", Box::new(move || scrub.run()))?);
        }
        if config.compress_level > 0 {
            let compressor = Arc::clone(&compressor);
            threads.push(spawn("log-compress", Box::new(move || compressor.run()))?);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                committer,
                room: Arc::new(Semaphore::new(units)),
                room_units,
                threads: Mutex::new(threads),
                keeper,
                scrub,
                compressor,
                archiver: config.archive.map(|archive| Arc::new(Archiver::new(archive))),
                recovery,
            }),
        })
    }

    /// The log's identity.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.inner.shared.id
    }

    /// Grows by one at every opening for writing.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.inner.shared.epoch
    }

    /// The lowest seq that can be read.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.inner.shared.first_seq()
    }

    /// The highest durable seq; never inside a transaction.
    #[must_use]
    pub fn durable_seq(&self) -> Seq {
        self.inner.shared.durable_seq()
    }

    /// The seq that the next record gets, unless another append comes first.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.durable_seq().next()
    }

    /// A watch of the highest durable seq.
    #[must_use]
    pub fn watch(&self) -> DurableSeq {
        DurableSeq(self.inner.shared.watch())
    }

    /// Appends `transactions`, each whole and in order with nothing between them. Durable on return.
    ///
    /// Cancelling the future does not take the append back. On a worker of a runtime with several threads, a caller
    /// that has been the only one for a while writes and syncs itself, in [`tokio::task::block_in_place`].
    ///
    /// # Errors
    /// - [`Error::BadInput`], [`Error::WrongSeq`] (the log does not end right before `expected_next`),
    ///   [`Error::Closed`]: nothing was appended;
    /// - [`Error::Full`]: the disk has no space for the next segment; transactions before it in the same
    ///   call may have been appended, so give one transaction at a time to know;
    /// - [`Error::Poisoned`], [`Error::Io`]: it may have been appended; open the log again to know.
    pub async fn append(
        &self,
        transactions: Vec<Transaction>,
        expected_next: Option<Seq>,
    ) -> Result<Appended, Error> {
        let prepared = transactions.iter().map(Prepared::new).collect::<Result<Vec<_>, Error>>()?;
        if prepared.is_empty() {
            return Err(Error::BadInput("an append without transactions".into()));
        }
        let runtime = Handle::try_current().ok();
        let runtime = runtime.filter(|one| one.runtime_flavor() == RuntimeFlavor::MultiThread);
        if runtime.is_some() && tokio::runtime::worker_index().is_some() && self.inner.queue.lead()
        {
            return self.inner.append_here(prepared, expected_next);
        }
        let bytes: usize = prepared.iter().map(Prepared::len).sum();
        let units = u32::try_from(bytes / ROOM_UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.inner.room)
            .acquire_many_owned(units.min(self.inner.room_units))
            .await
            .map_err(|_| Error::Closed)?;
        let (done, result) = oneshot::channel();
        self.inner.queue.push(Request::Append(Append {
            prepared,
            runtime,
            expected_next,
            done,
        }))?;
        let result = result.await.map_err(|_| Error::Closed)?;
        drop(room);
        result
    }

    /// Durable records from `from` on, about `max_bytes` of them but at least one; none if `from` is past
    /// the durable end. May end inside a transaction.
    ///
    /// # Errors
    /// [`Error::Trimmed`] below [`Log::first_seq`]; [`Error::Corrupt`] and [`Error::Io`] from the disk.
    pub fn read(&self, from: Seq, max_bytes: usize) -> Result<WireBatch, Error> {
        self.inner.shared.read(from, max_bytes)
    }

    /// A walk over durable records from `from` on that copies and allocates none: for all of them at once, where
    /// [`Log::read`] gives parts that can be kept and sent.
    #[must_use]
    pub fn reader(&self, from: Seq) -> Reader {
        Reader::new(Arc::clone(&self.inner.shared), from)
    }

    /// The chain hash of `seq`: the same in every log that holds the same records up to there.
    ///
    /// # Errors
    /// [`Error::BadInput`] above [`Log::durable_seq`]; [`Error::Trimmed`] where neither `seq` nor the
    /// record after it is kept; [`Error::Corrupt`] and [`Error::Io`] from the disk.
    pub fn anchor(&self, seq: Seq) -> Result<Anchor, Error> {
        self.inner.shared.anchor(seq)
    }

    /// Gives up records below `before`: whole sealed segments whose every record is below it. The note is
    /// durable before the first file goes. The archive, if there is one, has taken each before.
    ///
    /// # Errors
    /// As [`Log::append`]; [`Error::NotArchived`]: only what is before that segment was given up.
    pub async fn trim(&self, before: Seq) -> Result<TrimReport, Error> {
        let (last, archived) = self.archive(before).await?;
        let (done, result) = oneshot::channel();
        self.inner.queue.push(Request::Trim { before, last, done })?;
        let report = result.await.map_err(|_| Error::Closed)??;
        archived.map(|()| report)
    }

    /// The last segment that may be trimmed below `before`; an error is why it is not a later one.
    async fn archive(&self, before: Seq) -> Result<(u64, Result<(), Error>), Error> {
        let Some(archiver) = self.inner.archiver.clone() else { return Ok((u64::MAX, Ok(()))) };
        let (done, result) = oneshot::channel();
        let shared = Arc::clone(&self.inner.shared);
        // Copying blocks, and whoever trims need not be on a runtime with threads for that.
        std::thread::Builder::new()
            .name("log-archive".into())
            .spawn(move || answer(done, archiver.take(&shared, before)))
            .map_err(Error::io("start a thread for", &self.inner.keeper.config.dir))?;
        result.await.map_err(|_| Error::Closed)
    }

    /// Removes the ballast and says how many bytes that gives back; 0 if there is none. The next segment is then
    /// tried at once. The ballast is made again when its size and two segments more are free.
    ///
    /// # Errors
    /// [`Error::Io`]: it is still there.
    pub fn release_ballast(&self) -> Result<u64, Error> {
        let keeper = &self.inner.keeper;
        let bytes = keeper.ballast.release(self.inner.shared.storage.as_ref())?;
        keeper.again();
        Ok(bytes)
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let segments = self.inner.shared.segments();
        let keeper = &self.inner.keeper;
        let archiver = self.inner.archiver.as_ref();
        let (archived, archive_error) = archiver.map(|one| one.progress()).unwrap_or_default();
        let state = match self.inner.queue.lock().poisoned {
            true => "poisoned",
            false if keeper.spare.shortage().is_some() => "full",
            false if self.inner.scrub.found() => "damaged",
            false => "ok",
        };
        LogStats {
            state,
            spare_ready: keeper.spare.is_ready(),
            ballast_bytes: keeper.ballast.held(),
            syncs: self.inner.shared.syncs.stats(),
            scrub: self.inner.scrub.stats(),
            archived,
            archive_error,
            compress: self.inner.compressor.stats(),
            recovery: self.inner.recovery.clone(),
            first_seq: self.first_seq().0,
            durable_seq: self.durable_seq().0,
            segments: segments.len(),
            sealed: segments.iter().filter(|one| one.with_state(|state| state.sealed)).count(),
            bytes: segments.iter().map(|one| one.disk_bytes()).sum(),
            appends: self.inner.queue.appends.load(Ordering::Relaxed),
            groups: self.inner.queue.groups.load(Ordering::Relaxed),
            led: self.inner.queue.led.load(Ordering::Relaxed),
        }
    }

    /// Makes what was accepted durable, marks the end, and lets go of the directory.
    ///
    /// # Errors
    /// The log was poisoned, or a thread died.
    pub async fn close(&self) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        self.inner.queue.push(Request::Close(done))?;
        let result = result.await.map_err(|_| Error::Closed)?;
        self.inner.join();
        result
    }
}

impl Inner {
    /// Appends on the caller's thread, which [`Queue::lead`] has told to.
    fn append_here(
        &self,
        prepared: Vec<Prepared>,
        expected_next: Option<Seq>,
    ) -> Result<Appended, Error> {
        let (done, mut result) = oneshot::channel();
        let append = Append { prepared, runtime: None, expected_next, done };
        let turn = Turn(&self.queue);
        tokio::task::block_in_place(|| lock(&self.committer).append(vec![append]));
        self.queue.led.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        result.try_recv().map_err(|_| Error::Closed)?
    }

    fn join(&self) {
        self.keeper.stop();
        self.scrub.stop();
        self.compressor.stop();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
        self.join();
    }
}

#[async_trait]
impl EventLog for Log {
    fn id(&self) -> LogId {
        self.id()
    }

    fn epoch(&self) -> u64 {
        self.epoch()
    }

    async fn append(
        &self,
        transactions: Vec<Transaction>,
        expected_next: Option<Seq>,
    ) -> Result<Appended, Error> {
        self.append(transactions, expected_next).await
    }

    fn first_seq(&self) -> Seq {
        self.first_seq()
    }

    fn durable_seq(&self) -> Seq {
        self.durable_seq()
    }

    fn watch(&self) -> DurableSeq {
        self.watch()
    }

    fn read(&self, from: Seq, max_bytes: usize) -> Result<WireBatch, Error> {
        self.read(from, max_bytes)
    }

    async fn trim(&self, before: Seq) -> Result<TrimReport, Error> {
        self.trim(before).await
    }

    fn anchor(&self, seq: Seq) -> Result<Anchor, Error> {
        self.anchor(seq)
    }

    fn release_ballast(&self) -> Result<u64, Error> {
        self.release_ballast()
    }

    fn stats(&self) -> LogStats {
        self.stats()
    }
}

struct Append {
    prepared: Vec<Prepared>,
    runtime: Option<Handle>,
    expected_next: Option<Seq>,
    done: oneshot::Sender<Result<Appended, Error>>,
}

enum Request {
    Append(Append),
    Trim { before: Seq, last: u64, done: oneshot::Sender<Result<TrimReport, Error>> },
    Close(oneshot::Sender<Result<(), Error>>),
}

/// What waits for the writer.
struct Queue {
    inner: Mutex<QueueState>,
    wake: Condvar,
    appends: AtomicU64,
    groups: AtomicU64,
    led: AtomicU64,
}

struct QueueState {
    requests: VecDeque<Request>,
    closed: bool,
    /// Somebody is writing: the writer's thread, or a caller that leads.
    busy: bool,
    /// The writer's thread waits to be woken.
    asleep: bool,
    /// It looks by itself whether the tail is to be marked.
    watches: bool,
    poisoned: bool,
    /// The tail could be marked.
    unmarked: bool,
    company: Company,
}

impl QueueState {
    /// Whether nobody writes or wants to.
    fn is_idle(&self) -> bool {
        !self.busy && self.requests.is_empty() && !self.closed
    }

    /// Whether the writer's thread sleeps and must not.
    fn rouses(&mut self) -> bool {
        let needed = !self.requests.is_empty() || self.closed || (self.unmarked && !self.watches);
        needed && !self.busy && std::mem::take(&mut self.asleep)
    }
}

impl Queue {
    /// For the thread of `writer`, which starts with its turn.
    fn new(writer: &Writer) -> Self {
        let inner = Mutex::new(QueueState {
            requests: VecDeque::new(),
            closed: false,
            busy: true,
            asleep: false,
            watches: false,
            poisoned: false,
            unmarked: writer.is_unmarked(),
            company: Company::default(),
        });
        let none = || AtomicU64::new(0);
        Self { inner, wake: Condvar::new(), appends: none(), groups: none(), led: none() }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        lock(&self.inner)
    }

    fn push(&self, request: Request) -> Result<(), Error> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::Closed);
        }
        queue.requests.push_back(request);
        let rouse = queue.rouses();
        drop(queue);
        if rouse {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Whether the caller is to append by itself, now; then nobody else writes until its [`Turn`] is dropped.
    fn lead(&self) -> bool {
        let mut queue = self.lock();
        let leads = queue.is_idle() && queue.company.leads();
        queue.busy |= leads;
        leads
    }
}

/// The only one that writes; the next is let in when it is dropped.
struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.busy = false;
        if std::thread::panicking() {
            // What was left half done is for the next opening to find out; whoever waits is told.
            queue.closed = true;
            queue.requests.clear();
        }
        let rouse = queue.rouses();
        drop(queue);
        if rouse {
            self.0.wake.notify_one();
        }
    }
}

/// What is locked is never left half changed: who panics with it ends the log.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's thread.
struct WriterLoop {
    committer: Arc<Mutex<Committer>>,
    queue: Arc<Queue>,
    idle_mark: Duration,
    _lock: Box<dyn Lock>,
}

impl WriterLoop {
    fn run(self) {
        let _turn = Turn(&self.queue);
        let mut requests = VecDeque::new();
        while self.take(&mut requests) {
            let mut committer = lock(&self.committer);
            let mut appends = Vec::with_capacity(requests.len());
            for request in requests.drain(..) {
                match request {
                    Request::Append(append) => appends.push(append),
                    other => {
                        committer.append(std::mem::take(&mut appends));
                        if committer.other(other) {
                            return;
                        }
                    }
                }
            }
            committer.append(appends);
        }
        let mut committer = lock(&self.committer);
        committer.deliver_late();
        self.queue.close();
        if let Err(error) = committer.writer.mark_end() {
            tracing::error!(%error, "the log did not close cleanly");
        }
    }

    /// Fills `requests`, which is empty and whose memory is for those that come next, with all that wait; marks the
    /// tail when nothing comes for a while. False when closed and empty.
    fn take(&self, requests: &mut VecDeque<Request>) -> bool {
        let mut queue = self.queue.lock();
        if queue.requests.is_empty() {
            drop(queue);
            lock(&self.committer).deliver_late();
            queue = self.queue.lock();
        }
        queue.busy = false;
        loop {
            (queue.asleep, queue.watches) = (false, false);
            if !queue.busy && !queue.requests.is_empty() {
                queue.busy = true;
                std::mem::swap(&mut queue.requests, requests);
                return true;
            }
            if !queue.busy && queue.closed {
                return false;
            }
            (queue.asleep, queue.watches) = (true, queue.unmarked);
            if !queue.unmarked {
                queue = self.queue.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let before = self.queue.appends.load(Ordering::Relaxed);
            let waited = self.queue.wake.wait_timeout(queue, self.idle_mark);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            let same = before == self.queue.appends.load(Ordering::Relaxed);
            let idle = same && queue.is_idle() && queue.unmarked;
            if timeout.timed_out() && idle {
                queue.busy = true;
                drop(queue);
                lock(&self.committer).mark_idle();
                queue = self.queue.lock();
                queue.busy = false;
            }
        }
    }
}

/// Who writes: the writer's thread, or a caller that leads. Locked before the queue where both are.
struct Committer {
    writer: Writer,
    queue: Arc<Queue>,
    keeper: Arc<Keeper>,
    /// Answers that were left to the callers' runtime.
    left: Option<Answers>,
}

impl Committer {
    fn mark_idle(&mut self) {
        if let Err(error) = self.writer.mark_idle() {
            tracing::error!(%error, "the log stopped");
        }
        drop(self.note_state());
    }

    fn other(&mut self, request: Request) -> bool {
        match request {
            Request::Append(_) => unreachable!("appends are collected before"),
            Request::Trim { before, last, done } => {
                let result = self.writer.trim_segments(before, last);
                drop(self.note_state());
                if result.is_ok() {
                    self.tell_keeper();
                }
                answer(done, result);
                false
            }
            Request::Close(done) => {
                self.deliver_late();
                self.queue.close();
                for request in std::mem::take(&mut self.queue.lock().requests) {
                    match request {
                        Request::Append(append) => answer(append.done, Err(Error::Closed)),
                        Request::Trim { done, .. } => answer(done, Err(Error::Closed)),
                        Request::Close(done) => answer(done, Ok(())),
                    }
                }
                let result = self.writer.mark_end();
                self.keeper.stop();
                answer(done, result);
                true
            }
        }
    }

    /// Appends in groups as large as one write may be; answers each as soon as it is durable.
    fn append(&mut self, appends: Vec<Append>) {
        let asked = appends.len();
        let mut waiting: VecDeque<Waiting> = VecDeque::with_capacity(asked);
        let mut next = self.writer.next_seq();
        let mut end = 0;
        for append in appends {
            if let Some(expected) = append.expected_next
                && expected != next
            {
                // Earlier appends of this round may still fail, but then this one fails as well.
                answer(append.done, Err(Error::WrongSeq { expected, next }));
                continue;
            }
            let records: u64 = append.prepared.iter().map(Prepared::count).sum();
            let last_seq = Seq(next.0 + records - 1);
            let seqs = Appended { first_seq: next, last_seq };
            next = last_seq.next();
            end += append.prepared.len();
            let Append { prepared, runtime, done, .. } = append;
            waiting.push_back(Waiting { prepared, end, runtime, seqs, done });
        }
        // Transactions of the round that are durable, and those of them whose appends are answered.
        let (mut taken, mut answered) = (0, 0);
        while taken < end {
            let transactions = waiting.iter().flat_map(|one| &one.prepared);
            let result = self.writer.commit(transactions.skip(taken - answered));
            self.deliver_late();
            let mut queue = self.note_state();
            let alone = asked == 1 && queue.requests.is_empty();
            queue.company.note(alone);
            drop(queue);
            match result {
                Ok(count) => {
                    self.tell_keeper();
                    taken += count;
                }
                Err(error) => {
                    if let Error::Full { .. } = error {
                        self.keeper.again();
                    }
                    tracing::error!(%error, "append failed");
                    fail(waiting, &error);
                    return;
                }
            }
            let count = waiting.partition_point(|one| one.end <= taken);
            self.queue.appends.fetch_add(count as u64, Ordering::Relaxed);
            let group: Vec<_> = waiting.drain(..count).collect();
            answered = group.last().map_or(answered, |last| last.end);
            self.deliver(group);
        }
    }

    /// Answers a group. Each answer from this thread may cost a system call that wakes a worker of the
    /// callers' runtime; a task on that runtime answers many for one, beside the next group.
    fn deliver(&mut self, group: Vec<Waiting>) {
        let runtime = group.iter().find_map(|one| one.runtime.clone());
        let answers = Answers(Arc::new(Mutex::new(group)));
        match runtime {
            Some(runtime) if answers.lock().len() >= MANY => {
                self.left = Some(Answers(Arc::clone(&answers.0)));
                runtime.spawn(async move { answers.send() });
            }
            _ => answers.send(),
        }
    }

    /// Answers what that task has not: its runtime may be busy or gone.
    fn deliver_late(&mut self) {
        if let Some(left) = self.left.take() {
            left.send();
        }
    }

    /// After a group is durable and not before: what the writer left behind may be sealed then.
    fn tell_keeper(&self) {
        self.keeper.rolled(self.writer.active_number());
    }

    fn note_state(&self) -> MutexGuard<'_, QueueState> {
        self.queue.groups.store(self.writer.groups, Ordering::Relaxed);
        let mut queue = self.queue.lock();
        queue.poisoned = self.writer.check().is_err();
        queue.unmarked = self.writer.is_unmarked();
        queue
    }
}

/// From how many answers on a task is worth its allocation.
const MANY: usize = 4;

/// Answers to a group; whoever comes first sends them.
struct Answers(Arc<Mutex<Vec<Waiting>>>);

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self) {
        let group = std::mem::take(&mut *self.lock());
        // What was written is given back when all are answered, and by whoever answers.
        let mut written = Vec::with_capacity(group.len());
        for Waiting { prepared, seqs, done, .. } in group {
            written.push(prepared);
            answer(done, Ok(seqs));
        }
    }
}

/// An append that is answered when `end` transactions of its round are durable.
struct Waiting {
    prepared: Vec<Prepared>,
    end: usize,
    /// The caller's runtime, if its workers run tasks whatever the caller does.
    runtime: Option<Handle>,
    seqs: Appended,
    done: oneshot::Sender<Result<Appended, Error>>,
}

/// The caller may have gone away; what it asked for happened all the same.
fn answer<T>(done: oneshot::Sender<T>, result: T) {
    drop(done.send(result));
}

fn fail(waiting: VecDeque<Waiting>, error: &Error) {
    for Waiting { done, .. } in waiting {
        let repeated = match error {
            Error::Full { path, bytes } => Error::Full { path: path.clone(), bytes: *bytes },
            other => Error::Poisoned(other.to_string()),
        };
        answer(done, Err(repeated));
    }
}

/// Prepares spares, seals full segments and keeps the ballast, off the path of appends.
struct Keeper {
    config: LogConfig,
    shared: Arc<Shared>,
    spare: Arc<crate::writer::SpareSlot>,
    ballast: Ballast,
    compressor: Arc<Compressor>,
    wanted: Mutex<Wanted>,
    wake: Condvar,
}

struct Wanted {
    /// The segment that is written.
    number: u64,
    /// Something is to be tried now.
    again: bool,
    stop: bool,
}

/// How long to wait before what failed or found no space is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which segment is written, and wakes the keeper if it is another than before.
    fn rolled(&self, number: u64) {
        let mut wanted = self.lock();
        if wanted.number != number {
            wanted.number = number;
            self.wake.notify_one();
        }
    }

    /// Tries again what failed or found no space.
    fn again(&self) {
        self.lock().again = true;
        self.wake.notify_one();
    }

    fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut trouble = Trouble::default();
        loop {
            let number = {
                let mut wanted = self.lock();
                wanted.again = false;
                wanted.number
            };
            let storage = self.shared.storage.as_ref();
            let spare = self.spare.keep(storage, &self.config, self.shared.id);
            let sealed = self.seal(number);
            self.compressor.sealed();
            let ballast = self.ballast.keep(storage);
            let done = spare.is_ok() && sealed.is_ok() && matches!(ballast, Ok(true));
            trouble.tell([spare.err(), sealed.err(), ballast.err()]);
            let mut wanted = self.lock();
            while !wanted.stop && !wanted.again && wanted.number == number {
                if done {
                    wanted = self.wake.wait(wanted).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let waited = self.wake.wait_timeout(wanted, RETRY);
                let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                wanted = guard;
                if timeout.timed_out() {
                    break;
                }
            }
            if wanted.stop {
                return;
            }
        }
    }

    /// Seals every segment before the active one; the error is the first.
    fn seal(&self, active: u64) -> Result<(), Error> {
        let segments = self.shared.segments().into_iter();
        segments
            .take_while(|segment| segment.header.number < active)
            .map(|segment| segment.seal(self.shared.storage.as_ref()))
            .fold(Ok(()), Result::and)
    }
}

/// What the keeper could not do, told when it changes and not at every try.
#[derive(Default)]
struct Trouble(Vec<String>);

impl Trouble {
    fn tell(&mut self, errors: [Option<Error>; 3]) {
        let now: Vec<_> = errors.iter().flatten().map(ToString::to_string).collect();
        for error in now.iter().filter(|error| !self.0.contains(*error)) {
            tracing::error!(%error, "the log cannot prepare for what comes; it tries again every second");
        }
        self.0 = now;
    }
}
