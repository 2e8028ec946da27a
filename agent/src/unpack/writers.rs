//! Threads that write files' data, and then set owner, attributes, mode and time.
//!
//! One thread creates all names in the archive's order, so that links, replacements and directories need no
//! synchronisation. The remaining work on a regular file concerns only its open file, and any free thread
//! does it. Files are passed on in batches: waking a thread costs more than writing a small file.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ka::archive::{ArchiveError, Notes};
use rustix::io::Errno;

use super::UnpackError;
use super::attributes::Attributes;
use super::write_out::WriteOut;
use crate::read_back::{self, Sample};

/// The limit on a batch's data, in bytes.
const BYTES: usize = 256 << 10;
/// The limit on a batch's files: each is open until it is written.
const FILES: usize = 32;
/// The limit on a batch's pieces: a sparse file may have many.
const PIECES: usize = 4096;
/// More threads than this only wait for the file system's locks.
const MAX_THREADS: usize = 4;
/// Batches in addition to one per thread: one that is being filled, and one that waits.
const SPARE: usize = 2;

/// A file that already has its name, or a partition.
pub(super) struct NewFile {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
    /// Set when everything is written.
    pub(super) attributes: Option<Attributes>,
    /// The action for the complete file.
    pub(super) sync: WriteOut,
    /// Pieces of it may be read back.
    pub(super) sampled: bool,
}

impl NewFile {
    /// A duplicate of the open file. If too many files are open, it is not sampled.
    fn again(&self) -> Option<Written> {
        let changed = self.attributes.as_ref()?.changed();
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0).ok()?;
        Some(Written { fd, path: self.path.clone(), changed })
    }
}

/// A file of which a piece is read back. While this is open, the name and inode number stay its own.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) fd: OwnedFd,
    pub(super) path: Vec<u8>,
    /// Its modification time in the archive, in seconds.
    pub(super) changed: i64,
}

/// Some of a file's data. The thread that drops the last piece of a file finishes it.
struct Piece {
    file: Arc<NewFile>,
    offset: u64,
    range: Range<usize>,
}

struct Batch {
    bytes: Vec<u8>,
    used: usize,
    pieces: Vec<Piece>,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: vec![0; BYTES], used: 0, pieces: Vec::with_capacity(FILES) }
    }
}

/// The results of the threads.
#[derive(Default)]
struct FirstError {
    failed: AtomicBool,
    first: Mutex<Option<UnpackError>>,
}

impl FirstError {
    fn fail(&self, error: UnpackError) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<UnpackError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Passes files to the threads.
pub(super) struct Writers<'a> {
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    batch: Batch,
    outcome: &'a FirstError,
}

/// A thread's notes, and a sample of what it has written.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) notes: Notes,
    pub(super) sample: Sample<Written>,
}

