//! okaywal: an entry of one chunk for each record. It has no reader but recovery, so a scan is an open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Failure, Peer, Size};
use crate::body::Body;

struct OkayWal {
    dir: PathBuf,
    size: Size,
    wal: Mutex<Option<WriteAheadLog>>,
}

/// Opens it.
pub fn open(dir: &Path, size: Size) -> Result<Arc<dyn Peer>, Failure> {
    let peer = OkayWal { dir: dir.to_owned(), size, wal: Mutex::new(None) };
    *peer.wal.lock().expect("nobody else has it") = Some(recover(dir, size, Recovered::default())?);
    Ok(Arc::new(peer))
}

fn recover(dir: &Path, size: Size, into: Recovered) -> io::Result<WriteAheadLog> {
    Configuration::default_for(dir)
        .preallocate_bytes(if size == Size::Small { 1 << 20 } else { 64 << 20 })
        .checkpoint_after_bytes(u64::MAX)
        .open(into)
}

/// Takes what recovery shows.
#[derive(Clone, Debug, Default)]
struct Recovered(Arc<Mutex<Vec<Vec<u8>>>>);

impl LogManager for Recovered {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        if let Some(chunks) = entry.read_all_chunks()? {
            self.0.lock().expect("nobody panicked").extend(chunks);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _: EntryId,
        _: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

impl OkayWal {
    fn wal(&self) -> Result<WriteAheadLog, Failure> {
        let wal = self.wal.lock().map_err(|_| "a caller panicked")?;
        wal.clone().ok_or_else(|| "it is closed".into())
    }
}

impl Peer for OkayWal {
    fn append(&self, _: u64, number: u64, body: &Body) -> Result<(), Failure> {
        self.append_all(number, &[*body])
    }

    fn append_all(&self, _: u64, bodies: &[Body]) -> Result<(), Failure> {
        let wal = self.wal()?;
        let mut entry = wal.begin_entry()?;
        for body in bodies {
            entry.write_chunk(body)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn scan(&self, see: &mut dyn FnMut(u64, &[u8])) -> Result<(), Failure> {
        let mut wal = self.wal.lock().map_err(|_| "a caller panicked")?;
        if let Some(open) = wal.take() {
            open.shutdown()?;
        }
        let records = Recovered::default();
        *wal = Some(recover(&self.dir, self.size, records.clone())?);
        let records = records.0.lock().map_err(|_| "recovery panicked")?;
        for body in records.iter() {
            let number =
                body.get(..8).and_then(|at| at.try_into().ok()).map_or(0, u64::from_be_bytes);
            see(number, body);
        }
        Ok(())
    }

    fn close(&self) -> Result<(), Failure> {
        match self.wal.lock().map_err(|_| "a caller panicked")?.take() {
            Some(wal) => Ok(wal.shutdown()?),
            None => Ok(()),
        }
    }
}
