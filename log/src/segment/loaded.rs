//! A segment file read whole, and walked to where it stops making sense. Never writes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::chain::ChainHash;
use crate::error::{Corruption, Error};
use crate::recovery::read_range;
use crate::segment::compressed::{self, Damage, Opened};
use crate::segment::footer::Footer;
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::segment::name;
use crate::segment::scan::{Scan, Tail, chain_at, scan, tail};
use crate::seq::Seq;
use crate::storage::{File, Storage};

/// A segment file in memory.
pub(crate) struct Loaded {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// The segment as it was written; of a compressed one that is damaged, up to the first piece that is.
    pub(crate) bytes: Bytes,
    /// Bytes on the disk, if it is compressed.
    pub(crate) compressed_bytes: Option<u64>,
    pub(crate) footer: Result<Option<Footer>, Corruption>,
    pub(crate) scan: Scan,
}

impl Loaded {
    /// `None`: the file went away, or is a spare in the making.
    pub(crate) fn read(
        storage: &dyn Storage,
        number: u64,
        path: &Path,
    ) -> Result<Option<Self>, Error> {
        let Some(opened) = compressed::open(storage, path)? else { return Ok(None) };
        let still = read_still(opened.file.as_ref()).map_err(Error::io("read", path))?;
        Self::of(number, path, &opened, still)
    }

    /// [`Loaded::read`] of a sealed segment: its file is not cut any more, and need not be copied unless it is
    /// compressed.
    pub(crate) fn map(
        storage: &dyn Storage,
        number: u64,
        path: &Path,
    ) -> Result<Option<Self>, Error> {
        let Some(opened) = compressed::open(storage, path)? else { return Ok(None) };
        let still = match opened.compressed_bytes {
            Some(_) => read_still(opened.file.as_ref()).map_err(Error::io("read", path))?,
            None => {
                let bytes = opened.file.map().map_err(Error::io("map", path))?;
                Still { bytes, damage: None }
            }
        };
        Self::of(number, path, &opened, still)
    }

