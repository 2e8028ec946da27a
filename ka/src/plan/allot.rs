//! Allocates the extents of a volume group to its logical volumes.

use super::check::{FitError, check_mount_point, check_size};
use super::group::{GroupId, LogicalLayout, LogicalSize, LogicalVolume, VolumeGroup};
use super::room;
use super::{Backing, Storage, Volume, VolumeContent, VolumeId, VolumeName};
use crate::disk::layout::Layout;
use crate::disk::units::{MB, SectorSize};
use std::collections::BTreeMap;

/// Bytes at the start of a physical volume without extents: LVM's metadata. Stated when the volume is
/// created.
pub const PV_HEAD: u64 = MB;

/// The layout of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// The group.
    pub group: GroupId,
    /// The number of extents of each physical volume.
    pub members: Vec<(VolumeId, u64)>,
    /// The logical volumes in order of creation.
    pub volumes: Vec<Allotted>,
}

/// The layout of one logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotted {
    /// The volume.
    pub volume: VolumeId,
    /// Its size in bytes.
    pub size: u64,
    /// Its number of extents; 0 for a thin volume.
    pub extents: u64,
    /// The physical volumes that it may use.
    pub members: Vec<VolumeId>,
}

/// Allocates the extents of all groups, for disks with these layouts.
///
/// # Errors
/// The first group or volume that does not fit, with the figures.
pub fn allot(storage: &Storage, layouts: &[Layout]) -> Result<Vec<Allotment>, FitError> {
    storage.groups.iter().map(|group| allot_one(storage, group, layouts)).collect()
}

/// The bytes that a physical volume of a group needs. Its contents are known only if it is the group's only
/// one.
#[must_use]
pub(super) fn least_of_member(storage: &Storage, group: GroupId, sector: SectorSize) -> u64 {
    let Some(group) = storage.group(group) else { return PV_HEAD };
    if storage.members(group.id).count() > 1 {
        return PV_HEAD.saturating_add(group.extent);
    }
    let volumes = storage.logical_volumes(group.id);
    let extents: u64 = volumes.map(|(volume, lv)| cost_of_least(storage, group, volume, lv, sector)).sum();
    // One extent more, because the end of a partition may be unusable.
    extents.saturating_add(1).saturating_mul(group.extent).saturating_add(PV_HEAD)
}

fn allot_one(storage: &Storage, group: &VolumeGroup, layouts: &[Layout]) -> Result<Allotment, FitError> {
    let (members, sector) = members(storage, group, layouts)?;
    let total: u64 = members.iter().map(|(_, extents)| extents).sum();
    let extents = deal(storage, group, total, sector)?;
    let mut free: Vec<(VolumeId, u64)> = members.clone();
    let mut volumes = Vec::new();
    // Volumes on several physical volumes come first, and pools come before their thin volumes.
    let mut order: Vec<(&Volume, &LogicalVolume)> = storage.logical_volumes(group.id).collect();
    order.sort_by_key(|(_, lv)| match lv.layout.images() {
        0 => u32::MAX,
        images => u32::MAX - images,
    });
    for (volume, lv) in order {
        let extents = extents.get(&volume.id).copied().unwrap_or_default();
        let members = place(storage, lv, volume, extents, group.extent, &mut free)?;
        let size = match (&lv.layout, lv.size) {
            (LogicalLayout::Thin { .. }, LogicalSize::Fixed(size) | LogicalSize::Scaled(size)) => {
                size.div_ceil(group.extent).saturating_mul(group.extent)
            }
            _ => extents.saturating_mul(group.extent),
        };
        check_size(storage, volume, size, sector)?;
        check_mount_point(storage, volume)?;
        volumes.push(Allotted { volume: volume.id, size, extents, members });
    }
    check_pools(storage, group, &volumes)?;
    Ok(Allotment { group: group.id, members, volumes })
}