/// Runs `work` while threads write the files that it passes on. Returns their results when everything is
/// written.
///
/// # Errors
/// The error of `work`, or the first one of a thread: after that nothing further is written.
pub(super) fn with_writers(
    work: impl FnOnce(&mut Writers<'_>) -> Result<(), UnpackError>,
) -> Result<Vec<Done>, UnpackError> {
    let count = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let outcome = FirstError::default();
    let (full, queue) = sync_channel(count + SPARE);
    let (spare, empty) = channel();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        let threads = (0..count)
            .map(|_| {
                let (queue, spare, outcome) = (&queue, spare.clone(), &outcome);
                let thread = thread::Builder::new().name("writer".into());
                thread.spawn_scoped(scope, move || {
                    let mut done =
                        Done { notes: Notes::default(), sample: Sample::new(read_back::PIECES / count) };
                    write_all(queue, &spare, outcome, &mut done);
                    done
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                UnpackError::System { action: "start a thread for", path: "the files".into(), errno }
            })?;
        for _ in 1..count + SPARE {
            // The receiving end is still open here.
            let _ = spare.send(Batch::new());
        }
        let mut writers = Writers { full, empty, batch: Batch::new(), outcome: &outcome };
        let worked = work(&mut writers).and_then(|()| writers.hand_over());
        // Closes the queue, so that the threads finish.
        drop(writers);
        let ended = |thread: thread::ScopedJoinHandle<'_, Done>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let done = threads.into_iter().map(ended).collect();
        match outcome.take() {
            Some(error) => Err(error),
            None => worked.map(|()| done),
        }
    })
}

impl Writers<'_> {
    /// Takes the next `len` bytes for `offset` of `file`. `read` fills as much as it can of its buffer and
    /// knows that `len` bytes are available.
    ///
    /// # Errors
    /// The error of `read`, or of a thread with an earlier file.
    pub(super) fn data(
        &mut self,
        file: &Arc<NewFile>,
        mut offset: u64,
        len: u64,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, ArchiveError>,
    ) -> Result<(), UnpackError> {
        let mut left = len;
        while left > 0 {
            let free = self.batch.bytes.get_mut(self.batch.used..).unwrap_or_default();
            let want = usize::try_from(left).map_or(free.len(), |left| left.min(free.len()));
            let got = read(free.get_mut(..want).unwrap_or_default())?;
            if got == 0 {
                // The decoder has checked that the data is as long as the entry says.
                return Err(UnpackError::system("write", &file.path, Errno::NODATA));
            }
            self.piece(Arc::clone(file), offset, got);
            (left, offset) = (left - got as u64, offset + got as u64);
            if self.batch.used == BYTES || self.batch.pieces.len() == PIECES {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    /// Ends `file`, which gets its attributes when all of it is written.
    ///
    /// # Errors
    /// The error of a thread with an earlier file.
    pub(super) fn end(&mut self, file: Arc<NewFile>) -> Result<(), UnpackError> {
        self.piece(file, 0, 0);
        if self.batch.pieces.len() >= FILES { self.hand_over() } else { Ok(()) }
    }

    fn piece(&mut self, file: Arc<NewFile>, offset: u64, len: usize) {
        let start = self.batch.used;
        self.batch.used += len;
        let range = start..self.batch.used;
        match self.batch.pieces.last_mut() {
            // Adjacent data is written together; an end needs no piece of its own.
            Some(last) if Arc::ptr_eq(&last.file, &file) && (len == 0 || last.end() == offset) => {
                last.range.end = range.end;
            }
            _ => self.batch.pieces.push(Piece { file, offset, range }),
        }
    }

    fn hand_over(&mut self) -> Result<(), UnpackError> {
        if self.outcome.failed.load(Ordering::Acquire)
            && let Some(error) = self.outcome.take()
        {
            return Err(error);
        }
        // A thread that has panicked returns no result; the scope reports the panic.
        let gone = || UnpackError::system("write", b"the files", Errno::CANCELED);
        let next = self.empty.recv().map_err(|_| gone())?;
        let batch = std::mem::replace(&mut self.batch, next);
        self.full.send(batch).map_err(|_| gone())
    }
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.range.len() as u64
    }
}

/// Writes batches until there are no more. After a failure it only returns them.
fn write_all(queue: &Mutex<Receiver<Batch>>, spare: &Sender<Batch>, outcome: &FirstError, done: &mut Done) {
    loop {
        let batch = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut batch) = batch else { return };
        for piece in batch.pieces.drain(..) {
            if outcome.failed.load(Ordering::Acquire) {
                continue;
            }
            let data = batch.bytes.get(piece.range).unwrap_or_default();
            let written = write(&piece.file, data, piece.offset);
            if written.is_ok() {
                piece.file.sync.begin(&piece.file.fd, piece.offset, data.len());
            }
            if written.is_ok() && piece.file.sampled {
                done.sample.offer(piece.offset, data, || piece.file.again());
            }
            // The last holder knows that all of the file is written.
            let finished = written.and_then(|()| match Arc::into_inner(piece.file) {
                Some(NewFile { fd, path, attributes: Some(attributes), sync, .. }) => {
                    attributes.apply(fd.as_fd(), &path, &mut done.notes)?;
                    sync.perform(&fd).map_err(|errno| UnpackError::system("write out", &path, errno))
                }
                _ => Ok(()),
            });
            if let Err(error) = finished {
                outcome.fail(error);
            }
        }
        batch.used = 0;
        // At the end the batch is no longer taken back.
        let _ = spare.send(batch);
    }
}

fn write(file: &NewFile, mut data: &[u8], mut offset: u64) -> Result<(), UnpackError> {
    while !data.is_empty() {
        match rustix::io::pwrite(&file.fd, data, offset) {
            Ok(0) => return Err(UnpackError::system("write", &file.path, Errno::NOSPC)),
            Ok(written) => {
                data = data.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(UnpackError::system("write", &file.path, errno)),
        }
    }
    Ok(())
}
