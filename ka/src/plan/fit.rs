//! Whether a plan fits a disk: all checks that are possible before the first write.
//!
//! The controller checks the golden disk before a node is touched, and each node checks its own disk. So a
//! disk that is too small is detected while it is still unchanged.

use super::allot::least_of;
pub use super::check::FitError;
use super::check::{check_mount_point, check_size};
use super::{FileSystemKind, Storage, Volume, VolumeContent};
use crate::disk::description::Role;
use crate::disk::ids::Seed;
use crate::disk::layout::{Layout, Least, Placed, Placing};
use crate::disk::units::{DiskSize, SectorSize};
use std::collections::BTreeSet;

/// Places the partitions of one of the plan's disks on a disk of this size, and checks that every volume on
/// it has its partition, of the right kind and large enough. What takes a share of the disk gets at least
/// what its contents need.
///
/// # Errors
/// The first part that does not fit, with the figures.
pub fn fit(storage: &Storage, index: usize, disk: DiskSize, seed: &Seed) -> Result<Layout, FitError> {
    let plan = storage.disks.get(index).ok_or(FitError::NoDisk(index))?;
    let placing = Placing { scale: plan.scale_from, keep_ids: plan.keep_ids };
    let layout = Layout::new(&plan.desc, disk, &placing, &least(storage, index, disk.sector), seed)?;
    let mut seen = BTreeSet::new();
    for (number, volume) in storage.partitions(index) {
        if !seen.insert(number) {
            return Err(FitError::Twice(volume.name(storage)));
        }
        let placed = layout.partition(number).ok_or(FitError::NoPartition(number))?;
        check_place(storage, volume, placed)?;
        check_size(storage, volume, placed.size.bytes(disk.sector), disk.sector)?;
        check_mount_point(storage, volume)?;
    }
    Ok(layout)
}

/// What each partition of a disk needs for its contents.
#[must_use]
pub fn least(storage: &Storage, index: usize, sector: SectorSize) -> Least {
    storage.partitions(index).map(|(number, volume)| (number, least_of(storage, volume, sector))).collect()
}

/// The partition's type allows what is made on it.
fn check_place(storage: &Storage, volume: &Volume, placed: &Placed) -> Result<(), FitError> {
    let is_extended = placed.role == Role::Extended;
    match &volume.content {
        VolumeContent::FileSystem(fs)
            if is_extended || (fs.kind == FileSystemKind::Swap) != placed.kind.is_swap() =>
        {
            Err(FitError::Kind { number: placed.number, kind: placed.kind, makes: fs.kind })
        }
        VolumeContent::Raw(raw) if is_extended => {
            Err(FitError::RawTooSmall { volume: volume.name(storage), size: 0, need: raw.size })
        }
        VolumeContent::Member { .. } if is_extended || placed.kind.is_swap() => {
            Err(FitError::MemberKind { number: placed.number, kind: placed.kind })
        }
        VolumeContent::FileSystem(_)
        | VolumeContent::Raw(_)
        | VolumeContent::Member { .. }
        | VolumeContent::Nothing => Ok(()),
    }
}
