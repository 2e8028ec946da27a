//! Attributes of an open mount (`mount_setattr(2)`, Linux 5.12).

use nix::errno::Errno;
use nix::libc;
use std::os::fd::{AsRawFd, BorrowedFd};

const MOUNT_ATTR_RDONLY: u64 = 0x01;
const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NOATIME: u64 = 0x10;

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a mount read-only and stops it from updating access times. Other mounts of the same file system stay
/// as they are.
///
/// # Errors
/// The kernel's error: ENOSYS before Linux 5.12.
pub fn make_read_only(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME,
        attr_clr: MOUNT_ATTR_ATIME,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open for the whole call, the path is a string with its NUL, and the kernel
    // reads no more of the struct than the given size. The struct has the layout of linux/mount.h.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}
