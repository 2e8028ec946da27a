//! Frozen file systems (`ioctl_fsfreeze`, FIFREEZE and FITHAW of linux/fs.h).

use nix::errno::Errno;
use nix::libc::c_int;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The raw calls, without names for their errors.
mod raw {
    nix::ioctl_readwrite!(fifreeze, b'X', 119, super::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, super::c_int);
}

/// Whether the file system of `directory` is frozen, so that nothing is written to its device. The kernel
/// reports this only to an attempt to freeze it, so an unfrozen file system is frozen for a moment.
///
/// # Errors
/// The kernel's error: EPERM without CAP_SYS_ADMIN, EOPNOTSUPP for file systems that cannot be frozen.
pub fn is_frozen(directory: &File) -> Result<bool, Errno> {
    let mut unused = 0;
    // SAFETY: the descriptor is open for the whole call. The kernel ignores the argument, which points to an
    // int of this function, as the request code requires.
    match unsafe { raw::fifreeze(directory.as_raw_fd(), &raw mut unused) } {
        Err(Errno::EBUSY) => Ok(true),
        Err(errno) => Err(errno),
        Ok(_) => {
            // SAFETY: as above.
            unsafe { raw::fithaw(directory.as_raw_fd(), &raw mut unused) }?;
            Ok(false)
        }
    }
}
