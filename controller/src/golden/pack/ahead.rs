//! Reading ahead of the walk, on a disk that has not been read before.
//!
//! The archive needs one file after the other, and a disk that is asked for one thing at a time is slow: a small file costs
//! it a directory's block, an inode and some data, each in a place of its own. So as soon as a file's data is not in
//! memory, threads walk the same tree in the same order some way ahead, and ask for many files at once. What they find
//! goes nowhere: the walk itself reads everything again, from memory. Nothing that goes wrong here matters.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Advice, FileType, Mode, OFlags};

use super::file;
use super::names::{Listing, Names};

/// So many files are asked for at once: what a disk's queue takes gladly.
const READERS: usize = 16;
/// So many names is the walk ahead at the most, and so much of each file is asked for: the rest is read in one go.
const AHEAD: u64 = 512;
const BEGINNING: u64 = 256 << 10;
/// When so many names in a row were in memory, it ends.
const WARM: u64 = 4096;
/// Trees that are deeper are not followed to their ends.
const DEEPEST: usize = 48;
/// How often it is looked at whether the walk has come nearer.
const LOOK: Duration = Duration::from_millis(1);

/// What the walk and the threads know of each other.
#[derive(Default)]
struct Places {
    /// Names that the walk has passed, and where it last found something that was not in memory.
    passed: AtomicU64,
    cold: AtomicU64,
    /// Files that were asked for.
    asked: AtomicU64,
    over: AtomicBool,
}

/// Reads ahead of one source's walk, when that is worth while.
pub(super) struct Ahead {
    root: PathBuf,
    places: Arc<Places>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// For the file system at `root`.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), places: Arc::default(), thread: None }
    }

    /// The walk has come to the next name.
    pub(super) fn pass(&self) {
        self.places.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// The data of the file at `path`, as seen from the root, was not in memory.
    pub(super) fn is_cold(&mut self, path: &[u8]) {
        let passed = self.places.passed.load(Ordering::Relaxed);
        self.places.cold.store(passed, Ordering::Relaxed);
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            let (root, places, path) = (self.root.clone(), Arc::clone(&self.places), path.to_vec());
            let thread = thread::Builder::new().name("read ahead".into());
            self.thread =
                thread.spawn(move || read_all(&root, &path, &places, passed).unwrap_or_default()).ok();
        }
    }

    /// How many files were asked for.
    #[cfg(test)]
    fn asked(&self) -> u64 {
        self.places.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.places.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that reads ahead has panicked");
        }
    }
}

/// A file to be asked for.
type Wanted = (Arc<OwnedFd>, Vec<u8>);

/// Walks the tree from `path` on.
fn read_all(root: &Path, path: &[u8], places: &Places, passed: u64) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let device = rustix::fs::fstat(&root)?.st_dev;
    let (wanted, queue) = sync_channel::<Wanted>(READERS);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| ask(&queue, places));
        }
        Walk { places, wanted, listing: Listing::new(), device, names: passed }.all(root, path)
    })
}

/// Asks for files, until there are no more.
fn ask(queue: &Mutex<Receiver<Wanted>>, places: &Places) {
    while let Some((directory, name)) = queue.lock().ok().and_then(|queue| queue.recv().ok()) {
        if let Ok(file) = file::open(directory.as_fd(), &name, OFlags::empty()) {
            places.asked.fetch_add(1, Ordering::Relaxed);
            // It may have become anything; then this says so.
            let _ = rustix::fs::fadvise(&file, 0, std::num::NonZero::new(BEGINNING), Advice::WillNeed);
        }
    }
}

struct Walk<'a> {
    places: &'a Places,
    wanted: SyncSender<Wanted>,
    listing: Listing,
    device: u64,
    /// Names that were passed here, as the walk counts them.
    names: u64,
}

impl Walk<'_> {
    fn all(mut self, root: OwnedFd, path: &[u8]) -> rustix::io::Result<()> {
        let names = self.listing.read(&root)?;
        let mut levels = vec![(Arc::new(root), names)];
        // Down to where the walk is, past all that comes before.
        for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
            let Some((directory, names)) = levels.last_mut() else { break };
            let directory = Arc::clone(directory);
            let Some(kind) = names.skip_to(part) else { break };
            if kind == FileType::Directory
                && let Some(level) = self.enter(&directory, part)
            {
                levels.push(level);
            }
        }
        while let Some((directory, names)) = levels.last_mut() {
            let Some((name, kind)) = names.next() else {
                levels.pop();
                continue;
            };
            if !self.wait() {
                break;
            }
            self.names += 1;
            let (directory, name) = (Arc::clone(directory), name.to_vec());
            match kind {
                FileType::Directory if levels.len() < DEEPEST => levels.extend(self.enter(&directory, &name)),
                FileType::RegularFile if self.wanted.send((directory, name)).is_err() => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, parent: &Arc<OwnedFd>, name: &[u8]) -> Option<(Arc<OwnedFd>, Names)> {
        let directory = file::open(parent.as_fd(), name, OFlags::DIRECTORY).ok()?;
        // What is mounted here is another source's, or nobody's.
        rustix::fs::fstat(&directory).ok().filter(|stat| stat.st_dev == self.device)?;
        let names = self.listing.read(&directory).ok()?;
        Some((Arc::new(directory), names))
    }

    /// Waits until the walk is near enough; false if nothing more is to be read.
    fn wait(&self) -> bool {
        loop {
            let passed = self.places.passed.load(Ordering::Relaxed);
            let warm = passed.saturating_sub(self.places.cold.load(Ordering::Relaxed)) > WARM;
            if warm || self.places.over.load(Ordering::Relaxed) {
                return false;
            }
            if self.names < passed + AHEAD {
                return true;
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_behind_the_walk_is_asked_for_and_no_further_than_so_far() {
        let tree = tempfile::tempdir().unwrap();
        for directory in 0..4 {
            let directory = tree.path().join(format!("d{directory}"));
            std::fs::create_dir(&directory).unwrap();
            for file in 0..500 {
                std::fs::write(directory.join(format!("f{file:03}")), "x").unwrap();
            }
        }
        let mut ahead = Ahead::new(tree.path());
        // The walk is in the second directory: 100 files of that and of the next two are behind it.
        for _ in 0..502 + 400 {
            ahead.pass();
        }
        ahead.is_cold(b"/d1/f399");
        let until = |count: u64| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while ahead.asked() < count {
                assert!(Instant::now() < deadline, "{} of {count}", ahead.asked());
                thread::sleep(Duration::from_millis(1));
            }
        };
        // 512 names further on, one of which is the third directory.
        until(511);
        assert_eq!(ahead.asked(), 511);
        for _ in 0..1000 {
            ahead.pass();
        }
        until(100 + 500 + 500);
    }
}