/// The physical volumes with their extents, and the largest sector size of their disks.
fn members(
    storage: &Storage,
    group: &VolumeGroup,
    layouts: &[Layout],
) -> Result<(Vec<(VolumeId, u64)>, SectorSize), FitError> {
    let mut members = Vec::new();
    let mut sector = SectorSize::B512;
    for volume in storage.members(group.id) {
        let Backing::Partition { disk, number } = &volume.backing else { continue };
        let layout = layouts.get(*disk).ok_or(FitError::NoDisk(*disk))?;
        let placed = layout.partition(*number).ok_or(FitError::NoPartition(*number))?;
        if layout.disk.sector.bytes() > sector.bytes() {
            sector = layout.disk.sector;
        }
        let size = placed.size.bytes(layout.disk.sector);
        let extents = size.saturating_sub(PV_HEAD) / group.extent.max(1);
        if extents == 0 {
            let need = PV_HEAD.saturating_add(group.extent);
            return Err(FitError::MemberTooSmall { volume: volume.name(storage), size, need });
        }
        members.push((volume.id, extents));
    }
    if members.is_empty() {
        return Err(FitError::NoMembers { group: group.name.clone() });
    }
    Ok((members, sector))
}

/// A volume whose size depends on the group's.
struct Elastic<'a> {
    volume: VolumeId,
    lv: &'a LogicalVolume,
    /// Its share, in extents of the golden group or as a weight.
    weight: u128,
    /// Its minimum cost.
    least: u64,
}

/// The number of extents for each volume.
fn deal(
    storage: &Storage,
    group: &VolumeGroup,
    total: u64,
    sector: SectorSize,
) -> Result<BTreeMap<VolumeId, u64>, FitError> {
    let mut dealt = BTreeMap::new();
    let (mut scaled, mut fills) = (Vec::new(), Vec::new());
    // Fixed sizes are subtracted from both groups.
    let (mut spent, mut golden_spent) = (0_u64, 0_u64);
    for (volume, lv) in storage.logical_volumes(group.id).filter(|(_, lv)| lv.layout.images() > 0) {
        let cost = |bytes: u64| lv.layout.cost(whole(lv, bytes, group), group.extent);
        let least = cost_of_least(storage, group, volume, lv, sector);
        match lv.size {
            LogicalSize::Fixed(bytes) => {
                dealt.insert(volume.id, whole(lv, bytes, group));
                spent = spent.saturating_add(cost(bytes));
                golden_spent = golden_spent.saturating_add(cost(bytes));
            }
            LogicalSize::Share(percent) => {
                let share = u128::from(total) * u128::from(percent) / 100;
                let cost = u64::try_from(share).unwrap_or(u64::MAX).max(least);
                dealt.insert(volume.id, lv.layout.extents_for(cost, group.extent));
                spent = spent.saturating_add(cost);
            }
            LogicalSize::Scaled(bytes) => {
                let weight = cost(bytes).into();
                scaled.push(Elastic { volume: volume.id, lv, weight, least });
            }
            LogicalSize::Fill(weight) => {
                fills.push(Elastic { volume: volume.id, lv, weight: u128::from(weight.max(1)), least });
            }
        }
    }
    let least: u64 = scaled.iter().chain(&fills).map(|one| one.least).sum();
    let need = spent.saturating_add(least);
    let too_small = |need: u64| FitError::GroupTooSmall {
        group: group.name.clone(),
        have: total.saturating_mul(group.extent),
        need: need.saturating_mul(group.extent),
    };
    let Some(left) = total.checked_sub(need).map(|_| total - spent) else { return Err(too_small(need)) };
    // Before anything is scaled, filling volumes reserve at least what they need.
    let for_fills: u64 = fills.iter().map(|one| one.least).sum();
    let golden_left = u128::from(group.golden_extents.saturating_sub(golden_spent));
    let used: u128 = scaled.iter().map(|one| one.weight).sum();
    let costs = share(left - for_fills, golden_left.saturating_sub(used), &scaled);
    let taken: u64 = costs.iter().sum();
    let filled = share(left - taken, 0, &fills);
    for (one, cost) in scaled.iter().zip(costs).chain(fills.iter().zip(filled)) {
        dealt.insert(one.volume, one.lv.layout.extents_for(cost, group.extent));
    }
    Ok(dealt)
}

