//! A disk in memory that crashes, fails and rots on purpose. Seeded: the same seed, the same disk.
//!
//! The crash model: of everything written to a file since its last completed sync, any subset of 512-byte
//! sectors may have reached the disk, in any combination, now and then one of them torn at a byte; a new length may or may not; an entry of a
//! directory that was created, renamed or removed since the last sync of the directory may be either way. What a
//! completed sync covered is there. A failed sync loses or keeps what it covered, at random; reading shows
//! it until the power goes, and later syncs do not bring it back. Only tests use this.

mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use pages::Pages;

use super::{Access, File, Lock, LockError, Storage};

/// Bytes that reach the disk together or not at all.
const SECTOR: usize = 512;

/// A simulated disk. Clones share it.
#[derive(Clone, Default)]
pub struct Sim {
    state: Arc<Mutex<Machine>>,
}

#[derive(Default)]
struct Machine {
    disk: Disk,
    ops: u64,
    history: Option<Vec<Disk>>,
    fault: Option<(u64, Fault)>,
    reads: u64,
    read_bytes: u64,
    read_fault: Option<u64>,
    locked: BTreeSet<PathBuf>,
    /// Bytes of all files together.
    limit: Option<u64>,
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device reports an error; a write may have been done in part, a sync may have lost data.
    Eio,
    /// No space is left, from this call on until [`Sim::heal`].
    NoSpace,
}

/// Everything on the disk, and what of it a crash may lose.
#[derive(Clone, Default)]
pub struct Disk {
    files: BTreeMap<u64, Inode>,
    entries: BTreeMap<PathBuf, u64>,
    durable_entries: BTreeMap<PathBuf, u64>,
    next_inode: u64,
}

#[derive(Clone, Default)]
struct Inode {
    /// No write permission; at once and for good, as if it were part of the file's last sync.
    frozen: bool,
    now: Pages,
    durable: Pages,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Bytes),
    Length(usize),
}

impl Change {
    /// Parts of it that reach the disk each on its own.
    fn choices(&self) -> usize {
        match self {
            Self::Length(_) => 1,
            Self::Write(offset, written) => {
                (offset + written.len()).div_ceil(SECTOR) - offset / SECTOR
            }
        }
    }
}

/// A small generator (xorshift64*, Marsaglia and Vigna), so that a seed replays a disk.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.roll() >> 63 == 1
    }
}

impl Disk {
    /// The disk as found after the power went: see the crash model above.
    #[must_use]
    pub fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let mut after = self.with_entries(&mut || dice.coin());
        for inode in after.files.values_mut() {
            inode.crash(dice);
        }
        after
    }

    /// How many things [`Disk::after_this_power_cut`] asks: 2 to this power are at least all the power
    /// cuts here, torn sectors aside.
    #[must_use]
    pub fn choices(&self) -> usize {
        let (now, durable) = (&self.entries, &self.durable_entries);
        let made = now.iter().filter(|(path, inode)| durable.get(*path) != Some(inode)).count();
        let removed = durable.keys().filter(|path| !now.contains_key(*path)).count();
        let named = now.values().chain(durable.values()).collect::<BTreeSet<_>>();
        let changes = named.iter().flat_map(|inode| &self.files[inode].unsynced);
        made + removed + changes.map(Change::choices).sum::<usize>()
    }

    /// As [`Disk::after_power_cut`]; `kept` decides of one change after the other whether it reached the
    /// disk.
    #[must_use]
    pub fn after_this_power_cut(&self, kept: &mut dyn FnMut() -> bool) -> Self {
        let mut after = self.with_entries(kept);
        for inode in after.files.values_mut() {
            inode.persist(|| if kept() { Fate::Kept } else { Fate::Lost });
            inode.now = inode.durable.clone();
        }
        after
    }

    /// The disk with some of the unsynced changes of its directories.
    fn with_entries(&self, kept: &mut dyn FnMut() -> bool) -> Self {
        let mut after = self.clone();
        after.entries = self.durable_entries.clone();
        for (path, inode) in &self.entries {
            if self.durable_entries.get(path) != Some(inode) && kept() {
                after.entries.insert(path.clone(), *inode);
            }
        }
        for path in self.durable_entries.keys() {
            if !self.entries.contains_key(path) && kept() {
                after.entries.remove(path);
            }
        }
        after.durable_entries = after.entries.clone();
        let named: BTreeSet<u64> = after.entries.values().copied().collect();
        after.files.retain(|inode, _| named.contains(inode));
        after
    }

    /// The disk as found after the process was killed: nothing that was written is lost.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.clone()
    }

    /// Every file with its bytes as they are now.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.entries
            .iter()
            .map(|(path, inode)| (path.clone(), self.files[inode].now.to_vec()))
            .collect()
    }

    /// The bytes of a file as they are now.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        Some(self.files.get(self.entries.get(path)?)?.now.to_vec())
    }

    /// Puts a file where there may be another, behind everyone's back; none takes it away.
    pub fn put(&mut self, path: &Path, bytes: Option<Vec<u8>>) {
        self.entries.remove(path);
        if let Some(bytes) = bytes {
            let (now, inode) = (Pages::from(bytes.as_slice()), self.next_inode);
            self.next_inode += 1;
            let durable = now.clone();
            self.files.insert(inode, Inode { now, durable, ..Inode::default() });
            self.entries.insert(path.to_owned(), inode);
        }
        self.durable_entries = self.entries.clone();
    }

    /// Changes a byte behind everyone's back.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&mut self, path: &Path, offset: usize, mask: u8) {
        let inode = self.files.get_mut(&self.entries[path]).expect("entries have files");
        let mut byte = [0];
        assert_eq!(inode.now.read(offset, &mut byte), 1, "there is no byte {offset}");
        inode.now.write(offset, &[byte[0] ^ mask]);
        inode.durable = inode.now.clone();
        inode.unsynced.clear();
    }

    /// Cuts a file behind everyone's back.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn cut(&mut self, path: &Path, len: usize) {
        let inode = self.files.get_mut(&self.entries[path]).expect("entries have files");
        inode.now.resize(len.min(inode.now.len()));
        inode.durable = inode.now.clone();
        inode.unsynced.clear();
    }
}

