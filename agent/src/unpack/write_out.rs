//! How a file is written out before the final sync of the file system.

use std::os::fd::OwnedFd;

use ka::archive::Segment;
use ka_host::sys::sync_range;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// How a single file is written out before the final sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOut {
    /// Not at all.
    Not,
    /// Its data, because later errors would not be reported.
    Data,
    /// Data and metadata.
    All,
}

/// The statfs(2) type of ext2 to ext4.
const EXT: u64 = 0xef53;

/// Reserves space for a large file, so that it is contiguous although several threads write it. Only on ext4:
/// btrfs would then not compress it, and XFS marks the inode permanently. If there is no space, the writes
/// themselves find out.
pub(super) fn reserve(fd: &OwnedFd, segments: &[Segment]) {
    let kind = rustix::fs::fstatfs(fd).map(|stat| stat.f_type.cast_unsigned() & 0xffff_ffff);
    if kind != Ok(EXT) {
        return;
    }
    for Segment { offset, len } in segments {
        if let Err(errno) = rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, *offset, *len) {
            log::debug!("cannot reserve space for a large file: {errno}");
            return;
        }
    }
}

impl WriteOut {
    /// Starts writing back a part of the file that is complete. Errors are found by [`Self::perform`].
    pub(super) fn begin(self, fd: &OwnedFd, offset: u64, length: usize) {
        if self != Self::Not && length > 0 {
            let _ = sync_range::begin(fd, offset, length as u64);
        }
    }

    /// Writes the file out.
    ///
    /// # Errors
    /// The data could not be written.
    pub(super) fn perform(self, fd: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Not => Ok(()),
            Self::Data => match sync_range::write_out(fd).map_err(|e| Errno::from_raw_os_error(e as i32)) {
                // Not every file system supports this.
                Err(Errno::SPIPE | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rustix::fs::fsync(fd),
                outcome => outcome,
            },
            Self::All => rustix::fs::fsync(fd),
        }
    }
}
