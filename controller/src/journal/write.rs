//! Writes the events in a separate thread: the hub's heartbeats must not wait for a disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use ka::session::Event;
use ka::session::event::VERSION;
use ka_host::atomic::FileError;
use mio::Waker;
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::Serialize;

use super::{EVENTS, Opened};

/// The maximum size of the pending events in bytes. If a disk stays full for longer, the journal ends, not
/// the run.
const MAX_WAITING: usize = 64 << 20;

/// The maximum size of a journal in bytes. A node with the join key causes a line with each of its steps, and
/// must not fill the disk. A run of a thousand nodes takes some 30 MB.
const MAX_LENGTH: u64 = 512 << 20;

/// The journal of an active run. Dropping it writes everything recorded.
pub struct Journal {
    lines: Option<Sender<Line>>,
    thread: Option<JoinHandle<()>>,
    recorded: u64,
    written: Arc<AtomicU64>,
}

struct Line {
    bytes: Vec<u8>,
    number: u64,
    /// An effect waits for the events to be on disk.
    is_decision: bool,
    /// Called once they are.
    waker: Option<Arc<Waker>>,
}

/// A line of the file.
#[derive(Serialize)]
struct Entry<'a, T> {
    /// Lines are numbered from 0, independent of the clock.
    seq: u64,
    /// Milliseconds since 1970 (UTC), by this machine's clock.
    at: u64,
    #[serde(flatten)]
    what: &'a T,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum First<'a> {
    Opened(&'a Opened),
}

impl Journal {
    /// Creates the journal of a new run in its directory.
    ///
    /// # Errors
    /// The file's error.
    pub fn create(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join(EVENTS);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(FileError::new("make", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|e| FileError::new("lock", &path)(e.into()))?;
        Self::start(file, 0, 0).map_err(FileError::new("write", &path))
    }

    /// Continues after `length` valid bytes of `file`; the next line has the number `next`.
    pub(super) fn start(file: File, length: u64, next: u64) -> io::Result<Self> {
        file.set_len(length)?;
        let written = Arc::new(AtomicU64::new(0));
        let (lines, from_hub) = channel();
        let log =
            Log { file, length, most: MAX_LENGTH, waiting: Vec::new(), is_failing: false, is_over: false };
        let done = Arc::clone(&written);
        let thread =
            thread::Builder::new().name("journal".into()).spawn(move || keep(log, &from_hub, &done))?;
        let mut journal = Self { lines: Some(lines), thread: Some(thread), recorded: next, written };
        let opened = Opened { schema: VERSION, ka: env!("CARGO_PKG_VERSION").to_owned() };
        journal.append(&First::Opened(&opened), true, None);
        Ok(journal)
    }

    /// Records an event. Its effects wait until [`Journal::written`] has reached the number returned.
    pub(crate) fn record(&mut self, event: &Event, waker: &Arc<Waker>) -> u64 {
        self.append(event, event.is_decision(), Some(Arc::clone(waker)))
    }

    /// The number of lines that are on disk or have been given up.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Gives the journal up without waiting for its disk, which may never answer.
    pub(crate) fn abandon(mut self) {
        drop(self.thread.take());
    }

    fn append(&mut self, what: &impl Serialize, is_decision: bool, waker: Option<Arc<Waker>>) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let entry = Entry { seq: self.recorded, at: u64::try_from(now).unwrap_or(u64::MAX), what };
        self.recorded += 1;
        match serde_json::to_vec(&entry) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                let line = Line { bytes, number: self.recorded, is_decision, waker };
                if self.lines.as_ref().is_none_or(|lines| lines.send(line).is_err()) {
                    log::error!("the journal's thread has ended: this run cannot be resumed");
                    self.written.store(u64::MAX, Ordering::Release);
                }
            }
            Err(error) => log::error!("an event cannot be written into the journal: {error}"),
        }
        self.recorded
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.lines = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the journal's thread has panicked");
        }
    }
}

