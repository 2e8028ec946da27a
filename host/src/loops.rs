//! Loop devices that share a disk's backing file, or are backed by the disk.
//!
//! A loop device opens its file without exclusive access. So an exclusive open succeeds on a second loop
//! device with the same file, and on a disk below a loop device.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::sys::loops::{self, Status};

/// A loop device with a backing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopDevice {
    /// The kernel's name.
    pub name: String,
    /// The path of its file, as the kernel prints it.
    pub file: String,
    /// Its file, and the part of the file that it presents.
    pub status: Status,
    /// The device's size in bytes.
    pub size: u64,
}

/// All loop devices with a backing file.
pub fn all(sys: &Path) -> io::Result<Vec<LoopDevice>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("block"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let device = File::open(Path::new("/dev").join(&name))?;
        // Its file may have been detached since.
        let Some(status) = loops::status(&device)? else { continue };
        let sectors = fs::read_to_string(entry.path().join("size"))?;
        let size = sectors.trim().parse::<u64>().unwrap_or(u64::MAX >> 10) << 9;
        found.push(LoopDevice { name, file: file.trim_end().to_owned(), status, size });
    }
    Ok(found)
}

impl LoopDevice {
    /// Whether both present some of the same bytes.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.status, &other.status);
        // One block device may have several nodes.
        let same_file = mine.of_device == theirs.of_device
            && (mine.of_device != 0 || (mine.device, mine.inode) == (theirs.device, theirs.inode));
        let begins_before_the_end_of =
            |one: &Self, of: &Self| one.status.offset < of.status.offset.saturating_add(of.size);
        same_file && begins_before_the_end_of(self, other) && begins_before_the_end_of(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(inode: u64, of_device: u64, offset: u64) -> LoopDevice {
        let status = Status { device: 1, inode, of_device, offset, limit: 0 };
        LoopDevice { name: "loop0".into(), file: "/f".into(), status, size: 100 }
    }

    #[test]
    fn parts_of_one_file_are_told_from_the_same_part() {
        let one = device(7, 0, 0);
        for (other, overlaps) in [
            (device(7, 0, 0), true),
            (device(7, 0, 99), true),
            (device(7, 0, 100), false),
            (device(8, 0, 0), false),
            (device(7, 2048, 0), false),
        ] {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlaps, overlaps), "{other:?}");
        }
        // Two nodes of one block device are two inodes.
        assert!(device(1, 2048, 0).overlaps(&device(2, 2048, 0)));
    }
}
