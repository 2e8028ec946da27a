//! Examines a disk of the golden node: its table, its partitions, and their contents and users.

pub mod lvm;
pub(super) mod mounted;
mod subvolumes;

use super::quiet;
use super::shape::{self, Made};
use ka::disk::description::Role;
use ka::disk::kind::PartitionKind;
use ka::disk::layout::Placed;
use ka::disk::table::{Finding, Table, TableError};
use ka::disk::units::{DiskSize, SectorSize};
use ka::plan::{FileSystemKind, GoldenNames, VolumeName};
use ka_host::blkid::{self, BlkidError, Contents};
use ka_host::mountinfo::{self, DeviceNumber, Mount};
use ka_host::sysfs::{self, KernelPartition};
use mounted::VisibleMount;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use subvolumes::{Files, GoldenSubvolume, TOP};

/// The number of bytes in the first sector before the table: boot code, and in an MBR the disk's signature.
pub const BOOT_CODE: usize = 446;

/// A disk of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenDisk {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// Its size.
    pub size: DiskSize,
    /// Its partition table, or why none can be read.
    pub table: Result<Table, String>,
    /// Its partitions by number, as the kernel sees them.
    pub partitions: Vec<GoldenVolume>,
}

/// A partition or a logical volume of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its device node.
    pub node: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its type, if it is from a table that was read.
    pub kind: Option<PartitionKind>,
    /// Its contents.
    pub contents: Contents,
    /// How its file system was created, if it is of a type that can be created.
    pub made: Made,
    /// The subvolumes of a mounted btrfs, outer ones first.
    pub subvolumes: Vec<GoldenSubvolume>,
    /// The links in /dev/disk that lead to it.
    pub links: Vec<PathBuf>,
    /// Its user.
    pub usage: Usage,
}

/// An active volume group of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenGroup {
    /// LVM's information about it.
    pub group: lvm::Group,
    /// Its logical volumes as block devices, in the order of the group's list; `None` for one without a
    /// device node, such as a thin pool.
    pub volumes: Vec<Option<GoldenVolume>>,
}

/// The user of a partition of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// None.
    Unused,
    /// It is mounted.
    Mounted {
        /// The first mount point where all of it, or one of its subvolumes, is visible.
        at: PathBuf,
        /// The device number of its files there.
        device: DeviceNumber,
        /// The space in use, in bytes.
        used: u64,
        /// The number of inodes in use.
        inodes: u64,
        /// The mount option for compression on a btrfs: `compress=zstd:3`.
        compress: Option<String>,
        /// The file system itself is read-only, not just this mount of it.
        read_only: bool,
    },
    /// It is in use as swap.
    Swap,
    /// Another device is built on it: LVM, RAID, LUKS.
    Held {
        /// The kernel's name of the other device.
        by: String,
    },
    /// A process holds it exclusively, and the kernel does not report which: ZFS, a program.
    Exclusive,
}

/// Why a disk of the golden node cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk does not exist.
    #[error("this machine has no disk {name}: it has {present}")]
    NoDisk {
        /// The requested name.
        name: String,
        /// The existing disks.
        present: String,
    },
    /// The kernel or a tool returned an error.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The object that was examined.
        path: PathBuf,
        /// The error.
        error: io::Error,
    },
    /// The contents of a partition are unknown.
    #[error(transparent)]
    Blkid(#[from] BlkidError),
    /// The contents of LVM's physical volumes are unknown.
    #[error(transparent)]
    Lvm(#[from] lvm::LvmError),
    /// The table was changed, and the kernel still uses the old one: the contents of the new table's
    /// partitions are unknown.
    #[error(
        "{node}: the kernel has it from byte {} on with {} bytes, the partition table on the disk from byte {} on with \
         {} bytes: have the kernel read the table again (partprobe /dev/{disk}), or reboot",
        .kernel.0, .kernel.1, .table.0, .table.1, node = .node.display()
    )]
    Stale {
        /// The disk's name.
        disk: String,
        /// The partition.
        node: PathBuf,
        /// Its position and size according to the kernel, in bytes.
        kernel: (u64, u64),
        /// The same according to the table.
        table: (u64, u64),
    },
    /// Mounted only in part, or below another mount.
    #[error("{node} is mounted at {at}, but not as a whole, or another mount hides it: unmount one of them", node = .node.display(), at = .at.display())]
    Hidden {
        /// The partition.
        node: PathBuf,
        /// The mount point.
        at: PathBuf,
    },
}

