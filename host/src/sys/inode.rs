//! Inode ioctls: flags, project ids, and extent size hints (`ioctl_iflags(2)`, `ioctl_xfs_fsgetxattr(2)`).

use std::os::fd::{AsRawFd, BorrowedFd};

use ka::archive::{Flags, Traits};
use nix::errno::Errno;

/// The raw calls.
mod raw {
    use nix::libc::c_long;

    // The request codes say long, but the kernel reads and writes an int.
    nix::ioctl_read!(getflags, b'f', 1, c_long);
    nix::ioctl_write_ptr!(setflags, b'f', 2, c_long);
    nix::ioctl_read!(fsgetxattr, b'X', 31, super::FsXattr);
    nix::ioctl_write_ptr!(fssetxattr, b'X', 32, super::FsXattr);
}

/// `struct fsxattr` (linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FsXattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// Bits of `FS_IOC_GETFLAGS` for fscrypt and fs-verity.
const ENCRYPTED: u32 = 0x800;
const VERITY: u32 = 0x10_0000;

/// `+P` in `fsx_xflags`: before Linux 5.13, XFS shows it only here.
const PROJECT_INHERIT: u32 = 0x200;

/// The attributes of an inode that its file system supports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What can be set on another inode.
    pub traits: Traits,
    /// It is encrypted by fscrypt.
    pub encrypted: bool,
    /// It is protected by fs-verity.
    pub verity: bool,
}

/// The flags, project id and hints of an open file or directory. What the file system does not support is
/// left out.
///
/// # Errors
/// The kernel's error, except that the file system lacks the call.
pub fn read(file: BorrowedFd<'_>) -> Result<Found, Errno> {
    let flags = known(flags(file))?.unwrap_or_default();
    let more = known(more(file))?.unwrap_or_default();
    let mut set = Flags::of_kernel(flags, more.xflags);
    if more.xflags & PROJECT_INHERIT != 0 {
        set = set.or(Flags::PROJECT_INHERIT);
    }
    Ok(Found {
        traits: Traits {
            flags: set,
            project: more.projid,
            extent_size: more.extsize,
            cow_extent_size: more.cowextsize,
        },
        encrypted: flags & ENCRYPTED != 0,
        verity: flags & VERITY != 0,
    })
}

/// Sets the flags of `FS_IOC_SETFLAGS` to exactly these. Flags that the file system manages stay as they are.
///
/// # Errors
/// The kernel's error: EOPNOTSUPP for a flag that the file system does not support, EPERM without the
/// capability.
pub fn set_flags(file: BorrowedFd<'_>, wanted: Flags) -> Result<(), Errno> {
    let now = flags(file)?;
    let own = now & !Flags::of_kernel(now, 0).word();
    let mut word = nix::libc::c_long::from(own | wanted.word());
    // The kernel reads an int, and the low half of a long may be elsewhere.
    if cfg!(target_endian = "big") {
        word <<= 32;
    }
    // SAFETY: the descriptor is open for the whole call, and the kernel only reads from the given place,
    // which is large enough.
    unsafe { raw::setflags(file.as_raw_fd(), &raw const word) }?;
    Ok(())
}

/// Sets the project id, the extent sizes, and the flags that only `FS_IOC_FSSETXATTR` supports.
///
/// # Errors
/// The kernel's error: EOPNOTSUPP or EINVAL for what the file system cannot store.
pub fn set_more(file: BorrowedFd<'_>, wanted: &Traits) -> Result<(), Errno> {
    let now = more(file)?;
    let own = now.xflags & !Flags::of_kernel(0, now.xflags).xword() & !PROJECT_INHERIT;
    let inherit = if wanted.flags.has(Flags::PROJECT_INHERIT) { PROJECT_INHERIT } else { 0 };
    let wanted = FsXattr {
        xflags: own | inherit | wanted.flags.xword(),
        extsize: wanted.extent_size,
        projid: wanted.project,
        cowextsize: wanted.cow_extent_size,
        ..FsXattr::default()
    };
    // SAFETY: the descriptor is open for the whole call; the struct has the layout of linux/fs.h, and the
    // kernel only reads it.
    unsafe { raw::fssetxattr(file.as_raw_fd(), &raw const wanted) }?;
    Ok(())
}

fn flags(file: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut word: nix::libc::c_long = 0;
    // SAFETY: the descriptor is open for the whole call, and the kernel writes an int into a long.
    unsafe { raw::getflags(file.as_raw_fd(), &raw mut word) }?;
    let bytes = word.to_ne_bytes();
    Ok(bytes.first_chunk().map_or(0, |int| u32::from_ne_bytes(*int)))
}

fn more(file: BorrowedFd<'_>) -> Result<FsXattr, Errno> {
    let mut found = FsXattr::default();
    // SAFETY: the descriptor is open for the whole call; the struct has the layout of linux/fs.h.
    unsafe { raw::fsgetxattr(file.as_raw_fd(), &raw mut found) }?;
    Ok(found)
}

/// `None` if the file system lacks the call.
fn known<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EBADF) => Ok(None),
        Err(errno) => Err(errno),
    }
}
