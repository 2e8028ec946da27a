//! btrfs ioctls: subvolumes, and the error counters of its devices (linux/btrfs.h).

use nix::errno::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// The raw calls.
mod raw {
    /// The ioctl letter of btrfs in linux/btrfs.h.
    const BTRFS: u8 = 0x94;

    nix::ioctl_write_ptr!(subvol_create, BTRFS, 14, super::VolArgs);
    nix::ioctl_readwrite!(ino_lookup, BTRFS, 18, super::InoLookupArgs);
    nix::ioctl_write_ptr!(default_subvol, BTRFS, 19, u64);
    nix::ioctl_read!(fs_info, BTRFS, 31, super::FsInfoArgs);
    nix::ioctl_readwrite!(get_dev_stats, BTRFS, 52, super::DevStatsArgs);
}

/// The maximum length of a name, with its NUL.
const NAME: usize = 4088;

/// The object id of every subvolume's root directory.
const FIRST_FREE_OBJECT: u64 = 256;

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; NAME],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookupArgs {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_fs_info_args`, of which only the first field is used.
#[repr(C)]
struct FsInfoArgs {
    max_id: u64,
    rest: [u64; 127],
}

/// The number of counters in `struct btrfs_ioctl_get_dev_stats`: BTRFS_DEV_STAT_VALUES_MAX.
const COUNTERS: usize = 5;

/// `struct btrfs_ioctl_get_dev_stats`.
#[repr(C)]
struct DevStatsArgs {
    devid: u64,
    nr_items: u64,
    flags: u64,
    values: [u64; COUNTERS],
    unused: [u64; 128 - 2 - COUNTERS],
}

/// The error counters of one device of a btrfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceErrors {
    /// The device's number in the file system.
    pub device: u64,
    /// Failed writes.
    pub write: u64,
    /// Failed reads.
    pub read: u64,
    /// Failed flushes.
    pub flush: u64,
    /// Checksum errors.
    pub corruption: u64,
    /// Blocks of the wrong generation.
    pub generation: u64,
}

impl fmt::Display for DeviceErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, write, read, flush, corruption, generation } = self;
        write!(
            f,
            "device {device}: {write} write, {read} read, {flush} flush, {corruption} checksum and {generation} \
             generation errors in all"
        )
    }
}

/// The error counters of each device of a btrfs (BTRFS_IOC_GET_DEV_STATS).
///
/// # Errors
/// The kernel's error: ENOTTY if the directory is on another file system.
pub fn device_errors(directory: &File) -> Result<Vec<DeviceErrors>, Errno> {
    let mut info = FsInfoArgs { max_id: 0, rest: [0; 127] };
    // SAFETY: the descriptor is open for the whole call; the struct has the size given in linux/btrfs.h, and
    // lives until the call returns.
    unsafe { raw::fs_info(directory.as_raw_fd(), &raw mut info) }?;
    let mut devices = Vec::new();
    for devid in 1..=info.max_id {
        let mut stats = DevStatsArgs {
            devid,
            nr_items: COUNTERS as u64,
            flags: 0,
            values: [0; COUNTERS],
            unused: [0; 128 - 2 - COUNTERS],
        };
        // SAFETY: the descriptor is open for the whole call; the struct has the layout and size of
        // linux/btrfs.h, and lives until the call returns.
        match unsafe { raw::get_dev_stats(directory.as_raw_fd(), &raw mut stats) } {
            Ok(_) => {
                let [write, read, flush, corruption, generation] = stats.values;
                devices.push(DeviceErrors { device: devid, write, read, flush, corruption, generation });
            }
            // The device with this number was removed.
            Err(Errno::ENODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(devices)
}

/// Creates an empty subvolume in a directory of a btrfs (BTRFS_IOC_SUBVOL_CREATE).
///
/// # Errors
/// The kernel's error: EEXIST if the name is taken, ENOTTY if the directory is on another file system; or
/// ENAMETOOLONG.
pub fn create_subvolume(parent: &File, name: &OsStr) -> Result<(), Errno> {
    let mut arguments = VolArgs { fd: 0, name: [0; NAME] };
    let bytes = name.as_bytes();
    let place = arguments.name.get_mut(..bytes.len()).filter(|_| bytes.len() < NAME);
    place.ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
    // SAFETY: the descriptor is open for the whole call; the struct has the layout of linux/btrfs.h with a
    // NUL after its name, and lives until the call returns; the kernel only reads it.
    unsafe { raw::subvol_create(parent.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

/// Makes a subvolume the default, which is mounted when none is named (BTRFS_IOC_DEFAULT_SUBVOL).
///
/// # Errors
/// The kernel's error: ENOTTY if the directory is on another file system.
pub fn set_default(subvolume: &File) -> Result<(), Errno> {
    // Tree 0 means the tree of the directory itself.
    let mut lookup = InoLookupArgs { treeid: 0, objectid: FIRST_FREE_OBJECT, name: [0; 4080] };
    // SAFETY: the descriptor is open for the whole call; the struct has the layout and size of
    // linux/btrfs.h, and lives until the call returns.
    unsafe { raw::ino_lookup(subvolume.as_raw_fd(), &raw mut lookup) }?;
    // SAFETY: the descriptor is open for the whole call, and the kernel only reads the number.
    unsafe { raw::default_subvol(subvolume.as_raw_fd(), &raw const lookup.treeid) }?;
    Ok(())
}
