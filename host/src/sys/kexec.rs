//! Loads the kernel that is to run next (`kexec_file_load(2)`).

use nix::errno::Errno;
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// No initrd (`KEXEC_FILE_NO_INITRAMFS` of linux/kexec.h).
const NO_INITRD: libc::c_ulong = 4;

/// Loads kernel and initrd into memory. reboot(2) with `LINUX_REBOOT_CMD_KEXEC` starts them.
///
/// # Errors
/// The kernel's error: ENOSYS or EPERM where kexec is not allowed (lockdown), EBADMSG and ENOKEY for a kernel
/// without a valid signature, ENOEXEC for a file that is not a kernel.
pub fn load(
    kernel: BorrowedFd<'_>,
    initrd: Option<BorrowedFd<'_>>,
    command_line: &CStr,
) -> Result<(), Errno> {
    let (initrd, flags) = initrd.map_or((-1, NO_INITRD), |initrd| (initrd.as_raw_fd(), 0));
    // SAFETY: both descriptors are open for the whole call, and the command line is a string whose length
    // includes its NUL. The kernel only reads all three, and copies them.
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
