//! The kernel's view of block devices: `/sys/class/block`.

use super::mountinfo::{self, DeviceNumber};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The unit of `start` and `size` in sysfs, regardless of the disk's sector size.
const SYSFS_SECTOR: u64 = 512;

/// A partition that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPartition {
    /// Its number.
    pub number: u32,
    /// Its kernel name, such as `sda1` or `nvme0n1p1`.
    pub name: String,
    /// Its start, in bytes from the start of the disk.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl KernelPartition {
    /// Its device node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }
}

/// The text of a disk's or partition's attribute, without the newline.
///
/// # Errors
/// The device or attribute does not exist.
pub fn attribute(device: &str, name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(class(device).join(name))?.trim_end().to_owned())
}

/// The device number of a disk or partition.
///
/// # Errors
/// The device does not exist.
pub fn device_number(device: &str) -> io::Result<DeviceNumber> {
    let text = attribute(device, "dev")?;
    DeviceNumber::parse(&text).ok_or_else(|| bad(device, "dev", &text))
}

/// The kernel's name of the block device with this number.
///
/// # Errors
/// The kernel knows no such device.
pub fn name_of(number: DeviceNumber) -> io::Result<String> {
    let link = fs::read_link(format!("/sys/dev/block/{}:{}", number.major, number.minor))?;
    let name = link.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The names of all whole disks, sorted: without partitions, RAM disks, loop devices without a file, and
/// optical drives.
///
/// # Errors
/// `/sys` is not mounted.
pub fn disks() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_other = ["ram", "zram", "sr", "fd"].iter().any(|kind| is_numbered(&name, kind));
        if !is_other && attribute(&name, "size").is_ok_and(|size| size != "0") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The partitions of a disk, by number.
///
/// # Errors
/// The disk does not exist.
pub fn partitions(disk: &str) -> io::Result<Vec<KernelPartition>> {
    let mut partitions = Vec::new();
    for entry in fs::read_dir(class(disk))? {
        let entry = entry?;
        if !entry.path().join("partition").exists() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = number(&name, "partition")?;
        partitions.push(KernelPartition {
            number: u32::try_from(number).map_err(|_| bad(&name, "partition", &number.to_string()))?,
            start: number_of_bytes(&name, "start")?,
            size: number_of_bytes(&name, "size")?,
            name,
        });
    }
    partitions.sort_by_key(|p| p.number);
    Ok(partitions)
}

/// The devices built on a disk or partition.
///
/// # Errors
/// The device does not exist.
pub fn holders(device: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(class(device).join("holders"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The devices that a device is built on; empty for a disk, a partition, or a device that does not exist.
#[must_use]
pub fn slaves(device: &str) -> Vec<String> {
    let entries = fs::read_dir(class(device).join("slaves")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The devices in use as swap. Swap files are left out: their file systems are mounted.
///
/// # Errors
/// `/proc` is not mounted.
pub fn swaps() -> io::Result<Vec<DeviceNumber>> {
    let text = match fs::read_to_string("/proc/swaps") {
        // A kernel without swap lacks this file.
        Err(e) if e.kind() == io::ErrorKind::NotFound && Path::new("/proc/self").exists() => String::new(),
        other => other?,
    };
    let paths = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    Ok(paths.filter_map(|path| block_number(Path::new(path))).collect())
}

/// The number of the block device at a path, if it is one.
#[must_use]
pub fn block_number(path: &Path) -> Option<DeviceNumber> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| DeviceNumber::of(metadata.rdev()))
}

/// The device named as the source of a mount. btrfs gives its files a device number of their own.
#[must_use]
pub fn source_number(mount: &mountinfo::Mount) -> Option<DeviceNumber> {
    if mount.device.major == 0 && mount.source.is_absolute() { block_number(&mount.source) } else { None }
}

/// The mounts of the block device with this number.
#[must_use]
pub fn mounts_of(mounts: &[mountinfo::Mount], number: DeviceNumber) -> Vec<&mountinfo::Mount> {
    mounts.iter().filter(|m| m.device == number || source_number(m) == Some(number)).collect()
}

fn class(device: &str) -> PathBuf {
    Path::new("/sys/class/block").join(device)
}

fn number(device: &str, name: &str) -> io::Result<u64> {
    let text = attribute(device, name)?;
    text.parse().map_err(|_| bad(device, name, &text))
}

fn number_of_bytes(device: &str, name: &str) -> io::Result<u64> {
    let sectors = number(device, name)?;
    sectors.checked_mul(SYSFS_SECTOR).ok_or_else(|| bad(device, name, &sectors.to_string()))
}

fn bad(device: &str, name: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/sys/class/block/{device}/{name} is `{text}`"))
}

/// Whether a name is `kind` followed by digits.
pub(super) fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}
