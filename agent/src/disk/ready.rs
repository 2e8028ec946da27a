//! Everything before the first write: checks that the disks are the right ones and not in use, that their
//! plans fit, and that the tools are present.

use super::claim::{self, ChosenBy, Claim};
use super::error::DiskError;
use super::lvm;
use super::mkfs::{Recipe, Target};
use super::old::{self, Extent};
use super::table;
use ka::disk::choice::{self, ChoiceError, DiskChoice};
use ka::disk::ids::Seed;
use ka::disk::layout::Layout;
use ka::disk::table::Write;
use ka::disk::units::SectorSize;
use ka::inventory::Disk;
use ka::inventory::identity::DiskIdentity;
use ka::notes::{NoteKind, Tally};
use ka::plan::allot::allot;
use ka::plan::fit::{FitError, fit};
use ka::plan::report::partition_name;
use ka::plan::{Allotment, ConfirmedStorage, DiskPlan, FileSystemPlan, Storage, Volume, VolumeId};
use ka_host::hardware;
use ka_host::sysfs::{self, KernelPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A disk that has passed all checks before the first write.
pub(super) struct Ready {
    pub(super) claim: Claim,
    pub(super) layout: Layout,
    pub(super) writes: Vec<Write>,
    pub(super) old: Vec<Extent>,
    /// The disk, opened exclusively.
    pub(super) exclusive: File,
    /// One recipe for each file system on its partitions.
    pub(super) recipes: BTreeMap<VolumeId, Recipe>,
    /// Deviations from the plan, for the summary.
    pub(super) noted: Tally,
}

/// All disks, after all checks before the first write.
pub(super) struct Checked {
    pub(super) disks: Vec<Ready>,
    pub(super) groups: ReadyGroups,
}

/// What happens to the volume groups.
#[derive(Default)]
pub(super) struct ReadyGroups {
    /// One for each group in the plan.
    pub(super) allotments: Vec<Allotment>,
    /// One recipe for each file system on a logical volume.
    pub(super) recipes: BTreeMap<VolumeId, Recipe>,
    /// Deviations from the plan.
    pub(super) noted: Tally,
}

/// Claims all disks of a plan, and checks that each can be written as planned.
pub(super) fn check(confirmed: &ConfirmedStorage) -> Result<Checked, DiskError> {
    let storage = confirmed.storage();
    check_mount_points(storage)?;
    let disks = hardware::disks(false);
    let chosen = find_all(&storage.disks, &disks)?.into_iter();
    let each = confirmed.disks().zip(chosen).enumerate();
    let each = each.map(|(index, ((plan, identity), disk))| check_one(storage, index, plan, identity, disk));
    let disks = each.collect::<Result<Vec<_>, _>>()?;
    let groups = check_groups(storage, &disks)?;
    Ok(Checked { disks, groups })
}

/// Checks that the volume groups fit, that their tools are present, and that their names are free.
fn check_groups(storage: &Storage, disks: &[Ready]) -> Result<ReadyGroups, DiskError> {
    if storage.groups.is_empty() {
        return Ok(ReadyGroups::default());
    }
    let names: Vec<&str> = disks.iter().map(|ready| ready.claim.name.as_str()).collect();
    let layouts: Vec<Layout> = disks.iter().map(|ready| ready.layout.clone()).collect();
    let allotments = allot(storage, &layouts)
        .map_err(|reason| DiskError::Fit { disk: names.join(", "), reason: Box::new(reason) })?;
    lvm::check(storage, &names)?;
    let sectors = layouts.iter().map(|layout| layout.disk.sector);
    let sector = sectors.max_by_key(|sector| sector.bytes()).unwrap_or(SectorSize::B512);
    let mut groups = ReadyGroups { allotments, ..ReadyGroups::default() };
    for one in groups.allotments.iter().flat_map(|allotment| &allotment.volumes) {
        let Some(fs) = storage.volume(one.volume).and_then(Volume::file_system) else { continue };
        let Some(device) = lvm::node(storage, one.volume) else { continue };
        let target = Target { size: one.size, sector, is_esp: false };
        groups.recipes.insert(one.volume, recipe(fs, target, &device, &mut groups.noted)?);
    }
    Ok(groups)
}

/// The disks that the plans select at this moment.
pub(super) fn confirm_now(storage: &Storage) -> Result<ConfirmedStorage, DiskError> {
    let disks = hardware::disks(false);
    let chosen = find_all(&storage.disks, &disks)?.into_iter();
    let identities: Vec<DiskIdentity> = chosen.map(|disk| disk.identity.clone()).collect();
    let (wanted, found) = (storage.disks.len(), identities.len());
    ConfirmedStorage::new(storage.clone(), identities).ok_or(DiskError::Unconfirmed { wanted, found })
}

/// The kernel forgets the old partitions of all disks or of none: an open partition is found before the first
/// write, and none can be opened afterwards.
pub(super) fn release(ready: &[Ready]) -> Result<(), DiskError> {
    let mut released = Vec::new();
    for one in ready {
        match table::release(&one.claim, &one.exclusive) {
            Ok(partitions) => released.push((one, partitions)),
            Err(e) => {
                for (one, partitions) in released {
                    table::restore(&one.claim, &one.exclusive, &partitions);
                }
                return Err(e);
            }
        }
    }
    Ok(())
}

fn find_all<'a>(plans: &[DiskPlan], disks: &'a [Disk]) -> Result<Vec<&'a Disk>, DiskError> {
    let choices: Vec<DiskChoice> = plans.iter().map(|plan| named(&plan.disk)).collect();
    match choice::find_all(&choices.iter().collect::<Vec<_>>(), disks) {
        // The device may exist without being a disk. The error then names its kind.
        Err(missing @ ChoiceError::Missing { .. }) => {
            for name in choices.iter().filter_map(DiskChoice::name) {
                match claim::check_name(name) {
                    Ok(()) | Err(claim::Refusal::Missing { .. }) => {}
                    Err(what) => return Err(what.into()),
                }
            }
            Err(missing.into())
        }
        other => Ok(other?),
    }
}

