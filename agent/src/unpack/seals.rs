//! Immutable files and directories (`+i`, `+a`): those that existed before, and those that become immutable.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ka::archive::{Flags, Notes};
use ka::notes::NoteKind;
use rustix::fs::{Mode, OFlags};

use super::attributes::Attributes;
use super::tree::{PathAt, Tree};
use super::{UnpackError, Unpacker, traits};

/// Opens without waiting for a pipe's other end, and without following a link put in its place.
const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// What gets `+i` or `+a` when there is nothing more to change.
#[derive(Debug, Default)]
pub struct Sealed(Mutex<Vec<(Vec<u8>, Flags)>>);

/// Sets `+i` and `+a` beneath `root` on everything that should have them and still exists.
///
/// # Errors
/// `root` cannot be opened.
pub fn seal(root: &Path, sealed: &Sealed) -> Result<Notes, UnpackError> {
    let mut tree = Tree::open(root)?;
    let mut notes = Notes::default();
    let list = std::mem::take(&mut *sealed.0.lock().unwrap_or_else(PoisonError::into_inner));
    all(&mut tree, list, &mut notes);
    Ok(notes)
}

/// `+i` on a directory does not prevent setting flags on its contents.
fn all(tree: &mut Tree, list: impl IntoIterator<Item = (Vec<u8>, Flags)>, notes: &mut Notes) {
    for (path, flags) in list {
        let opened = if path.is_empty() {
            tree.directory(&path).ok()
        } else {
            let opened = tree.existing(&path).ok().map(|place| {
                rustix::fs::openat(&place.parent, place.name(), OPEN, Mode::empty()).map(std::rc::Rc::new)
            });
            opened.and_then(Result::ok)
        };
        if let Some(file) = opened {
            traits::seal(file.as_fd(), &path, flags, notes);
        }
    }
}

impl<R> Unpacker<'_, R> {
    /// Records that the new entry at `path` gets `+i` and `+a` later, and forgets the entry that it replaces.
    pub(super) fn mark(&mut self, path: &[u8], attributes: &Attributes) {
        if attributes.seal().is_empty() {
            self.seals.remove(path);
        } else {
            self.seals.insert(path.to_vec(), attributes.seal());
        }
    }

    /// Makes an existing directory changeable. It gets its flags back at the end, unless the archive says
    /// otherwise.
    pub(super) fn unseal(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> bool {
        match traits::unseal(directory) {
            Ok(flags) if !flags.is_empty() => {
                self.seals.entry(path.to_vec()).or_insert(flags);
                true
            }
            _ => false,
        }
    }

    /// Does the same for the directory of `place`.
    pub(super) fn unseal_parent(&mut self, place: &PathAt) -> bool {
        let path = place.path.iter().rposition(|&b| b == b'/').and_then(|slash| place.path.get(..slash));
        self.unseal(place.parent.as_fd(), path.unwrap_or_default())
    }

    /// Makes the entry at `place` removable, and records that.
    pub(super) fn unseal_old(&mut self, place: &PathAt) -> bool {
        let opened = rustix::fs::openat(&place.parent, place.name(), OPEN, Mode::empty());
        let flags = opened.ok().and_then(|old| traits::unseal(old.as_fd()).ok()).unwrap_or_default();
        if flags.is_empty() {
            return false;
        }
        let what = format!("it existed with {}, and is replaced", flags.names());
        self.summary.notes.push(NoteKind::ImmutableReplaced, &place.path, what);
        true
    }

    /// Sets `+i` and `+a`, or leaves that to the caller.
    pub(super) fn seal(&mut self) {
        let seals = std::mem::take(&mut self.seals).into_iter().filter(|(_, flags)| !flags.is_empty());
        match &self.options.sealed {
            Some(sealed) => sealed.0.lock().unwrap_or_else(PoisonError::into_inner).extend(seals),
            None => all(&mut self.tree, seals, &mut self.summary.notes),
        }
    }
}
