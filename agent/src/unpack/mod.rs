//! Unpacks the archive into a file system.
//!
//! Everything is created beneath one directory, and nothing in an archive can lead out of it: paths are
//! walked one component at a time, no symbolic link is followed, and `..` and absolute paths are refused. An
//! existing entry with the same path is replaced, except that directories are kept.
//!
//! A file gets its data, then its owner, attributes, mode and time, in this order, because a change of owner
//! removes set-user-id bits and capabilities, and an ACL changes the mode. A directory gets its own when
//! everything below it is complete: the entries below change its time, and its mode may forbid them.
//!
//! Flags such as `+C` work only on empty files, and are set at once. `+i` and `+a` forbid everything that
//! follows, and are set when all names exist ([`seal`]).
//!
//! One thread reads the archive and creates all names; others write the files (`writers`).

mod attributes;
mod clashes;
mod deferred;
mod partitions;
mod proof;
mod seals;
mod traits;
mod tree;
mod write_out;
mod writers;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ka::archive::{ArchiveError, Decoder, Entry, Flags, Kind, Notes, Progress, Segment, shown};
use ka::notes::NoteKind;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use attributes::Attributes;
use clashes::Clashes;
use deferred::Deferred;
use ka_host::health::Lost;
use ka_host::words;
pub use partitions::Partition;
use partitions::Partitions;
pub use seals::{Sealed, seal};
use tree::{PathAt, Tree};
use write_out::WriteOut;
use writers::{NewFile, Writers, with_writers};

/// A file with this much data is synced individually after it is written.
const SYNC_FROM: u64 = 16 << 20;

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sets owners as in the archive, which requires root. Otherwise files belong to the process, set-user-id
    /// and set-group-id bits of files are left out, and attributes that need privileges are noted and left
    /// out.
    pub same_owner: bool,
    /// Waits at the end until everything is on disk.
    pub sync: bool,
    /// Reads a sample of the files back from the medium after the sync.
    pub read_back: bool,
    /// Receives the progress.
    pub progress: Option<Arc<Progress>>,
    /// The target of each partition in the archive, by name. Each of these must be in the archive. Without
    /// targets, partitions become sparse files.
    pub partitions: Option<Vec<Partition>>,
    /// Notes and leaves out an entry that this file system cannot hold, or that cannot be replaced, and
    /// unpacks the rest. Otherwise such an entry is an error: a clone with a gap would pass for a complete
    /// clone.
    pub tolerant: bool,
    /// Receives the files that get `+i` and `+a`, for a caller that has more to change. Without it they are
    /// set here.
    pub sealed: Option<Arc<Sealed>>,
}

impl Default for Options {
    /// Sets owners if the process is root; syncs.
    fn default() -> Self {
        Self {
            same_owner: rustix::process::geteuid().is_root(),
            sync: true,
            read_back: true,
            progress: None,
            partitions: None,
            tolerant: false,
            sealed: None,
        }
    }
}

/// The result of unpacking.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Number of entries in the archive.
    pub entries: u64,
    /// Length of the stream in bytes, including data after the archive's end.
    pub bytes: u64,
    /// Losses that are not failures: attributes that the file system cannot hold.
    pub notes: Notes,
}

