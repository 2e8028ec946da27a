//! Whether a plan fits a disk: everything that can be told before the first write.
//!
//! The controller asks it of the golden disk before a node is touched, and each node asks it of its
//! own disk, so that a disk which is too small is still as it was when that is found out.

use super::room;
use super::{DiskPlan, FileSystemKind, FileSystemPlan};
use crate::disk::description::Role;
use crate::disk::ids::Seed;
use crate::disk::kind::PartitionKind;
use crate::disk::layout::{Layout, LayoutError, Least, Placed, Placing};
use crate::disk::units::{Against, DiskSize, InMb, SectorSize};

/// Why a plan doesn't go onto a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The partitions don't.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file system for a partition that the description lacks.
    #[error("the plan has a file system for partition {0}, which the description lacks")]
    NoPartition(u32),
    /// Two contents for one partition.
    #[error("the plan has two contents for partition {0}")]
    Twice(u32),
    /// Swap on a partition of another type, or files on a swap partition.
    #[error("partition {number} has the type {kind}, and the plan makes {makes} on it")]
    Kind {
        /// The partition's number.
        number: u32,
        /// Its type.
        kind: PartitionKind,
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
        InMb(*.size), Against(*.room, *.used), Against(*.used, *.room)
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
    /// Less room than the tool wants for an empty one.
    #[error(
        "partition {number} has {}, and the smallest {makes} that can be made has {}",
        Against(*.size, *.least), Against(*.least, *.size)
    )]
    TooSmallToMake {
        /// The partition's number.
        number: u32,
        /// Its size in bytes.
        size: u64,
        /// The least size in bytes.
        least: u64,
        /// What is made on it.
        makes: FileSystemKind,
    },
    /// Fewer inodes than the golden files need.
    #[error(
        "partition {number} has {}, which gives {makes} at most {most} inodes, and {need} are needed for the golden files",
        InMb(*.size)
    )]
    TooFewInodes {
        /// The partition's number.
        number: u32,
        /// Its size in bytes.
        size: u64,
        /// The most that it can be made with.
        most: u64,
        /// What the golden files take, and some more.
        need: u64,
        /// What is made on it.
        makes: FileSystemKind,
    },
    /// Less room than the partition that is copied as it is.
    #[error(
        "partition {number} has {size} bytes, and the golden partition that is copied onto it as it is has {need}: \
         give it more in the description, or `fill` (in sfdisk's form `size=+`)"
    )]
    RawTooSmall {
        /// The partition's number.
        number: u32,
        /// Its size in bytes.
        size: u64,
        /// The golden one's.
        need: u64,
    },
}

/// Places the plan's partitions on a disk, and checks that every file system has its partition, of
/// the right kind and large enough. What takes a share of the disk gets at least what its contents need.
///
/// # Errors
/// The first thing that doesn't fit, with the figures.
pub fn fit(plan: &DiskPlan, disk: DiskSize, seed: &Seed) -> Result<Layout, FitError> {
    let placing = Placing { scale: plan.scale_from, keep_ids: plan.keep_ids };
    let layout = Layout::new(&plan.desc, disk, &placing, &least(plan, disk.sector), seed)?;
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
    for (i, raw) in plan.raw.iter().enumerate() {
        let others = plan.file_systems.iter().map(|fs| fs.partition);
        let mut others = others.chain(plan.raw.iter().take(i).map(|raw| raw.partition));
        if others.any(|other| other == raw.partition) {
            return Err(FitError::Twice(raw.partition));
        }
        let placed = layout.partition(raw.partition).ok_or(FitError::NoPartition(raw.partition))?;
        let size = placed.size.bytes(disk.sector);
        if placed.role == Role::Extended || size < raw.size {
            return Err(FitError::RawTooSmall { number: raw.partition, size, need: raw.size });
        }
    }
    Ok(layout)
}

/// What every partition must have for what goes onto it.
#[must_use]
pub fn least(plan: &DiskPlan, sector: SectorSize) -> Least {
    let files = plan.file_systems.iter().map(|fs| (fs.partition, room::size_for(fs, sector)));
    files.chain(plan.raw.iter().map(|raw| (raw.partition, raw.size))).collect()
}

fn check_one(fs: &FileSystemPlan, placed: &Placed, disk: DiskSize) -> Result<(), FitError> {
    let number = fs.partition;
    if placed.role == Role::Extended || (fs.kind == FileSystemKind::Swap) != placed.kind.is_swap() {
        return Err(FitError::Kind { number, kind: placed.kind, makes: fs.kind });
    }
    let size = placed.size.bytes(disk.sector);
    let least = room::least_size(fs, disk.sector);
    if size < least {
        return Err(FitError::TooSmallToMake { number, size, least, makes: fs.kind });
    }
    let (most, need) = (room::most_inodes(fs.kind, size), room::inodes_needed(fs));
    if need > most {
        return Err(FitError::TooFewInodes { number, size, most, need, makes: fs.kind });
    }
    let (room, used) = (room::room(fs, size), fs.used);
    if used > room {
        return Err(FitError::TooSmall { number, size, room, used, makes: fs.kind });
    }
    Ok(())
}

fn is_plain_absolute(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            !rest.contains('\0') && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        })
}
