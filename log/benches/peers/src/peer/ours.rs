//! Our log.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt as _;
use revenant_log::storage::fs::Fs;
use revenant_log::storage::{Access, File, Lock, LockError, Storage};
use revenant_log::{
    Event, Key, Log, LogConfig, Op, Seq, SourcePos, Transaction, Value, Witnesses, encode_parts,
};

use super::{Appending, Failure, Peer, Size, runtime};
use crate::body::{BODY_BYTES, Body, body};

/// Bytes of an encoded record behind its body: no before-image, an unknown place in the source, not stale.
const BEHIND_BODY: usize = 4;
/// Appends of one producer that wait for the disk at a time.
const IN_FLIGHT: usize = 8192;

/// Our log, open.
pub struct Ours {
    pub log: Log,
    pub syncs: Arc<Syncs>,
}

/// Opens our log.
pub fn open(dir: &Path, size: Size) -> Result<Arc<dyn Peer>, Failure> {
    Ok(Arc::new(open_counted(dir, size)?))
}

/// Opens our log with its calls to the disk counted.
pub fn open_counted(dir: &Path, size: Size) -> Result<Ours, Failure> {
    let mut config = LogConfig::new(dir);
    if size == Size::Small {
        config.segment_bytes = 1 << 20;
        config.frame_bytes = 64 << 10;
        config.idle_mark = std::time::Duration::from_millis(100);
    }
    let syncs = Arc::new(Syncs::default());
    let storage = Arc::new(Counting { syncs: Arc::clone(&syncs) });
    let (log, _) = Log::open_on(storage, config, Witnesses::none())?;
    Ok(Ours { log, syncs })
}

/// The smallest transaction with `body`.
pub fn transaction(body: &Body) -> Transaction {
    let event = Event {
        op: Op::Create,
        table: Arc::from("t"),
        key: Key::from("k"),
        version: None,
        body: Some(Value::Bytes(body.to_vec())),
        before: None,
        source: SourcePos::UNKNOWN,
        stale: false,
    };
    Transaction { time_us: 0, feed_high: 0, events: vec![event] }
}

/// Bytes of a frame with one record.
pub fn frame_bytes() -> usize {
    let mut bytes = Vec::new();
    encode_parts(0, true, 0, &transaction(&body(1)).events[0], &mut bytes);
    usize::try_from(revenant_log::frame::frame_bytes(1, bytes.len())).expect("a small frame")
}

fn body_of(record: &[u8]) -> &[u8] {
    let end = record.len().saturating_sub(BEHIND_BODY);
    &record[end.saturating_sub(BODY_BYTES)..end]
}

impl Peer for Ours {
    fn append(&self, caller: u64, number: u64, body: &Body) -> Result<(), Failure> {
        runtime().block_on(self.append_async(caller, number, body).expect("it is asynchronous"))
    }

    fn append_async(&self, _: u64, _: u64, body: &Body) -> Option<Appending<'_>> {
        let transaction = transaction(body);
        Some(Box::pin(async move {
            self.log.append(vec![transaction], None).await?;
            Ok(())
        }))
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        let events = bodies.iter().flat_map(|body| transaction(body).events).collect();
        let transaction = Transaction { time_us: 0, feed_high: 0, events };
        runtime().block_on(self.log.append(vec![transaction], None))?;
        Ok(())
    }

    fn pour(&self, first: u64, count: u64) -> Result<(), Failure> {
        runtime().block_on(async {
            let mut appends = futures_util::stream::iter(first..first + count)
                .map(|number| self.log.append(vec![transaction(&body(number))], None))
                .buffered(IN_FLIGHT);
            while let Some(appended) = appends.next().await {
                appended?;
            }
            Ok(())
        })
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let mut reader = self.log.reader(self.log.first_seq());
        while let Some(records) = reader.next_frame()? {
            records.for_each(|(seq, record)| see(seq.0, body_of(record)));
        }
        Ok(())
    }

    fn verify(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let mut from = self.log.first_seq();
        loop {
            let batch = self.log.read(from, 1 << 20)?;
            if batch.is_empty() {
                return Ok(());
            }
            for record in batch.decode_records()? {
                let Some(Value::Bytes(body)) = record.event.body else {
                    return Err("another kind of record".into());
                };
                see(record.seq.0, &body);
            }
            from = batch.last_seq().next();
        }
    }

    fn get(&self, number: u64, see: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let batch = self.log.read(Seq(number), 1)?;
        batch.records.first().inspect(|record| see(body_of(record)));
        Ok(!batch.is_empty())
    }

    fn close(&self) -> Result<(), Failure> {
        Ok(runtime().block_on(self.log.close())?)
    }
}

/// Syncs of files, by kind.
#[derive(Debug, Default)]
pub struct Syncs {
    /// `fdatasync`: groups, each acknowledged after it.
    pub data: AtomicU64,
    /// `fsync`: of spares and sealed segments.
    pub all: AtomicU64,
}

struct Counting {
    syncs: Arc<Syncs>,
}

struct CountingFile {
    file: Arc<dyn File>,
    syncs: Arc<Syncs>,
}

impl Storage for Counting {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Fs.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Fs.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(CountingFile { file: Fs.open(path, access)?, syncs: Arc::clone(&self.syncs) }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Fs.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Fs.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Fs.sync_dir(dir)
    }

    fn freeze(&self, path: &Path) -> io::Result<()> {
        Fs.freeze(path)
    }

    fn thaw(&self, path: &Path) -> io::Result<()> {
        Fs.thaw(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        Fs.free_bytes(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        Fs.lock(path)
    }
}

impl File for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.data.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.syncs.all.fetch_add(1, Ordering::Relaxed);
        self.file.sync_all()
    }

    fn forget(&self, offset: u64, bytes: u64) {
        self.file.forget(offset, bytes);
    }

    fn map(&self) -> io::Result<bytes::Bytes> {
        self.file.map()
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
}
