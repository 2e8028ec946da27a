//! Hands the running kernel the one that is to follow it (`kexec_file_load(2)`).

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// There is no initrd (`KEXEC_FILE_NO_INITRAMFS` of linux/kexec.h).
const NO_INITRD: libc::c_ulong = 4;

/// Reads kernel and initrd into memory; reboot(2) with `LINUX_REBOOT_CMD_KEXEC` starts them.
///
/// # Errors
/// What the kernel says: ENOSYS or EPERM where it does not allow this at all (locked down), EBADMSG and ENOKEY for a
/// kernel whose signature it insists on, ENOEXEC for a file that is no kernel.
pub fn load(
    kernel: BorrowedFd<'_>,
    initrd: Option<BorrowedFd<'_>>,
    command_line: &CStr,
) -> Result<(), Errno> {
    let (initrd, flags) = initrd.map_or((-1, NO_INITRD), |initrd| (initrd.as_raw_fd(), 0));
    // SAFETY: both descriptors are open for the whole call, and the command line is a string whose length is told
    // with its zero. The kernel only reads from all three, and keeps copies of its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd,
            command_line.to_bytes_with_nul().len(),
            command_line.as_ptr(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}
