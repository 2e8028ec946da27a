//! The node's disks: claim them, write their tables, make and mount their file systems.
//!
//! [`prepare`] takes the disks to the point where files can be unpacked onto them; [`Prepared::unmount`] and
//! [`Prepared::activate`] end what it began, and [`Prepared::abandon`] undoes it. All disks are checked
//! before the first of them is written, and each must be the one that was confirmed ([`ConfirmedStorage`]).

mod activate;
pub mod claim;
mod error;
mod lvm;
mod medium;
mod mkfs;
mod mounts;
mod old;
pub mod overwrite;
mod proof;
mod raw;
mod ready;
mod subvolumes;
mod table;
mod wait;

use crate::step::step;
use claim::Claim;
pub use error::{DiskError, RecipeError};
use ka::disk::choice::DiskChoice;
use ka::disk::layout::Layout;
use ka::disk::mbr;
use ka::inventory::Firmware;
use ka::notes::Tally;
use ka::plan::{
    ConfirmedStorage, FileSystemKind, FileSystemPlan, GoldenNames, Storage, VolumeContent, VolumeId,
    mapper_name,
};
use ka::step::Step;
use ka_host::hardware;
use mounts::{Mounts, Taken};
pub use raw::RawPartition;
use ready::{Checked, Ready, ReadyGroups};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Disks that are partitioned, formatted and mounted. They stay locked until this is dropped, which
/// also unmounts them.
#[derive(Debug)]
pub struct Prepared {
    /// The device node of the disk that the node boots from: the one with `/boot`, else with `/`, else the first.
    pub disk: PathBuf,
    /// The file systems and swap spaces of all disks, in the plan's order.
    pub made: Vec<MadeFileSystem>,
    /// Where the clone's root directory is mounted.
    pub root: PathBuf,
    /// The partitions that are to be written byte by byte.
    pub raw: Vec<RawPartition>,
    /// The physical volumes of LVM, by the names of their partitions.
    pub members: Vec<MadeFileSystem>,
    /// Where the disks depart from their plans: placements and settings that they do not allow.
    pub noted: Tally,
    // Before the disks: unmounted while they are still locked.
    mounts: Mounts,
    // After the mounts, and before the disks.
    groups: lvm::Active,
    /// What the file systems gave before they were unmounted.
    samples: Vec<Taken>,
    disks: Vec<Written>,
}

/// A disk whose table is written.
#[derive(Debug)]
struct Written {
    claim: Claim,
    layout: Layout,
    /// Boot code that the plan brings.
    boot_code: Option<BootCode>,
    /// A GPT's protective MBR is to have its entry active.
    protective_active: bool,
}

/// A file system that was made on a volume, with the names that it has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFileSystem {
    /// What was asked for.
    pub plan: FileSystemPlan,
    /// The volume's device node.
    pub device: PathBuf,
    /// What the volume is.
    pub on: MadeOn,
    /// The new file system's UUID as blkid prints it.
    pub uuid: String,
    /// The partition's PARTUUID as the kernel and blkid print it: `disk signature-number`, or its GUID.
    pub partuuid: String,
}

/// What a file system was made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeOn {
    /// A partition, by its number.
    Partition(u32),
    /// A logical volume of LVM.
    LogicalVolume {
        /// Its group's name.
        group: String,
        /// Its own.
        name: String,
        /// The disks that the group lies on.
        disks: Vec<PathBuf>,
    },
}

impl MadeOn {
    /// The partition's number, if it is one.
    #[must_use]
    pub fn partition(&self) -> Option<u32> {
        match self {
            Self::Partition(number) => Some(*number),
            Self::LogicalVolume { .. } => None,
        }
    }

    /// Whether `path` names it on the golden node as well as here, whatever the kernel calls the disks.
    #[must_use]
    pub fn keeps(&self, path: &str) -> bool {
        match self {
            Self::Partition(_) => false,
            Self::LogicalVolume { group, name, .. } => {
                path == format!("/dev/{group}/{name}")
                    || path.strip_prefix("/dev/mapper/") == Some(&mapper_name(group, name))
            }
        }
    }
}

impl MadeFileSystem {
    /// Where it is mounted, as a whole or by its subvolumes.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        self.plan.mount_points()
    }
}

/// What the firmware starts: the bytes of sector 0 before the disk's signature. A boot loader's are kept
/// here while its files are written, since a disk that has them boots, active flag or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootCode(pub [u8; mbr::BOOT_CODE]);

/// Finds out whether [`prepare`] would begin to write: the disks are claimed and let go again.
///
/// # Errors
/// Why it would not.
pub fn check(confirmed: &ConfirmedStorage) -> Result<(), DiskError> {
    ready::check(confirmed).map(drop)
}

