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

use crate::chain::Anchor;
use crate::config::{LogConfig, Witnesses};
use crate::durable::DurableSeq;
use crate::error::Error;
use crate::event_log::EventLog;
use crate::reader::Reader;
use crate::record::Transaction;
pub use crate::recovery::LOCK_FILE;
use crate::recovery::{RecoveryReport, open_for_writing};
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
    /// `ok`, `full` or `poisoned`.
    pub state: &'static str,
    /// The lowest seq that can be read.
    pub first_seq: u64,
    /// The highest durable seq.
    pub durable_seq: u64,
    /// Segments in use.
    pub segments: usize,
    /// Of these, sealed.
    pub sealed: usize,
    /// Bytes of frames, headers and footers in them.
    pub bytes: u64,
    /// Appends acknowledged.
    pub appends: u64,
    /// Groups, each one write and one sync.
    pub groups: u64,
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
    room: Arc<Semaphore>,
    room_units: u32,
    threads: Mutex<Vec<JoinHandle<()>>>,
    keeper: Arc<Keeper>,
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
        Ok((Self::start(config, shared, writer, lock)?, recovered.report))
    }

    fn start(
        config: LogConfig,
        shared: Arc<Shared>,
        writer: Writer,
        lock: Box<dyn Lock>,
    ) -> Result<Self, Error> {
        let queue = Arc::new(Queue::default());
        let keeper = Arc::new(Keeper {
            config: config.clone(),
            shared: Arc::clone(&shared),
            spare: Arc::clone(&writer.spare),
            wanted: Mutex::new(Wanted { number: writer.active_number(), stop: false }),
            wake: Condvar::new(),
        });
        let units = (config.queue_bytes / ROOM_UNIT).min(Semaphore::MAX_PERMITS);
        let room_units = u32::try_from(units).unwrap_or(u32::MAX);
        let loop_parts = WriterLoop {
            writer,
            queue: Arc::clone(&queue),
            keeper: Arc::clone(&keeper),
            idle_mark: config.idle_mark,
            left: None,
            _lock: lock,
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(Error::io("start a thread for", &config.dir))
        };
        let for_keeper = Arc::clone(&keeper);
        let threads = vec![
            spawn("log-keeper", Box::new(move || for_keeper.run()))?,
            spawn("log-writer", Box::new(move || loop_parts.run()))?,
        ];
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                queue,
                room: Arc::new(Semaphore::new(units)),
                room_units,
                threads: Mutex::new(threads),
                keeper,
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
    /// Cancelling the future does not take the append back.
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
        let bytes: usize = prepared.iter().map(Prepared::len).sum();
        let units = u32::try_from(bytes / ROOM_UNIT + 1).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.inner.room)
            .acquire_many_owned(units.min(self.inner.room_units))
            .await
            .map_err(|_| Error::Closed)?;
        let (done, result) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        let runtime = runtime.filter(|one| one.runtime_flavor() == RuntimeFlavor::MultiThread);
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
    /// durable before the first file goes.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub async fn trim(&self, before: Seq) -> Result<TrimReport, Error> {
        let (done, result) = oneshot::channel();
        self.inner.queue.push(Request::Trim(before, done))?;
        result.await.map_err(|_| Error::Closed)?
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let segments = self.inner.shared.segments();
        let queue = self.inner.queue.lock();
        LogStats {
            state: queue.state,
            first_seq: self.first_seq().0,
            durable_seq: self.durable_seq().0,
            segments: segments.len(),
            sealed: segments.iter().filter(|one| one.with_state(|state| state.sealed)).count(),
            bytes: segments.iter().map(|one| one.with_state(|state| state.frames_end)).sum(),
            appends: self.inner.queue.appends.load(Ordering::Relaxed),
            groups: self.inner.queue.groups.load(Ordering::Relaxed),
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
    fn join(&self) {
        self.keeper.stop();
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
    Trim(Seq, oneshot::Sender<Result<TrimReport, Error>>),
    Close(oneshot::Sender<Result<(), Error>>),
}

/// What waits for the writer.
#[derive(Default)]
struct Queue {
    inner: Mutex<QueueState>,
    wake: Condvar,
    appends: AtomicU64,
    groups: AtomicU64,
}

struct QueueState {
    requests: VecDeque<Request>,
    closed: bool,
    /// The writer waits to be woken.
    asleep: bool,
    state: &'static str,
}

impl Default for QueueState {
    fn default() -> Self {
        Self { requests: VecDeque::new(), closed: false, asleep: false, state: "ok" }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, request: Request) -> Result<(), Error> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::Closed);
        }
        queue.requests.push_back(request);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.wake.notify_one();
        }
        Ok(())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }
}