/// Examines the disk with a kernel name, or a path in /dev.
///
/// # Errors
/// The disk does not exist, or cannot be examined.
pub fn scan(disk: &str) -> Result<GoldenDisk, ScanError> {
    let name = find(disk)?;
    let node = Path::new("/dev").join(&name);
    let failed = |source| ScanError::Io { path: node.clone(), error: source };
    let size = size(&name).map_err(failed)?;
    let table = match Table::read(&mut File::open(&node).map_err(failed)?, size) {
        Ok(table) => Ok(table),
        Err(TableError::Io(source)) => return Err(failed(source)),
        Err(e) => Err(e.to_string()),
    };
    let mounts = mountinfo::read().map_err(failed)?;
    let swaps = sysfs::swaps().map_err(failed)?;
    let seen = sysfs::partitions(&name).map_err(failed)?;
    if let Ok(table) = &table {
        check_places(&name, table, &seen)?;
    }
    let mut partitions = Vec::new();
    for partition in seen {
        let placed = table.as_ref().ok().and_then(|table| table.partition(partition.number));
        partitions.push(scan_partition(&partition, placed, &mounts, &swaps)?);
    }
    Ok(GoldenDisk { name, size, table, partitions })
}

/// The active volume groups on these disks.
///
/// # Errors
/// LVM's tools fail, or a logical volume cannot be examined.
pub fn groups(disks: &[GoldenDisk]) -> Result<Vec<GoldenGroup>, ScanError> {
    let partitions = || disks.iter().flat_map(|disk| &disk.partitions).filter(|p| p.is_in_group());
    if partitions().next().is_none() {
        return Ok(Vec::new());
    }
    let proc = |source| ScanError::Io { path: "/proc".into(), error: source };
    let mounts = mountinfo::read().map_err(proc)?;
    let swaps = sysfs::swaps().map_err(proc)?;
    let is_on_them = |group: &lvm::Group| {
        group.members.iter().any(|member| partitions().any(|partition| is_same(&partition.node, member)))
    };
    let mut found = Vec::new();
    for group in lvm::groups()?.into_iter().filter(is_on_them) {
        let mut volumes = Vec::new();
        for logical in &group.volumes {
            volumes.push(scan_logical(&group.name, logical, &mounts, &swaps)?);
        }
        found.push(GoldenGroup { group, volumes });
    }
    Ok(found)
}

/// Whether both paths lead to the same device.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    one == other || sysfs::block_number(one).is_some_and(|number| sysfs::block_number(other) == Some(number))
}

/// A logical volume, if it has a device node: if it is active.
fn scan_logical(
    group: &str,
    logical: &lvm::Logical,
    mounts: &[Mount],
    swaps: &[DeviceNumber],
) -> Result<Option<GoldenVolume>, ScanError> {
    let Some(number) = sysfs::block_number(&logical.node) else { return Ok(None) };
    let failed = |source| ScanError::Io { path: logical.node.clone(), error: source };
    let kernel = sysfs::name_of(number).map_err(failed)?;
    let name = VolumeName::Logical { group: group.to_owned(), name: logical.name.clone() };
    let device =
        Device { name, node: logical.node.clone(), kernel: &kernel, size: logical.size, placed: None };
    let mut volume = scan_volume(&device, mounts, swaps)?;
    let own = Path::new("/dev").join(&kernel);
    volume.links = links(&own);
    volume.links.extend([own, Path::new("/dev").join(group).join(&logical.name)]);
    Ok(Some(volume))
}