/// Confirms what these plans mean on this machine at this moment, for a caller that needs nobody's word.
///
/// # Errors
/// A plan means no disk for sure.
pub fn confirm_now(storage: &Storage) -> Result<ConfirmedStorage, DiskError> {
    ready::confirm_now(storage)
}

/// The same choice, by the kernel's name where it gives a path.
#[must_use]
pub fn named(choice: &DiskChoice) -> DiskChoice {
    ready::named(choice)
}

/// Partitions disks after their plans, makes their file systems, and mounts them below `root`.
///
/// # Errors
/// A disk may not be written, or its plan doesn't fit it: then nothing was written to any. Or a step failed
/// after the first write: then the tables that were begun are cleared, so that the half-made system cannot boot.
pub fn prepare(confirmed: &ConfirmedStorage, root: &Path) -> Result<Prepared, DiskError> {
    let ready = step(Step::ClaimDisks, || {
        let ready = ready::check(confirmed)?;
        ready::release(&ready.disks)?;
        Ok::<_, DiskError>(ready)
    })?;
    let mut noted = ready.groups.noted.clone();
    ready.disks.iter().for_each(|one| noted.merge(&one.noted));
    let mut written = Vec::new();
    match write_all(ready, confirmed.storage(), root, &mut written) {
        Ok(Made { made, raw, members, groups, mounts }) => {
            let disk = activate::boot_disk(&written, &made);
            let disk = disk.map(|disk| disk.claim.node.clone()).unwrap_or_default();
            Ok(Prepared {
                disk,
                made,
                root: root.to_owned(),
                raw,
                members,
                noted,
                mounts,
                groups,
                samples: Vec::new(),
                disks: written,
            })
        }
        Err(first) => {
            written.iter().for_each(|disk| clear(&disk.claim));
            Err(first)
        }
    }
}

/// All that was made, before it is known whether the rest succeeds.
#[derive(Default)]
struct Made {
    made: Vec<MadeFileSystem>,
    raw: Vec<RawPartition>,
    members: Vec<MadeFileSystem>,
    // Unmounted before the groups are deactivated.
    mounts: Mounts,
    groups: lvm::Active,
}

/// Writes the disks one after the other. Those that were begun are in `written`, whatever happens.
fn write_all(
    ready: Checked,
    storage: &Storage,
    root: &Path,
    written: &mut Vec<Written>,
) -> Result<Made, DiskError> {
    let mut all = Made::default();
    let mut nodes = BTreeMap::new();
    for (index, (ready, plan)) in ready.disks.into_iter().zip(&storage.disks).enumerate() {
        let Ready { claim, layout, writes, old, exclusive, recipes, noted: _ } = ready;
        let boot_code = activate::planned_code(plan);
        // From here on the disk counts as begun: it is cleared if anything fails.
        let protective_active = plan.protective_active && hardware::firmware() == Firmware::Bios;
        written.push(Written { claim, layout, boot_code, protective_active });
        let Some(Written { claim, layout, .. }) = written.last() else { continue };
        step(Step::WriteTable.of(&claim.name), || table::write(claim, &exclusive, layout, &writes, &old))?;
        drop(exclusive);
        let partitions = table::wait_for_partitions(claim, layout)?;
        for (number, volume) in storage.partitions(index) {
            let device = ready::node_of(&partitions, number, &claim.name)?;
            let partuuid = layout.partuuid(number).unwrap_or_default();
            match &volume.content {
                VolumeContent::FileSystem(fs) => {
                    let Some(recipe) = recipes.get(&volume.id) else { continue };
                    let what = format!("{} on {}", fs.kind, device.display());
                    let uuid = step(Step::MakeFileSystem.of(what), || mkfs::make(fs, recipe, &device))?;
                    let (plan, on) = (FileSystemPlan::clone(fs), MadeOn::Partition(number));
                    all.made.push(MadeFileSystem { plan, device, on, uuid, partuuid });
                }
                VolumeContent::Raw(part) => {
                    all.raw.push(RawPartition::open(part, device, MadeOn::Partition(number), partuuid)?);
                }
                VolumeContent::Member { golden, .. } => {
                    nodes.insert(volume.id, device.clone());
                    all.members.push(member(golden.clone(), device, MadeOn::Partition(number), partuuid));
                }
                VolumeContent::Nothing => {}
            }
        }
    }
    make_groups(storage, &ready.groups, &nodes, written, &mut all)?;
    all.mounts = step(Step::MountFileSystems, || mounts::mount_all(&all.made, root))?;
    Ok(all)
}

