//! How a file is written out before the whole file system is.

use std::os::fd::OwnedFd;

use ka::archive::Segment;
use ka_host::sys::sync_range;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// How a file is written out by itself, before all is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOut {
    /// Not at all.
    Not,
    /// Its data, because nobody says later what has become of it.
    Data,
    /// All of it.
    All,
}

/// As statfs(2) tells of ext2 to ext4.
const EXT: u64 = 0xef53;

/// Reserves room for a large file, so that it lies in one piece though several threads write it. Only on ext4: btrfs would
/// not compress it then, and XFS marks the inode for good. Where there is no room, the writes themselves find out.
pub(super) fn reserve(fd: &OwnedFd, segments: &[Segment]) {
    let kind = rustix::fs::fstatfs(fd).map(|stat| stat.f_type.cast_unsigned() & 0xffff_ffff);
    if kind != Ok(EXT) {
        return;
    }
    for Segment { offset, len } in segments {
        if let Err(errno) = rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, *offset, *len) {
            log::debug!("no room is reserved for a large file: {errno}");
            return;
        }
    }
}

impl WriteOut {
    /// A part of the file is written: the disk may as well begin with it. What goes wrong is found by [`Self::perform`].
    pub(super) fn begin(self, fd: &OwnedFd, offset: u64, length: usize) {
        if self != Self::Not && length > 0 {
            let _ = sync_range::begin(fd, offset, length as u64);
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// The data could not be written.
    pub(super) fn perform(self, fd: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Not => Ok(()),
            Self::Data => match sync_range::write_out(fd).map_err(|e| Errno::from_raw_os_error(e as i32)) {
                // Not every file system has this.
                Err(Errno::SPIPE | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::fsync(fd),
                outcome => outcome,
            },
            Self::All => rustix::fs::fsync(fd),
        }
    }
}
