//! What a plan would do to a machine's disks: their current contents, and what would be written instead.
//!
//! The operator reads it before confirming, and scripts read it as JSON. `kactl run --dry-run` builds it from
//! a node's report, and `ka-agent disk plan` from the machine that it runs on. Both use [`Report::new`].

#[cfg(test)]
mod tests;
mod text;

use super::allot::allot;
use super::fit::{FitError, fit};
use super::{
    Allotment, Allotted, Backing, DiskPlan, FileSystemPlan, Storage, Volume, VolumeContent, VolumeGroup,
    VolumeId,
};
use crate::disk::choice::{DiskChoice, find_all};
use crate::disk::description::Role;
use crate::disk::ids::Seed;
use crate::disk::kind::TableKind;
use crate::disk::layout::{Layout, Placed};
use crate::disk::units::{DiskSize, SectorSize};
use crate::inventory::Disk;
use serde::{Deserialize, Serialize};

pub use text::OfDisk;

/// What would happen to the disks of one machine. `Display` is the text form, for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One entry for each disk to erase, in the plan's order.
    pub disks: Vec<DiskReport>,
    /// The volume groups to create, unless a disk is refused.
    #[serde(default)]
    pub groups: Vec<NewGroup>,
}

/// A volume group to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewGroup {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The device names of its physical volumes.
    pub members: Vec<String>,
    /// Its volumes.
    pub volumes: Vec<NewLogicalVolume>,
}

/// A logical volume to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLogicalVolume {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its layout on the physical volumes: `linear`, `raid1`, `thin`.
    pub layout: String,
    /// Its content.
    pub makes: Makes,
}

/// What would happen to one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// How the disk was chosen: `sda`, `auto`, `by-id:…`.
    pub choice: String,
    /// The disk with its current contents; `None` if the choice is not certain.
    pub disk: Option<Disk>,
    /// The action on it.
    pub outcome: DiskAction,
    /// The choice of another disk because of which nothing is written here either.
    pub because_of: Option<String>,
}

/// The action on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAction {
    /// All its contents are erased, and this is written.
    Erase(NewTable),
    /// Nothing is written, for this reason.
    Refuse(String),
}

/// A partition table to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTable {
    /// Its type as blkid names it: `dos`, `gpt`.
    pub kind: String,
    /// The partitions by number.
    pub partitions: Vec<NewPartition>,
    /// The plan has boot code for the first sector (`-m`, `-M`).
    pub boot_code: bool,
}

/// A partition to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartition {
    /// Its number.
    pub number: u32,
    /// Its kernel name.
    pub device: String,
    /// Its start in bytes.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its type as sfdisk writes it: hex, or a GUID.
    pub kind: String,
    /// The name of a well-known type.
    pub type_name: Option<String>,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// Its content.
    pub makes: Makes,
}

/// The content of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Makes {
    /// Nothing: old contents are erased as far as they are recognised.
    Nothing,
    /// A container for the logical partitions.
    Extended,
    /// A file system, or swap.
    FileSystem {
        /// Its type as blkid names it.
        kind: String,
        /// Its label.
        label: Option<String>,
        /// Its UUID, if it is not a fresh one.
        uuid: Option<String>,
        /// Where it or its subvolumes are mounted on the clone.
        mount_points: Vec<String>,
        /// The bytes copied onto it; 0 if it stays empty.
        used: u64,
    },
    /// A physical volume of a group.
    Member {
        /// The group's name.
        group: String,
    },
    /// The bytes of a golden partition.
    Raw {
        /// That partition's name.
        of: String,
        /// Its size in bytes.
        size: u64,
    },
}

impl Report {
    /// Reports what these plans would do on a machine with these disks.
    #[must_use]
    pub fn new(storage: &Storage, disks: &[Disk]) -> Self {
        let plans = &storage.disks;
        let choices: Vec<&DiskChoice> = plans.iter().map(|plan| &plan.disk).collect();
        // One bad choice among several blocks all: nothing is written then.
        let all = find_all(&choices, disks);
        let one = |(i, plan): (usize, &DiskPlan)| match (&all, plan.disk.find(disks)) {
            (Ok(found), _) => match found.get(i) {
                Some(disk) => DiskReport::new(storage, i, plan, disk),
                None => DiskReport::refused(plan, None, "no disk was found for it".to_owned()),
            },
            (Err(_), Err(own)) => DiskReport::refused(plan, plan_disk(plan, disks), own.to_string()),
            (Err(other), Ok(disk)) => DiskReport::refused(plan, Some(disk.clone()), other.to_string()),
        };
        let mut disks: Vec<DiskReport> = plans.iter().enumerate().map(one).collect();
        let groups = match NewGroup::all(storage, &disks) {
            Ok(groups) => groups,
            Err(reason) => {
                disks.iter_mut().for_each(|disk| disk.outcome = DiskAction::Refuse(reason.to_string()));
                Vec::new()
            }
        };
        spare_all_if_one_is_refused(&mut disks);
        Self { disks, groups }
    }

    /// Whether everything would be written.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.disks.iter().all(|disk| matches!(disk.outcome, DiskAction::Erase(_)))
    }
}

/// The disk with the plan's name, although it may not be the right one.
fn plan_disk(plan: &DiskPlan, disks: &[Disk]) -> Option<Disk> {
    disks.iter().find(|disk| plan.disk.name() == Some(&disk.name)).cloned()
}

/// Spares all disks if one of them is refused. All are checked before the first is written.
fn spare_all_if_one_is_refused(disks: &mut [DiskReport]) {
    let Some(refused) = disks.iter().find(|disk| matches!(disk.outcome, DiskAction::Refuse(_))) else {
        return;
    };
    let refused = refused.choice.clone();
    let reason = format!("nothing is written, as {refused} is refused");
    for disk in disks.iter_mut().filter(|disk| matches!(disk.outcome, DiskAction::Erase(_))) {
        disk.outcome = DiskAction::Refuse(reason.clone());
        disk.because_of = Some(refused.clone());
    }
}

