//! The node's disks: claims them, writes their partition tables, creates and mounts their file systems.
//!
//! [`prepare`] takes the disks to the point where files can be unpacked onto them. [`Prepared::unmount`] and
//! [`Prepared::activate`] complete the work, and [`Prepared::abandon`] undoes it. All disks are checked
//! before the first one is written, and each must be the one that was confirmed ([`ConfirmedStorage`]).

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

/// Disks that are partitioned, formatted and mounted. Dropping this unmounts and unlocks them.
#[derive(Debug)]
pub struct Prepared {
    /// The device node of the boot disk: the one with `/boot`, otherwise the one with `/`, otherwise the
    /// first.
    pub disk: PathBuf,
    /// The file systems and swap spaces of all disks, in the plan's order.
    pub made: Vec<MadeFileSystem>,
    /// The mount point of the clone's root directory.
    pub root: PathBuf,
    /// The partitions that are written byte by byte.
    pub raw: Vec<RawPartition>,
    /// The LVM physical volumes, by the names of their partitions.
    pub members: Vec<MadeFileSystem>,
    /// Deviations from the plan: placements and settings that the disks do not allow.
    pub noted: Tally,
    // Dropped before the disks: unmounted while they are still locked.
    mounts: Mounts,
    // Dropped after the mounts and before the disks.
    groups: lvm::Active,
    /// The samples taken before the file systems were unmounted.
    samples: Vec<Taken>,
    disks: Vec<Written>,
}

/// A disk with its new table.
#[derive(Debug)]
struct Written {
    claim: Claim,
    layout: Layout,
    /// The boot code from the plan.
    boot_code: Option<BootCode>,
    /// The single entry of the GPT's protective MBR gets the active flag.
    protective_active: bool,
}

/// A file system created on a volume, with its names on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFileSystem {
    /// The plan's request.
    pub plan: FileSystemPlan,
    /// The volume's device node.
    pub device: PathBuf,
    /// The kind of volume.
    pub on: MadeOn,
    /// The new file system's UUID as blkid prints it.
    pub uuid: String,
    /// The partition's PARTUUID as the kernel and blkid print it: `disk signature-number`, or its GUID.
    pub partuuid: String,
}

/// The volume that holds a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeOn {
    /// A partition, by its number.
    Partition(u32),
    /// A logical volume.
    LogicalVolume {
        /// Its group's name.
        group: String,
        /// Its own name.
        name: String,
        /// The disks with the group's physical volumes.
        disks: Vec<PathBuf>,
    },
}

impl MadeOn {
    /// The partition's number, if it is a partition.
    #[must_use]
    pub fn partition(&self) -> Option<u32> {
        match self {
            Self::Partition(number) => Some(*number),
            Self::LogicalVolume { .. } => None,
        }
    }

    /// Whether `path` names it on the golden node and on this node alike, however the kernel names the disks.
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
    /// Its mount points, as a whole or by subvolume.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        self.plan.mount_points()
    }
}

/// What the firmware starts: the bytes of sector 0 before the disk's signature. A boot loader's code is kept
/// here while its files are written, since a disk with boot code boots, active flag or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootCode(pub [u8; mbr::BOOT_CODE]);

/// Checks whether [`prepare`] would start to write: claims the disks and releases them.
///
/// # Errors
/// Why it would not.
pub fn check(confirmed: &ConfirmedStorage) -> Result<(), DiskError> {
    ready::check(confirmed).map(drop)
}

/// Confirms the disks that the plans select on this machine at this moment, for a caller that needs no
/// confirmation by a person.
///
/// # Errors
/// A plan does not select a unique disk.
pub fn confirm_now(storage: &Storage) -> Result<ConfirmedStorage, DiskError> {
    ready::confirm_now(storage)
}

/// The same choice with a kernel name in place of a path.
#[must_use]
pub fn named(choice: &DiskChoice) -> DiskChoice {
    ready::named(choice)
}

