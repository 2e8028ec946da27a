//! Whether a disk may be written: it is the confirmed one, it is local, and it is not in use.
//!
//! Every write to a disk goes through a [`Claim`], and a claim requires the confirmed identity. The identity
//! is compared under the claim's lock, and again when the disk is opened for the first write.
//!
//! A claimed disk stays locked with `flock` until the claim is dropped, so that two runs, or a run and udev,
//! cannot work on it at the same time. It is opened exclusively only while the table is written, because an
//! exclusive open of a whole disk makes mkfs and mount on its partitions fail with EBUSY.

use super::wait::retry;
use ka::disk::units::{BadSectorSize, DiskSize, SectorSize};
use ka::inventory::identity::{DiskIdentity, Mismatch};
use ka_host::bus::{self, Attachment};
use ka_host::hardware;
use ka_host::mountinfo::DeviceNumber;
use ka_host::openers::{self, Opener};
use ka_host::sys::{block, loops};
use ka_host::sysfs;
use ka_host::usage::{Usage, Users};
use rustix::fs::{FlockOperation, OFlags};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for another process's lock: udev holds one while it probes a disk, and a process forked
/// by another thread holds copies of all open files until it calls exec.
const LOCKED: Duration = Duration::from_secs(3);

/// A disk that may be written, locked until this is dropped.
#[derive(Debug)]
pub struct Claim {
    /// The kernel's name, such as `sda`.
    pub name: String,
    /// The device node.
    pub node: PathBuf,
    /// Its size.
    pub size: DiskSize,
    /// The confirmed identity and this disk's own.
    identity: DiskIdentity,
    lock: File,
}

/// Why a disk may not be written. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The disk does not exist.
    #[error("{target}: this machine has no such disk; it has {present}")]
    Missing {
        /// The requested disk.
        target: String,
        /// The disks present.
        present: String,
    },
    /// A partition, or a device that is not a disk.
    #[error("{target} is {what}, not a whole local disk; nothing was written")]
    NotADisk {
        /// The requested device.
        target: String,
        /// Its kind.
        what: &'static str,
    },
    /// Its medium is removable.
    #[error("{0} is a removable medium; nothing was written")]
    Removable(String),
    /// It is read-only.
    #[error("{0} is read-only; nothing was written")]
    ReadOnly(String),
    /// It is in use.
    #[error("{disk} is in use: {usage}; nothing was written")]
    InUse {
        /// The disk's name.
        disk: String,
        /// Its users.
        usage: Usage,
    },
    /// The kernel reports an exclusive user without naming it.
    #[error("{0} is in use: another program or mount namespace has it open exclusively; nothing was written")]
    Exclusive(String),
    /// It is not the confirmed disk.
    #[error("{disk}: {reason}; nothing was written. Look at the machine's disks again")]
    Another {
        /// The disk's name.
        disk: String,
        /// What differs.
        reason: Mismatch,
    },
    /// A program has the disk or one of its old partitions open.
    #[error("{device} is open in {program}; nothing was written. End that program first")]
    Open {
        /// The kernel's name of the disk or partition.
        device: String,
        /// Name and number of the process.
        program: String,
    },
    /// A program holds a lock on the disk or on its backing file.
    #[error("{device} is locked by {program}; nothing was written. End that program first")]
    FileLocked {
        /// The disk's or partition's node, or a loop device's file.
        device: String,
        /// Name and number of the process, as far as known.
        program: String,
    },
    /// Another run, or udev, is working on it.
    #[error("{0} is locked by another program; nothing was written")]
    Locked(String),
    /// Its sector size is invalid.
    #[error("{disk}: {reason}; nothing was written")]
    Sectors {
        /// The disk's name.
        disk: String,
        /// The size.
        reason: BadSectorSize,
    },
    /// A request to the kernel failed.
    #[error("{disk}: cannot {doing}: {error}; nothing was written")]
    Io {
        /// The disk's name.
        disk: String,
        /// The action, as in "cannot …".
        doing: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
}

/// How precisely the operator named the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// By the kernel's name, or as the only disk: excludes disks that other machines may use.
    Name,
    /// By its own name in /dev/disk/by-id: includes disks in a storage network.
    Id,
}

/// Claims the disk with a kernel name or path, if it is the one that was `confirmed`.
///
/// # Errors
/// Why the disk may not be written.
pub fn claim(target: &str, chosen: ChosenBy, confirmed: &DiskIdentity) -> Result<Claim, Refusal> {
    let name = find(target)?;
    check_kind(target, &name, chosen)?;
    let node = Path::new("/dev").join(&name);
    let lock = lock(&name, &node)?;
    let size = measure(&name, &lock)?;
    check_flags(&name)?;
    let claim = Claim { name, node, size, identity: confirmed.clone(), lock };
    claim.check_identity(&claim.lock)?;
    claim.check_unused()?;
    Ok(claim)
}

