//! The new file systems mounted as the clone will see them, and unmounted whatever happens.

use super::MadeFileSystem;
use super::error::DiskError;
use super::subvolumes;
use super::wait::retry;
use crate::unpack;
use ka::archive::{Entry, Kind, Time, Xattr};
use ka::plan::{Covered, FileSystemKind, FileSystemPlan};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a file system may stay busy after its last user: a process that another thread started
/// holds copies of all open files until it runs its program.
const BUSY: Duration = Duration::from_secs(5);

/// What is mounted, in the order in which it was. Unmounts in reverse when dropped.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<PathBuf>);

/// One mount.
struct Wanted<'a> {
    fs: &'a MadeFileSystem,
    point: &'a Path,
    options: String,
}

/// Mounts every file system that has a mount point below `root`, outer ones first, after the subvolumes of
/// every btrfs are made.
pub(super) fn mount_all(made: &[MadeFileSystem], root: &Path) -> Result<Mounts, DiskError> {
    for fs in made.iter().filter(|fs| fs.plan.kind == FileSystemKind::Btrfs) {
        subvolumes::make(fs, root)?;
    }
    let mut wanted: Vec<Wanted<'_>> = made.iter().flat_map(mounts_of).collect();
    wanted.sort_by_key(|one| one.point.components().count());
    let mut mounts = Mounts::default();
    for Wanted { fs, point, options } in wanted {
        let at = root.join(point.strip_prefix("/").unwrap_or(point));
        std::fs::create_dir_all(&at).map_err(|e| DiskError::io(&at, "make the mount point", e))?;
        if let Some(covered) = fs.plan.covered.iter().find(|covered| Path::new(&covered.mount_point) == point)
        {
            cover(&at, covered)?;
        }
        mounts.mount(fs, at, &options)?;
    }
    Ok(mounts)
}

/// Where a file system is mounted: as a whole, and its subvolumes.
fn mounts_of(fs: &MadeFileSystem) -> impl Iterator<Item = Wanted<'_>> {
    let general = options(&fs.plan);
    let compress = compress(&fs.plan).map(|option| format!("{option},")).unwrap_or_default();
    let whole = fs.plan.mount_point.as_deref().map(|point| (point, general));
    let subvolumes = fs.plan.subvolumes.iter().filter_map(move |subvolume| {
        let option = match subvolume.path.as_str() {
            "" => format!("{compress}{}", subvolumes::TOP),
            path => format!("{compress}subvol=/{path}"),
        };
        Some((subvolume.mount_point.as_deref()?, option))
    });
    let all = whole.into_iter().chain(subvolumes).filter(|_| fs.plan.kind != FileSystemKind::Swap);
    all.map(move |(point, options)| Wanted { fs, point: Path::new(point), options })
}

/// Makes a directory what the golden one is, before a mount covers it: nothing changes it from then on.
fn cover(at: &Path, covered: &Covered) -> Result<(), DiskError> {
    let (sec, nsec) = covered.mtime;
    let xattrs = covered.xattrs.iter().cloned().map(|(name, value)| Xattr { name, value });
    let entry = Entry {
        path: covered.mount_point.clone().into_bytes(),
        kind: Kind::Directory,
        mode: covered.mode,
        uid: covered.uid,
        gid: covered.gid,
        mtime: Time { sec, nsec },
        xattrs: xattrs.collect(),
        traits: covered.traits,
        partition: None,
    };
    let directory = File::open(at).map_err(|e| DiskError::io(at, "open the mount point", e))?;
    unpack::dress(directory.as_fd(), entry).map_err(DiskError::Covered)?.log();
    Ok(())
}

/// What the golden files need that is not the kernel's default.
fn options(plan: &FileSystemPlan) -> String {
    match plan.kind {
        // Both are off by default in kernels before 2.6.39; ReiserFS never turned them on.
        FileSystemKind::Reiserfs => "user_xattr,acl",
        // Names are UTF-8; owners and modes that FAT can't have are no errors.
        FileSystemKind::Vfat => "utf8=1,quiet",
        _ => compress(plan).unwrap_or_default(),
    }
    .to_owned()
}

/// How a btrfs compresses what is written: as the golden one does, whose files might not find room otherwise.
fn compress(plan: &FileSystemPlan) -> Option<&str> {
    let option = plan.compress.as_deref().filter(|_| plan.kind == FileSystemKind::Btrfs)?;
    (option.starts_with("compress") && !option.contains(',')).then_some(option)
}

impl Mounts {
    fn mount(&mut self, fs: &MadeFileSystem, at: PathBuf, options: &str) -> Result<(), DiskError> {
        let kind = fs.plan.kind.name();
        mount(Some(&fs.device), &at, Some(kind), MsFlags::empty(), Some(options))
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
