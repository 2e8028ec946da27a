//! The new file systems mounted as the clone will see them, and unmounted whatever happens.

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

/// How long a file system may stay busy after its last user: a process that another thread started
/// holds copies of all open files until it runs its program.
const BUSY: Duration = Duration::from_secs(5);

/// What is mounted, in the order in which it was. Unmounts in reverse when dropped.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<Mounted>);

/// A file system that is mounted. What goes wrong while it is written out is said to whoever has had it open since
/// before that, and may be said to nobody else: a tool of the copied system can have heard it already.
#[derive(Debug)]
struct Mounted {
    at: PathBuf,
    /// Where the clone mounts it.
    point: PathBuf,
    device: PathBuf,
    kind: FileSystemKind,
    options: String,
    /// Open since it is mounted.
    watched: Option<Watched>,
    /// Open since before it was mounted: what is written while it is unmounted goes through this.
    partition: File,
}

/// A sample of what was mounted, and how to mount it again.
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
        mounts.mount(fs, at, point, options)?;
    }
    Ok(mounts)
}

/// Where a file system is mounted: as a whole, and its subvolumes.
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
        // Names are UTF-8; owners and modes that FAT cannot have are no errors.
        FileSystemKind::Vfat => "utf8=1,quiet",
        _ => compress(plan).unwrap_or_default(),
    }
    .to_owned()
}

/// What it does when it finds itself damaged: go no further, so that a write fails in place of being lost.
fn on_errors(kind: FileSystemKind) -> &'static str {
    match kind {
        FileSystemKind::Ext2
        | FileSystemKind::Ext3
        | FileSystemKind::Ext4
        | FileSystemKind::Jfs
        | FileSystemKind::Vfat => "errors=remount-ro",
        FileSystemKind::Reiserfs => "errors=ro-remount",
        // They have no choice: they shut themselves down.
        FileSystemKind::Xfs | FileSystemKind::Btrfs | FileSystemKind::Swap => "",
    }
}

fn join(options: [&str; 2]) -> String {
    options.into_iter().filter(|option| !option.is_empty()).collect::<Vec<_>>().join(",")
}

/// How a btrfs compresses what is written: as the golden one does, whose files might not find room otherwise.
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

    /// Hashes a sample of everything, to be compared when it is unmounted.
    pub(super) fn samples(&self) -> Result<Vec<Taken>, DiskError> {
        let take = |mounted: &Mounted| {
            let Mounted { at, point, device, kind, options, .. } = mounted;
            goes_on(format_args!("read a sample of the files on {}", device.display()));
            let sample = Sample::take(at, point, Chance::new())?;
            Ok(Taken { device: device.clone(), kind: *kind, options: options.clone(), sample })
        };
        self.0.iter().map(take).collect()
    }

    /// Writes everything out and unmounts, inner file systems first. Stops at the first that fails.
    pub(super) fn unmount(&mut self) -> Result<(), DiskError> {
        while let Some(Mounted { at, device, watched, partition, .. }) = self.0.last_mut() {
            goes_on(format_args!("write everything out to {}", device.display()));
            // Whoever has it open keeps it from being unmounted.
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

    /// Unmounts even what is in use or cannot be written any more; what fails is logged.
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
    /// Whether it is a sample of this device's file system, with anything in it.
    pub(super) fn is_of(&self, device: &Path) -> bool {
        self.device == device && self.sample.len() > 0
    }

    /// Mounts the file system read-only at `at`, and compares what the medium has with the sample.
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