impl DiskReport {
    /// What a plan would do to this disk, whose name and state are already checked.
    fn new(storage: &Storage, index: usize, plan: &DiskPlan, disk: &Disk) -> Self {
        let size = match SectorSize::try_from(disk.sector_size) {
            Ok(sector) => DiskSize::of_bytes(disk.size, sector),
            Err(e) => return Self::refused(plan, Some(disk.clone()), e.to_string()),
        };
        // The identifiers generated from this seed are not shown.
        match fit(storage, index, size, &Seed([0; 32])) {
            Ok(layout) => Self {
                choice: plan.disk.to_string(),
                outcome: DiskAction::Erase(NewTable::new(storage, index, &layout, &disk.name)),
                disk: Some(disk.clone()),
                because_of: None,
            },
            Err(e) => Self::refused(plan, Some(disk.clone()), e.to_string()),
        }
    }

    fn refused(plan: &DiskPlan, disk: Option<Disk>, reason: String) -> Self {
        Self { choice: plan.disk.to_string(), disk, outcome: DiskAction::Refuse(reason), because_of: None }
    }
}

impl NewGroup {
    /// The groups on disks that are all erased; empty if one is not.
    fn all(storage: &Storage, disks: &[DiskReport]) -> Result<Vec<Self>, FitError> {
        let mut layouts = Vec::new();
        for (index, report) in disks.iter().enumerate() {
            let (DiskAction::Erase(_), Some(disk)) = (&report.outcome, &report.disk) else {
                return Ok(Vec::new());
            };
            let Ok(sector) = SectorSize::try_from(disk.sector_size) else { return Ok(Vec::new()) };
            layouts.push(fit(storage, index, DiskSize::of_bytes(disk.size, sector), &Seed([0; 32]))?);
        }
        let names: Vec<&str> =
            disks.iter().map(|report| report.disk.as_ref().map_or("", |disk| &disk.name)).collect();
        let allotments = allot(storage, &layouts)?;
        Ok(storage
            .groups
            .iter()
            .zip(&allotments)
            .map(|(group, one)| Self::new(storage, group, one, &names))
            .collect())
    }

    fn new(storage: &Storage, group: &VolumeGroup, allotment: &Allotment, disks: &[&str]) -> Self {
        let device = |id: &VolumeId| match storage.volume(*id)?.backing {
            Backing::Partition { disk, number } => Some(partition_name(disks.get(disk)?, number)),
            Backing::LogicalVolume(_) => None,
        };
        let volume = |one: &Allotted| {
            let (volume, lv) = (storage.volume(one.volume)?, storage.logical(one.volume)?);
            Some(NewLogicalVolume {
                name: lv.name.clone(),
                size: one.size,
                layout: lv.layout.name().to_owned(),
                makes: makes(storage, volume),
            })
        };
        let extents: u64 = allotment.members.iter().map(|(_, extents)| extents).sum();
        Self {
            name: group.name.clone(),
            size: extents.saturating_mul(group.extent),
            members: allotment.members.iter().filter_map(|(id, _)| device(id)).collect(),
            volumes: allotment.volumes.iter().filter_map(volume).collect(),
        }
    }
}

impl NewTable {
    /// What is written for a plan whose layout on this disk is known.
    fn new(storage: &Storage, index: usize, layout: &Layout, disk: &str) -> Self {
        let sector = layout.disk.sector;
        let partition = |placed: &Placed| NewPartition {
            number: placed.number,
            device: partition_name(disk, placed.number),
            start: placed.start.bytes(sector),
            size: placed.size.bytes(sector),
            kind: placed.kind.to_string(),
            type_name: placed.kind.name().map(str::to_owned),
            name: (!placed.name.is_empty()).then(|| placed.name.clone()),
            makes: match storage.partition(index, placed.number) {
                _ if placed.role == Role::Extended => Makes::Extended,
                Some(volume) => makes(storage, volume),
                None => Makes::Nothing,
            },
        };
        Self {
            kind: match layout.table() {
                TableKind::Mbr => "dos",
                TableKind::Gpt => "gpt",
            }
            .to_owned(),
            partitions: layout.partitions.iter().map(partition).collect(),
            boot_code: storage.disks.get(index).is_some_and(|plan| plan.boot_code.is_some()),
        }
    }
}

fn makes(storage: &Storage, volume: &Volume) -> Makes {
    match &volume.content {
        VolumeContent::FileSystem(fs) => Makes::FileSystem {
            kind: fs.kind.name().to_owned(),
            label: fs.label.clone(),
            uuid: fs.uuid.clone(),
            mount_points: mount_points(fs),
            used: fs.used,
        },
        VolumeContent::Raw(raw) => Makes::Raw { of: raw.name.clone(), size: raw.size },
        VolumeContent::Member { group, .. } => {
            Makes::Member { group: storage.group(*group).map(|group| group.name.clone()).unwrap_or_default() }
        }
        VolumeContent::Nothing => Makes::Nothing,
    }
}

fn mount_points(fs: &FileSystemPlan) -> Vec<String> {
    let subvolumes = fs.subvolumes.iter().filter_map(|subvolume| subvolume.mount_point.as_ref());
    fs.mount_point.iter().chain(subvolumes).cloned().collect()
}

/// The kernel name of a disk's partition: `sda1`, but `nvme0n1p1`.
#[must_use]
pub fn partition_name(disk: &str, number: u32) -> String {
    let mark = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{mark}{number}")
}
