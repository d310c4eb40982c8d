//! A redb storage on the simulated disk of `revenant-log`, which remembers what a crash at each sync would
//! find.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use revenant_log::Seq;
use revenant_log::storage::sim::{Disk, Sim};
use revenant_log::storage::{Access, File, Storage as _};

const FILE: &str = "/disk/replica";

/// A disk at the moment of a crash.
pub(crate) struct Cut {
    pub(crate) disk: Disk,
    /// The last checkpoint that was done by then.
    pub(crate) checkpoint_seq: Seq,
}

/// A machine with one file. Clones share it.
#[derive(Clone)]
pub(crate) struct Machine {
    sim: Sim,
    file: Arc<dyn File>,
    checkpoint_seq: Arc<AtomicU64>,
    cuts: Arc<Mutex<Vec<Cut>>>,
}

impl Machine {
    /// Boots with `disk`, on which `checkpoint_seq` is known to be.
    pub(crate) fn boot(disk: Disk, checkpoint_seq: Seq) -> Self {
        let sim = Sim::boot(disk);
        let path = Path::new(FILE);
        let file = sim.open(path, Access::Write).unwrap_or_else(|_| {
            let file = sim.open(path, Access::Create).unwrap();
            sim.sync_dir(Path::new("/disk")).unwrap();
            file
        });
        let checkpoint_seq = Arc::new(AtomicU64::new(checkpoint_seq.0));
        Self { sim, file, checkpoint_seq, cuts: Arc::default() }
    }

    pub(crate) fn sim(&self) -> &Sim {
        &self.sim
    }

    /// From now on `seq` must survive.
    pub(crate) fn checkpointed(&self, seq: Seq) {
        self.checkpoint_seq.store(seq.0, Ordering::SeqCst);
    }

    /// The disk as it is now.
    pub(crate) fn cut(&self) -> Cut {
        let checkpoint_seq = Seq(self.checkpoint_seq.load(Ordering::SeqCst));
        Cut { disk: self.sim.disk(), checkpoint_seq }
    }

    /// The disk as it was before every sync since the last call.
    pub(crate) fn take_cuts(&self) -> Vec<Cut> {
        std::mem::take(&mut self.cuts.lock().unwrap())
    }
}

impl Debug for Machine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

impl StorageBackend for Machine {
    fn len(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.file.read_at(out, offset)? {
            count if count == out.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let cut = self.cut();
        self.cuts.lock().unwrap().push(cut);
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
