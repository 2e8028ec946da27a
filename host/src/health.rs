//! Detects whether a file system has lost data since it was opened.
//!
//! `syncfs(2)` alone does not report this. ext4 drops delayed blocks that it cannot place, counts an error
//! and returns
//! 0. A write error is reported once per open file, so a file opened later may never see it. XFS after a
//!    shutdown, and
//! btrfs with a failing device, report in ways of their own. So every file system is watched through a
//! descriptor that is opened before the first write, and each of these sources is read after the last one.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::mountinfo::DeviceNumber;
use crate::sys::btrfs;
use crate::sysfs;
use crate::words;

/// A file system, opened before it was written to.
#[derive(Debug)]
pub struct Watched {
    directory: File,
    at: PathBuf,
    before: FileSystemState,
}

/// What a file system reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileSystemState {
    read_only: bool,
    errors: Errors,
}

/// The errors it has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Errors {
    /// It has no counters that can be read here.
    Uncounted,
    Ext(u64),
    /// One entry per device.
    Btrfs(Vec<btrfs::DeviceErrors>),
}

/// What was written is, or may be, incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Writing out failed.
    #[error("{}: cannot write everything out: {}", at.display(), words::of(*errno))]
    Sync {
        /// A directory of the file system.
        at: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
    /// Writing succeeded, but the file system recorded errors.
    #[error(
        "{}: {what} while it was written to: data may be lost; see the kernel's log, check the disk, and check the \
         file system before you write to it again",
        at.display()
    )]
    Damaged {
        /// A directory of the file system.
        at: PathBuf,
        /// Its own report.
        what: String,
    },
    /// The file system's state cannot be read.
    #[error("{}: cannot ask the file system for its errors: {}", at.display(), words::of(*errno))]
    Unknown {
        /// A directory of the file system.
        at: PathBuf,
        /// The kernel's error.
        errno: Errno,
    },
}

impl Watched {
    /// Watches the file system of this directory, which is open for reading. `at` is its path for messages.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub fn new(directory: OwnedFd, at: &Path) -> Result<Self, Lost> {
        let directory = File::from(directory);
        let before = state(&directory).map_err(|errno| Lost::Unknown { at: at.to_owned(), errno })?;
        if let Errors::Ext(count @ 1..) = before.errors {
            log::warn!("{}: the file system had {count} errors before; check it with e2fsck", at.display());
        }
        Ok(Self { directory, at: at.to_owned(), before })
    }

    /// Writes everything out and checks that it arrived.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn sync(&self) -> Result<(), Lost> {
        rustix::fs::syncfs(&self.directory).map_err(|errno| Lost::Sync { at: self.at.clone(), errno })?;
        self.check()
    }

    /// Checks whether the file system has lost any data that was synced.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn check(&self) -> Result<(), Lost> {
        let failed = |errno| Lost::Sync { at: self.at.clone(), errno };
        match rustix::fs::fsync(&self.directory) {
            // Some file systems cannot sync a directory.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
            // A file system that has shut itself down reports it here.
            Err(errno) => return Err(failed(errno)),
        }
        let now = state(&self.directory).map_err(|errno| Lost::Unknown { at: self.at.clone(), errno })?;
        match self.before.damage(&now) {
            Some(what) => Err(Lost::Damaged { at: self.at.clone(), what }),
            None => Ok(()),
        }
    }
}

impl FileSystemState {
    /// Describes what got worse.
    fn damage(&self, now: &Self) -> Option<String> {
        match (&self.errors, &now.errors) {
            (Errors::Ext(before), Errors::Ext(now)) if now > before => {
                return Some(format!("the file system counted {} errors", now - before));
            }
            (Errors::Btrfs(before), Errors::Btrfs(now)) if now != before => {
                let worse = now.iter().filter(|device| !before.contains(device));
                let worse: Vec<_> = worse.map(ToString::to_string).collect();
                return Some(format!("btrfs counted errors ({})", worse.join("; ")));
            }
            _ => {}
        }
        (now.read_only && !self.read_only).then(|| "the file system made itself read-only".to_owned())
    }
}

