//! spacetimedb-commitlog: one commit for each record. Its 1.x durability crate syncs on a timer, so the group
//! commit of the later one is done here: a thread takes all that waits, flushes each and syncs once.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use spacetimedb_commitlog::payload::ArrayDecoder;
use spacetimedb_commitlog::{Commitlog, Options};
use spacetimedb_paths::FromPathUnchecked as _;
use spacetimedb_paths::server::CommitLogDir;
use tokio::sync::oneshot;

use super::{Appending, Failure, Peer, Size, runtime};
use crate::body::{BODY_BYTES, Body, body};

type Waiting = (Body, oneshot::Sender<Result<(), String>>);

struct SpacetimeDb {
    log: Arc<Commitlog<Body>>,
    queue: Mutex<Option<mpsc::Sender<Waiting>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Opens it.
pub fn open(dir: &Path, _: Size) -> Result<Arc<dyn Peer>, Failure> {
    let log = Commitlog::open(CommitLogDir::from_path_unchecked(dir), Options::default())?;
    let log = Arc::new(log);
    let (queue, waiting) = mpsc::channel();
    let for_writer = Arc::clone(&log);
    let writer = std::thread::spawn(move || write(&for_writer, &waiting));
    Ok(Arc::new(SpacetimeDb {
        log,
        queue: Mutex::new(Some(queue)),
        writer: Mutex::new(Some(writer)),
    }))
}

fn write(log: &Commitlog<Body>, waiting: &mpsc::Receiver<Waiting>) {
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        group.extend(waiting.try_iter());
        let written = group.iter().try_for_each(|(body, _)| {
            log.append(*body).map_err(|_| "the commit is full".to_owned())?;
            log.flush().map(drop).map_err(|error| error.to_string())
        });
        let synced = written
            .and_then(|()| log.flush_and_sync().map(drop).map_err(|error| error.to_string()));
        for (_, done) in group {
            // A caller may have gone away.
            drop(done.send(synced.clone()));
        }
    }
}

impl Peer for SpacetimeDb {
    fn append(&self, caller: u64, number: u64, body: &Body) -> Result<(), Failure> {
        runtime().block_on(self.append_async(caller, number, body).expect("it is asynchronous"))
    }

    fn append_async(&self, _: u64, _: u64, body: &Body) -> Option<Appending<'_>> {
        let body = *body;
        Some(Box::pin(async move {
            let (done, result) = oneshot::channel();
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
            queue.ok_or("the log is closed")?.send((body, done))?;
            result.await?.map_err(Into::into)
        }))
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        for body in bodies {
            self.log.append(*body).map_err(|_| "the commit is full")?;
        }
        self.log.flush_and_sync()?;
        Ok(())
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        for number in first..first + count {
            self.log.append_maybe_flush(body(number)).map_err(|error| error.source)?;
        }
        self.log.flush_and_sync()?;
        Ok(())
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        // Commits verified and not decoded: the fastest that it offers.
        for commit in self.log.commits() {
            let commit = commit?;
            let records = commit.records.chunks_exact(BODY_BYTES);
            (commit.min_tx_offset + 1..).zip(records).for_each(|(number, body)| see(number, body));
        }
        Ok(())
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let found = self.log.transactions_from(number - 1, &ArrayDecoder::<BODY_BYTES>).next();
        Ok(found.transpose()?.inspect(|one| see(&one.txdata)).is_some())
    }

    fn close(&self) -> Result<(), Failure> {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            writer.join().map_err(|_| "the writer panicked")?;
        }
        Ok(())
    }
}
