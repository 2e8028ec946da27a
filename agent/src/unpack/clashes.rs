//! Names that differ only in case on file systems that ignore it: FAT, exFAT, NTFS, and ext4 below `chattr
//! +F`.
//!
//! On these, `readme` opens `README`, and the second of two files in an archive would silently replace the
//! first. Only directories in which that can happen are tracked: each is tested once, by looking up something
//! created in it under a name with the other case. Files from before the archive may be replaced.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use ka::archive::shown;
use ka::letter_case::{folded, other_case};
use rustix::fs::{AtFlags, Dir};

use super::tree::PathAt;

/// What was created in case-folding directories, and what was left out because of that.
#[derive(Default)]
pub(super) struct Clashes {
    /// The directory tested last, and whether it folds case.
    last: Option<(Vec<u8>, bool)>,
    hasher: RandomState,
    /// Hashes of the paths that this archive has created in such directories.
    made: HashSet<u64>,
    /// Paths that were left out. The archive's entries below them have no place.
    lost: BTreeSet<Vec<u8>>,
}

impl Clashes {
    /// Records that `place` was created, if its directory folds case.
    pub(super) fn made(&mut self, place: &PathAt) {
        if self.folds(place) {
            self.made.insert(self.hasher.hash_one(&place.path));
        }
    }

    /// The path that this archive has created under another name, and which the file system finds as `place`.
    /// Call this when something exists there.
    pub(super) fn other(&mut self, place: &PathAt) -> Option<String> {
        if !self.folds(place) {
            return None;
        }
        let name = place.name().as_bytes();
        let names = listed(place.parent.as_fd());
        if names.iter().any(|listed| listed == name) {
            return None;
        }
        let mut alike = names.iter().filter(|listed| folded(listed) == folded(name)).peekable();
        if alike.peek().is_none() {
            // FAT gives each long name an additional short one, and accents have two encodings.
            return Some("another name".to_owned());
        }
        let is_made = |other: &&Vec<u8>| {
            let path = [parent(&place.path), other.as_slice()].concat();
            self.made.contains(&self.hasher.hash_one(&path))
        };
        alike.find(is_made).map(|other| shown(other))
    }

    /// Leaves out `path` and everything below it.
    pub(super) fn lose(&mut self, path: &[u8]) {
        self.lost.insert(path.to_vec());
    }

    /// Whether `path` is left out, itself or with a parent.
    pub(super) fn is_lost(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(end, _)| end);
        !self.lost.is_empty()
            && ends
                .chain([path.len()])
                .any(|end| path.get(..end).is_some_and(|above| self.lost.contains(above)))
    }

    /// Whether the directory of `place`, which has an entry with that name, folds case.
    fn folds(&mut self, place: &PathAt) -> bool {
        let parent = parent(&place.path);
        if let Some((last, folds)) = &self.last
            && last == parent
        {
            return *folds;
        }
        let Some(folds) = finds_other_case(place) else { return false };
        self.last = Some((parent.to_vec(), folds));
        folds
    }
}

/// Whether the entry at `place` is also found under a name with the other case; `None` if the name has no
/// case.
fn finds_other_case(place: &PathAt) -> Option<bool> {
    let name = place.name().as_bytes();
    let other = other_case(name)?;
    let number = |name: &[u8]| {
        let stat = rustix::fs::statat(&place.parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let Some(found) = number(&other) else { return Some(false) };
    // Where case matters, both may exist as names of one file.
    Some(number(name)? == found && !listed(place.parent.as_fd()).contains(&other))
}

/// All names in a directory that can be read.
fn listed(directory: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let entries = Dir::read_from(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_bytes().to_vec()).collect()
}

/// The directory part of a path, with the slash.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').and_then(|slash| path.get(..=slash)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_something_lost_is_lost() {
        let mut clashes = Clashes::default();
        assert!(!clashes.is_lost(b"a/b"));
        clashes.lose(b"a/b");
        for (path, lost) in [("a/b", true), ("a/b/c/d", true), ("a", false), ("a/bc", false), ("b", false)] {
            assert_eq!(clashes.is_lost(path.as_bytes()), lost, "{path}");
        }
    }
}