/// Makes the volume groups on their physical volumes, and what lies on their logical volumes.
fn make_groups(
    storage: &Storage,
    ready: &ReadyGroups,
    nodes: &BTreeMap<VolumeId, PathBuf>,
    written: &[Written],
    all: &mut Made,
) -> Result<(), DiskError> {
    for (group, allotment) in storage.groups.iter().zip(&ready.allotments) {
        let devices = step(Step::MakeVolumeGroup.of(&group.name), || {
            lvm::make(storage, group, allotment, nodes, &mut all.groups)
        })?;
        let members = allotment.members.iter().filter_map(|(id, _)| storage.volume(*id));
        let disks = members.flat_map(|member| storage.disks_of(member));
        let disks: Vec<PathBuf> =
            disks.filter_map(|index| Some(written.get(index)?.claim.node.clone())).collect();
        for (volume, lv) in storage.logical_volumes(group.id) {
            let Some(device) = devices.get(&volume.id).cloned() else { continue };
            let on = MadeOn::LogicalVolume {
                group: group.name.clone(),
                name: lv.name.clone(),
                disks: disks.clone(),
            };
            match (&volume.content, ready.recipes.get(&volume.id)) {
                (VolumeContent::FileSystem(fs), Some(recipe)) => {
                    let what = format!("{} on {}", fs.kind, device.display());
                    let uuid = step(Step::MakeFileSystem.of(what), || mkfs::make(fs, recipe, &device))?;
                    let (plan, partuuid) = (FileSystemPlan::clone(fs), String::new());
                    all.made.push(MadeFileSystem { plan, device, on, uuid, partuuid });
                }
                (VolumeContent::Raw(part), _) => {
                    all.raw.push(RawPartition::open(part, device, on, String::new())?);
                }
                (VolumeContent::FileSystem(_), None)
                | (VolumeContent::Member { .. } | VolumeContent::Nothing, _) => {}
            }
        }
    }
    Ok(())
}

/// A physical volume by the names that the partition has. LVM gives it a UUID of its own, which nothing else names.
fn member(golden: Option<GoldenNames>, device: PathBuf, on: MadeOn, partuuid: String) -> MadeFileSystem {
    let golden = golden.map(|golden| GoldenNames { uuid: None, ..golden });
    // Nobody mounts or makes it, so its kind is of no matter.
    let plan = FileSystemPlan { golden, ..FileSystemPlan::new(FileSystemKind::Ext4) };
    MadeFileSystem { plan, device, on, uuid: String::new(), partuuid }
}

impl Prepared {
    /// Writes all files out and unmounts, inner file systems first.
    ///
    /// # Errors
    /// A write failed, or something still uses a file system.
    pub fn unmount(&mut self) -> Result<(), DiskError> {
        self.samples = self.mounts.samples()?;
        self.mounts.unmount()?;
        self.raw.iter().try_for_each(RawPartition::sync)
    }

    /// Reads the superblocks and a sample of the files back from the disks, when all is unmounted: a disk may lose
    /// writes and say nothing. An empty file system is checked by its own checker. To be done before
    /// [`Prepared::activate`].
    ///
    /// # Errors
    /// A disk gives back something else than was written.
    pub fn prove(&self) -> Result<(), DiskError> {
        self.made.iter().try_for_each(proof::superblock)?;
        let has_sample = |made: &MadeFileSystem| self.samples.iter().any(|taken| taken.is_of(&made.device));
        let mut empty = self.made.iter().filter(|made| !has_sample(made));
        empty.try_for_each(|made| mkfs::check::check(made.plan.kind, &made.device))?;
        self.samples.iter().try_for_each(|taken| taken.prove(&self.root))?;
        self.raw.iter().try_for_each(proof::raw)
    }

    /// Makes the disks bootable: boot code and active flag, in one write of sector 0 each, the disk that the
    /// node boots from at last. These are the last writes: to be called when everything else is written out and
    /// unmounted. Without boot code, those bytes stay as they are.
    ///
    /// # Errors
    /// A table on a disk is not the one that [`prepare`] wrote, or cannot be written.
    pub fn activate(&self, boot_code: Option<&BootCode>) -> Result<(), DiskError> {
        activate::activate(&self.disks, &self.made, boot_code)
    }

    /// The partition that takes the bytes of the golden partition with this name.
    #[must_use]
    pub fn raw_of(&self, name: &str) -> Option<&RawPartition> {
        self.raw.iter().find(|raw| raw.plan.name == name)
    }

    /// Unmounts, and clears the partition tables, so that the half-made system cannot boot. For a node
    /// whose work failed after [`prepare`].
    pub fn abandon(mut self) {
        self.mounts.detach();
        self.raw.clear();
        if let Err(e) = self.groups.deactivate() {
            log::error!("{e}");
        }
        self.disks.iter().for_each(|disk| clear(&disk.claim));
    }
}

/// Clears the table after a failure. The failure itself is what the caller returns: what goes wrong
/// here is only logged.
fn clear(claim: &Claim) {
    match table::clear(claim) {
        Ok(()) => {
            log::warn!("{}: partition table cleared, so that the half-made system cannot boot", claim.name)
        }
        Err(e) => log::error!("{}: the partition table cannot be cleared after the failure: {e}", claim.name),
    }
}
