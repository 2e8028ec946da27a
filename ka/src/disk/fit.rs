//! Whether a plan fits a disk: everything that can be told before the first write.
//!
//! The controller asks it of the golden disk before a node is touched, and each node asks it of its
//! own disk, so that a disk which is too small is still as it was when that is found out.

use super::desc::SWAP;
use super::layout::{Layout, LayoutError, Placed};
use super::units::{DiskSize, InMb, MB};
use crate::plan::{DiskPlan, FileSystemKind, FileSystemPlan};

/// The least swap space that `mkswap` makes: ten pages.
const LEAST_SWAP: u64 = 10 * 4096;

/// Why a plan doesn't go onto a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The partitions don't.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file system for a partition that the description lacks.
    #[error("the plan has a file system for partition {0}, which the description lacks")]
    NoPartition(u32),
    /// Two file systems for one partition.
    #[error("the plan has two file systems for partition {0}")]
    Twice(u32),
    /// Swap on a partition of another type, or files on a swap partition.
    #[error("partition {number} has type {kind:x}, and the plan makes {makes} on it")]
    Kind {
        /// The partition's number.
        number: u32,
        /// Its type in the MBR's list.
        kind: u8,
        /// What the plan makes.
        makes: FileSystemKind,
    },
    /// A mount point that is no absolute, plain path, or is used twice.
    #[error("partition {number}: `{path}` is no mount point: expected an absolute path without `..`, once")]
    MountPoint {
        /// The partition's number.
        number: u32,
        /// The path as the plan has it.
        path: String,
    },
    /// Less room than the golden files need.
    #[error(
        "partition {number} has {} ({} for files when it is {makes}), and {} must go onto it",
        InMb(*.size), InMb(*.room), InMb(*.used)
    )]
    TooSmall {
        /// The partition's number.
        number: u32,
        /// Its size in bytes.
        size: u64,
        /// How much of that files can use, in bytes.
        room: u64,
        /// What the golden file system uses, in bytes.
        used: u64,
        /// What is made on it.
        makes: FileSystemKind,
    },
}

/// Places the plan's partitions on a disk, and checks that every file system has its partition, of
/// the right kind and large enough.
///
/// # Errors
/// The first thing that doesn't fit, with the figures.
pub fn fit(plan: &DiskPlan, disk: DiskSize) -> Result<Layout, FitError> {
    let layout = Layout::new(&plan.desc, disk)?;
    for (i, fs) in plan.file_systems.iter().enumerate() {
        let others = plan.file_systems.iter().take(i);
        if others.clone().any(|other| other.partition == fs.partition) {
            return Err(FitError::Twice(fs.partition));
        }
        if let Some(path) = &fs.mount_point
            && (!is_plain_absolute(path) || others.clone().any(|o| o.mount_point.as_ref() == Some(path)))
        {
            return Err(FitError::MountPoint { number: fs.partition, path: path.clone() });
        }
        let placed = layout.partition(fs.partition).ok_or(FitError::NoPartition(fs.partition))?;
        check_one(fs, placed, disk)?;
    }
    Ok(layout)
}

fn check_one(fs: &FileSystemPlan, placed: &Placed, disk: DiskSize) -> Result<(), FitError> {
    if (fs.kind == FileSystemKind::Swap) != (placed.kind == SWAP) {
        return Err(FitError::Kind { number: fs.partition, kind: placed.kind, makes: fs.kind });
    }
    let size = placed.size.bytes(disk.sector);
    let (room, used) = match fs.kind {
        FileSystemKind::Ext4 => (ext4_room(size), fs.used),
        FileSystemKind::Ext2
        | FileSystemKind::Ext3
        | FileSystemKind::Xfs
        | FileSystemKind::Jfs
        | FileSystemKind::Reiserfs
        | FileSystemKind::Btrfs
        | FileSystemKind::Vfat => (size, fs.used),
        FileSystemKind::Swap => (size, LEAST_SWAP),
    };
    if used > room {
        return Err(FitError::TooSmall { number: fs.partition, size, room, used, makes: fs.kind });
    }
    Ok(())
}

/// What files can use of an ext4 of so many bytes: all but inode tables and journal, as mke2fs makes
/// them by default. A little more than there will be, so that nothing is refused that would fit.
#[must_use]
pub fn ext4_room(size: u64) -> u64 {
    let (block, bytes_per_inode) = match size / MB {
        0..3 => (1024, 8192),
        3..512 => (1024, 4096),
        512..4_194_304 => (4096, 16384),
        4_194_304..16_777_216 => (4096, 32768),
        _ => (4096, 65536),
    };
    let journal_blocks = match size / block {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        4_194_304..8_388_608 => 32_768,
        8_388_608..16_777_216 => 65_536,
        16_777_216..33_554_432 => 131_072,
        _ => 262_144,
    };
    let inode_tables = size / bytes_per_inode * 256;
    size.saturating_sub(inode_tables).saturating_sub(journal_blocks * block)
}

fn is_plain_absolute(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            !rest.contains('\0') && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        })
}
