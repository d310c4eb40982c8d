//! The archive: hard links to every segment of the scheduler's log, so that the checker reads the whole log
//! although the scheduler trims it. The archive is a log directory itself. In the end, when nobody writes any
//! more, what was trimmed is put back, so that people find a whole log.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::site::Site;

/// Between two looks. A segment stays for at least five capture windows, which is far longer.
const EVERY: Duration = Duration::from_millis(500);

/// Where a log directory has its segments.
const SEGMENTS: &str = "seg";

/// Does `work`, and links meanwhile what is new; on return every segment that is there is linked.
pub(super) async fn beside<T>(site: &Site, work: impl Future<Output = Result<T>>) -> Result<T> {
    let keep = async {
        loop {
            link(site)?;
            tokio::time::sleep(EVERY).await;
        }
    };
    let done = tokio::select! {
        done = work => done?,
        failed = keep => return failed,
    };
    link(site)?;
    Ok(done)
}

/// Links every segment that is there now and not yet linked, where the log is trimmed.
fn link(site: &Site) -> Result<()> {
    if !site.trims {
        return Ok(());
    }
    let (from, to) = (site.log_dir().join(SEGMENTS), site.archive_dir().join(SEGMENTS));
    fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
    for path in files(&from)? {
        let Some(name) = path.file_name() else { continue };
        let kept = to.join(name);
        link_one(&path, &kept).with_context(|| format!("link {}", path.display()))?;
    }
    Ok(())
}

/// Gives the log its trimmed segments back, and ends the archive. The scheduler has stopped before.
pub(super) fn put_back(site: &Site) -> Result<()> {
    let archive = site.archive_dir();
    if !archive.exists() {
        return Ok(());
    }
    let to = site.log_dir().join(SEGMENTS);
    let there = files(&to)?;
    let first = there.iter().filter_map(|path| path.file_name()).min();
    for path in files(&archive.join(SEGMENTS))? {
        let Some(name) = path.file_name() else { continue };
        // What comes after the first that is left was a spare, and is gone for good.
        if first.is_some_and(|first| name < first) {
            let link = fs::hard_link(&path, to.join(name));
            link.with_context(|| format!("put {} back", path.display()))?;
        }
    }
    fs::remove_dir_all(&archive).with_context(|| format!("remove {}", archive.display()))
}

/// The files of a directory; none before it is there.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.with_context(|| format!("list {}", dir.display()))?,
    };
    listed.map(|file| Ok(file?.path())).collect()
}

/// A spare that a restart made anew has the name of the one before, and takes its place.
fn link_one(path: &Path, kept: &Path) -> std::io::Result<()> {
    let number = |path: &Path| fs::metadata(path).map(|file| file.ino());
    let linked = match (number(path), number(kept)) {
        // Trimmed, or a spare removed, since it was listed.
        (Err(error), _) if error.kind() == ErrorKind::NotFound => return Ok(()),
        (Err(error), _) => return Err(error),
        (Ok(one), Ok(other)) if one == other => return Ok(()),
        (Ok(_), Ok(_)) => fs::remove_file(kept).and_then(|()| fs::hard_link(path, kept)),
        (Ok(_), Err(_)) => fs::hard_link(path, kept),
    };
    match linked {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        linked => linked,
    }
}