/// Replaces a path in /dev by the kernel's name.
pub(super) fn named(choice: &DiskChoice) -> DiskChoice {
    let DiskChoice::Name { name, expect } = choice else { return choice.clone() };
    let number = sysfs::block_number(&Path::new("/dev").join(name));
    let name = number.and_then(|number| sysfs::name_of(number).ok()).unwrap_or_else(|| name.clone());
    DiskChoice::Name { name, expect: expect.clone() }
}

fn check_one(
    storage: &Storage,
    index: usize,
    plan: &DiskPlan,
    identity: &DiskIdentity,
    disk: &Disk,
) -> Result<Ready, DiskError> {
    let chosen = if matches!(plan.disk, DiskChoice::ById(_)) { ChosenBy::Id } else { ChosenBy::Name };
    let claim = claim::claim(&disk.name, chosen, identity)?;
    log::info!("{} is {}: {}, {}", plan.disk, claim.name, disk.model, ka::disk::units::Decimal(disk.size));
    let seed = seed().map_err(|e| DiskError::io(&claim.node, "get random bytes", e))?;
    let layout = fit(storage, index, claim.size, &seed)
        .map_err(|reason| DiskError::Fit { disk: claim.name.clone(), reason: Box::new(reason) })?;
    let mut noted = Tally::default();
    for departure in layout.departures(&plan.desc) {
        warn(&mut noted, NoteKind::Placement, &format!("{}: {departure}", claim.name));
    }
    let writes = layout.writes().map_err(|reason| DiskError::Encode { disk: claim.name.clone(), reason })?;
    let recipes = recipes(storage, index, &layout, &claim.name, &mut noted)?;
    let exclusive = claim.open_exclusive()?;
    let old = old::partitions(&claim, &exclusive)?;
    Ok(Ready { claim, layout, writes, old, exclusive, recipes, noted })
}

/// Logs a warning and counts it.
fn warn(noted: &mut Tally, kind: NoteKind, what: &str) {
    log::warn!("{what}");
    noted.add(kind, what);
}

/// The recipes for the file systems on a disk's partitions.
fn recipes(
    storage: &Storage,
    index: usize,
    layout: &Layout,
    disk: &str,
    noted: &mut Tally,
) -> Result<BTreeMap<VolumeId, Recipe>, DiskError> {
    let sector = layout.disk.sector;
    let mut recipes = BTreeMap::new();
    for (number, volume) in storage.partitions(index) {
        let Some(fs) = volume.file_system() else { continue };
        let placed = layout.partition(number);
        let size = placed.map_or(0, |placed| placed.size.bytes(sector));
        let is_esp = placed.is_some_and(|placed| placed.kind.is_esp());
        let device = Path::new("/dev").join(partition_name(disk, number));
        let recipe = recipe(fs, Target { size, sector, is_esp }, &device, noted)?;
        recipes.insert(volume.id, recipe);
    }
    Ok(recipes)
}

/// The recipe for one file system. Settings that cannot be had are noted.
fn recipe(
    fs: &FileSystemPlan,
    target: Target,
    device: &Path,
    noted: &mut Tally,
) -> Result<Recipe, DiskError> {
    let recipe = Recipe::new(fs, target, device)?;
    for left_out in &recipe.left_out {
        warn(noted, NoteKind::Setting, &format!("{}: {left_out}", device.display()));
    }
    Ok(recipe)
}

/// Every mount point is a plain absolute path and unique in the whole plan.
fn check_mount_points(storage: &Storage) -> Result<(), DiskError> {
    let mut seen = BTreeSet::new();
    for fs in storage.file_systems() {
        let subvolumes = fs.subvolumes.iter().filter_map(|subvolume| subvolume.mount_point.as_ref());
        for point in fs.mount_point.iter().chain(subvolumes) {
            if !is_plain_absolute(point) || !seen.insert(point) {
                return Err(DiskError::MountPoint(point.clone()));
            }
        }
        for subvolume in &fs.subvolumes {
            let is_top = subvolume.path.is_empty();
            if !is_top && !is_plain_absolute(&format!("/{}", subvolume.path)) {
                return Err(DiskError::Subvolume(subvolume.path.clone()));
            }
        }
    }
    Ok(())
}

fn is_plain_absolute(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            !rest.contains('\0') && rest.split('/').all(|name| !matches!(name, "" | "." | ".."))
        })
}

/// The device node of a partition known to the kernel.
pub(super) fn node_of(seen: &[KernelPartition], number: u32, disk: &str) -> Result<PathBuf, DiskError> {
    let partition = seen.iter().find(|partition| partition.number == number);
    partition.map(KernelPartition::node).ok_or_else(|| DiskError::Fit {
        disk: disk.to_owned(),
        reason: Box::new(FitError::NoPartition(number)),
    })
}

/// Random bytes for the disk's signature and its partitions' UUIDs.
fn seed() -> io::Result<Seed> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Seed(seed))
}
