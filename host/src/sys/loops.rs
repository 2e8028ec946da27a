//! The backing file of a loop device (LOOP_GET_STATUS64 of linux/loop.h).

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The raw call, without names for its errors.
mod raw {
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, super::LoopInfo64);
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// What backs a loop device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The file's device, as in `st_dev`.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The number of the block device, if the file is one (`st_rdev`); else 0.
    pub of_device: u64,
    /// Where in the file the loop device begins.
    pub offset: u64,
    /// The maximum number of bytes that it presents; 0 for all.
    pub limit: u64,
}

/// The backing file of a loop device; `None` if it has none.
///
/// # Errors
/// The kernel's error: ENOTTY if this is not a loop device.
pub fn status(device: &File) -> Result<Option<Status>, Errno> {
    let mut info = LoopInfo64 {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    // SAFETY: the descriptor is open for the whole call; the struct has the layout of linux/loop.h, and the
    // kernel writes no more than that.
    match unsafe { raw::loop_get_status64(device.as_raw_fd(), &raw mut info) } {
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
        Ok(_) => Ok(Some(Status {
            device: info.device,
            inode: info.inode,
            of_device: info.rdevice,
            offset: info.offset,
            limit: info.sizelimit,
        })),
    }
}
