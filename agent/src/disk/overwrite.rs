//! A block device that receives a stream byte by byte: `ka-agent receive --file /dev/…`.
//!
//! It has to meet the same conditions as a disk that a run erases, except that it may be a partition or a
//! device made of disks: an operator who gives its path on the machine itself means that device.

use super::claim::{self, Refusal};
use ka_host::bus::{self, Attachment};
use ka_host::mountinfo::DeviceNumber;
use ka_host::sysfs;
use ka_host::usage::Users;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens the device exclusively for writing.
///
/// # Errors
/// Why it may not be written. Nothing was written.
pub fn open(path: &Path) -> Result<File, Refusal> {
    let target = path.display().to_string();
    let name = claim::find(&target)?;
    let by_id = path.starts_with("/dev/disk/by-id");
    check_kind(&name, by_id)?;
    let node = Path::new("/dev").join(name.replace('!', "/"));
    check_unused(&name)?;
    let file = claim::exclusive(&name, &node)?;
    let failed = |e: io::Error| claim::io_refusal(&name, "find out which device it is", e);
    let number = DeviceNumber::of(file.metadata().map_err(failed)?.rdev());
    if sysfs::name_of(number).map_err(failed)? != name {
        return Err(failed(io::Error::other("its device node is another device's")));
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(Refusal::Locked(name)),
        Err(e) => return Err(claim::io_refusal(&name, "lock it", e.into())),
    }
    check_unused(&name)?;
    Ok(file)
}

/// A device that other machines may use must be given by its own name.
fn check_kind(name: &str, by_id: bool) -> Result<(), Refusal> {
    let sys = Path::new("/sys");
    let failed = |e| claim::io_refusal(name, "look it up in /sys", e);
    let disk = match bus::of(sys, name).map_err(failed)? {
        Attachment::Partition => disk_of(sys, name).map_err(failed)?,
        Attachment::Disk { .. } | Attachment::Other => name.to_owned(),
    };
    let not = |what| Refusal::NotADisk { target: name.to_owned(), what };
    match bus::of(sys, &disk).map_err(failed)? {
        Attachment::Disk { network: true, .. } if !by_id => {
            return Err(not("a disk in a storage network, which must be given as /dev/disk/by-id/…"));
        }
        Attachment::Disk { .. } if !by_id && bus::is_external(sys, &disk) => {
            return Err(not("an external disk, which must be given as /dev/disk/by-id/…"));
        }
        Attachment::Disk { .. } => {}
        // Made of disks, or of memory.
        Attachment::Partition | Attachment::Other => return Ok(()),
    }
    match claim::check_flags(&disk) {
        Err(Refusal::Removable(_)) if by_id => Ok(()),
        outcome => outcome,
    }
}

/// The disk that a partition is on.
fn disk_of(sys: &Path, partition: &str) -> io::Result<String> {
    let folder = std::fs::canonicalize(sys.join("class/block").join(partition))?;
    let disk = folder.parent().and_then(Path::file_name).ok_or(io::ErrorKind::NotFound)?;
    Ok(disk.to_string_lossy().into_owned())
}

/// Checks that the device is not in use and not open for writing.
fn check_unused(name: &str) -> Result<(), Refusal> {
    let failed = |e| claim::io_refusal(name, "find out who uses it", e);
    let users = Users::of_this_machine().map_err(failed)?;
    let is_whole = Path::new("/sys/block").join(name).exists();
    let usage = if is_whole { users.of(name) } else { users.of_one(name) };
    if let Some(usage) = usage.map_err(failed)? {
        return Err(Refusal::InUse { disk: name.to_owned(), usage });
    }
    let mut devices = vec![name.to_owned()];
    devices.extend(sysfs::partitions(name).map_err(failed)?.into_iter().map(|p| p.name));
    claim::check_locks(&devices)?;
    claim::check_open(name, &devices)
}