/// Partitions disks according to their plans, creates their file systems, and mounts them below `root`.
///
/// # Errors
/// Before the first write: a disk may not be written, or its plan does not fit it. No disk is changed. After
/// the first write: a step failed. The tables already written are cleared, so that the half-made system
/// cannot boot.
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

/// Everything created so far, before it is known whether the rest succeeds.
#[derive(Default)]
struct Made {
    made: Vec<MadeFileSystem>,
    raw: Vec<RawPartition>,
    members: Vec<MadeFileSystem>,
    // Unmounted before the groups are deactivated.
    mounts: Mounts,
    groups: lvm::Active,
}

/// Writes the disks one by one. `written` has all disks that were started, even on failure.
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
        // From here on the disk counts as started: it is cleared if anything fails.
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

/// Creates the volume groups on their physical volumes, and the contents of their logical volumes.
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

/// A physical volume under its partition's names. LVM gives it a new UUID, which nothing else refers to.
fn member(golden: Option<GoldenNames>, device: PathBuf, on: MadeOn, partuuid: String) -> MadeFileSystem {
    let golden = golden.map(|golden| GoldenNames { uuid: None, ..golden });
    // It is neither mounted nor formatted, so its kind does not matter.
    let plan = FileSystemPlan { golden, ..FileSystemPlan::new(FileSystemKind::Ext4) };
    MadeFileSystem { plan, device, on, uuid: String::new(), partuuid }
}

impl Prepared {
    /// Syncs and unmounts all file systems, inner ones first.
    ///
    /// # Errors
    /// A write failed, or a file system is still in use.
    pub fn unmount(&mut self) -> Result<(), DiskError> {
        self.samples = self.mounts.samples()?;
        self.mounts.unmount()?;
        self.raw.iter().try_for_each(RawPartition::sync)
    }

    /// Reads the superblocks and a sample of the files back from the disks after unmounting: a disk may lose
    /// writes without an error. An empty file system is checked by its own checker. Call this before
    /// [`Prepared::activate`].
    ///
    /// # Errors
    /// A disk returns other data than was written.
    pub fn prove(&self) -> Result<(), DiskError> {
        self.made.iter().try_for_each(proof::superblock)?;
        let has_sample = |made: &MadeFileSystem| self.samples.iter().any(|taken| taken.is_of(&made.device));
        let mut empty = self.made.iter().filter(|made| !has_sample(made));
        empty.try_for_each(|made| mkfs::check::check(made.plan.kind, &made.device))?;
        self.samples.iter().try_for_each(|taken| taken.prove(&self.root))?;
        self.raw.iter().try_for_each(proof::raw)
    }

    /// Makes the disks bootable: writes boot code and active flag in one write of sector 0 per disk, the boot
    /// disk last. These are the last writes: call this after everything else is synced and unmounted. Without
    /// boot code, those bytes stay unchanged.
    ///
    /// # Errors
    /// A table on a disk is not the one that [`prepare`] wrote, or cannot be written.
    pub fn activate(&self, boot_code: Option<&BootCode>) -> Result<(), DiskError> {
        activate::activate(&self.disks, &self.made, boot_code)
    }

    /// The partition that receives the bytes of the golden partition with this name.
    #[must_use]
    pub fn raw_of(&self, name: &str) -> Option<&RawPartition> {
        self.raw.iter().find(|raw| raw.plan.name == name)
    }

    /// Unmounts, and clears the partition tables, so that the half-made system cannot boot. For a node that
    /// fails after [`prepare`].
    pub fn abandon(mut self) {
        self.mounts.detach();
        self.raw.clear();
        if let Err(e) = self.groups.deactivate() {
            log::error!("{e}");
        }
        self.disks.iter().for_each(|disk| clear(&disk.claim));
    }
}

/// Clears the table after a failure. The caller returns the original failure; errors here are only logged.
fn clear(claim: &Claim) {
    match table::clear(claim) {
        Ok(()) => {
            log::warn!("{}: partition table cleared, so that the half-made system cannot boot", claim.name)
        }
        Err(e) => log::error!("{}: the partition table cannot be cleared after the failure: {e}", claim.name),
    }
}
