//! From the archive to a file system.
//!
//! Everything is made beneath one directory, and nothing in an archive can lead out of it: paths are walked
//! part by part, no symbolic link is followed, `..` and absolute paths are refused. What a path named
//! before is replaced, except that directories are kept.
//!
//! A file gets its data, then its owner, attributes, mode and time in this order, because a change of
//! owner takes set-user-id bits and capabilities away, and an ACL changes the mode. A directory gets
//! its own when everything below is done: the entries below change its time, and its mode may forbid
//! them.
//!
//! One thread reads the archive and makes all names; others write the files ([`writers`]).

mod attributes;
mod partitions;
mod tree;
mod writers;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka::archive::{ArchiveError, Decoder, Entry, Kind, Notes, Progress, Segment, shown};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::health::Lost;
use crate::words;
use attributes::Attributes;
pub use partitions::Partition;
use partitions::Partitions;
use tree::{Place, Tree};
use writers::{NewFile, Writers, with_writers};

/// A file with so much data is synced by itself when it is written.
const SYNC_FROM: u64 = 16 << 20;

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sets owners as the archive has them, which takes root. Without it files belong to the process,
    /// set-user-id and set-group-id bits of files are left out, and attributes that need
    /// privileges are noted and left out.
    pub same_owner: bool,
    /// Waits at the end until everything is on its disk.
    pub sync: bool,
    /// Is told how far it is.
    pub progress: Option<Arc<Progress>>,
    /// Where the archive's partitions go: each to the one of its name, and each of these must be in the archive.
    /// Without that they become files with holes.
    pub partitions: Option<Vec<Partition>>,
}

impl Default for Options {
    /// Owners if the process is root's; synced.
    fn default() -> Self {
        Self {
            same_owner: rustix::process::geteuid().is_root(),
            sync: true,
            progress: None,
            partitions: None,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the stream, with what followed the archive's end.
    pub bytes: u64,
    /// What could not be kept, and is no failure: attributes that the file system cannot hold.
    pub notes: Notes,
}

/// Why a tree is not what the archive says. What was unpacked until then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream is damaged, or ended early.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The entry would be outside of the directory.
    #[error("refused to unpack {path}: {reason}")]
    Refused {
        /// The path in the archive.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A partition does not fit the node's.
    #[error("the golden partition {name} of {size} bytes does not fit {}, which has {room}", device.display())]
    PartitionSize {
        /// The golden partition's name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// Where it should go.
        device: PathBuf,
        /// The size of that.
        room: u64,
    },
    /// A file system has lost something of what was written.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The archive's partitions are not those of the plan.
    #[error("{0}")]
    Partitions(String),
    /// The file system has no room left.
    #[error("the disk is full: cannot {action} {path} ({})", words::of(*errno))]
    DiskFull {
        /// What was being done.
        action: &'static str,
        /// The path in the archive.
        path: String,
        /// No space, no inodes, or the quota is used up.
        errno: Errno,
    },
    /// The system refused something else.
    #[error("cannot {action} {path}: {}", words::of(*errno))]
    System {
        /// What was being done.
        action: &'static str,
        /// The path in the archive.
        path: String,
        /// The kernel's reason.
        errno: Errno,
    },
}

impl UnpackError {
    fn system(action: &'static str, path: &[u8], errno: Errno) -> Self {
        let path = shown(path);
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::DiskFull { action, path, errno },
            errno => Self::System { action, path, errno },
        }
    }
}

/// Unpacks the archive that `input` brings beneath the directory `root`, and reads `input` to its end.
///
/// # Errors
/// [`UnpackError`] names the entry. It stops at the first error.
pub fn unpack(input: impl BufRead, root: &Path, options: &Options) -> Result<Summary, UnpackError> {
    let mut unpacker = Unpacker {
        decoder: Decoder::new(input),
        tree: Tree::open(root)?,
        directories: BTreeMap::new(),
        partitions: options.partitions.as_deref().map(Partitions::new),
        options,
        summary: Summary::default(),
    };
    let notes = with_writers(|writers| {
        while let Some(entry) = unpacker.decoder.next_entry()? {
            unpacker.entry(entry, writers)?;
            unpacker.tell();
        }
        Ok(())
    })?;
    unpacker.summary.notes.append(notes);
    unpacker.finish_directories()?;
    if let Some(partitions) = &unpacker.partitions {
        partitions.all_came()?;
    }
    if options.sync {
        unpacker.tree.sync()?;
        options.partitions.iter().flatten().try_for_each(Partition::sync)?;
    }
    unpacker.tell();
    unpacker.summary.bytes = unpacker.decoder.offset();
    Ok(unpacker.summary)
}

/// Makes an open directory what `entry` says besides its name: owner, extended attributes, mode and time.
///
/// # Errors
/// The kernel refuses one of them.
pub fn dress(directory: BorrowedFd<'_>, mut entry: Entry) -> Result<Notes, UnpackError> {
    let mut notes = Notes::default();
    Attributes::of(&mut entry, true).apply(directory, &entry.path, &mut notes)?;
    Ok(notes)
}

struct Unpacker<'a, R> {
    decoder: Decoder<R>,
    tree: Tree,
    /// Directories by path, whose attributes wait for the end.
    directories: BTreeMap<Vec<u8>, Attributes>,
    /// Where partitions go; none if they become files.
    partitions: Option<Partitions<'a>>,
    options: &'a Options,
    summary: Summary,
}