/// Why the device with this name or path can never be written, judged by its kind alone.
pub(super) fn check_name(target: &str) -> Result<(), Refusal> {
    check_kind(target, &find(target)?, ChosenBy::Name)
}

impl Claim {
    /// Opens the disk exclusively, as the last check that it is not in use. Drop the file before using the
    /// disk's partitions.
    ///
    /// # Errors
    /// The disk is in use.
    pub(super) fn open_exclusive(&self) -> Result<File, Refusal> {
        self.check_unused()?;
        let disk = exclusive(&self.name, &self.node)?;
        self.check_identity(&disk)?;
        Ok(disk)
    }

    /// Checks that the open device is the confirmed disk.
    fn check_identity(&self, device: &File) -> Result<(), Refusal> {
        let now = identify(&self.name, device)?;
        let another = |reason| Refusal::Another { disk: self.name.clone(), reason };
        self.identity.check(&now).map_err(another)
    }

    /// The disk, open for reading and writing and locked.
    pub(super) fn file(&self) -> &File {
        &self.lock
    }

    fn check_unused(&self) -> Result<(), Refusal> {
        let failed = |e| io_refusal(&self.name, "find out who uses it", e);
        if let Some(usage) =
            Users::of_this_machine().and_then(|users| users.of(&self.name)).map_err(failed)?
        {
            return Err(Refusal::InUse { disk: self.name.clone(), usage });
        }
        let mut devices = vec![self.name.clone()];
        devices.extend(sysfs::partitions(&self.name).map_err(failed)?.into_iter().map(|p| p.name));
        check_locks(&devices)?;
        check_open(&self.name, &devices)
    }
}

/// Checks that no process holds a lock on any of the devices, or on a loop device's backing file.
pub(super) fn check_locks(devices: &[String]) -> Result<(), Refusal> {
    for device in devices {
        let node = Path::new("/dev").join(device);
        let failed = |e| io_refusal(device, "find out who has locked it", e);
        let file = File::open(&node).map_err(failed)?;
        if let Some(program) = openers::locked(&file).map_err(failed)? {
            return Err(Refusal::FileLocked { device: node.display().to_string(), program });
        }
        // A partition of a loop device has no such attribute; the whole device stands for it.
        let Ok(path) = sysfs::attribute(device, "loop/backing_file") else { continue };
        let Ok(Some(status)) = loops::status(&file) else { continue };
        let Ok(file) = File::open(&path) else {
            log::info!("{device}: cannot open {path} to see whether it is locked");
            continue;
        };
        let is_it = file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (status.device, status.inode));
        if is_it && let Some(program) = openers::locked(&file).map_err(failed)? {
            return Err(Refusal::FileLocked { device: path, program });
        }
    }
    Ok(())
}

/// Checks that no program has an old partition open, which would stop the kernel from forgetting it, or has
/// the disk open for writing.
pub(super) fn check_open(disk: &str, devices: &[String]) -> Result<(), Refusal> {
    let failed = |e| io_refusal(disk, "find out who has it open", e);
    let mut numbers = Vec::new();
    for device in devices {
        numbers.push(sysfs::device_number(device).map_err(failed)?);
    }
    let name_of = |number: DeviceNumber| {
        devices.iter().zip(&numbers).find(|(_, own)| **own == number).map_or(disk, |(name, _)| name)
    };
    // A process forked by another thread briefly holds copies of open files.
    let look = || {
        let openers = openers::of(&numbers).map_err(failed)?;
        let harms = |opener: &&Opener| opener.writes || name_of(opener.device) != disk;
        match openers.iter().find(harms) {
            Some(Opener { device, process, .. }) => {
                Err(Refusal::Open { device: name_of(*device).to_owned(), program: process.clone() })
            }
            None => Ok(()),
        }
    };
    retry(LOCKED, look, |e| matches!(e, Refusal::Open { .. }))
}

