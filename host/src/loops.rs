//! Loop devices that share what a disk is made of, or are made of it.
//!
//! A loop device opens its file as any program does: neither a second loop device on the same file, nor a disk
//! below it, is busy for whoever opens it exclusively.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::sys::loops::{self, Status};

/// A loop device that has a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopDevice {
    /// The kernel's name.
    pub name: String,
    /// Its file as the kernel prints the path.
    pub file: String,
    /// What the file is, and which part of it.
    pub status: Status,
    /// The device's size in bytes.
    pub size: u64,
}

/// All that have a file.
pub fn all(sys: &Path) -> io::Result<Vec<LoopDevice>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sys.join("block"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(file) = fs::read_to_string(entry.path().join("loop/backing_file")) else { continue };
        let device = File::open(Path::new("/dev").join(&name))?;
        // It may have lost its file since.
        let Some(status) = loops::status(&device)? else { continue };
        let sectors = fs::read_to_string(entry.path().join("size"))?;
        let size = sectors.trim().parse::<u64>().unwrap_or(u64::MAX >> 10) << 9;
        found.push(LoopDevice { name, file: file.trim_end().to_owned(), status, size });
    }
    Ok(found)
}

impl LoopDevice {
    /// Whether both have bytes of one file in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.status, &other.status);
        // Of one block device there may be several nodes.
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
