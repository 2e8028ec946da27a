//! Mounts the new file systems as the clone will see them, and always unmounts them.

use super::MadeFileSystem;
use super::error::DiskError;
use super::proof::{self, Sample};
use super::subvolumes;
use super::wait::retry;
use crate::read_back::Chance;
use crate::step::goes_on;
use crate::unpack;
use ka::archive::{Entry, Kind, Time, Xattr};
use ka::plan::{Covered, FileSystemKind, FileSystemPlan};
use ka_host::health::Watched;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a file system may stay busy after its last user: a process forked by another thread holds copies
/// of all open files until it calls exec.
const BUSY: Duration = Duration::from_secs(5);

/// The mounted file systems, in mount order. Dropping this unmounts them in reverse order.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mounted>);

/// A mounted file system. The kernel reports a write-back error once to every file that was open before the
/// error, and possibly to no file opened later: a tool of the copied system may already have consumed it.
#[derive(Debug)]
struct Mounted {
    at: PathBuf,
    /// Where the clone mounts it.
    point: PathBuf,
    device: PathBuf,
    kind: FileSystemKind,
    options: String,
    /// Open since it was mounted.
    watched: Option<Watched>,
    /// Open since before it was mounted. Errors of writes during unmounting are read from this file.
    partition: File,
}

/// A sample of a file system, and how to mount it again.
#[derive(Debug)]
pub(super) struct Taken {
    device: PathBuf,
    kind: FileSystemKind,
    options: String,
    sample: Sample,
}

/// One mount.
struct Wanted<'a> {
    fs: &'a MadeFileSystem,
    point: &'a Path,
    options: String,
}

/// Mounts every file system that has a mount point below `root`, outer ones first, after creating the
/// subvolumes of every btrfs.
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
        mounts.mount(fs, at, point, options)?;
    }
    Ok(mounts)
}

/// The mount points of a file system: its own, and those of its subvolumes.
fn mounts_of(fs: &MadeFileSystem) -> impl Iterator<Item = Wanted<'_>> {
    let general = join([&options(&fs.plan), on_errors(fs.plan.kind)]);
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

/// Gives a directory the attributes of the golden one before a mount covers it: after that they cannot
/// change.
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

/// Mount options that the golden files need and that are not the kernel's default.
fn options(plan: &FileSystemPlan) -> String {
    match plan.kind {
        // Both are off by default before kernel 2.6.39; ReiserFS never turned them on.
        FileSystemKind::Reiserfs => "user_xattr,acl",
        // Names are UTF-8; owners and modes that FAT cannot store are not errors.
        FileSystemKind::Vfat => "utf8=1,quiet",
        _ => compress(plan).unwrap_or_default(),
    }
    .to_owned()
}

/// The reaction to damage: stop, so that a write fails instead of being lost.
fn on_errors(kind: FileSystemKind) -> &'static str {
    match kind {
        FileSystemKind::Ext2
        | FileSystemKind::Ext3
        | FileSystemKind::Ext4
        | FileSystemKind::Jfs
        | FileSystemKind::Vfat => "errors=remount-ro",
        FileSystemKind::Reiserfs => "errors=ro-remount",
        // These have no such option: they always shut themselves down.
        FileSystemKind::Xfs | FileSystemKind::Btrfs | FileSystemKind::Swap => "",
    }
}

fn join(options: [&str; 2]) -> String {
    options.into_iter().filter(|option| !option.is_empty()).collect::<Vec<_>>().join(",")
}

/// The compression of a btrfs: the same as the golden one's, whose files might not fit otherwise.
fn compress(plan: &FileSystemPlan) -> Option<&str> {
    let option = plan.compress.as_deref().filter(|_| plan.kind == FileSystemKind::Btrfs)?;
    (option.starts_with("compress") && !option.contains(',')).then_some(option)
}