/// The file, and the data that it does not have yet.
struct Log {
    file: File,
    /// The size of all complete lines.
    length: u64,
    most: u64,
    waiting: Vec<u8>,
    is_failing: bool,
    /// The file has reached its maximum size.
    is_over: bool,
}

/// Writes incoming events, and syncs once for all that have arrived in the meantime.
fn keep(mut log: Log, from_hub: &Receiver<Line>, written: &AtomicU64) {
    while let Ok(first) = from_hub.recv() {
        let mut last = first.number;
        let (mut sync, mut waker) = (first.is_decision, first.waker);
        log.waiting.extend(first.bytes);
        while let Ok(line) = from_hub.try_recv() {
            last = line.number;
            sync |= line.is_decision;
            waker = waker.or(line.waker);
            log.waiting.extend(line.bytes);
        }
        log.write(sync);
        written.store(last, Ordering::Release);
        if let Some(Err(error)) = waker.filter(|_| sync).map(|waker| waker.wake()) {
            log::error!("cannot wake the hub: {error}");
        }
    }
}

impl Log {
    /// A run continues without its journal; it only has to report that it cannot be resumed from here.
    fn write(&mut self, sync: bool) {
        if self.is_over || self.length + self.waiting.len() as u64 > self.most {
            self.waiting.clear();
            if !std::mem::replace(&mut self.is_over, true) {
                log::error!(
                    "the journal has reached {} MiB; the run goes on, and could only be resumed from what was written \
                     before",
                    self.most >> 20
                );
            }
            return;
        }
        let outcome = self
            .file
            .write_all_at(&self.waiting, self.length)
            .and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match outcome {
            Ok(()) => {
                self.length += self.waiting.len() as u64;
                self.waiting.clear();
                if std::mem::take(&mut self.is_failing) {
                    log::warn!("the journal is being written again, and is complete");
                }
            }
            Err(error) => {
                // A partial line must not remain in the middle.
                let cut = self.file.set_len(self.length);
                if !std::mem::replace(&mut self.is_failing, true) {
                    log::error!(
                        "the journal cannot be written: {error}; the run continues, and could only be \
                         resumed from what was written before"
                    );
                    if let Err(error) = cut {
                        log::error!("the journal's last line cannot be cut off: {error}");
                    }
                }
                if self.waiting.len() > MAX_WAITING {
                    self.waiting.clear();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::chain::NodeId;

    fn event(node: u32) -> Event {
        Event::Ready { node: NodeId(node) }
    }

    #[test]
    fn a_disk_that_is_full_for_a_while_costs_no_line() {
        // Every write to it fails.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let waiting = b"one\n".to_vec();
        let mut log =
            Log { file: full, length: 0, most: MAX_LENGTH, waiting, is_failing: false, is_over: false };
        log.write(true);
        assert!(log.is_failing && log.length == 0);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        log.file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        log.waiting.extend(b"two\n");
        log.write(true);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert!(!log.is_failing);
    }

    #[test]
    fn a_journal_has_an_end_and_no_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events");
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        let waiting = b"one\n".to_vec();
        let mut log = Log { file, length: 0, most: 8, waiting, is_failing: false, is_over: false };
        log.write(true);
        for line in ["longer\n", "two\n"] {
            log.waiting.extend(line.as_bytes());
            log.write(true);
            assert!(log.waiting.is_empty());
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n", "a line after one that is missing");
    }

    #[test]
    fn lines_count_up_and_are_written_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(directory.path()).unwrap();
        for node in 1..=3 {
            journal.append(&event(node), false, None);
        }
        drop(journal);
        let text = std::fs::read_to_string(directory.path().join(EVENTS)).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("seq"), [0, 1, 2, 3]);
        assert_eq!(of("event"), ["opened", "ready", "ready", "ready"]);
        assert!(Journal::create(directory.path()).is_err(), "it is there already");
    }
}