impl<R: BufRead> Unpacker<'_, R> {
    fn entry(&mut self, mut entry: Entry, writers: &mut Writers<'_>) -> Result<(), UnpackError> {
        self.summary.entries += 1;
        if let (Some(partition), Some(partitions)) = (entry.partition.take(), &mut self.partitions) {
            return partitions.entry(&entry, &partition, &mut self.decoder, writers);
        }
        let path = tree::inside(&entry.path)?;
        let mut attributes = Attributes::of(&mut entry, self.options.same_owner);
        if path.is_empty() {
            // The root itself is there, whatever else the archive would make of it.
            return match entry.kind {
                Kind::Directory => {
                    attributes.drop_acls = true;
                    self.directories.insert(path, attributes);
                    Ok(())
                }
                _ => {
                    let reason = "it would replace the directory itself";
                    Err(UnpackError::Refused { path: shown(&entry.path), reason })
                }
            };
        }
        let place = self.tree.place(&path)?;
        attributes.drop_acls = place.inherits;
        match entry.kind {
            Kind::Directory => {
                let kept = self.directory(&place)?;
                attributes.drop_acls |= kept;
                self.directories.insert(path, attributes);
                Ok(())
            }
            Kind::HardLink { target } => self.hard_link(&place, &target),
            Kind::File { size, segments } => self.file(&place, size, segments, attributes, writers),
            Kind::Symlink { target } => {
                self.create(&place, "make the symbolic link", |place| {
                    rustix::fs::symlinkat(OsStr::from_bytes(&target), &place.parent, place.name())
                })?;
                attributes.apply_to_symlink(&place, &mut self.summary.notes)
            }
            Kind::Fifo => self.node(&place, FileType::Fifo, 0, &attributes),
            Kind::CharDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                self.node(&place, FileType::CharacterDevice, device, &attributes)
            }
            Kind::BlockDevice { major, minor } => {
                let device = rustix::fs::makedev(major, minor);
                self.node(&place, FileType::BlockDevice, device, &attributes)
            }
        }
    }

    /// Makes the directory; true if there was one, which is kept.
    fn directory(&mut self, place: &Place) -> Result<bool, UnpackError> {
        // Open to nobody else until its mode is set.
        let make = |place: &Place| rustix::fs::mkdirat(&place.parent, place.name(), Mode::RWXU);
        let is_directory = || {
            rustix::fs::statat(&place.parent, place.name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
        };
        match make(place) {
            Ok(()) => Ok(false),
            Err(Errno::EXIST) if is_directory() => Ok(true),
            Err(_) => self.create(place, "make the directory", make).map(|()| false),
        }
    }

    fn hard_link(&mut self, place: &Place, target: &[u8]) -> Result<(), UnpackError> {
        const ACTION: &str = "make the hard link";
        let target = tree::inside(target)?;
        let other = self.tree.existing(&target)?;
        let stat = |place: &Place| rustix::fs::statat(&place.parent, place.name(), AtFlags::SYMLINK_NOFOLLOW);
        let source =
            stat(&other).map_err(|e| UnpackError::system("find the hard link's target", &target, e))?;
        if stat(place).is_ok_and(|s| (s.st_dev, s.st_ino) == (source.st_dev, source.st_ino)) {
            return Ok(());
        }
        self.create(place, ACTION, |place| {
            rustix::fs::linkat(&other.parent, other.name(), &place.parent, place.name(), AtFlags::empty())
        })
    }

    fn node(
        &mut self,
        place: &Place,
        kind: FileType,
        device: u64,
        attributes: &Attributes,
    ) -> Result<(), UnpackError> {
        self.create(place, "make the device or pipe", |place| {
            rustix::fs::mknodat(&place.parent, place.name(), kind, Mode::RUSR | Mode::WUSR, device)
        })?;
        attributes.apply_to_node(place, &mut self.summary.notes)
    }

    fn file(
        &mut self,
        place: &Place,
        size: u64,
        segments: Option<Vec<Segment>>,
        attributes: Attributes,
        writers: &mut Writers<'_>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.create(place, "create", |place| {
            rustix::fs::openat(&place.parent, place.name(), flags, Mode::RUSR | Mode::WUSR)
        })?;
        let segments = match segments {
            None => vec![Segment { offset: 0, len: size }],
            Some(segments) => {
                rustix::fs::ftruncate(&fd, size)
                    .map_err(|errno| UnpackError::system("write", &place.path, errno))?;
                segments
            }
        };
        // One that is large takes long to write out, and its own sync names it if that fails.
        let data: u64 = segments.iter().map(|segment| segment.len).sum();
        let sync = self.options.sync && (place.each_file || data >= SYNC_FROM);
        let file = Arc::new(NewFile { fd, path: place.path.clone(), attributes: Some(attributes), sync });
        for Segment { offset, len } in segments {
            writers.data(&file, offset, len, |buffer| {
                let got = self.decoder.read_data(buffer);
                self.tell();
                got
            })?;
        }
        writers.end(file)
    }

    /// Makes something new at `place`, and removes what is there before if need be.
    fn create<T>(
        &mut self,
        place: &Place,
        action: &'static str,
        make: impl Fn(&Place) -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        match make(place) {
            Err(Errno::EXIST) => {
                self.remove(place)?;
                make(place).map_err(|e| UnpackError::system(action, &place.path, e))
            }
            made => made.map_err(|e| UnpackError::system(action, &place.path, e)),
        }
    }

    /// Removes what is at `place`: a directory only if it is empty.
    fn remove(&mut self, place: &Place) -> Result<(), UnpackError> {
        let removed = match rustix::fs::unlinkat(&place.parent, place.name(), AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                self.tree.forget()?;
                self.directories.remove(&place.path);
                rustix::fs::unlinkat(&place.parent, place.name(), AtFlags::REMOVEDIR)
            }
            removed => removed,
        };
        removed.map_err(|e| UnpackError::system("replace", &place.path, e))
    }

    /// Sets the directories' attributes, the deepest first.
    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let directory = self.tree.directory(&path)?;
            attributes.apply(directory.as_fd(), &path, &mut self.summary.notes)?;
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(progress) = &self.options.progress {
            progress.set(self.summary.entries, self.decoder.offset());
        }
    }
}