/// The identity of the open device. Whatever a file descriptor can report comes from the descriptor, the rest
/// from the device with its number.
fn identify(name: &str, device: &File) -> Result<DiskIdentity, Refusal> {
    let failed = |e| io_refusal(name, "find out which disk it is", e);
    let number = device.metadata().map_err(failed)?.rdev();
    if sysfs::name_of(DeviceNumber::of(number)).map_err(failed)? != name {
        return Err(failed(io::Error::other("its device node is another device's")));
    }
    let known = hardware::identity_of(name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let sequence = block::disk_sequence(device).map_err(|e| failed(e.into()))?;
    Ok(DiskIdentity { size: block::size(device).map_err(|e| failed(e.into()))?, sequence, ..known })
}

/// Opens the device so that no file system or RAID can use it at the same time.
pub(super) fn exclusive(name: &str, node: &Path) -> Result<File, Refusal> {
    let is_busy = |e: &io::Error| e.kind() == io::ErrorKind::ResourceBusy;
    retry(LOCKED, || open_exclusive(node, true), is_busy).map_err(|e| match e.kind() {
        io::ErrorKind::ResourceBusy => Refusal::Exclusive(name.to_owned()),
        _ => Refusal::Io { disk: name.to_owned(), doing: "open it exclusively", error: e },
    })
}

/// Opens a block device exclusively, as a file system or a RAID does.
pub(super) fn open_exclusive(node: &Path, write: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(write).custom_flags(OFlags::EXCL.bits().cast_signed()).open(node)
}

/// The kernel's name of the block device that a name or path refers to.
pub(super) fn find(target: &str) -> Result<String, Refusal> {
    let path = Path::new("/dev").join(target);
    let missing = || Refusal::Missing { target: target.to_owned(), present: present() };
    if !path.exists() {
        return Err(missing());
    }
    let number = sysfs::block_number(&path)
        .ok_or_else(|| Refusal::NotADisk { target: target.to_owned(), what: "no block device" })?;
    // A stale node, whose device is gone.
    sysfs::name_of(number).map_err(|_| missing())
}

/// The disks of this machine with their sizes, for a message.
fn present() -> String {
    let names = sysfs::disks().unwrap_or_default();
    if names.is_empty() { "no disk".to_owned() } else { names.join(", ") }
}

/// Only disks whose kind is known to be local and whole are written to.
fn check_kind(target: &str, name: &str, chosen: ChosenBy) -> Result<(), Refusal> {
    let kind = bus::of(Path::new("/sys"), name).map_err(|e| io_refusal(name, "look it up in /sys", e))?;
    let what = match kind {
        Attachment::Disk { network: false, .. } => return Ok(()),
        Attachment::Disk { network: true, .. } if chosen == ChosenBy::Id => return Ok(()),
        Attachment::Disk { network: true, .. } => "a disk in a storage network",
        Attachment::Partition => "a partition",
        Attachment::Other => "a device of a kind that ka doesn't write to",
    };
    Err(Refusal::NotADisk { target: target.to_owned(), what })
}

fn lock(name: &str, node: &Path) -> Result<File, Refusal> {
    let file = OpenOptions::new().read(true).write(true).open(node).map_err(|e| match e.raw_os_error() {
        Some(code) if code == rustix::io::Errno::ROFS.raw_os_error() => Refusal::ReadOnly(name.to_owned()),
        _ => io_refusal(name, "open it", e),
    })?;
    let lock = || rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    match retry(LOCKED, lock, |e| *e == rustix::io::Errno::WOULDBLOCK) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Refusal::Locked(name.to_owned())),
        Err(e) => Err(io_refusal(name, "lock it", e.into())),
    }
}

fn measure(name: &str, file: &File) -> Result<DiskSize, Refusal> {
    let bytes = block::size(file).map_err(|e| io_refusal(name, "get its size", e.into()))?;
    let sector = block::sector_size(file).map_err(|e| io_refusal(name, "get its sector size", e.into()))?;
    let sector =
        SectorSize::try_from(sector).map_err(|reason| Refusal::Sectors { disk: name.to_owned(), reason })?;
    Ok(DiskSize::of_bytes(bytes, sector))
}

pub(super) fn check_flags(name: &str) -> Result<(), Refusal> {
    let flag = |attribute| {
        sysfs::attribute(name, attribute)
            .map(|text| text != "0")
            .map_err(|e| io_refusal(name, "look it up in /sys", e))
    };
    if flag("removable")? || bus::is_sd_card(Path::new("/sys"), name) {
        return Err(Refusal::Removable(name.to_owned()));
    }
    if flag("ro")? {
        return Err(Refusal::ReadOnly(name.to_owned()));
    }
    Ok(())
}

pub(super) fn io_refusal(disk: &str, doing: &'static str, source: io::Error) -> Refusal {
    Refusal::Io { disk: disk.to_owned(), doing, error: source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_disk_is_told_with_those_that_are_there() {
        let refusal = claim("sdzzz", ChosenBy::Name, &DiskIdentity::default()).unwrap_err();
        assert!(matches!(refusal, Refusal::Missing { .. }), "{refusal}");
        assert!(refusal.to_string().contains("this machine has no such disk"), "{refusal}");
    }
}
