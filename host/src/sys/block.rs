//! Block device ioctls: sizes, and the kernel's list of partitions (linux/fs.h, linux/blkpg.h).

use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The raw calls, without names for their errors.
mod raw {
    use nix::libc::c_int;

    /// The ioctl letter of block devices in linux/fs.h.
    const BLOCK: u8 = 0x12;

    nix::ioctl_read!(blkgetsize64, BLOCK, 114, u64);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(BLOCK, 104), c_int);
    nix::ioctl_none!(blkrrpart, BLOCK, 95);
    nix::ioctl_read!(blkgetdiskseq, BLOCK, 128, u64);
    nix::ioctl_none!(blkflsbuf, BLOCK, 97);
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(BLOCK, 105), super::BlkpgIoctlArg);
}

const BLKPG_ADD_PARTITION: libc::c_int = 1;
const BLKPG_DEL_PARTITION: libc::c_int = 2;

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgIoctlArg {
    op: libc::c_int,
    flags: libc::c_int,
    datalen: libc::c_int,
    data: *const BlkpgPartition,
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    pno: libc::c_int,
    devname: [u8; 64],
    volname: [u8; 64],
}

/// The size of a block device in bytes (BLKGETSIZE64).
///
/// # Errors
/// The kernel's error: ENOTTY if the file is not a block device.
pub fn size(device: &File) -> Result<u64, Errno> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open for the whole call, and BLKGETSIZE64 writes one 64-bit number to the
    // given place. (Its request code says size_t, which has 64 bits on all supported machines; the kernel
    // always writes 64 bits.)
    unsafe { raw::blkgetsize64(device.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

/// The logical sector size of a block device in bytes (BLKSSZGET).
///
/// # Errors
/// The kernel's error, or ERANGE for an impossible size.
pub fn sector_size(device: &File) -> Result<u32, Errno> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open for the whole call, and BLKSSZGET writes one int to the given place.
    unsafe { raw::blksszget(device.as_raw_fd(), &raw mut bytes) }?;
    u32::try_from(bytes).map_err(|_| Errno::ERANGE)
}

/// The sequence number of the device's current medium (BLKGETDISKSEQ); `None` before Linux 5.15.
///
/// # Errors
/// The kernel's error.
pub fn disk_sequence(device: &File) -> Result<Option<u64>, Errno> {
    let mut number = 0;
    // SAFETY: the descriptor is open for the whole call, and BLKGETDISKSEQ writes one 64-bit number to the
    // given place.
    match unsafe { raw::blkgetdiskseq(device.as_raw_fd(), &raw mut number) } {
        Ok(_) => Ok(Some(number)),
        Err(Errno::ENOTTY | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes the kernel read the disk's partition table again (BLKRRPART).
///
/// # Errors
/// The kernel's error: EBUSY while a partition is in use; EINVAL for devices that never have a table, such as
/// most loop devices.
pub fn reread_table(disk: &File) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the whole call, and BLKRRPART takes no argument.
    unsafe { raw::blkrrpart(disk.as_raw_fd()) }?;
    Ok(())
}

/// Flushes and drops the kernel's cache of a block device, so that the next read comes from the device
/// (BLKFLSBUF).
///
/// # Errors
/// The kernel's error: EACCES without CAP_SYS_ADMIN.
pub fn forget(device: &File) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the whole call, and BLKFLSBUF takes no argument.
    unsafe { raw::blkflsbuf(device.as_raw_fd()) }?;
    Ok(())
}

/// Adds a partition to the kernel's list, in bytes from the start of the disk (BLKPG_ADD_PARTITION).
///
/// # Errors
/// The kernel's error: EBUSY if it overlaps a known partition, EINVAL if it is not aligned to sectors.
pub fn add_partition(disk: &File, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    partition_call(disk, BLKPG_ADD_PARTITION, number, start, length)
}

/// Removes a partition from the kernel's list (BLKPG_DEL_PARTITION).
///
/// # Errors
/// The kernel's error: ENXIO if the kernel knows no such partition, EBUSY while it is in use.
pub fn delete_partition(disk: &File, number: u32) -> Result<(), Errno> {
    partition_call(disk, BLKPG_DEL_PARTITION, number, 0, 0)
}

fn partition_call(disk: &File, op: libc::c_int, number: u32, start: u64, length: u64) -> Result<(), Errno> {
    let in_range = |bytes: u64| i64::try_from(bytes).map_err(|_| Errno::ERANGE);
    let partition = BlkpgPartition {
        start: in_range(start)?,
        length: in_range(length)?,
        pno: libc::c_int::try_from(number).map_err(|_| Errno::ERANGE)?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let datalen = libc::c_int::try_from(size_of::<BlkpgPartition>()).map_err(|_| Errno::ERANGE)?;
    let argument = BlkpgIoctlArg { op, flags: 0, datalen, data: &raw const partition };
    // SAFETY: the descriptor is open for the whole call; both structs have the layout of linux/blkpg.h and
    // live until the call returns, and the kernel only reads them.
    unsafe { raw::blkpg(disk.as_raw_fd(), &raw const argument) }?;
    Ok(())
}
