//! What a disk of the golden node is: its table, its partitions, what is on them and who uses them.

use ka::disk::mbr::{self, Mbr};
use ka::disk::units::{DiskSize, SectorSize};
use ka::plan::GoldenNames;
use ka_agent::disk::blkid::{self, BlkidError, Contents};
use ka_agent::disk::mountinfo::{self, DeviceNumber, Mount};
use ka_agent::disk::sysfs::{self, KernelPartition};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A disk of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenDisk {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// Its size.
    pub size: DiskSize,
    /// Its partition table.
    pub table: Table,
    /// Its partitions by number, as the kernel sees them.
    pub partitions: Vec<GoldenPartition>,
}

/// A disk's partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// None that ka knows.
    None,
    /// An MBR.
    Mbr(Box<Mbr>),
    /// A GPT.
    Gpt,
}

/// A partition of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenPartition {
    /// Its number.
    pub number: u32,
    /// Its device node.
    pub node: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its type in the MBR's list, if the table is an MBR.
    pub kind: Option<u8>,
    /// What is on it.
    pub contents: Contents,
    /// Links in /dev/disk that lead to it.
    pub links: Vec<PathBuf>,
    /// Who uses it.
    pub usage: Usage,
}

/// Who uses a partition of the golden node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nobody.
    Unused,
    /// It is mounted.
    Mounted {
        /// The first place where the whole of it is mounted and visible.
        at: PathBuf,
        /// The number that its files have as their device.
        device: DeviceNumber,
        /// Bytes in use on it.
        used: u64,
    },
    /// It is swapped to.
    Swap,
    /// Another device is made of it: LVM, RAID, LUKS.
    Held {
        /// The kernel's name of the other device.
        by: String,
    },
}

/// Why a disk of the golden node can't be looked at.
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
    /// The kernel doesn't answer.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// What was looked at.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not known what is on a partition.
    #[error(transparent)]
    Blkid(#[from] BlkidError),
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
/// There is no such disk, or it can't be looked at.
pub fn scan(disk: &str) -> Result<GoldenDisk, ScanError> {
    let name = find(disk)?;
    let node = Path::new("/dev").join(&name);
    let failed = |source| ScanError::Io { path: node.clone(), source };
    let size = size(&name).map_err(failed)?;
    let table = read_table(&node, size.sector).map_err(failed)?;
    let mounts = mountinfo::read().map_err(failed)?;
    let swaps = sysfs::swaps().map_err(failed)?;
    let mut partitions = Vec::new();
    for partition in sysfs::partitions(&name).map_err(failed)? {
        partitions.push(scan_partition(&partition, &table, &mounts, &swaps)?);
    }
    Ok(GoldenDisk { name, size, table, partitions })
}

/// The kernel's name of the whole disk that a name or path means, if this machine has it.
///
/// # Errors
/// There is no such disk; the error lists those that are there.
pub fn find(disk: &str) -> Result<String, ScanError> {
    let name = sysfs::block_number(&Path::new("/dev").join(disk)).and_then(|n| sysfs::name_of(n).ok());
    let present = sysfs::disks().map_err(|source| ScanError::Io { path: "/sys/block".into(), source })?;
    name.filter(|name| present.contains(name))
        .ok_or_else(|| ScanError::NoDisk { name: disk.to_owned(), present: present.join(", ") })
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

/// Tells an MBR from a GPT, whose first sector is an MBR too and whose header is in the second.
fn read_table(node: &Path, sector: SectorSize) -> io::Result<Table> {
    let disk = File::open(node)?;
    let mut first = [0; mbr::SIZE];
    disk.read_exact_at(&mut first, 0)?;
    let mut header = [0; 8];
    disk.read_exact_at(&mut header, sector.bytes())?;
    Ok(match Mbr::decode(&first) {
        _ if header == *b"EFI PART" => Table::Gpt,
        Ok(table) if table.is_protective() => Table::Gpt,
        Ok(table) => Table::Mbr(Box::new(table)),
        Err(_) => Table::None,
    })
}

fn scan_partition(
    partition: &KernelPartition,
    table: &Table,
    mounts: &[Mount],
    swaps: &[DeviceNumber],
) -> Result<GoldenPartition, ScanError> {
    let node = partition.node();
    let contents = blkid::probe(&node)?;
    let kind = match table {
        Table::Mbr(mbr) => mbr.entry(partition.number).map(|e| e.kind).or(contents.partition_type),
        Table::Gpt | Table::None => None,
    };
    Ok(GoldenPartition {
        number: partition.number,
        size: partition.size,
        kind,
        contents,
        links: links(&node),
        usage: usage(partition, mounts, swaps)?,
        node,
    })
}

fn usage(partition: &KernelPartition, mounts: &[Mount], swaps: &[DeviceNumber]) -> Result<Usage, ScanError> {
    let node = partition.node();
    let failed = |source| ScanError::Io { path: node.clone(), source };
    let number = sysfs::device_number(&partition.name).map_err(failed)?;
    let of_this = |m: &&Mount| m.device == number || sysfs::source_number(m) == Some(number);
    let mut mounted = mounts.iter().filter(of_this).peekable();
    if let Some(first) = mounted.peek() {
        let hidden = ScanError::Hidden { node: node.clone(), at: first.mount_point.clone() };
        let mount = mounted.find(|m| is_whole_and_visible(m)).ok_or(hidden)?;
        let used = used(&mount.mount_point).map_err(failed)?;
        return Ok(Usage::Mounted { at: mount.mount_point.clone(), device: mount.device, used });
    }
    if swaps.contains(&number) {
        return Ok(Usage::Swap);
    }
    Ok(match sysfs::holders(&partition.name).map_err(failed)?.into_iter().next() {
        Some(by) => Usage::Held { by },
        None => Usage::Unused,
    })
}

fn is_whole_and_visible(mount: &Mount) -> bool {
    mount.root == Path::new("/")
        && fs::metadata(&mount.mount_point).is_ok_and(|m| DeviceNumber::of(m.dev()) == mount.device)
}

/// Bytes in use on the file system that is mounted there, as `df` counts them.
fn used(mount_point: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(mount_point)?;
    Ok(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize))
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

impl GoldenPartition {
    /// The names under which the golden node's configuration may know the partition.
    #[must_use]
    pub fn names(&self) -> GoldenNames {
        let devices = std::iter::once(&self.node).chain(&self.links);
        GoldenNames {
            uuid: self.contents.uuid.clone(),
            partuuid: self.contents.partuuid.clone(),
            devices: devices.map(|path| path.display().to_string()).collect(),
        }
    }
}
