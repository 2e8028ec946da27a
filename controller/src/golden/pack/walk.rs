//! Walks a source.
//!
//! A directory is opened relative to its open parent, never by its whole path: that is fast, has no limit on
//! a path's length, and cannot be diverted by a link that appears in the meantime. Only the nearest
//! directories stay open; one further up is opened again from the source's root and recognised by its inode
//! number.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ka::archive::{Encoder, Entry, Kind, Output, Progress, Segment, Time, Traits, Xattr};
use ka::notes::NoteKind;
use ka_host::sys::inode;
use ka_host::xattrs::Reader;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::ahead::Ahead;
use super::file::{self, CopyError};
use super::names::{Listing, Names};
use super::swaps::{self, FileId};
use super::{Options, PackError, Summary, mounts, raw};
use crate::golden::chosen::RawSource;

/// The maximum number of directories that are kept open.
const OPEN: usize = 64;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

pub(super) struct Walker<'a, W: Output> {
    encoder: Encoder<W>,
    exclude: HashSet<Vec<u8>>,
    mount_points: HashSet<Vec<u8>>,
    swaps: &'a HashSet<FileId>,
    progress: Option<&'a Progress>,
    xattrs: Reader,
    listing: Listing,
    /// Reads ahead of this walk.
    ahead: Option<Ahead>,
    summary: Summary,
    /// Walk other mounts and subvolumes, too.
    cross: bool,
    /// Note and leave out files that cannot be opened.
    tolerant: bool,

    /// The current source.
    source: PathBuf,
    mount_point: Vec<u8>,
    device: u64,
    /// The mount of the source, if the kernel reports it.
    mount: Option<u64>,
    /// The current path in the archive: `.` followed by the path as seen from the clone's root.
    path: Vec<u8>,
    /// Files with several names: the first name seen, and the number of names still to come.
    links: HashMap<(u64, u64), (Vec<u8>, usize)>,
}

/// A directory on the path of the walk.
struct Level {
    /// `None` while it is closed because deeper ones are open.
    fd: Option<OwnedFd>,
    id: (u64, u64),
    names: Names,
    path_len: usize,
}

impl<'a, W: Output> Walker<'a, W> {
    pub(super) fn new(
        encoder: Encoder<W>,
        exclude: HashSet<Vec<u8>>,
        mount_points: HashSet<Vec<u8>>,
        swaps: &'a HashSet<FileId>,
        options: &'a Options,
    ) -> Self {
        Self {
            encoder,
            exclude,
            mount_points,
            swaps,
            progress: options.progress.as_deref(),
            xattrs: Reader::new(),
            listing: Listing::new(),
            ahead: None,
            summary: Summary::default(),
            cross: options.cross,
            tolerant: options.tolerant,
            source: PathBuf::new(),
            mount_point: Vec::new(),
            device: 0,
            mount: None,
            path: Vec::new(),
            links: HashMap::new(),
        }
    }