/// The kernel's partitions must match the table's: the former determine the contents, the latter the clones'
/// layout. A damaged table is not copied, and the kernel may interpret it differently.
fn check_places(disk: &str, table: &Table, seen: &[KernelPartition]) -> Result<(), ScanError> {
    if table.findings.iter().any(Finding::is_damage) {
        return Ok(());
    }
    let sector = table.disk.sector;
    for partition in seen {
        let Some(placed) = table.partition(partition.number) else { continue };
        let (start, size) = (placed.start.bytes(sector), placed.size.bytes(sector));
        // The kernel limits access to an extended partition to its table.
        let is_same_size = size == partition.size || placed.role == Role::Extended;
        if start != partition.start || !is_same_size {
            return Err(ScanError::Stale {
                disk: disk.to_owned(),
                node: partition.node(),
                kernel: (partition.start, partition.size),
                table: (start, size),
            });
        }
    }
    Ok(())
}

/// The kernel's name of the whole disk that a name or path refers to, if this machine has it.
///
/// # Errors
/// The disk does not exist; the error lists the existing ones.
pub fn find(disk: &str) -> Result<String, ScanError> {
    let name = sysfs::block_number(&Path::new("/dev").join(disk)).and_then(|n| sysfs::name_of(n).ok());
    let present =
        sysfs::disks().map_err(|source| ScanError::Io { path: "/sys/block".into(), error: source })?;
    name.filter(|name| present.contains(name))
        .ok_or_else(|| ScanError::NoDisk { name: disk.to_owned(), present: present.join(", ") })
}

/// Reads the boot code in the first sector of a disk.
///
/// # Errors
/// The disk cannot be read.
pub fn boot_code(name: &str) -> Result<[u8; BOOT_CODE], ScanError> {
    let path = Path::new("/dev").join(name);
    let mut bytes = [0; BOOT_CODE];
    let read = File::open(&path).and_then(|disk| disk.read_exact_at(&mut bytes, 0));
    read.map(|()| bytes).map_err(|source| ScanError::Io { path, error: source })
}

fn size(name: &str) -> io::Result<DiskSize> {
    let number = |attribute| {
        let text = sysfs::attribute(name, attribute)?;
        text.parse::<u64>().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    };
    let sector = u32::try_from(number("queue/logical_block_size")?).unwrap_or(u32::MAX);
    let sector = SectorSize::try_from(sector).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    // sysfs counts in sectors of 512 bytes for every disk.
    Ok(DiskSize::of_bytes(number("size")?.saturating_mul(512), sector))
}

fn scan_partition(
    partition: &KernelPartition,
    placed: Option<&Placed>,
    mounts: &[Mount],
    swaps: &[DeviceNumber],
) -> Result<GoldenVolume, ScanError> {
    let device = Device {
        name: VolumeName::Partition(partition.number),
        node: partition.node(),
        kernel: &partition.name,
        size: partition.size,
        placed,
    };
    scan_volume(&device, mounts, swaps)
}

/// A block device to examine.
struct Device<'a> {
    name: VolumeName,
    node: PathBuf,
    /// Its kernel name.
    kernel: &'a str,
    size: u64,
    /// Its entry in the table, if it is a partition.
    placed: Option<&'a Placed>,
}

