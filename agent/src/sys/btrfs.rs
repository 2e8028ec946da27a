//! Ioctls of btrfs: subvolumes (linux/btrfs.h).

use nix::errno::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

/// The calls themselves.
mod raw {
    /// The letter of btrfs in linux/btrfs.h.
    const BTRFS: u8 = 0x94;

    nix::ioctl_write_ptr!(subvol_create, BTRFS, 14, super::VolArgs);
    nix::ioctl_readwrite!(ino_lookup, BTRFS, 18, super::InoLookupArgs);
    nix::ioctl_write_ptr!(default_subvol, BTRFS, 19, u64);
}

/// Bytes of a name, with its zero.
const NAME: usize = 4088;

/// The object by which every subvolume's root directory is known.
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

/// Makes an empty subvolume in a directory of a btrfs (BTRFS_IOC_SUBVOL_CREATE).
///
/// # Errors
/// What the kernel says: EEXIST when the name is taken, ENOTTY when the directory is on another file system;
/// ENAMETOOLONG.
pub fn create_subvolume(parent: &File, name: &OsStr) -> Result<(), Errno> {
    let mut arguments = VolArgs { fd: 0, name: [0; NAME] };
    let bytes = name.as_bytes();
    let place = arguments.name.get_mut(..bytes.len()).filter(|_| bytes.len() < NAME);
    place.ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(bytes);
    // SAFETY: the descriptor is open for the whole call; the struct has the layout of linux/btrfs.h and a zero
    // behind its name, lives until the call returns, and the kernel only reads it.
    unsafe { raw::subvol_create(parent.as_raw_fd(), &raw const arguments) }?;
    Ok(())
}

/// Lets a subvolume be the one that is mounted when none is named (BTRFS_IOC_DEFAULT_SUBVOL).
///
/// # Errors
/// What the kernel says: ENOTTY when the directory is on another file system.
pub fn set_default(subvolume: &File) -> Result<(), Errno> {
    // Tree 0 means the one that the directory is in.
    let mut lookup = InoLookupArgs { treeid: 0, objectid: FIRST_FREE_OBJECT, name: [0; 4080] };
    // SAFETY: the descriptor is open for the whole call; the struct has the layout and size of
    // linux/btrfs.h, and lives until the call returns.
    unsafe { raw::ino_lookup(subvolume.as_raw_fd(), &raw mut lookup) }?;
    // SAFETY: the descriptor is open for the whole call, and the kernel only reads the number.
    unsafe { raw::default_subvol(subvolume.as_raw_fd(), &raw const lookup.treeid) }?;
    Ok(())
}
