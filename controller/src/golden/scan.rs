//! What a disk of the golden node is: its table, its partitions, what is on them and who uses them.

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
use mounted::Place;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub use subvolumes::{Files, GoldenSubvolume, TOP};

/// Bytes of the first sector before the table: boot code, and in an MBR the disk's signature.
pub const BOOT_CODE: usize = 446;

/// A disk of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenDisk {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// Its size.
    pub size: DiskSize,
    /// Its partition table, or why there is none to be read.
    pub table: Result<Table, String>,
    /// Its partitions by number, as the kernel sees them.
    pub partitions: Vec<GoldenVolume>,
}

/// A partition or a logical volume of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenVolume {
    /// What it is called.
    pub name: VolumeName,
    /// Its device node.
    pub node: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its type, if the table that was read has it.
    pub kind: Option<PartitionKind>,
    /// What is on it.
    pub contents: Contents,
    /// How its file system was made, if it is one of those that can be made.
    pub made: Made,
    /// The subvolumes of a mounted btrfs, outer ones first.
    pub subvolumes: Vec<GoldenSubvolume>,
    /// Links in /dev/disk that lead to it.
    pub links: Vec<PathBuf>,
    /// Who uses it.
    pub usage: Usage,
}

/// A volume group of the golden node that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenGroup {
    /// What LVM tells of it.
    pub group: lvm::Group,
    /// Its logical volumes as block devices, in the order of the group's; none for one that has no device node, such as a
    /// thin pool.
    pub volumes: Vec<Option<GoldenVolume>>,
}

/// Who uses a partition of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nobody.
    Unused,
    /// It is mounted.
    Mounted {
        /// The first place where the whole of it, or one of its subvolumes, is mounted and visible.
        at: PathBuf,
        /// The number that its files there have as their device.
        device: DeviceNumber,
        /// Bytes in use on it.
        used: u64,
        /// Inodes in use on it.
        inodes: u64,
        /// The option with which a btrfs compresses: `compress=zstd:3`.
        compress: Option<String>,
        /// The file system itself is read-only, not only this mount of it.
        read_only: bool,
    },
    /// It is swapped to.
    Swap,
    /// Another device is made of it: LVM, RAID, LUKS.
    Held {
        /// The kernel's name of the other device.
        by: String,
    },
    /// Somebody has it for himself, and the kernel doesn't say who: ZFS, a program.
    Exclusive,
}

/// Why a disk of the golden node cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is no such disk.
    #[error("this machine has no disk {name}: it has {present}")]
    NoDisk {
        /// What was asked for.
        name: String,
        /// The disks that are there.
        present: String,
    },
    /// The kernel, or a tool, doesn't answer.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// It is not known what is on a partition.
    #[error(transparent)]
    Blkid(#[from] BlkidError),
    /// It is not known what is on the physical volumes of LVM.
    #[error(transparent)]
    Lvm(#[from] lvm::LvmError),
    /// The table was changed, and the kernel goes on with the old one: what is on the partitions of the new one is
    /// not known.
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
        /// Where the kernel has it, and its size there, in bytes.
        kernel: (u64, u64),
        /// The same in the table.
        table: (u64, u64),
    },
    /// Mounted, but only in part, or below another mount.
    #[error("{node} is mounted at {at}, but not as a whole, or another mount hides it: unmount one of them", node = .node.display(), at = .at.display())]
    Hidden {
        /// The partition.
        node: PathBuf,
        /// Where it is mounted.
        at: PathBuf,
    },
}

/// Looks at the disk with a kernel name, or a path in /dev.
///
/// # Errors
/// There is no such disk, or it cannot be looked at.
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

/// The volume groups in use that lie on these disks, if on any.
///
/// # Errors
/// LVM's tools do not tell, or a logical volume cannot be looked at.
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

/// Whether both paths lead to one device.
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

/// The kernel's partitions must be those of the table: the first tell what is on them, the second what becomes of it.
/// A table that is damaged is nobody's to copy, and the kernel may read it in another way.
fn check_places(disk: &str, table: &Table, seen: &[KernelPartition]) -> Result<(), ScanError> {
    if table.findings.iter().any(Finding::is_damage) {
        return Ok(());
    }
    let sector = table.disk.sector;
    for partition in seen {
        let Some(placed) = table.partition(partition.number) else { continue };
        let (start, size) = (placed.start.bytes(sector), placed.size.bytes(sector));
        // The kernel lets nobody have more of an extended partition than its table.
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

/// The kernel's name of the whole disk that a name or path means, if this machine has it.
///
/// # Errors
/// There is no such disk; the error lists those that are there.
pub fn find(disk: &str) -> Result<String, ScanError> {
    let name = sysfs::block_number(&Path::new("/dev").join(disk)).and_then(|n| sysfs::name_of(n).ok());
    let present =
        sysfs::disks().map_err(|source| ScanError::Io { path: "/sys/block".into(), error: source })?;
    name.filter(|name| present.contains(name))
        .ok_or_else(|| ScanError::NoDisk { name: disk.to_owned(), present: present.join(", ") })
}

/// The boot code in the first sector of a disk.
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
    // sysfs counts in sectors of 512 bytes, whatever the disk's are.
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

/// A block device to look at.
struct Device<'a> {
    name: VolumeName,
    node: PathBuf,
    /// The kernel's name of it.
    kernel: &'a str,
    size: u64,
    /// Its place in the table, if it is a partition.
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
    let places: Vec<Place> = mounts.iter().filter_map(|mount| mounted::visible(mount)).collect();
    let subvolumes = match contents.kind.as_deref() {
        Some("btrfs") => subvolumes::find(&places).map_err(failed)?,
        _ => Vec::new(),
    };
    let kind = contents.kind.as_deref().and_then(FileSystemKind::of_name);
    let made = match kind.map(|kind| shape::read(kind, &node)) {
        Some(Ok(made)) => made,
        // What is not copied need not be understood.
        Some(Err(source)) if !mounts.is_empty() => return Err(ScanError::Io { path: node, error: source }),
        Some(Err(_)) | None => Made::default(),
    };
    let usage = match mounts.first() {
        Some(first) => {
            let hidden = || ScanError::Hidden { node: node.clone(), at: first.mount_point.clone() };
            let is_whole = |place: &&Place| {
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

/// Who uses a partition that is neither mounted nor swapped to.
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

    /// Whether it is a physical volume of LVM in use.
    #[must_use]
    pub fn is_in_group(&self) -> bool {
        self.contents.kind.as_deref() == Some("LVM2_member") && matches!(self.usage, Usage::Held { .. })
    }

    /// The kind of its file system, if it is one of those that can be made. A machine that has hibernated
    /// once may have left its mark on the swap space.
    #[must_use]
    pub fn file_system(&self) -> Option<FileSystemKind> {
        match self.contents.kind.as_deref()? {
            "swsuspend" => Some(FileSystemKind::Swap),
            name => FileSystemKind::of_name(name),
        }
    }

    /// The names under which the golden node's configuration may know the partition.
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
