//! A directory held in memory, so that the same files can be put back and damaged thousands of times.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Zeros are left out in pieces of this size: files made ahead are mostly holes.
const PIECE: usize = 64 << 10;

/// Files and their bytes.
#[derive(Clone, Debug, Default)]
pub struct Image(pub Vec<ImageFile>);

/// One file.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Below the directory.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Image {
    /// Reads the files below `dir`.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.add(dir, Path::new(""))?;
        image.0.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(image)
    }

    fn add(&mut self, dir: &Path, below: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(dir.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.add(dir, &path)?;
            } else if entry.file_type()?.is_file() {
                let mut bytes = Vec::new();
                File::open(entry.path())?.read_to_end(&mut bytes)?;
                self.0.push(ImageFile { path, bytes });
            }
        }
        Ok(())
    }

    /// Makes `dir` hold these files and no others.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        for ImageFile { path, bytes } in &self.0 {
            let path = dir.join(path);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = File::create(path)?;
            file.set_len(bytes.len() as u64)?;
            for (index, piece) in bytes.chunks(PIECE).enumerate() {
                if piece.iter().any(|&byte| byte != 0) {
                    file.write_all_at(piece, (index * PIECE) as u64)?;
                }
            }
        }
        Ok(())
    }

    /// The file that holds `bytes`, as its place in the image.
    pub fn holder(&self, bytes: &[u8]) -> Option<usize> {
        self.0.iter().position(|file| {
            let first = bytes.first().copied().unwrap_or_default();
            let mut from = 0;
            while let Some(at) = file.bytes[from..].iter().position(|&byte| byte == first) {
                if file.bytes[from + at..].starts_with(bytes) {
                    return true;
                }
                from += at + 1;
            }
            false
        })
    }
}
