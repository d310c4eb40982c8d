//! Looks at a log while its writer goes on, with the writer's deeds at every moment of the look.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use revenant_log::storage::fs::Fs;
use revenant_log::storage::{Access, File, Lock, LockError, Storage};
use revenant_log::verify::verify_on;
use revenant_log::{Log, Seq, Witnesses};

use crate::model::{small, transaction};

/// A disk on which something happens when a file is opened for the n-th time.
struct Meddled<F> {
    opened: AtomicUsize,
    at: usize,
    deed: F,
}

impl<F: Fn() + Send + Sync + 'static> Storage for Meddled<F> {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Fs.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Fs.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        if self.opened.fetch_add(1, Ordering::Relaxed) == self.at {
            (self.deed)();
        }
        Fs.open(path, access)
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

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        Fs.lock(path)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_trimmed_at_any_moment_of_a_verification_is_whole() {
    let mut at = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(small(dir.path()), Witnesses::none()).unwrap();
        for number in 0..60 {
            log.append(vec![transaction(number, 2, 3000)], None).await.unwrap();
        }
        let (runtime, writer) = (tokio::runtime::Handle::current(), log.clone());
        let deed = move || drop(runtime.block_on(writer.trim(Seq(100))).unwrap());
        let disk = Meddled { opened: AtomicUsize::new(0), at, deed };
        let path = dir.path().to_owned();
        let (report, opened) = tokio::task::spawn_blocking(move || {
            let report = verify_on(&disk, &path, &[]).unwrap();
            (report, disk.opened.into_inner())
        })
        .await
        .unwrap();
        assert!(report.findings.is_empty(), "trimmed at opening {at}: {:?}", report.findings);
        assert_eq!(report.last_seq, Seq(120));
        log.close().await.unwrap();
        if at >= opened {
            break;
        }
        at += 1;
    }
    assert!(at > 6, "only {at} files were opened");
}
