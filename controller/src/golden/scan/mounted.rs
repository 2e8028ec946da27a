//! Where a partition's file system is mounted, and whether all of it is visible there.

use ka_host::mountinfo::{DeviceNumber, Mount};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::path::{Path, PathBuf};

/// A visible mount of a directory of a file system: no other mount hides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VisibleMount {
    /// The mount point.
    pub(super) at: PathBuf,
    /// The directory of the file system that is mounted; `/` for all of it.
    pub(super) root: PathBuf,
    /// The device number of the files there, which on btrfs is not that of any mount.
    pub(super) device: DeviceNumber,
}

/// Locates the mount point, unless another mount hides it.
pub(super) fn visible(mount: &Mount) -> Option<VisibleMount> {
    let found = statx(CWD, &mount.mount_point, AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).ok()?;
    let device = DeviceNumber { major: found.stx_dev_major, minor: found.stx_dev_minor };
    // A kernel before 5.8 reports no mount ID; the device number of the files is the next best, except on
    // btrfs.
    let is_this = if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID) {
        found.stx_mnt_id == mount.id
    } else {
        device == mount.device
    };
    is_this.then(|| VisibleMount { at: mount.mount_point.clone(), root: mount.root.clone(), device })
}

/// The bytes and inodes in use on the file system mounted there, as `df` and `df -i` count them.
pub(super) fn used(mount_point: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(mount_point)?;
    let bytes = stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize);
    Ok((bytes, stat.f_files.saturating_sub(stat.f_ffree)))
}