fn state(directory: &File) -> Result<FileSystemState, Errno> {
    const EXT: u64 = 0xef53;
    const BTRFS: u64 = 0x9123_683e;
    let read_only = rustix::fs::fstatvfs(directory)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let errors = match kind(directory)? {
        EXT => ext_errors(directory)?,
        BTRFS => match btrfs::device_errors(directory) {
            Ok(devices) => Errors::Btrfs(devices),
            Err(error) => return Err(Errno::from_raw_os_error(error as i32)),
        },
        _ => Errors::Uncounted,
    };
    Ok(FileSystemState { read_only, errors })
}

/// The file system's magic number (statfs(2)); its sign has no meaning.
fn kind(directory: impl AsFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstatfs(directory)?.f_type.cast_unsigned() & 0xffff_ffff)
}

/// Whether `syncfs(2)` does nothing or reports nothing for this file system, so that each file must be
/// synced.
///
/// # Errors
/// The system's error.
pub fn wants_each_file_synced(directory: impl AsFd) -> Result<bool, Errno> {
    // NFS, FUSE, CIFS, SMB2, 9P, Ceph, AFS: linux/magic.h and the drivers.
    const REMOTE: [u64; 7] =
        [0x6969, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];
    Ok(REMOTE.contains(&kind(directory)?))
}

/// Whether `syncfs(2)` does not report lost data: kernels before 5.8. Each file must then be synced.
#[must_use]
pub fn syncfs_is_silent() -> bool {
    is_before_5_8(&rustix::system::uname().release().to_string_lossy())
}

/// Parses `5.10.0-28-amd64` and the like. An unreadable version counts as a new kernel.
fn is_before_5_8(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (5, 8))
}

/// The counter of the ext4 driver, which also serves ext2 and ext3. The old ext2 driver counts nothing.
fn ext_errors(directory: &File) -> Result<Errors, Errno> {
    let io = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let device = DeviceNumber::of(rustix::fs::fstat(directory)?.st_dev);
    let name = match sysfs::name_of(device) {
        Ok(name) => name,
        Err(error) => {
            log::warn!("cannot read the file system's error count from /sys: {error}");
            return Ok(Errors::Uncounted);
        }
    };
    match fs::read_to_string(Path::new("/sys/fs/ext4").join(name).join("errors_count")) {
        Ok(text) => text.trim().parse().map(Errors::Ext).map_err(|_| Errno::PROTO),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Errors::Uncounted),
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_known() {
        for (release, is_old) in [
            ("4.19.0-27-amd64", true),
            ("5.7.19", true),
            ("5.8.0", false),
            ("5.10.0-28-amd64", false),
            ("6.12.117+deb13-cloud-amd64", false),
            ("10.0", false),
            ("next", false),
        ] {
            assert_eq!(is_before_5_8(release), is_old, "{release}");
        }
    }

    #[test]
    fn what_becomes_worse_is_damage() {
        let of = |read_only, errors| FileSystemState { read_only, errors };
        let device = |write| btrfs::DeviceErrors { device: 1, write, ..Default::default() };
        let btrfs = |write| Errors::Btrfs(vec![device(write)]);
        for (before, now, said) in [
            (of(false, Errors::Ext(2)), of(false, Errors::Ext(2)), None),
            (of(false, Errors::Ext(2)), of(false, Errors::Ext(5)), Some("counted 3 errors")),
            (of(false, Errors::Uncounted), of(true, Errors::Uncounted), Some("itself read-only")),
            (of(true, Errors::Uncounted), of(true, Errors::Uncounted), None),
            (of(false, btrfs(0)), of(false, btrfs(0)), None),
            (of(false, btrfs(0)), of(false, btrfs(4)), Some("device 1: 4 write")),
        ] {
            let damage = before.damage(&now);
            assert_eq!(damage.is_some(), said.is_some(), "{now:?}");
            assert!(damage.unwrap_or_default().contains(said.unwrap_or_default()), "{now:?}");
        }
    }
}