/// Shares `have` by weight; `free` is the weight of the part that stays unused. No share is smaller than its
/// need, and the needs together do not exceed `have`.
fn share(have: u64, free: u128, all: &[Elastic<'_>]) -> Vec<u64> {
    let mut shares: Vec<Option<u64>> = vec![None; all.len()];
    loop {
        let given: u64 = shares.iter().flatten().sum();
        let open = || all.iter().zip(&shares).filter(|(_, share)| share.is_none()).map(|(one, _)| one);
        let weights = free + open().map(|one| one.weight).sum::<u128>();
        let left = u128::from(have.saturating_sub(given));
        let of = |one: &Elastic<'_>| {
            u64::try_from((left * one.weight).checked_div(weights).unwrap_or_default()).unwrap_or(u64::MAX)
        };
        // A volume whose share would be below its need gets its need, and the others share the rest.
        let short = all.iter().zip(&shares).position(|(one, share)| share.is_none() && of(one) < one.least);
        match short {
            Some(index) => {
                if let (Some(share), Some(one)) = (shares.get_mut(index), all.get(index)) {
                    *share = Some(one.least);
                }
            }
            None => {
                return all
                    .iter()
                    .zip(&shares)
                    .map(|(one, share)| share.unwrap_or_else(|| of(one)))
                    .collect();
            }
        }
    }
}

/// The extents for this many bytes, in equal parts for all images.
fn whole(lv: &LogicalVolume, bytes: u64, group: &VolumeGroup) -> u64 {
    bytes.div_ceil(group.extent.max(1)).next_multiple_of(u64::from(lv.layout.data_images()))
}

/// What a volume must have for what goes onto it.
pub(super) fn least_of(storage: &Storage, volume: &Volume, sector: SectorSize) -> u64 {
    match &volume.content {
        VolumeContent::FileSystem(fs) => room::size_for(fs, sector),
        VolumeContent::Raw(raw) => raw.size,
        VolumeContent::Member { group, .. } => least_of_member(storage, *group, sector),
        VolumeContent::Nothing => 0,
    }
}

/// What a volume costs that is as small as its contents allow; one of fixed size costs what it costs.
fn cost_of_least(
    storage: &Storage,
    group: &VolumeGroup,
    volume: &Volume,
    lv: &LogicalVolume,
    sector: SectorSize,
) -> u64 {
    let bytes = match lv.size {
        LogicalSize::Fixed(bytes) => bytes,
        LogicalSize::Scaled(_) | LogicalSize::Share(_) | LogicalSize::Fill(_) => {
            least_of(storage, volume, sector).max(group.extent)
        }
    };
    lv.layout.cost(whole(lv, bytes, group), group.extent)
}

/// Chooses the physical volumes for a volume: those with the most room. A volume on several of them takes the
/// same amount from each.
fn place(
    storage: &Storage,
    lv: &LogicalVolume,
    volume: &Volume,
    extents: u64,
    extent: u64,
    free: &mut [(VolumeId, u64)],
) -> Result<Vec<VolumeId>, FitError> {
    let images = usize::try_from(lv.layout.images()).unwrap_or(usize::MAX);
    free.sort_by_key(|(id, free)| (u64::MAX - free, *id));
    if images < 2 {
        // It may continue on the next one.
        let mut left = lv.layout.cost(extents, extent);
        for (_, free) in free.iter_mut() {
            let taken = left.min(*free);
            (*free, left) = (*free - taken, left - taken);
        }
        return Ok(free.iter().map(|(id, _)| *id).collect());
    }
    let each = lv.layout.image_extents(extents, extent);
    let have = free.iter().filter(|(_, free)| *free >= each).count();
    if have < images {
        let (volume, each) = (volume.name(storage), each.saturating_mul(extent));
        return Err(FitError::TooFewMembers { volume, need: images, have, each });
    }
    let chosen = free.get_mut(..images).unwrap_or_default();
    chosen.iter_mut().for_each(|(_, free)| *free -= each);
    Ok(chosen.iter().map(|(id, _)| *id).collect())
}

/// Checks that the data copied onto thin volumes fits into their pool.
fn check_pools(storage: &Storage, group: &VolumeGroup, volumes: &[Allotted]) -> Result<(), FitError> {
    for pool in volumes {
        let in_pool = storage
            .logical_volumes(group.id)
            .filter(|(_, lv)| matches!(lv.layout, LogicalLayout::Thin { pool: own } if own == pool.volume));
        let used: u64 = in_pool.filter_map(|(volume, _)| Some(volume.file_system()?.used)).sum();
        if used > pool.size {
            let name = storage.volume(pool.volume).map(|volume| volume.name(storage));
            let volume = name.unwrap_or(VolumeName::Partition(0));
            return Err(FitError::PoolTooSmall { volume, size: pool.size, used });
        }
    }
    Ok(())
}
