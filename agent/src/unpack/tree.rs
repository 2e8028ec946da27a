//! Places beneath a directory, reached without ever leaving it.
//!
//! A path is walked one part at a time from an open directory, and no part may be a symbolic link, so
//! neither an archive nor what is on the disk can lead elsewhere. The last directory stays open: an
//! archive names what is in it one after the other. Paths may be longer than the kernel's limit.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use ka::archive::{Traits, shown};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::UnpackError;
use crate::sys::inode;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Mode of a directory that the archive has no entry for.
const MISSING: Mode = Mode::from_raw_mode(0o755);

/// The path of an archive's entry as parts with single slashes between them; empty for the root.
pub(super) fn inside(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let refused = |reason| UnpackError::Refused { path: shown(path), reason };
    if path.first() == Some(&b'/') {
        return Err(refused("its path is absolute"));
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused("its path has a `..`")),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend(part);
            }
        }
    }
    Ok(clean)
}

/// A name in an open directory.
pub(super) struct Place {
    /// The directory.
    pub(super) parent: Rc<OwnedFd>,
    /// The whole path from the root, for messages.
    pub(super) path: Vec<u8>,
    /// The directory gives what is made in it a default ACL.
    pub(super) inherits: bool,
    /// The directory has flags or a project, some of which are given to what is made in it.
    pub(super) inherits_traits: bool,
}

impl Place {
    /// The last part of the path.
    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.path.rsplit(|&b| b == b'/').next().unwrap_or_default())
    }
}

/// The directory beneath which everything happens.
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// The directory used last.
    last: Last,
    /// One directory of each file system that was written to, by device number.
    file_systems: BTreeMap<u64, Rc<OwnedFd>>,
}

#[derive(Clone)]
struct Last {
    path: Vec<u8>,
    fd: Rc<OwnedFd>,
    inherits: bool,
    inherits_traits: bool,
}

impl Last {
    fn new(path: Vec<u8>, fd: Rc<OwnedFd>) -> Self {
        let traits = inode::read(fd.as_fd()).map_or_else(|_| Traits::default(), |found| found.traits);
        Self { path, inherits: inherits(&fd), inherits_traits: traits != Traits::default(), fd }
    }
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, UnpackError> {
        // The directory itself may be given by a symbolic link: it comes from a person, not from the archive.
        let flags = OPEN.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::open(root, flags, Mode::empty())
            .map_err(|e| UnpackError::system("open", root.as_os_str().as_bytes(), e))?;
        let root = Rc::new(fd);
        let last = Last::new(Vec::new(), Rc::clone(&root));
        let mut tree = Self { root, last: last.clone(), file_systems: BTreeMap::new() };
        tree.remember(&last)?;
        Ok(tree)
    }

    /// Where to make the entry `path`; directories on the way that are missing are made.
    pub(super) fn place(&mut self, path: &[u8]) -> Result<Place, UnpackError> {
        self.walk(parent(path), true)?;
        Ok(self.place_in_last(path))
    }

    /// Where the entry `path`, which should be there, is.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Place, UnpackError> {
        self.walk(parent(path), false)?;
        Ok(self.place_in_last(path))
    }

    fn place_in_last(&self, path: &[u8]) -> Place {
        let Last { fd, inherits, inherits_traits, .. } = &self.last;
        Place {
            parent: Rc::clone(fd),
            path: path.to_vec(),
            inherits: *inherits,
            inherits_traits: *inherits_traits,
        }
    }

    /// Opens the directory `path`.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let place = self.existing(path)?;
        rustix::fs::openat(&place.parent, place.name(), OPEN, Mode::empty())
            .map(Rc::new)
            .map_err(|e| UnpackError::system("open", path, e))
    }

    /// A directory was removed, or is not what it was.
    pub(super) fn forget(&mut self) {
        self.last = Last::new(Vec::new(), Rc::clone(&self.root));
    }

    /// Waits until every file system that was written to has everything on its disk.
    pub(super) fn sync(&self) -> Result<(), UnpackError> {
        for fd in self.file_systems.values() {
            rustix::fs::syncfs(fd).map_err(|e| UnpackError::system("sync", b"the file system", e))?;
        }
        Ok(())
    }

    /// Makes the directory `path` the one that is open.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<(), UnpackError> {
        if path == self.last.path {
            return Ok(());
        }
        let below = match path.strip_prefix(self.last.path.as_slice()) {
            Some(rest) if !self.last.path.is_empty() => rest.strip_prefix(b"/"),
            _ => None,
        };
        let (mut fd, rest) = match below {
            Some(rest) => (Rc::clone(&self.last.fd), rest),
            None => (Rc::clone(&self.root), path),
        };
        // The root itself has no part.
        for part in rest.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
            fd = Rc::new(descend(&fd, part, make).map_err(|errno| match errno {
                Errno::LOOP | Errno::NOTDIR => UnpackError::Refused {
                    path: shown(path),
                    reason: "a part of its path is there and is no directory",
                },
                errno => UnpackError::system("open the directory", path, errno),
            })?);
        }
        let last = Last::new(path.to_vec(), fd);
        self.remember(&last)?;
        self.last = last;
        Ok(())
    }

    fn remember(&mut self, last: &Last) -> Result<(), UnpackError> {
        let stat = rustix::fs::fstat(&last.fd).map_err(|e| UnpackError::system("look at", &last.path, e))?;
        self.file_systems.entry(stat.st_dev).or_insert_with(|| Rc::clone(&last.fd));
        Ok(())
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').and_then(|slash| path.get(..slash)).unwrap_or_default()
}

fn descend(from: &OwnedFd, part: &[u8], make: bool) -> rustix::io::Result<OwnedFd> {
    let part = OsStr::from_bytes(part);
    match rustix::fs::openat(from, part, OPEN, Mode::empty()) {
        Err(Errno::NOENT) if make => {
            rustix::fs::mkdirat(from, part, MISSING)?;
            rustix::fs::openat(from, part, OPEN, Mode::empty())
        }
        opened => opened,
    }
}

/// Does the directory have a default ACL?
fn inherits(directory: &OwnedFd) -> bool {
    rustix::fs::fgetxattr_query(directory, super::attributes::ACL_DEFAULT).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, clean) in
            [(&b"."[..], &b""[..]), (b"./a//b/./c", b"a/b/c"), (b"a", b"a"), (b"...", b"...")]
        {
            assert_eq!(inside(path).unwrap(), clean);
        }
        for bad in [&b"/"[..], b"/etc/passwd", b"..", b"a/../b", b"./.."] {
            assert!(matches!(inside(bad), Err(UnpackError::Refused { .. })));
        }
    }
}