    /// Writes a partition.
    pub(super) fn partition(&mut self, source: &RawSource) -> Result<(), PackError> {
        self.summary.entries += 1;
        let (progress, entries) = (self.progress, self.summary.entries);
        raw::pack(source, &mut self.encoder, |bytes| tell(progress, entries, bytes))
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Result<Summary, PackError> {
        self.encoder.finish()?;
        self.summary.bytes = self.encoder.offset();
        tell(self.progress, self.summary.entries, self.summary.bytes);
        Ok(self.summary)
    }

    /// Walks one source.
    pub(super) fn source(&mut self, mount_point: &[u8], directory: &Path) -> Result<(), PackError> {
        if prefixes(mount_point).any(|above| self.exclude.contains(above)) {
            return Ok(());
        }
        directory.clone_into(&mut self.source);
        mount_point.clone_into(&mut self.mount_point);
        self.path = [b".", mount_point].concat();
        self.links.clear();

        let root =
            rustix::fs::open(directory, DIRECTORY, Mode::empty()).map_err(|e| self.failed("open", e))?;
        let stat = rustix::fs::fstat(&root).map_err(|e| self.failed("look at", e))?;
        self.device = stat.st_dev;
        self.mount = mounts::id(&root);
        self.ahead = Some(Ahead::new(directory));
        let mut levels: Vec<Level> = self.enter(root, &stat)?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_len);
            let Some((name, kind)) = level.names.next() else {
                self.leave(&mut levels)?;
                continue;
            };
            self.path.push(b'/');
            self.path.extend(name);
            self.ahead.iter().for_each(Ahead::pass);
            if let Some(fd) = &level.fd {
                let deeper = self.one(fd.as_fd(), name, kind)?;
                if let Some(deeper) = deeper {
                    levels.push(deeper);
                    if let Some(far) = levels.len().checked_sub(OPEN + 1).and_then(|i| levels.get_mut(i)) {
                        far.fd = None;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns from the deepest level to one that is open or can be opened again.
    fn leave(&mut self, levels: &mut Vec<Level>) -> Result<(), PackError> {
        levels.pop();
        while let Some(above) = levels.last_mut().filter(|above| above.fd.is_none()) {
            self.path.truncate(above.path_len);
            above.fd = self.reopen(above.id)?;
            if above.fd.is_some() {
                break;
            }
            self.left_out("it vanished or was moved while it was read; the rest of it is left out");
            levels.pop();
        }
        Ok(())
    }

    /// Opens the directory at the current path, if it is still the same one.
    fn reopen(&self, id: (u64, u64)) -> Result<Option<OwnedFd>, PackError> {
        let failed = |errno| self.failed("open", errno);
        let mut fd = rustix::fs::open(&self.source, DIRECTORY, Mode::empty()).map_err(failed)?;
        let below = self.path.get(1 + self.mount_point.len()..).unwrap_or_default();
        for part in below.split(|&b| b == b'/').filter(|part| !part.is_empty()) {
            fd = match file::open(fd.as_fd(), part, OFlags::DIRECTORY) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                opened => opened.map_err(failed)?,
            };
        }
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        Ok(Some(fd).filter(|_| (stat.st_dev, stat.st_ino) == id))
    }

    /// Packs the file `name`; returns the directory to walk next, if it is one.
    fn one(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
    ) -> Result<Option<Level>, PackError> {
        let seen = self.path.get(1..).unwrap_or_default();
        // The contents below a mount point belong to their own source, including the directory's own entry.
        if self.mount_points.contains(seen) {
            return Ok(None);
        }
        let excluded = self.exclude.contains(seen);
        // The directory entry describes what is beneath a mount; a device may be mounted on a file.
        let is_covered = self.cross && kind == FileType::RegularFile && self.is_mount(parent, name);
        let kind = if is_covered { FileType::Unknown } else { kind };
        match kind {
            FileType::Directory => self.directory(parent, name),
            _ if excluded && kind != FileType::Unknown => Ok(None),
            FileType::RegularFile => self.regular(parent, name).map(|()| None),
            _ => {
                let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(errno) => return self.gone(errno, "look at").map(|()| None),
                    Ok(stat) => stat,
                };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory => self.directory(parent, name),
                    _ if excluded => Ok(None),
                    FileType::RegularFile => self.regular(parent, name).map(|()| None),
                    other => self.special(parent, name, &stat, other).map(|()| None),
                }
            }
        }
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Level>, PackError> {
        if !self.cross && self.is_mount(parent, name) {
            return self
                .mount(parent, name, "it is another mount, and its contents are left out")
                .map(|()| None);
        }
        let opened = file::open(parent, name, OFlags::DIRECTORY);
        match opened.and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat))) {
            Ok((fd, stat)) => self.enter(fd, &stat),
            // A FUSE mount is accessible only to its owner, not even to root.
            Err(errno) if self.is_mount(parent, name) => {
                let what = format!("it is another mount, and cannot be opened: {errno}");
                self.mount(parent, name, &what).map(|()| None)
            }
            Err(errno) => self.gone(errno, "open").map(|()| None),
        }
    }

    /// Writes the entry of a directory that has another mount on it, without opening it: that may trigger a
    /// mount, or wait for an unreachable server.
    fn mount(&mut self, parent: BorrowedFd<'_>, name: &[u8], what: &str) -> Result<(), PackError> {
        let (mode, uid, gid, mtime) = mounts::top(parent, name).unwrap_or((0o755, 0, 0, Time::default()));
        self.write(&Entry { mode, uid, gid, mtime, ..self.bare(Kind::Directory) })?;
        if !self.exclude.contains(self.path.get(1..).unwrap_or_default()) {
            self.mount_left_out(what);
        }
        Ok(())
    }

    /// Writes a directory's entry, and lists its contents unless they are to be left out.
    fn enter(&mut self, fd: OwnedFd, stat: &Stat) -> Result<Option<Level>, PackError> {
        let xattrs = self.xattrs_of(&fd, stat)?;
        let traits = self.traits_of(&fd)?;
        self.write(&Entry { xattrs, traits, ..self.entry(stat, Kind::Directory) })?;
        if self.exclude.contains(self.path.get(1..).unwrap_or_default()) {
            return Ok(None);
        }
        if stat.st_dev != self.device && !self.cross {
            self.mount_left_out("it is another subvolume, and its contents are left out");
            return Ok(None);
        }
        let names = match self.listing.read(&fd) {
            Ok(names) => names,
            Err(errno) => return self.gone(errno, "list").map(|()| None),
        };
        Ok(Some(Level { fd: Some(fd), id: (stat.st_dev, stat.st_ino), names, path_len: self.path.len() }))
    }

    fn regular(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), PackError> {
        if !self.cross && self.is_mount(parent, name) {
            self.mount_left_out("another file is mounted on it, and it is left out");
            return Ok(());
        }
        let opened = file::open(parent, name, OFlags::empty());
        let (fd, stat) = match opened.and_then(|fd| rustix::fs::fstat(&fd).map(|stat| (fd, stat))) {
            Ok(opened) => opened,
            // It has become a socket or a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => {
                self.left_out("its type changed while it was read, and it is left out");
                return Ok(());
            }
            Err(errno) => return self.gone(errno, "open"),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.left_out("its type changed while it was read, and it is left out");
            return Ok(());
        }
        if self.is_link(&stat)? {
            return Ok(());
        }
        let xattrs = self.xattrs_of(&fd, &stat)?;
        let traits = self.traits_of(&fd)?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        let segments = if size > swaps::PAGE && self.swaps.contains(&(stat.st_dev, stat.st_ino)) {
            self.left_out("this machine swaps to it: only its size and its first page are packed");
            Some(vec![Segment { offset: 0, len: swaps::PAGE }])
        } else {
            file::segments(&fd, size).map_err(|e| self.failed("find the holes of", e))?
        };
        let data = segments.clone().unwrap_or_else(|| vec![Segment { offset: 0, len: size }]);
        self.write(&Entry { xattrs, traits, ..self.entry(&stat, Kind::File { size, segments }) })?;
        self.remember_link(&stat);
        self.data(&fd, &data)?;
        self.note_change(&fd, &stat)
    }

    /// Writes a file's data.
    fn data(&mut self, fd: &OwnedFd, segments: &[Segment]) -> Result<(), PackError> {
        let (progress, entries) = (self.progress, self.summary.entries);
        let mut missing = 0;
        for &segment in segments {
            let copied = file::copy(fd, segment, &mut self.encoder, |bytes| tell(progress, entries, bytes));
            missing += match copied {
                Ok(copied) => {
                    if let Some(ahead) = self.ahead.as_mut().filter(|_| copied.cold) {
                        ahead.is_cold(self.path.get(1 + self.mount_point.len()..).unwrap_or_default());
                    }
                    copied.missing
                }
                Err(CopyError::Read(errno)) => return Err(self.failed("read", errno)),
                Err(CopyError::Archive(error)) => return Err(error.into()),
            };
        }
        if missing > 0 {
            self.changed(&format!("it shrank while it was read; its last {missing} bytes are zeros"));
        }
        Ok(())
    }

    /// Notes that a file has changed since its entry was written.
    fn note_change(&mut self, fd: &OwnedFd, before: &Stat) -> Result<(), PackError> {
        let now = rustix::fs::fstat(fd).map_err(|e| self.failed("look at", e))?;
        let written = |s: &Stat| (s.st_mtime, s.st_mtime_nsec);
        if now.st_size > before.st_size {
            let more = now.st_size - before.st_size;
            self.changed(&format!("it grew by {more} bytes while it was read; they are left out"));
        } else if now.st_size == before.st_size && written(&now) != written(before) {
            self.changed("it was written to while it was read; its copy may be inconsistent");
        }
        Ok(())
    }

    fn special(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        kind: FileType,
    ) -> Result<(), PackError> {
        if !self.cross && kind != FileType::Symlink && self.is_mount(parent, name) {
            self.mount_left_out("another file is mounted on it, and it is left out");
            return Ok(());
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let kind = match kind {
            FileType::Symlink => match rustix::fs::readlinkat(parent, name, Vec::new()) {
                Ok(target) => Kind::Symlink { target: target.into_bytes() },
                // The kernel returns this for anything but a link.
                Err(Errno::INVAL) => return self.gone(Errno::LOOP, "read the link"),
                Err(errno) => return self.gone(errno, "read the link"),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice { major, minor },
            FileType::BlockDevice => Kind::BlockDevice { major, minor },
            _ => {
                self.left_out("it is a socket, and is left out");
                return Ok(());
            }
        };
        if self.is_link(stat)? {
            return Ok(());
        }
        // No other call can read these beneath an open directory.
        let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
        let xattrs = match self.xattrs.at(&path, parent, stat.st_dev) {
            Ok(xattrs) => xattrs,
            Err(Errno::TOOBIG) => self.too_many_attributes(),
            // Only if the file itself is gone, not because /proc is not mounted.
            Err(errno) if rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                return self.gone(errno, "read the attributes of");
            }
            Err(errno) => return Err(self.failed("read (through /proc) the attributes of", errno)),
        };
        self.write(&Entry { xattrs, ..self.entry(stat, kind) })?;
        self.remember_link(stat);
        Ok(())
    }

    /// Writes a further name of a file that was already packed; returns false if it is the first name.
    fn is_link(&mut self, stat: &Stat) -> Result<bool, PackError> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some((first, left)) = self.links.get_mut(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        let target = first.clone();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.links.remove(&(stat.st_dev, stat.st_ino));
        }
        self.write(&self.entry(stat, Kind::HardLink { target }))?;
        Ok(true)
    }

    fn remember_link(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 {
            let names = usize::try_from(stat.st_nlink).unwrap_or(usize::MAX);
            self.links.insert((stat.st_dev, stat.st_ino), (self.path.clone(), names - 1));
        }
    }

    fn xattrs_of(&mut self, fd: &OwnedFd, stat: &Stat) -> Result<Vec<Xattr>, PackError> {
        match self.xattrs.of(fd, stat.st_dev) {
            Err(Errno::TOOBIG) => Ok(self.too_many_attributes()),
            read => read.map_err(|e| self.failed("read the attributes of", e)),
        }
    }

    /// The kernel lists at most 64 KiB of names, and none if there are more.
    fn too_many_attributes(&mut self) -> Vec<Xattr> {
        let what = "it has more extended attributes than the kernel can list, and all are left out";
        self.summary.notes.push(NoteKind::AttributeLost, &self.path, what);
        Vec::new()
    }

    /// Flags, project and similar attributes. fscrypt and fs-verity protection is noted: the copy lacks it.
    fn traits_of(&mut self, fd: &OwnedFd) -> Result<Traits, PackError> {
        let found = inode::read(fd.as_fd())
            .map_err(|e| self.failed("read the flags of", Errno::from_raw_os_error(e as i32)))?;
        for (is_so, what) in [
            (found.encrypted, "it is encrypted by fscrypt, and its copy is not"),
            (found.verity, "it is guarded by fs-verity, and its copy is not"),
        ] {
            if is_so {
                self.summary.notes.push(NoteKind::ProtectionLost, &self.path, what);
            }
        }
        Ok(found.traits)
    }

    /// Whether another mount is there, including a bind mount of the same file system. This is determined
    /// without opening the mount.
    fn is_mount(&self, parent: BorrowedFd<'_>, name: &[u8]) -> bool {
        let id = mounts::id_at(parent, name);
        id.is_some() && self.mount.is_some() && id != self.mount
    }

    fn mount_left_out(&mut self, what: &str) {
        self.summary.notes.push(NoteKind::MountLeftOut, &self.path, what);
    }

    /// An entry of which only the name is known.
    fn bare(&self, kind: Kind) -> Entry {
        Entry {
            path: self.path.clone(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
            traits: Traits::default(),
            partition: None,
        }
    }

    fn entry(&self, stat: &Stat, kind: Kind) -> Entry {
        let nsec = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        Entry {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { sec: stat.st_mtime, nsec },
            ..self.bare(kind)
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<(), PackError> {
        self.encoder.entry(entry)?;
        self.summary.entries += 1;
        tell(self.progress, self.summary.entries, self.encoder.offset());
        Ok(())
    }

    /// Records that something is missing from the stream.
    fn left_out(&mut self, what: &str) {
        self.summary.notes.push(NoteKind::LeftOut, &self.path, what);
    }

    /// Records that something may be inconsistent, or differ from its current state.
    fn changed(&mut self, what: &str) {
        self.summary.notes.push(NoteKind::Changed, &self.path, what);
    }

    /// A file that has gone or changed is a note. Any other error is the source's.
    fn gone(&mut self, errno: Errno, action: &'static str) -> Result<(), PackError> {
        match errno {
            Errno::NOENT => self.changed("it vanished while it was read"),
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR => {
                self.left_out("its type changed while it was read, and it is left out");
            }
            errno @ (Errno::ACCESS | Errno::PERM | Errno::NOKEY | Errno::STALE) if self.tolerant => {
                let what = format!("it is left out: cannot {action} it: {errno}");
                self.summary.notes.push(NoteKind::EntryLost, &self.path, what);
            }
            errno => return Err(self.failed(action, errno)),
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, errno: Errno) -> PackError {
        let below = self.path.get(1 + self.mount_point.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let path = match below {
            [] => self.source.clone(),
            below => self.source.join(OsStr::from_bytes(below)),
        };
        PackError::Source { action, path, errno }
    }
}

fn tell(progress: Option<&Progress>, entries: u64, bytes: u64) {
    if let Some(progress) = progress {
        progress.set(entries, bytes);
    }
}

/// The ancestors of `path`, without itself: for `/a/b` the root and `/a`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|&(_, &b)| b == b'/').filter_map(|(end, _)| path.get(..end))
}