/// Why a tree differs from the archive. Everything unpacked until then stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream is damaged, or ended early.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The entry would be outside the directory.
    #[error("refused to unpack {path}: {reason}")]
    Refused {
        /// The path in the archive.
        path: String,
        /// The reason.
        reason: &'static str,
    },
    /// A partition does not fit the node's.
    #[error("the golden partition {name} of {size} bytes does not fit {}, which has {room}", device.display())]
    PartitionSize {
        /// The golden partition's name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The target device.
        device: PathBuf,
        /// The target's size in bytes.
        room: u64,
    },
    /// A file system has lost some of the data written to it.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The medium has not kept what was written.
    #[error("{path}: {}", words::not_kept(*offset))]
    NotKept {
        /// The path in the archive.
        path: String,
        /// The offset of the first difference.
        offset: u64,
    },
    /// The archive's partitions are not those in the plan.
    #[error("{0}")]
    Partitions(String),
    /// The file system is full.
    #[error("the disk is full: cannot {action} {path} ({})", words::of(*errno))]
    DiskFull {
        /// The action.
        action: &'static str,
        /// The path in the archive.
        path: String,
        /// No space, no inodes, or quota exceeded.
        errno: Errno,
    },
    /// Two names in the archive are the same on this file system.
    #[error("{path} and {other} are the same name on this file system, which ignores case")]
    Clash {
        /// The path in the archive.
        path: String,
        /// The earlier name.
        other: String,
    },
    /// Any other error of the system.
    #[error("cannot {action} {path}: {}", words::of(*errno))]
    System {
        /// The action.
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

/// Unpacks the archive from `input` beneath the directory `root`, and reads `input` to its end.
///
/// # Errors
/// [`UnpackError`] with the entry. Stops at the first error.
pub fn unpack(input: impl BufRead, root: &Path, options: &Options) -> Result<Summary, UnpackError> {
    let mut unpacker = Unpacker {
        decoder: Decoder::new(input),
        tree: Tree::open(root)?,
        directories: Deferred::default(),
        clashes: Clashes::default(),
        seals: BTreeMap::new(),
        partitions: options.partitions.as_deref().map(Partitions::new),
        options,
        summary: Summary::default(),
    };
    let done = with_writers(|writers| {
        while let Some(entry) = unpacker.decoder.next_entry()? {
            unpacker.entry_or_note(entry, writers)?;
            unpacker.tell();
        }
        Ok(())
    })?;
    let (notes, samples): (Vec<_>, Vec<_>) = done.into_iter().map(|done| (done.notes, done.sample)).unzip();
    notes.into_iter().for_each(|notes| unpacker.summary.notes.append(notes));
    unpacker.finish_directories()?;
    unpacker.seal();
    if let Some(partitions) = &unpacker.partitions {
        partitions.all_came()?;
    }
    if options.sync {
        unpacker.tree.sync()?;
        options.partitions.iter().flatten().try_for_each(Partition::sync)?;
    }
    if options.sync && options.read_back {
        samples.iter().try_for_each(proof::read_back)?;
    }
    unpacker.tell();
    unpacker.summary.bytes = unpacker.decoder.offset();
    Ok(unpacker.summary)
}

/// Whether only this entry is at fault: its file system cannot hold it, or something that must stay is in its
/// place. A full or broken disk affects every entry.
fn is_of_the_entry(errno: Errno) -> bool {
    [
        Errno::INVAL,
        Errno::NAMETOOLONG,
        Errno::MLINK,
        Errno::PERM,
        Errno::ACCESS,
        Errno::OVERFLOW,
        Errno::OPNOTSUPP,
        Errno::NODEV,
        Errno::NXIO,
        Errno::ILSEQ,
        Errno::XDEV,
        Errno::NOENT,
        Errno::EXIST,
        Errno::NOTEMPTY,
        Errno::ISDIR,
        Errno::NOTDIR,
        Errno::BUSY,
        Errno::TXTBSY,
        Errno::FBIG,
    ]
    .contains(&errno)
}

/// Gives an open directory the metadata of `entry`: owner, extended attributes, mode and time.
///
/// # Errors
/// The kernel refuses one of the changes.
pub fn dress(directory: BorrowedFd<'_>, mut entry: Entry) -> Result<Notes, UnpackError> {
    let mut notes = Notes::default();
    let mut attributes = Attributes::of(&mut entry, true, false);
    attributes.exact = true;
    attributes.apply(directory, &entry.path, &mut notes)?;
    traits::seal(directory, &entry.path, attributes.seal(), &mut notes);
    Ok(notes)
}

struct Unpacker<'a, R> {
    decoder: Decoder<R>,
    tree: Tree,
    /// Directories whose attributes are set later, by path.
    directories: Deferred,
    /// Names that collide where case does not matter.
    clashes: Clashes,
    /// What gets `+i` or `+a` after everything is created, by path.
    seals: BTreeMap<Vec<u8>, Flags>,
    /// The targets of partitions; `None` if they become files.
    partitions: Option<Partitions<'a>>,
    options: &'a Options,
    summary: Summary,
}