impl Mounts {
    fn mount(
        &mut self,
        fs: &MadeFileSystem,
        at: PathBuf,
        point: &Path,
        options: String,
    ) -> Result<(), DiskError> {
        let (device, kind) = (fs.device.clone(), fs.plan.kind);
        let partition = File::open(&device).map_err(|e| DiskError::io(&device, "open it", e))?;
        mount_at(&device, &at, kind, MsFlags::empty(), &options)?;
        log::info!("{} mounted at {}", device.display(), at.display());
        let point = point.to_owned();
        self.0.push(Mounted { at, point, device, kind, options, watched: None, partition });
        if let Some(mounted) = self.0.last_mut() {
            let directory = File::open(&mounted.at).map_err(|e| DiskError::io(&mounted.at, "open it", e))?;
            mounted.watched = Some(Watched::new(directory.into(), &mounted.at)?);
        }
        Ok(())
    }

    /// Hashes a sample of every file system, for comparison after unmounting.
    pub(super) fn samples(&self) -> Result<Vec<Taken>, DiskError> {
        let take = |mounted: &Mounted| {
            let Mounted { at, point, device, kind, options, .. } = mounted;
            goes_on(format_args!("read a sample of the files on {}", device.display()));
            let sample = Sample::take(at, point, Chance::new())?;
            Ok(Taken { device: device.clone(), kind: *kind, options: options.clone(), sample })
        };
        self.0.iter().map(take).collect()
    }

    /// Syncs and unmounts everything, inner file systems first. Stops at the first failure.
    pub(super) fn unmount(&mut self) -> Result<(), DiskError> {
        while let Some(Mounted { at, device, watched, partition, .. }) = self.0.last_mut() {
            goes_on(format_args!("write everything out to {}", device.display()));
            // An open file keeps the file system from being unmounted.
            if let Some(watched) = watched.take() {
                watched.sync()?;
            }
            let unmount = || umount2(&*at, MntFlags::empty());
            retry(BUSY, unmount, |e| *e == Errno::EBUSY).map_err(|e| DiskError::io(&*at, "unmount it", e))?;
            let written = partition.sync_all();
            let device = std::mem::take(device);
            self.0.pop();
            written.map_err(|e| DiskError::io(device, "write everything out", e))?;
        }
        Ok(())
    }

    /// Unmounts everything, even if it is in use or can no longer be written; failures are logged.
    pub(super) fn detach(&mut self) {
        while let Some(Mounted { at, watched, partition, .. }) = self.0.pop() {
            drop((watched, partition));
            if umount2(&at, MntFlags::empty()).or_else(|_| umount2(&at, MntFlags::MNT_DETACH)).is_err() {
                log::error!("{}: cannot unmount it", at.display());
            }
        }
    }
}

impl Taken {
    /// Whether this is a non-empty sample of this device's file system.
    pub(super) fn is_of(&self, device: &Path) -> bool {
        self.device == device && self.sample.len() > 0
    }

    /// Mounts the file system read-only at `at`, and compares the medium with the sample.
    pub(super) fn prove(&self, at: &Path) -> Result<(), DiskError> {
        let Self { device, kind, options, sample } = self;
        goes_on(format_args!("read back {} files of {}", sample.len(), device.display()));
        proof::forget(device)?;
        mount_at(device, at, *kind, MsFlags::MS_RDONLY, options)?;
        let compared = sample.compare(at, device);
        let unmount = || umount2(at, MntFlags::empty());
        let unmounted = retry(BUSY, unmount, |e| *e == Errno::EBUSY);
        compared?;
        unmounted.map_err(|e| DiskError::io(at, "unmount it", e))
    }
}

fn mount_at(
    device: &Path,
    at: &Path,
    kind: FileSystemKind,
    flags: MsFlags,
    options: &str,
) -> Result<(), DiskError> {
    mount(Some(device), at, Some(kind.name()), flags, Some(options))
        .map_err(|e| DiskError::io(device, "mount it", e))
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if let Err(e) = self.unmount() {
            log::error!("{e}");
            self.detach();
        }
    }
}
