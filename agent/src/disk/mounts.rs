//! The new file systems mounted as the clone will see them, and unmounted whatever happens.

use super::MadeFileSystem;
use super::error::DiskError;
use super::wait::retry;
use ka::plan::FileSystemKind;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a file system may stay busy after its last user: a process that another thread started
/// holds copies of all open files until it runs its program.
const BUSY: Duration = Duration::from_secs(5);

/// What is mounted, in the order in which it was. Unmounts in reverse when dropped.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<PathBuf>);

/// Mounts every file system that has a mount point below `root`, outer ones first.
pub(super) fn mount_all(made: &[MadeFileSystem], root: &Path) -> Result<Mounts, DiskError> {
    let mut wanted: Vec<(&Path, &MadeFileSystem)> = made
        .iter()
        .filter(|fs| fs.plan.kind != FileSystemKind::Swap)
        .filter_map(|fs| Some((Path::new(fs.plan.mount_point.as_deref()?), fs)))
        .collect();
    wanted.sort_by_key(|(path, _)| path.components().count());
    let mut mounts = Mounts::default();
    for (path, fs) in wanted {
        let at = root.join(path.strip_prefix("/").unwrap_or(path));
        mounts.mount(fs, at)?;
    }
    Ok(mounts)
}

impl Mounts {
    fn mount(&mut self, fs: &MadeFileSystem, at: PathBuf) -> Result<(), DiskError> {
        std::fs::create_dir_all(&at).map_err(|e| DiskError::io(&at, "make the mount point", e))?;
        let kind = fs.plan.kind.to_string();
        mount(Some(&fs.device), &at, Some(kind.as_str()), MsFlags::empty(), None::<&str>)
            .map_err(|e| DiskError::io(&fs.device, "mount it", e))?;
        log::info!("{} mounted at {}", fs.device.display(), at.display());
        self.0.push(at);
        Ok(())
    }

    /// Writes everything out and unmounts, inner file systems first. Stops at the first that fails.
    pub(super) fn unmount(&mut self) -> Result<(), DiskError> {
        while let Some(at) = self.0.last() {
            // The kernel tells of a failed write here; umount tells nothing.
            File::open(at)
                .and_then(|dir| Ok(rustix::fs::syncfs(&dir)?))
                .map_err(|e| DiskError::io(at, "write everything out", e))?;
            let unmount = || umount2(at, MntFlags::empty());
            retry(BUSY, unmount, |e| *e == Errno::EBUSY).map_err(|e| DiskError::io(at, "unmount it", e))?;
            self.0.pop();
        }
        Ok(())
    }

    /// Unmounts even what is in use or can't be written any more; what fails is logged.
    pub(super) fn detach(&mut self) {
        while let Some(at) = self.0.pop() {
            if umount2(&at, MntFlags::empty()).or_else(|_| umount2(&at, MntFlags::MNT_DETACH)).is_err() {
                log::error!("{}: can't unmount it", at.display());
            }
        }
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if let Err(e) = self.unmount() {
            log::error!("{e}");
            self.detach();
        }
    }
}