/// What became of a change when the power went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    /// Of a sector, the bytes up to here.
    Torn(usize),
}

impl Inode {
    /// What of the unsynced changes reaches the disk when the power goes is up to the dice.
    fn crash(&mut self, dice: &mut Dice) {
        // Some crashes lose all or nothing: those are the ones that an unlucky run of coins hides.
        let mode = dice.below(5);
        self.persist(|| match (mode, dice.coin()) {
            (0, _) => Fate::Lost,
            (1, _) => Fate::Kept,
            (2, _) if dice.below(4) == 0 => {
                Fate::Torn(usize::try_from(dice.below(SECTOR as u64)).unwrap_or(0))
            }
            (_, true) => Fate::Kept,
            (_, false) => Fate::Lost,
        });
        self.now = self.durable.clone();
    }

    fn sync(&mut self) {
        self.persist(|| Fate::Kept);
    }

    /// Takes every unsynced change to the disk, sector by sector, as `fate` has it.
    fn persist(&mut self, mut fate: impl FnMut() -> Fate) {
        let disk = &mut self.durable;
        for change in self.unsynced.drain(..) {
            match change {
                Change::Length(len) => {
                    if fate() == Fate::Kept {
                        disk.resize(len);
                    }
                }
                Change::Write(offset, written) => {
                    let mut at = offset;
                    while at < offset + written.len() {
                        let end = ((at / SECTOR + 1) * SECTOR).min(offset + written.len());
                        let kept = match fate() {
                            Fate::Kept => end,
                            Fate::Lost => at,
                            Fate::Torn(bytes) => end.min(at + bytes),
                        };
                        if kept > at {
                            disk.write(at, &written[at - offset..kept - offset]);
                        }
                        at = end;
                    }
                }
            }
        }
    }
}

impl Sim {
    /// A machine with this disk, powered on.
    #[must_use]
    pub fn boot(disk: Disk) -> Self {
        let machine = Machine { disk, ..Machine::default() };
        Self { state: Arc::new(Mutex::new(machine)) }
    }

    /// Keeps the disk as it was before every call that changes it.
    #[must_use]
    pub fn recording(self) -> Self {
        self.machine().history = Some(Vec::new());
        self
    }

    /// What [`Sim::recording`] kept so far.
    #[must_use]
    pub fn history(&self) -> Vec<Disk> {
        self.machine().history.clone().unwrap_or_default()
    }

    /// Calls so far that change the disk.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.machine().ops
    }

    /// The disk now.
    #[must_use]
    pub fn disk(&self) -> Disk {
        self.machine().disk.clone()
    }

    /// Lets the `op`-th changing call from the start fail.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.machine().fault = Some((op, fault));
    }

    /// Lets the `read`-th read from the start fail.
    pub fn fail_read_at(&self, read: u64) {
        self.machine().read_fault = Some(read);
    }

    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.machine().reads
    }

    /// Bytes that were read so far.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.machine().read_bytes
    }

    /// The size of the disk from now on: files take their length, and grow no further than this together.
    pub fn limit(&self, bytes: u64) {
        self.machine().limit = Some(bytes);
    }

    /// Bytes that all files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.machine().used()
    }

    /// Changes a bit of a file behind the back of whoever has it open.
    pub fn rot(&self, path: &Path, offset: usize) {
        self.machine().disk.flip(path, offset, 1);
    }

    /// No more faults.
    pub fn heal(&self) {
        let mut machine = self.machine();
        machine.fault = None;
        machine.read_fault = None;
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a changing call does, for the fault that hits it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Needs space.
    Grow,
    Write,
    Sync,
    Other,
}