    fn of(
        number: u64,
        path: &Path,
        Opened { file, compressed_bytes }: &Opened,
        Still { bytes, damage }: Still,
    ) -> Result<Option<Self>, Error> {
        let start = usize::try_from(HEADER_BYTES).unwrap_or(0);
        let header = match SegmentHeader::decode(&bytes, path) {
            Ok(header) => header,
            Err(error @ Error::Corrupt { .. }) => {
                let rest = bytes.get(start..).unwrap_or_default();
                let spare = rest.iter().all(|&byte| byte == 0);
                return if spare { Ok(None) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let footer = match Footer::read(file.as_ref(), header.salt) {
            Err(error) if Damage::of(&error).is_some() => {
                Err(Corruption::Footer("its piece is damaged".into()))
            }
            other => other.map_err(Error::io("read", path))?,
        };
        let until = match &footer {
            Ok(Some(footer)) => footer.frames_end,
            _ => u64::MAX,
        };
        let mut scan = scan(&bytes, header.salt, until);
        scan.stopped = damage.or(scan.stopped);
        let path = path.to_owned();
        let compressed_bytes = *compressed_bytes;
        Ok(Some(Self { number, path, header, bytes, compressed_bytes, footer, scan }))
    }

    /// What stands behind the last whole transaction.
    pub(crate) fn tail(&self) -> Tail {
        tail(&self.bytes, self.header.salt, self.scan.whole_end)
    }

    /// Damage below the acknowledged floor, in a segment without successor.
    pub(crate) fn lost(&self) -> Option<Corruption> {
        if let Some(reason) = check_length(self.bytes.len() as u64, &self.header) {
            return Some(reason);
        }
        let base_pos = self.scan.open.as_ref().map_or(0, |open| open.base_pos);
        let floor = self.scan.synced_pos.max(self.tail().synced_pos);
        let lost = base_pos + (self.scan.whole_end - HEADER_BYTES) < floor;
        lost.then(|| self.scan.stopped.clone().unwrap_or(Corruption::BelowFloor { floor }))
    }

    /// The chain hash of `seq`, which is in the segment or right before it.
    pub(crate) fn chain_at(&self, seq: Seq) -> Result<ChainHash, Error> {
        chain_at(&self.bytes, self.header.salt, self.scan.whole_end, seq)
            .map_err(|(offset, reason)| self.corrupt(offset, seq, reason))
    }

    pub(crate) fn corrupt(&self, offset: u64, seq: Seq, reason: Corruption) -> Error {
        Error::Corrupt { path: self.path.clone(), offset, seq, reason }
    }
}

/// Bytes that were read.
struct Still {
    bytes: Bytes,
    /// What keeps it from being all of the file: a piece of a compressed segment.
    damage: Option<Corruption>,
}

/// The bytes of a file at a moment when its length stood still: a writer beside us lengthens a spare
/// before it writes its header, and shortens a segment that it seals, so that bytes read across one of
/// these are of no state that ever was.
fn read_still(file: &dyn File) -> std::io::Result<Still> {
    let mut length = file.length()?;
    loop {
        let read = read_range(file, 0, length);
        let found = read.as_ref().err().and_then(Damage::of);
        let damage = found.map(|damage| (damage.offset, damage.corruption()));
        let (bytes, damage) = match damage {
            Some((offset, reason)) => (read_range(file, 0, offset)?, Some(reason)),
            None => (read?, None),
        };
        let now = file.length()?;
        if now == length {
            return Ok(Still { bytes, damage });
        }
        length = now;
    }
}

/// A segment has its full length from when it is prepared until it is sealed.
pub(crate) fn check_length(len: u64, header: &SegmentHeader) -> Option<Corruption> {
    let capacity = header.capacity;
    (len != capacity).then(|| {
        Corruption::Other(format!("the file has {len} bytes, it was made with {capacity}"))
    })
}

/// The segment files of the log in `dir`, by number.
pub(crate) fn segment_files(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Vec<(u64, PathBuf)>, Error> {
    let folder = dir.join(name::SEGMENTS);
    let names = match storage.list(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Error::NotALog { path: dir.to_owned() });
        }
        other => other.map_err(Error::io("list", &folder))?,
    };
    let mut files: Vec<_> = names
        .iter()
        .filter_map(|file| name::number(file))
        .map(|number| (number, name::path(dir, number)))
        .collect();
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::read_still;
    use crate::storage::File;

    /// A file that a writer lengthens between the first question for its length and the first read.
    struct Lengthened {
        before: u64,
        bytes: Vec<u8>,
        asked: AtomicUsize,
    }

    impl File for Lengthened {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let start = usize::try_from(offset).unwrap().min(self.bytes.len());
            let end = (start + buffer.len()).min(self.bytes.len());
            buffer[..end - start].copy_from_slice(&self.bytes[start..end]);
            Ok(end - start)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("reading does not write")
        }

        fn sync(&self) -> io::Result<()> {
            unreachable!("reading does not sync")
        }

        fn sync_all(&self) -> io::Result<()> {
            unreachable!("reading does not sync")
        }

        fn map(&self) -> io::Result<bytes::Bytes> {
            unreachable!("what may be written is not mapped")
        }

        fn length(&self) -> io::Result<u64> {
            let first = self.asked.fetch_add(1, Ordering::Relaxed) == 0;
            Ok(if first { self.before } else { self.bytes.len() as u64 })
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            unreachable!("reading does not change the length")
        }
    }

    #[test]
    fn a_file_whose_length_changes_meanwhile_is_read_at_one_length() {
        for before in [0, 10, 100, 150] {
            let file = Lengthened { before, bytes: vec![7; 100], asked: AtomicUsize::new(0) };
            assert_eq!(
                read_still(&file).unwrap().bytes.len(),
                100,
                "the length was {before} at first"
            );
        }
    }
}
