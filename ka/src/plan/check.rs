//! What every volume needs of its place: room for its contents, and a mount point of its own.

use super::room;
use super::{FileSystemKind, FileSystemPlan, Storage, Volume, VolumeContent, VolumeName};
use crate::disk::kind::PartitionKind;
use crate::disk::layout::LayoutError;
use crate::disk::units::{Against, InMb, SectorSize};

/// Why a plan doesn't go onto a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The partitions don't.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The plan has no such disk.
    #[error("the plan has no disk {0}")]
    NoDisk(usize),
    /// Something for a partition that the description lacks.
    #[error("the plan makes something on partition {0}, which the description lacks")]
    NoPartition(u32),
    /// Two contents for one partition.
    #[error("the plan has two contents for {0}")]
    Twice(VolumeName),
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
    #[error("{volume}: `{path}` is not a mount point: expected an absolute path without `..`, once")]
    MountPoint {
        /// Which.
        volume: VolumeName,
        /// The path as the plan has it.
        path: String,
    },
    /// Less room than the golden files need.
    #[error(
        "{volume} has {} ({} for files when it is {makes}), and {} must go onto it",
        InMb(*.size), Against(*.room, *.used), Against(*.used, *.room)
    )]
    TooSmall {
        /// Which.
        volume: VolumeName,
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
        "{volume} has {}, and the smallest {makes} that can be made has {}",
        Against(*.size, *.least), Against(*.least, *.size)
    )]
    TooSmallToMake {
        /// Which.
        volume: VolumeName,
        /// Its size in bytes.
        size: u64,
        /// The least size in bytes.
        least: u64,
        /// What is made on it.
        makes: FileSystemKind,
    },
    /// Fewer inodes than the golden files need.
    #[error(
        "{volume} has {}, which gives {makes} at most {most} inodes, and {need} are needed for the golden files",
        InMb(*.size)
    )]
    TooFewInodes {
        /// Which.
        volume: VolumeName,
        /// Its size in bytes.
        size: u64,
        /// The most that it can be made with.
        most: u64,
        /// What the golden files take, and some more.
        need: u64,
        /// What is made on it.
        makes: FileSystemKind,
    },
    /// A physical volume on a partition of another type.
    #[error("partition {number} has the type {kind}, and the plan makes a physical volume of LVM on it")]
    MemberKind {
        /// The partition's number.
        number: u32,
        /// Its type.
        kind: PartitionKind,
    },
    /// A physical volume without room for a single extent.
    #[error("{volume} has {}, and a physical volume of this group takes {}", Against(*.size, *.need), Against(*.need, *.size))]
    MemberTooSmall {
        /// Which.
        volume: VolumeName,
        /// Its size in bytes.
        size: u64,
        /// The least size in bytes.
        need: u64,
    },
    /// A group without physical volumes.
    #[error("the plan has no physical volume for the volume group {group}")]
    NoMembers {
        /// The group's name.
        group: String,
    },
    /// Less room in a group than its volumes need.
    #[error("the volume group {group} has {}, and its volumes need {}", Against(*.have, *.need), Against(*.need, *.have))]
    GroupTooSmall {
        /// The group's name.
        group: String,
        /// What it has, in bytes.
        have: u64,
        /// What is needed.
        need: u64,
    },
    /// Fewer physical volumes than stripes or mirrors.
    #[error(
        "{volume} lies on {need} physical volumes, and {have} of its group have {} each for it",
        InMb(*.each)
    )]
    TooFewMembers {
        /// Which.
        volume: VolumeName,
        /// On how many it lies.
        need: usize,
        /// How many have the room.
        have: usize,
        /// What it takes of each, in bytes.
        each: u64,
    },
    /// Less room in a thin pool than what is copied takes.
    #[error("{volume} has {}, and {} must go onto the thin volumes in it", Against(*.size, *.used), Against(*.used, *.size))]
    PoolTooSmall {
        /// The pool.
        volume: VolumeName,
        /// Its size in bytes.
        size: u64,
        /// What the golden files use.
        used: u64,
    },
    /// Less room than the partition that is copied as it is.
    #[error(
        "{volume} has {size} bytes, and the golden partition that is copied onto it as it is has {need}: \
         give it more in the description, or `fill` (in sfdisk's form `size=+`)"
    )]
    RawTooSmall {
        /// Which.
        volume: VolumeName,
        /// Its size in bytes.
        size: u64,
        /// The golden one's.
        need: u64,
    },
}

/// The volume holds what is made on it.
pub(super) fn check_size(
    storage: &Storage,
    volume: &Volume,
    size: u64,
    sector: SectorSize,
) -> Result<(), FitError> {
    match &volume.content {
        VolumeContent::FileSystem(fs) => check_file_system(fs, volume.name(storage), size, sector),
        VolumeContent::Raw(raw) if size < raw.size => {
            Err(FitError::RawTooSmall { volume: volume.name(storage), size, need: raw.size })
        }
        // Whether a group has room for its volumes is known when all its members are.
        VolumeContent::Raw(_) | VolumeContent::Member { .. } | VolumeContent::Nothing => Ok(()),
    }
}

fn check_file_system(
    fs: &FileSystemPlan,
    volume: VolumeName,
    size: u64,
    sector: SectorSize,
) -> Result<(), FitError> {
    let makes = fs.kind;
    let least = room::least_size(fs, sector);
    if size < least {
        return Err(FitError::TooSmallToMake { volume, size, least, makes });
    }
    let (most, need) = (room::most_inodes(fs.kind, size), room::inodes_needed(fs));
    if need > most {
        return Err(FitError::TooFewInodes { volume, size, most, need, makes });
    }
    let (room, used) = (room::room(fs, size), fs.used);
    if used > room {
        return Err(FitError::TooSmall { volume, size, room, used, makes });
    }
    Ok(())
}

/// The mount point is a plain absolute path, and no earlier volume has it.
pub(super) fn check_mount_point(storage: &Storage, volume: &Volume) -> Result<(), FitError> {
    let Some(path) = volume.file_system().and_then(|fs| fs.mount_point.as_ref()) else { return Ok(()) };
    let mut others = storage.volumes.iter().take_while(|other| other.id != volume.id);
    let is_there =
        |other: &Volume| other.file_system().is_some_and(|fs| fs.mount_point.as_ref() == Some(path));
    if is_plain_absolute(path) && !others.any(is_there) {
        return Ok(());
    }
    Err(FitError::MountPoint { volume: volume.name(storage), path: path.clone() })
}

fn is_plain_absolute(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            !rest.contains('\0') && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        })
}