impl Machine {
    /// Counts a changing call; the error is the fault that hits it.
    fn step(&mut self, kind: Kind) -> io::Result<()> {
        if let Some(history) = &mut self.history {
            history.push(self.disk.clone());
        }
        self.ops += 1;
        match self.fault {
            Some((op, Fault::Eio)) if op + 1 == self.ops => {
                Err(io::Error::other("simulated I/O error"))
            }
            Some((op, Fault::NoSpace)) if op < self.ops && kind == Kind::Grow => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    /// Counts a read; the error is the fault that hits it.
    fn read(&mut self) -> io::Result<()> {
        self.reads += 1;
        if self.read_fault == Some(self.reads - 1) {
            return Err(io::Error::other("simulated I/O error"));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let files = self.disk.entries.values().filter_map(|inode| self.disk.files.get(inode));
        files.map(|inode| inode.now.len() as u64).sum()
    }

    fn free(&self) -> u64 {
        self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.used()))
    }

    fn set_frozen(&mut self, path: &Path, frozen: bool) -> io::Result<()> {
        let inode = *self.disk.entries.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.inode(inode).frozen = frozen;
        Ok(())
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.disk.files.entry(inode).or_default()
    }
}

impl Storage for Sim {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(()) // directories are there, as on an object store; their entries are what a crash may lose
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let machine = self.machine();
        let names = machine.disk.entries.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut machine = self.machine();
        let found = machine.disk.entries.get(path).copied();
        let inode = match (found, access) {
            (Some(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), Access::Write) if machine.inode(inode).frozen => {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            (Some(inode), _) => inode,
            (None, Access::Create) => {
                machine.step(Kind::Grow)?;
                let inode = machine.disk.next_inode;
                machine.disk.next_inode += 1;
                machine.disk.files.insert(inode, Inode::default());
                machine.disk.entries.insert(path.to_owned(), inode);
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let writable = access != Access::Read;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), inode, writable }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        if !machine.disk.entries.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        machine.step(Kind::Other)?;
        machine.disk.entries.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        if !machine.disk.entries.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        machine.step(Kind::Other)?;
        let inode = machine.disk.entries.remove(from).ok_or(io::ErrorKind::NotFound)?;
        machine.disk.entries.insert(to.to_owned(), inode);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.step(Kind::Sync)?;
        let disk = &mut machine.disk;
        disk.durable_entries.retain(|path, _| path.parent() != Some(dir));
        let entries = disk.entries.iter().filter(|(path, _)| path.parent() == Some(dir));
        disk.durable_entries.extend(entries.map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn freeze(&self, path: &Path) -> io::Result<()> {
        self.machine().set_frozen(path, true)
    }

    fn thaw(&self, path: &Path) -> io::Result<()> {
        self.machine().set_frozen(path, false)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.machine().free())
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        if !self.machine().locked.insert(path.to_owned()) {
            return Err(LockError::Held { owner: "simulated".into() });
        }
        Ok(Box::new(SimLock { state: Arc::clone(&self.state), path: path.to_owned() }))
    }
}

struct SimLock {
    state: Arc<Mutex<Machine>>,
    path: PathBuf,
}

impl Lock for SimLock {
    fn claim(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut machine = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        machine.locked.remove(&self.path);
    }
}

struct SimFile {
    state: Arc<Mutex<Machine>>,
    inode: u64,
    writable: bool,
}

impl SimFile {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn sync_now(&self) -> io::Result<()> {
        let mut machine = self.machine();
        let stepped = machine.step(Kind::Sync);
        let ops = machine.ops;
        let inode = machine.inode(self.inode);
        if stepped.is_err() {
            // As Linux does it: the pages are marked clean all the same, and stay in memory until the
            // power goes, so that the loss shows only then.
            let seen = inode.now.clone();
            inode.crash(&mut Dice::new(ops));
            inode.now = seen;
        } else {
            inode.sync();
        }
        stepped
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.machine();
        machine.read()?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let len = machine.inode(self.inode).now.read(start, buffer);
        machine.read_bytes += len as u64;
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut machine = self.machine();
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let end = at + bytes.len();
        let grows = end > machine.inode(self.inode).now.len();
        let more = end.saturating_sub(machine.inode(self.inode).now.len()) as u64;
        let stepped = machine.step(if grows { Kind::Grow } else { Kind::Write }).and_then(|()| {
            if more > machine.free() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        });
        let full = matches!(&stepped, Err(error) if error.kind() == io::ErrorKind::StorageFull);
        // A write that fails may have been done in part: here its first half.
        let written = match &stepped {
            Ok(()) => bytes,
            Err(_) if full => &[],
            Err(_) => &bytes[..bytes.len() / 2],
        };
        let inode = machine.inode(self.inode);
        if !written.is_empty() {
            inode.now.write(at, written);
            inode.unsynced.push(Change::Write(at, Bytes::copy_from_slice(written)));
        }
        stepped
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_now()
    }

    fn map(&self) -> io::Result<Bytes> {
        let mut machine = self.machine();
        machine.read()?;
        Ok(machine.inode(self.inode).now.to_vec().into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.machine().inode(self.inode).now.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let len = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut machine = self.machine();
        machine.step(Kind::Other)?;
        let inode = machine.inode(self.inode);
        inode.now.resize(len);
        inode.unsynced.push(Change::Length(len));
        Ok(())
    }
}