impl<R: BufRead> Unpacker<'_, R> {
    fn entry_or_note(&mut self, entry: Entry, writers: &mut Writers<'_>) -> Result<(), UnpackError> {
        self.summary.entries += 1;
        let path = entry.path.clone();
        if let Some(what) = self.below_lost(&entry) {
            self.summary.notes.push(NoteKind::EntryLost, &path, what);
            return Ok(());
        }
        match self.entry(entry, writers) {
            Err(clash @ UnpackError::Clash { .. }) if self.options.tolerant => {
                self.summary.notes.push(NoteKind::EntryLost, &path, format!("it is left out: {clash}"));
                self.clashes.lose(&tree::inside(&path)?);
                Ok(())
            }
            Err(UnpackError::System { action, path: at, errno })
                if self.options.tolerant && is_of_the_entry(errno) =>
            {
                let what = format!("it is left out: cannot {action} {at}: {errno}");
                self.summary.notes.push(NoteKind::EntryLost, &path, what);
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// Why an entry has no place: its directory, or the target of its hard link, was left out.
    fn below_lost(&self, entry: &Entry) -> Option<&'static str> {
        let is_lost = |path: &[u8]| tree::inside(path).is_ok_and(|path| self.clashes.is_lost(&path));
        match &entry.kind {
            _ if is_lost(&entry.path) => Some("it is left out with its directory"),
            Kind::HardLink { target } if is_lost(target) => Some(
                "it is left out: so was the file to which \
                it links",
            ),
            _ => None,
        }
    }

    fn entry(&mut self, mut entry: Entry, writers: &mut Writers<'_>) -> Result<(), UnpackError> {
        if let (Some(partition), Some(partitions)) = (entry.partition.take(), &mut self.partitions) {
            return partitions.entry(&entry, &partition, &mut self.decoder, writers);
        }
        let path = tree::inside(&entry.path)?;
        let mut attributes = Attributes::of(&mut entry, self.options.same_owner, self.options.tolerant);
        if path.is_empty() {
            // The root itself exists, whatever else the archive says about it.
            return match entry.kind {
                Kind::Directory => {
                    attributes.drop_acls = true;
                    attributes.exact = true;
                    let root = self.tree.directory(&path)?;
                    self.unseal(root.as_fd(), &path);
                    attributes.begin(root.as_fd(), true);
                    self.tree.forget()?;
                    self.seals.insert(path.clone(), attributes.seal());
                    self.directories.insert(path, attributes)
                }
                _ => {
                    let reason = "it would replace the directory itself";
                    Err(UnpackError::Refused { path: shown(&entry.path), reason })
                }
            };
        }
        let place = self.tree.place(&path)?;
        attributes.drop_acls = place.inherits;
        attributes.exact = place.inherits_traits;
        match entry.kind {
            Kind::Directory => {
                let kept = self.directory(&place)?;
                attributes.drop_acls |= kept;
                attributes.exact |= kept;
                if attributes.exact || entry.traits != ka::archive::Traits::default() {
                    let directory = self.tree.directory(&path)?;
                    if kept {
                        self.unseal(directory.as_fd(), &path);
                    }
                    attributes.begin(directory.as_fd(), true);
                    self.tree.forget()?;
                }
                self.mark(&path, &attributes);
                self.directories.insert(path, attributes)
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

    /// Creates the directory. Returns true if there was one, which is kept.
    fn directory(&mut self, place: &PathAt) -> Result<bool, UnpackError> {
        // Closed to all other users until its mode is set.
        let make = |place: &PathAt| rustix::fs::mkdirat(&place.parent, place.name(), Mode::RWXU);
        let is_directory = || {
            rustix::fs::statat(&place.parent, place.name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
        };
        match make(place) {
            Ok(()) => {
                self.clashes.made(place);
                Ok(false)
            }
            Err(Errno::EXIST) if is_directory() => {
                self.refuse_clash(place)?;
                self.clashes.made(place);
                Ok(true)
            }
            Err(_) => self.create(place, "make the directory", make).map(|()| false),
        }
    }

    fn hard_link(&mut self, place: &PathAt, target: &[u8]) -> Result<(), UnpackError> {
        const ACTION: &str = "make the hard link";
        let target = tree::inside(target)?;
        let other = self.tree.existing(&target)?;
        let stat =
            |place: &PathAt| rustix::fs::statat(&place.parent, place.name(), AtFlags::SYMLINK_NOFOLLOW);
        let source =
            stat(&other).map_err(|e| UnpackError::system("find the hard link's target", &target, e))?;
        if stat(place).is_ok_and(|s| (s.st_dev, s.st_ino) == (source.st_dev, source.st_ino)) {
            return self.refuse_clash(place);
        }
        let link = |place: &PathAt| {
            rustix::fs::linkat(&other.parent, other.name(), &place.parent, place.name(), AtFlags::empty())
        };
        match self.create(place, ACTION, link) {
            // A directory with an inherited project accepts no link to another project's file.
            Err(UnpackError::System { errno: Errno::XDEV, .. }) if place.inherits_traits => {
                traits::without_project(place.parent.as_fd(), || {
                    link(place).map_err(|e| UnpackError::system(ACTION, &place.path, e))
                })
            }
            made => made,
        }
    }

    fn node(
        &mut self,
        place: &PathAt,
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
        place: &PathAt,
        size: u64,
        segments: Option<Vec<Segment>>,
        attributes: Attributes,
        writers: &mut Writers<'_>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.create(place, "create", |place| {
            rustix::fs::openat(&place.parent, place.name(), flags, Mode::RUSR | Mode::WUSR)
        })?;
        attributes.begin(fd.as_fd(), false);
        self.mark(&place.path, &attributes);
        // Files above FAT's size limit are too large for some file systems, which is known only now.
        if (segments.is_some() || size > u32::MAX.into())
            && let Err(errno) = rustix::fs::ftruncate(&fd, size)
        {
            let _ = rustix::fs::unlinkat(&place.parent, place.name(), AtFlags::empty());
            return Err(UnpackError::system("write", &place.path, errno));
        }
        let segments = segments.unwrap_or_else(|| vec![Segment { offset: 0, len: size }]);
        // A large file takes long to sync, and its own sync names it if that fails.
        let data: u64 = segments.iter().map(|segment| segment.len).sum();
        let sync = match place.each_file {
            _ if !self.options.sync => WriteOut::Not,
            WriteOut::Not if data >= SYNC_FROM => WriteOut::All,
            sync => sync,
        };
        if data >= SYNC_FROM {
            write_out::reserve(&fd, &segments);
        }
        let sampled = self.options.read_back;
        let file =
            Arc::new(NewFile { fd, path: place.path.clone(), attributes: Some(attributes), sync, sampled });
        for Segment { offset, len } in segments {
            writers.data(&file, offset, len, |buffer| {
                let got = self.decoder.read_data(buffer);
                self.tell();
                got
            })?;
        }
        writers.end(file)
    }

    /// Creates a new entry at `place`, and removes an existing one if necessary.
    fn create<T>(
        &mut self,
        place: &PathAt,
        action: &'static str,
        make: impl Fn(&PathAt) -> rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        let made = match make(place) {
            Err(Errno::EXIST) => {
                self.refuse_clash(place)?;
                self.remove(place)?;
                make(place)
            }
            Err(Errno::PERM | Errno::ACCESS) if self.unseal_parent(place) => {
                return self.create(place, action, make);
            }
            made => made,
        };
        let made = made.map_err(|e| UnpackError::system(action, &place.path, e))?;
        self.clashes.made(place);
        Ok(made)
    }

    /// The entry at `place` is not replaced if the archive has created it under a name with another case.
    fn refuse_clash(&mut self, place: &PathAt) -> Result<(), UnpackError> {
        match self.clashes.other(place) {
            Some(other) => Err(UnpackError::Clash { path: shown(&place.path), other }),
            None => Ok(()),
        }
    }

    /// Removes the entry at `place`; a directory only if it is empty.
    fn remove(&mut self, place: &PathAt) -> Result<(), UnpackError> {
        let removed = match rustix::fs::unlinkat(&place.parent, place.name(), AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                self.tree.forget()?;
                self.directories.remove(&place.path);
                rustix::fs::unlinkat(&place.parent, place.name(), AtFlags::REMOVEDIR)
            }
            removed => removed,
        };
        match removed {
            Err(Errno::PERM | Errno::ACCESS) if self.unseal_parent(place) || self.unseal_old(place) => {
                self.remove(place)
            }
            removed => removed.map_err(|e| UnpackError::system("replace", &place.path, e)),
        }
    }

    /// Sets the directories' attributes, deepest first.
    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        for (path, attributes) in self.directories.take() {
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
