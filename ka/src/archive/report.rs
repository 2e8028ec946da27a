//! Progress and notes of a packer or unpacker.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::notes::{NoteKind, Tally};
use crate::shown::is_hostile;

/// The progress of a packer or unpacker, readable from any thread.
#[derive(Debug, Default)]
pub struct Progress {
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Progress {
    /// Entries begun.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes of the archive's stream.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Reports the progress.
    pub fn set(&self, entries: u64, bytes: u64) {
        self.entries.store(entries, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Something about one file that a person should know but that is not a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file's path in the archive.
    pub path: Vec<u8>,
    /// What happened.
    pub what: String,
    /// The kind under which it is counted.
    pub kind: NoteKind,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", shown(&self.path), self.what)
    }
}

/// The notes about one tree. Only the first of each kind are kept, since a problem may affect every file of a
/// large tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    list: Vec<Note>,
    tally: Tally,
    omitted: u64,
}

impl Notes {
    /// How many are kept.
    pub const MAX: usize = 1000;

    /// Adds one.
    pub fn push(&mut self, kind: NoteKind, path: &[u8], what: impl Into<String>) {
        let note = Note { path: path.to_vec(), what: what.into(), kind };
        self.tally.add(kind, &note.to_string());
        if self.list.len() < Self::MAX {
            self.list.push(note);
        } else {
            self.omitted += 1;
        }
    }

    /// Adds the notes of a part of the work.
    pub fn append(&mut self, more: Self) {
        let room = Self::MAX - self.list.len().min(Self::MAX);
        let beyond = more.list.len().saturating_sub(room);
        self.list.extend(more.list.into_iter().take(room));
        self.omitted += more.omitted + beyond as u64;
        self.tally.merge(&more.tally);
    }

    /// The first notes.
    #[must_use]
    pub fn first(&self) -> &[Note] {
        &self.list
    }

    /// How many more there were.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// The count of each kind.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Logs them as warnings.
    pub fn log(&self) {
        self.list.iter().for_each(|note| log::warn!("{note}"));
        if self.omitted > 0 {
            log::warn!("and {} more", self.omitted);
        }
    }
}

/// A path of any bytes in a form that a person can read and type: control characters are escaped, invalid
/// UTF-8 is replaced.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for c in String::from_utf8_lossy(path).chars() {
        if is_hostile(c) { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}