struct WriterLoop {
    writer: Writer,
    queue: Arc<Queue>,
    keeper: Arc<Keeper>,
    idle_mark: Duration,
    /// Answers that were left to the callers' runtime.
    left: Option<Answers>,
    _lock: Box<dyn Lock>,
}

impl WriterLoop {
    fn run(mut self) {
        while let Some(requests) = self.next() {
            let mut appends = Vec::new();
            for request in requests {
                match request {
                    Request::Append(append) => appends.push(append),
                    other => {
                        self.append(std::mem::take(&mut appends));
                        if self.other(other) {
                            return;
                        }
                    }
                }
            }
            self.append(appends);
        }
        self.deliver_late();
        self.queue.close();
        if let Err(error) = self.writer.mark_end() {
            tracing::error!(%error, "the log did not close cleanly");
        }
    }

    /// All that waits; marks the tail when nothing comes for a while. `None` when closed and empty.
    fn next(&mut self) -> Option<VecDeque<Request>> {
        if self.queue.lock().requests.is_empty() {
            self.deliver_late();
        }
        let mut queue = self.queue.lock();
        loop {
            queue.asleep = false;
            if !queue.requests.is_empty() {
                return Some(std::mem::take(&mut queue.requests));
            }
            if queue.closed {
                return None;
            }
            queue.asleep = true;
            if !self.writer.is_unmarked() {
                queue = self.queue.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.queue.wake.wait_timeout(queue, self.idle_mark);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = guard;
            if timeout.timed_out() && queue.requests.is_empty() && !queue.closed {
                drop(queue);
                if let Err(error) = self.writer.mark_idle() {
                    tracing::error!(%error, "the log stopped");
                }
                self.note_state();
                queue = self.queue.lock();
            }
        }
    }

    fn other(&mut self, request: Request) -> bool {
        match request {
            Request::Append(_) => unreachable!("appends are collected before"),
            Request::Trim(before, done) => {
                let result = self.writer.trim_segments(before);
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
                        Request::Trim(_, done) => answer(done, Err(Error::Closed)),
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
        let mut prepared: Vec<Prepared> = Vec::new();
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut next = self.writer.next_seq();
        let mut taken = 0;
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
            prepared.extend(append.prepared);
            let (end, runtime, done) = (prepared.len(), append.runtime, append.done);
            waiting.push_back(Waiting { end, runtime, seqs, done });
        }
        while taken < prepared.len() {
            let result = self.writer.commit(&prepared[taken..]);
            self.deliver_late();
            self.note_state();
            match result {
                Ok(count) => {
                    self.tell_keeper();
                    taken += count;
                }
                Err(error) => {
                    if let Error::Full(_) = error {
                        self.queue.lock().state = "full";
                    }
                    tracing::error!(%error, "append failed");
                    fail(waiting, &error);
                    return;
                }
            }
            let count = waiting.partition_point(|one| one.end <= taken);
            self.queue.appends.fetch_add(count as u64, Ordering::Relaxed);
            self.deliver(waiting.drain(..count).collect());
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

    fn note_state(&self) {
        self.queue.groups.store(self.writer.groups, Ordering::Relaxed);
        self.queue.lock().state = if self.writer.check().is_ok() { "ok" } else { "poisoned" };
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
        for Waiting { seqs, done, .. } in group {
            answer(done, Ok(seqs));
        }
    }
}

/// An append that is answered when `end` transactions of its round are durable.
struct Waiting {
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
            Error::Full(reason) => Error::Full(reason.clone()),
            other => Error::Poisoned(other.to_string()),
        };
        answer(done, Err(repeated));
    }
}

/// Prepares spares and seals full segments, off the path of appends.
struct Keeper {
    config: LogConfig,
    shared: Arc<Shared>,
    spare: Arc<crate::writer::SpareSlot>,
    wanted: Mutex<Wanted>,
    wake: Condvar,
}

struct Wanted {
    /// The segment that is written.
    number: u64,
    stop: bool,
}

/// How long to wait before a spare that found no space is tried again.
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

    fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_one();
    }

    fn run(&self) {
        loop {
            let number = self.lock().number;
            let done = self.prepare() & self.seal(number);
            let mut wanted = self.lock();
            while !wanted.stop && wanted.number == number {
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

    fn prepare(&self) -> bool {
        let kept = self.spare.keep(self.shared.storage.as_ref(), &self.config, self.shared.id);
        if let Err(error) = &kept {
            tracing::error!(%error, "cannot prepare the next segment");
        }
        kept.is_ok()
    }

    fn seal(&self, active: u64) -> bool {
        let mut done = true;
        for segment in self.shared.segments() {
            if segment.header.number >= active {
                break;
            }
            if let Err(error) = segment.seal(self.shared.storage.as_ref()) {
                tracing::error!(%error, "cannot seal a segment");
                done = false;
            }
        }
        done
    }
}
