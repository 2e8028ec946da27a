//! Places beneath a directory, reached without ever leaving it.
//!
//! A path is walked one component at a time from an open directory, and no component may be a symbolic link,
//! so neither an archive nor existing files can lead elsewhere. The last directory stays open, since an
//! archive lists a directory's entries together. Paths may exceed the kernel's limit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ka::archive::{Traits, shown};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::write_out::WriteOut;
use ka_host::health::{self, Watched};
use ka_host::sys::inode;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Mode of a directory for which the archive has no entry.
const MISSING: Mode = Mode::from_raw_mode(0o755);

/// The longest path in bytes. The kernel accepts 4096 per call; unpacking accepts more, but has a limit.
const MAX_PATH: usize = 64 << 10;
/// A directory's default ACL.
pub(super) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// The path of an archive's entry as components separated by single slashes; empty for the root.
pub(super) fn inside(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let refused = |reason| UnpackError::Refused { path: shown(path), reason };
    if path.len() > MAX_PATH {
        return Err(UnpackError::Refused { path: beginning(path), reason: "its path is longer than 64 KiB" });
    }
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

/// Shortens a path that is too long for a message.
pub(super) fn beginning(path: &[u8]) -> String {
    const MAX_SHOWN: usize = 200;
    if path.len() > MAX_SHOWN { format!("{}...", shown(&path[..MAX_SHOWN])) } else { shown(path) }
}

/// A name in an open directory.
pub(super) struct PathAt {
    /// The directory.
    pub(super) parent: Rc<OwnedFd>,
    /// The whole path from the root, for messages.
    pub(super) path: Vec<u8>,
    /// The directory has a default ACL that its new entries inherit.
    pub(super) inherits: bool,
    /// How its file system needs each file written out.
    pub(super) each_file: WriteOut,
    /// The directory has flags or a project, some of which its new entries inherit.
    pub(super) inherits_traits: bool,
}

impl PathAt {
    /// The last component of the path.
    pub(super) fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.path.rsplit(|&b| b == b'/').next().unwrap_or_default())
    }
}

/// The directory that contains everything.
pub(super) struct Tree {
    root: Rc<OwnedFd>,
    /// Its name in messages.
    at: PathBuf,
    /// The directory used last.
    last: Last,
    /// Each file system written to, by device number, open since before the first write.
    file_systems: BTreeMap<u64, FileSystem>,
}

struct FileSystem {
    watched: Watched,
    each_file: WriteOut,
}

#[derive(Clone)]
struct Last {
    path: Vec<u8>,
    fd: Rc<OwnedFd>,
    inherits: bool,
    /// How its file system needs each file written out.
    each_file: WriteOut,
    inherits_traits: bool,
}

impl Last {
    fn new(path: Vec<u8>, fd: Rc<OwnedFd>, each_file: WriteOut) -> Self {
        let traits = inode::read(fd.as_fd()).map_or_else(|_| Traits::default(), |found| found.traits);
        Self { path, inherits: inherits(&fd), each_file, inherits_traits: traits != Traits::default(), fd }
    }
}

impl Tree {
    pub(super) fn open(at: &Path) -> Result<Self, UnpackError> {
        // The directory itself may be a symbolic link: its path comes from a person, not from the archive.
        let flags = OPEN.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::open(at, flags, Mode::empty())
            .map_err(|e| UnpackError::system("open", at.as_os_str().as_bytes(), e))?;
        let root = Rc::new(fd);
        let last = Last::new(Vec::new(), Rc::clone(&root), WriteOut::Not);
        let mut tree = Self { root, last, at: at.to_owned(), file_systems: BTreeMap::new() };
        tree.forget()?;
        Ok(tree)
    }

    /// The place for the entry `path`. Creates missing directories on the way.
    pub(super) fn place(&mut self, path: &[u8]) -> Result<PathAt, UnpackError> {
        self.walk(parent(path), true)?;
        Ok(self.place_in_last(path))
    }

    /// The place of the entry `path`, which should exist.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<PathAt, UnpackError> {
        self.walk(parent(path), false)?;
        Ok(self.place_in_last(path))
    }

    fn place_in_last(&self, path: &[u8]) -> PathAt {
        let Last { fd, inherits, each_file, inherits_traits, .. } = &self.last;
        PathAt {
            parent: Rc::clone(fd),
            path: path.to_vec(),
            inherits: *inherits,
            each_file: *each_file,
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

    /// A directory was removed or changed: the open one may be gone.
    pub(super) fn forget(&mut self) -> Result<(), UnpackError> {
        self.last = self.arrive(Vec::new(), Rc::clone(&self.root))?;
        Ok(())
    }

    /// Waits until every file system written to has everything on its disk, and checks for errors.
    pub(super) fn sync(&self) -> Result<(), UnpackError> {
        self.file_systems.values().try_for_each(|fs| fs.watched.sync()).map_err(UnpackError::from)
    }

    /// Opens the directory `path` as the current one.
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
        // The root itself has no last component.
        for part in rest.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
            fd = Rc::new(descend(&fd, part, make).map_err(|errno| match errno {
                Errno::LOOP | Errno::NOTDIR => UnpackError::Refused {
                    path: shown(path),
                    reason: "part of its path exists and is not a directory",
                },
                errno => UnpackError::system("open the directory", path, errno),
            })?);
        }
        self.last = self.arrive(path.to_vec(), fd)?;
        Ok(())
    }

    /// Makes an open directory the current one. Its file system is watched from now on.
    fn arrive(&mut self, path: Vec<u8>, fd: Rc<OwnedFd>) -> Result<Last, UnpackError> {
        let failed = |errno| UnpackError::system("look at", &path, errno);
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        let fs = match self.file_systems.entry(stat.st_dev) {
            Entry::Occupied(fs) => fs.into_mut(),
            Entry::Vacant(new) => {
                let own =
                    fd.try_clone().map_err(|e| failed(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
                let each_file = if health::wants_each_file_synced(&fd).map_err(failed)? {
                    WriteOut::All
                } else if health::syncfs_is_silent() {
                    WriteOut::Data
                } else {
                    WriteOut::Not
                };
                let watched = Watched::new(own, &self.at.join(OsStr::from_bytes(&path)))?;
                new.insert(FileSystem { watched, each_file })
            }
        };
        let each_file = fs.each_file;
        Ok(Last::new(path, fd, each_file))
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

/// Whether the directory has a default ACL.
fn inherits(directory: &OwnedFd) -> bool {
    rustix::fs::fgetxattr_query(directory, ACL_DEFAULT).is_ok()
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