fn scan_volume(
    device: &Device<'_>,
    mounts: &[Mount],
    swaps: &[DeviceNumber],
) -> Result<GoldenVolume, ScanError> {
    let node = device.node.clone();
    let failed = |source| ScanError::Io { path: node.clone(), error: source };
    let contents = blkid::probe(&node)?;
    let number = sysfs::device_number(device.kernel).map_err(failed)?;
    let mounts = sysfs::mounts_of(mounts, number);
    let places: Vec<VisibleMount> = mounts.iter().filter_map(|mount| mounted::visible(mount)).collect();
    let subvolumes = match contents.kind.as_deref() {
        Some("btrfs") => subvolumes::find(&places).map_err(failed)?,
        _ => Vec::new(),
    };
    let kind = contents.kind.as_deref().and_then(FileSystemKind::of_name);
    let made = match kind.map(|kind| shape::read(kind, &node)) {
        Some(Ok(made)) => made,
        // Contents that are not copied need not be understood.
        Some(Err(source)) if !mounts.is_empty() => return Err(ScanError::Io { path: node, error: source }),
        Some(Err(_)) | None => Made::default(),
    };
    let usage = match mounts.first() {
        Some(first) => {
            let hidden = || ScanError::Hidden { node: node.clone(), at: first.mount_point.clone() };
            let is_whole = |place: &&VisibleMount| {
                if subvolumes.is_empty() {
                    place.root == Path::new("/")
                } else {
                    subvolumes.iter().any(|s| s.mount_point.as_ref() == Some(&place.at))
                }
            };
            let place = places.iter().find(is_whole).ok_or_else(hidden)?;
            let (used, inodes) = mounted::used(&place.at).map_err(failed)?;
            Usage::Mounted {
                at: place.at.clone(),
                device: place.device,
                used: used.saturating_sub(made.overhead),
                inodes,
                compress: first.compress().map(str::to_owned),
                read_only: first.read_only,
            }
        }
        None if swaps.contains(&number) => Usage::Swap,
        None => unmounted(device).map_err(failed)?,
    };
    Ok(GoldenVolume {
        name: device.name.clone(),
        size: device.size,
        kind: device.placed.map(|placed| placed.kind),
        contents,
        made,
        subvolumes,
        links: links(&node),
        usage,
        node,
    })
}

/// The user of a partition that is neither mounted nor in use as swap.
fn unmounted(device: &Device<'_>) -> io::Result<Usage> {
    if let Some(by) = sysfs::holders(device.kernel)?.into_iter().next() {
        return Ok(Usage::Held { by });
    }
    if device.placed.is_some_and(|placed| placed.kind.is_extended()) {
        return Ok(Usage::Unused);
    }
    Ok(if quiet::is_exclusive(&device.node)? { Usage::Exclusive } else { Usage::Unused })
}

/// The links in the directories of /dev/disk that lead to a device. A machine without udev has none.
fn links(node: &Path) -> Vec<PathBuf> {
    let directories = fs::read_dir("/dev/disk").into_iter().flatten().flatten();
    let links =
        directories.flat_map(|directory| fs::read_dir(directory.path()).into_iter().flatten().flatten());
    let mut links: Vec<_> = links
        .map(|link| link.path())
        .filter(|link| fs::canonicalize(link).is_ok_and(|target| target == node))
        .collect();
    links.sort();
    links
}

impl GoldenDisk {
    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&GoldenVolume> {
        self.partitions.iter().find(|partition| partition.number() == Some(number))
    }
}

impl GoldenVolume {
    /// Its number, if it is a partition.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self.name {
            VolumeName::Partition(number) => Some(number),
            VolumeName::Logical { .. } => None,
        }
    }

    /// Whether it is an active physical volume of LVM.
    #[must_use]
    pub fn is_in_group(&self) -> bool {
        self.contents.kind.as_deref() == Some("LVM2_member") && matches!(self.usage, Usage::Held { .. })
    }

    /// The type of its file system, if that can be created. A machine that has hibernated may have left a
    /// hibernation signature in its swap space.
    #[must_use]
    pub fn file_system(&self) -> Option<FileSystemKind> {
        match self.contents.kind.as_deref()? {
            "swsuspend" => Some(FileSystemKind::Swap),
            name => FileSystemKind::of_name(name),
        }
    }

    /// The names by which the golden node's configuration may refer to the partition.
    #[must_use]
    pub fn names(&self) -> GoldenNames {
        let devices = std::iter::once(&self.node).chain(&self.links);
        GoldenNames {
            uuid: self.contents.uuid.clone(),
            partuuid: self.contents.partuuid.clone(),
            label: self.contents.label.clone(),
            devices: devices.map(|path| path.display().to_string()).collect(),
            kind: self.contents.kind.clone(),
        }
    }
}
