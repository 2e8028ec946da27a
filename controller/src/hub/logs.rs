//! The nodes' logs go to the disk in a thread of their own: the hub's heartbeats must not wait for one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use ka::chain::NodeId;

/// A node's log is cut here, in bytes: a log that is longer tells nothing more.
const MAX_LOG: u64 = 64 * 1024 * 1024;
/// All logs of a session together: so many bytes for each node that it waits for, and for others as many as these.
const SHARE: u64 = 16 * 1024 * 1024;
const OTHERS: u64 = 4;
/// So many bytes may wait for the disk.
const MAX_WAITING: usize = 64 * 1024 * 1024;

/// A piece of a node's log.
pub(super) struct Piece {
    /// Whose it is.
    pub(super) node: NodeId,
    /// What a person calls the node, for messages.
    pub(super) label: String,
    /// What the file is called, without its ending.
    pub(super) name: String,
    /// Where in the log the bytes stand.
    pub(super) offset: u64,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

/// The logs of a session's nodes. All that was stored is written when this is dropped.
pub(super) struct Logs {
    pieces: Option<Sender<Piece>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Logs of about `nodes` nodes in `directory`, which is made when the first piece comes.
    pub(super) fn new(directory: PathBuf, nodes: usize) -> io::Result<Self> {
        let mut files = Files { quota: SHARE * (OTHERS + nodes as u64), ..Files::default() };
        Self::start(move |piece| files.write(&directory, piece))
    }

    fn start(mut write: impl FnMut(&Piece) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (pieces, stored): (_, Receiver<Piece>) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let still = Arc::clone(&waiting);
        let thread = thread::Builder::new().name("logs".into()).spawn(move || {
            for piece in stored {
                if let Err(error) = write(&piece) {
                    log::error!("the log of {} cannot be stored: {error}", piece.label);
                }
                still.fetch_sub(piece.bytes.len(), Ordering::Relaxed);
            }
        })?;
        Ok(Self { pieces: Some(pieces), waiting, thread: Some(thread) })
    }

    /// Hands a piece over, and waits for nothing.
    pub(super) fn store(&self, piece: Piece) {
        let length = piece.bytes.len();
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length > MAX_WAITING {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            let (label, offset) = (&piece.label, piece.offset);
            log::error!("the log of {label} lacks {length} bytes at {offset}: the disk for logs is too slow");
        } else if self.pieces.as_ref().is_none_or(|pieces| pieces.send(piece).is_err()) {
            log::error!("nobody stores the nodes' logs any more");
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.pieces = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that stores logs has panicked");
        }
    }
}

/// The logs' files, and how much they may still take.
#[derive(Default)]
struct Files {
    open: BTreeMap<NodeId, Log>,
    quota: u64,
}

/// A log's file, and how long it is.
struct Log {
    file: File,
    length: u64,
}

impl Files {
    fn write(&mut self, directory: &Path, piece: &Piece) -> io::Result<()> {
        let end = piece.offset.saturating_add(piece.bytes.len() as u64);
        if end > MAX_LOG {
            return Err(io::Error::other("the log is too long"));
        }
        // Holes count as if they were written, so that nobody has to tell what the file system does with them.
        let length = self.open.get(&piece.node).map_or(0, |log| log.length);
        let more = end.saturating_sub(length);
        self.quota = self.quota.checked_sub(more).ok_or_else(|| {
            io::Error::other("the nodes of this session have sent more log than all of them together may")
        })?;
        let log = match self.open.entry(piece.node) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                fs::create_dir_all(directory)?;
                entry.insert(Log { file: new_file(directory, &piece.name)?, length: 0 })
            }
        };
        log.length += more;
        log.file.write_all_at(&piece.bytes, piece.offset)
    }
}

/// A new file for a log: a machine that comes again after a failure does not overwrite what it said before.
fn new_file(directory: &Path, name: &str) -> io::Result<File> {
    for number in 1_u32.. {
        let file = if number == 1 { format!("{name}.log") } else { format!("{name}-{number}.log") };
        match OpenOptions::new().create_new(true).write(true).open(directory.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    fn piece(node: u32, offset: u64, bytes: &[u8]) -> Piece {
        let name = format!("node{node}");
        Piece { node: NodeId(node), label: name.clone(), name, offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn each_node_has_its_own_file_and_none_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("a/b");
        for round in 0..2 {
            let store = Logs::new(logs.clone(), 2).unwrap();
            store.store(piece(1, 3, b"def"));
            store.store(piece(2, 0, b"other"));
            store.store(piece(1, 0, b"abc"));
            store.store(piece(1, MAX_LOG, b"too long"));
            drop(store);
            let name = if round == 0 { "node1.log" } else { "node1-2.log" };
            assert_eq!(fs::read(logs.join(name)).unwrap(), b"abcdef");
        }
        assert_eq!(fs::read_dir(&logs).unwrap().count(), 4);
    }

    #[test]
    fn all_logs_together_have_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files { quota: 10, ..Files::default() };
        let mut write =
            |node, offset, bytes: &[u8]| files.write(directory.path(), &piece(node, offset, bytes)).is_ok();
        assert!(write(1, 0, b"abcd") && write(2, 0, b"efgh"));
        assert!(write(1, 0, b"abcd"), "what is said again takes no more room");
        assert!(!write(3, 0, b"ijk"), "a third one has none");
        assert!(!directory.path().join("node3.log").exists());
        assert!(write(1, 4, b"ef") && !write(2, 4, b"x"));
    }

    #[test]
    fn a_disk_that_hangs_holds_up_nobody_and_takes_no_memory_for_ever() {
        let (go_on, hangs) = sync_channel::<()>(0);
        let (tell, written) = channel();
        let store = Logs::start(move |piece| {
            let _ = hangs.recv();
            tell.send(piece.bytes.len()).map_err(io::Error::other)
        });
        let store = store.unwrap();
        let half = vec![0; MAX_WAITING / 2];
        for _ in 0..5 {
            store.store(piece(1, 0, &half));
        }
        drop(go_on);
        drop(store);
        assert_eq!(written.iter().collect::<Vec<_>>(), [half.len(), half.len()]);
    }
}
