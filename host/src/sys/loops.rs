//! What a loop device is made of (LOOP_GET_STATUS64 of linux/loop.h).

use nix::errno::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The call itself, without a name for what it returns.
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

/// What a loop device is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The device of the file's file system, as `st_dev`.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// The block device that the file is, as `st_rdev`; 0 if it is none.
    pub of_device: u64,
    /// Where in the file the loop device begins.
    pub offset: u64,
    /// How much of it it takes at most; 0 for all.
    pub limit: u64,
}

/// Asks a loop device for its file; none if it has none.
///
/// # Errors
/// What the kernel says: ENOTTY for what is no loop device.
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
