//! Writes the nodes' logs to disk in a separate thread: the hub's heartbeats must not wait for a disk.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use ka::chain::NodeId;
use ka::session::Piece;
use ka::shown::{CONTEXT, mask};

/// The maximum size of a node's log, in bytes. The end of a longer log adds nothing.
const MAX_LOG: u64 = 64 * 1024 * 1024;
/// The limit for all logs of a session: this many bytes for each expected node, plus the space of `OTHERS`
/// more nodes.
const SHARE: u64 = 16 * 1024 * 1024;
const OTHERS: u64 = 4;
/// The maximum number of bytes queued for the disk.
const MAX_WAITING: usize = 64 * 1024 * 1024;

/// The logs of a session's nodes. Dropping it flushes everything queued.
pub(super) struct Logs {
    pieces: Option<Sender<Piece>>,
    waiting: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Logs {
    /// Creates the logs for about `nodes` nodes in `directory`, which is created with the first piece.
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

    /// Queues a piece without blocking.
    pub(super) fn store(&self, piece: Piece) {
        let length = piece.bytes.len();
        if self.waiting.fetch_add(length, Ordering::Relaxed) + length > MAX_WAITING {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            let (label, offset) = (&piece.label, piece.offset);
            log::error!("the log of {label} lacks {length} bytes at {offset}: the disk for logs is too slow");
        } else if self.pieces.as_ref().is_none_or(|pieces| pieces.send(piece).is_err()) {
            log::error!("the nodes' logs are no longer stored");
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

/// The log files and the space that is left for them.
#[derive(Default)]
struct Files {
    open: BTreeMap<NodeId, Log>,
    quota: u64,
}

/// A log's file and its length.
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
        // Holes count as written, so that the limit does not depend on how the file system stores them.
        let length = self.open.get(&piece.node).map_or(0, |log| log.length);
        let more = end.saturating_sub(length);
        self.quota = self.quota.checked_sub(more).ok_or_else(|| {
            io::Error::other("the nodes of this session have exceeded their common limit for logs")
        })?;
        let log = match self.open.entry(piece.node) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
                entry.insert(Log { file: new_file(directory, &piece.name)?, length: 0 })
            }
        };
        log.length += more;
        log.write(&piece.bytes, piece.offset)
    }
}

impl Log {
    /// The log is read on a terminal and its sender is untrusted: terminal control sequences are overwritten,
    /// even if they span two pieces.
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let context = offset.min(CONTEXT as u64);
        let mut all = vec![0; usize::try_from(context).unwrap_or(CONTEXT)];
        let before = read_at(&self.file, &mut all, offset - context)?;
        // A piece that arrives early leaves a hole before it.
        let begin = if before == all.len() { offset - context } else { offset };
        all.truncate(if begin == offset { 0 } else { before });
        let before = all.len();
        all.extend_from_slice(bytes);
        let mut behind = [0; CONTEXT];
        let length = read_at(&self.file, &mut behind, offset + bytes.len() as u64)?;
        all.extend_from_slice(&behind[..length]);
        mask(&mut all, before);
        self.file.write_all_at(&all, begin)
    }
}

/// Reads as much as is available.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// Creates a new file for a log: a machine that returns after a failure does not overwrite its earlier log.
fn new_file(directory: &Path, name: &str) -> io::Result<File> {
    for number in 1_u32.. {
        let file = if number == 1 { format!("{name}.log") } else { format!("{name}-{number}.log") };
        match OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(0o640)
            .open(directory.join(file))
        {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
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
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777 & !0o640;
        assert_eq!(
            (mode(&logs.join("node1.log")), mode(&logs) & 0o007),
            (0, 0),
            "logs are not for everybody"
        );
    }

    #[test]
    fn nothing_in_a_log_is_obeyed_by_a_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = Files { quota: 1 << 20, ..Files::default() };
        let said = "mkfs: \u{1b}[2J\r ok\n\u{202e}evil\u{9b}31m caf\u{e9} \u{1f980}\n".as_bytes();
        for (node, size) in [(1, said.len()), (2, 1), (3, 2), (4, 5)] {
            for (number, bytes) in said.chunks(size).enumerate() {
                files.write(directory.path(), &piece(node, (number * size) as u64, bytes)).unwrap();
            }
        }
        // The second half arrives first.
        let (first, second) = said.split_at(19);
        files.write(directory.path(), &piece(5, 19, second)).unwrap();
        files.write(directory.path(), &piece(5, 0, first)).unwrap();
        for node in 1..=5 {
            let stored = fs::read_to_string(directory.path().join(format!("node{node}.log"))).unwrap();
            assert_eq!(stored, "mkfs: ?[2J? ok\n???evil??31m caf\u{e9} \u{1f980}\n", "node{node}");
        }
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
