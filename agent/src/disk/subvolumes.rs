//! The subvolumes of a new btrfs.

use super::MadeFileSystem;
use super::error::DiskError;
use ka_host::sys::btrfs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::path::Path;

/// The ID of the top level of a btrfs, which contains all subvolumes.
pub(super) const TOP: &str = "subvolid=5";

/// Creates the plan's subvolumes, outer ones first, and sets the default one. The file system is mounted at
/// `at` meanwhile.
pub(super) fn make(fs: &MadeFileSystem, at: &Path) -> Result<(), DiskError> {
    if fs.plan.subvolumes.iter().all(|subvolume| subvolume.path.is_empty()) {
        return Ok(());
    }
    fs::create_dir_all(at).map_err(|e| DiskError::io(at, "make the mount point", e))?;
    mount(Some(&fs.device), at, Some("btrfs"), MsFlags::empty(), Some(TOP))
        .map_err(|e| DiskError::io(&fs.device, "mount it to make its subvolumes", e))?;
    let made = make_in(fs, at);
    let unmounted = umount2(at, MntFlags::empty()).or_else(|_| umount2(at, MntFlags::MNT_DETACH));
    made?;
    unmounted.map_err(|e| DiskError::io(at, "unmount it", e))
}

fn make_in(fs: &MadeFileSystem, top: &Path) -> Result<(), DiskError> {
    for subvolume in fs.plan.subvolumes.iter().filter(|subvolume| !subvolume.path.is_empty()) {
        let path = top.join(&subvolume.path);
        let failed = |doing, e: std::io::Error| DiskError::io(&path, doing, e);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        fs::create_dir_all(parent).map_err(|e| failed("make the directory for a subvolume", e))?;
        let parent = File::open(parent).map_err(|e| failed("open the directory for a subvolume", e))?;
        btrfs::create_subvolume(&parent, name).map_err(|e| failed("make a subvolume", e.into()))?;
        log::info!("{}: subvolume {}", fs.device.display(), subvolume.path);
    }
    if let Some(default) = fs.plan.subvolumes.iter().find(|subvolume| subvolume.default) {
        let path = top.join(&default.path);
        let failed = |e: std::io::Error| DiskError::io(&path, "make it the default subvolume", e);
        let directory = File::open(&path).map_err(failed)?;
        btrfs::set_default(&directory).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}
