//! What would become of a machine's disks: what is on them now, and what would be written in its place.
//!
//! A person reads it before he says yes, and a script reads it as JSON; `kactl run --dry-run` makes it of
//! what a node told, `ka-agent disk plan` of the machine that it runs on. Both ask [`Report::new`].

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

/// What would become of the disks of one machine. Its text is the `Display` form, for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One entry for each disk that is to be erased, in the plan's order.
    pub disks: Vec<DiskReport>,
    /// The volume groups that are made, unless a disk is refused.
    #[serde(default)]
    pub groups: Vec<NewGroup>,
}

/// A volume group that is made.
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

/// A logical volume that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLogicalVolume {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// How it lies on the physical volumes: `linear`, `raid1`, `thin`.
    pub layout: String,
    /// What is made on it.
    pub makes: Makes,
}

/// What would become of one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// How the disk was chosen: `sda`, `auto`, `by-id:…`.
    pub choice: String,
    /// The disk, with what is on it now; none if the choice means none for sure.
    pub disk: Option<Disk>,
    /// What is done with it.
    pub outcome: Outcome,
    /// The choice of another disk, because of which nothing is written here either.
    pub because_of: Option<String>,
}

/// What is done with a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All that is on it is erased, and this is written.
    Erase(NewTable),
    /// Nothing is written, for this reason.
    Refuse(String),
}

/// A partition table that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTable {
    /// Its kind as blkid names it: `dos`, `gpt`.
    pub kind: String,
    /// The partitions by number.
    pub partitions: Vec<NewPartition>,
    /// Boot code for the first sector comes with the plan (`-m`, `-M`).
    pub boot_code: bool,
}

/// A partition that is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPartition {
    /// Its number.
    pub number: u32,
    /// The kernel's name that it gets.
    pub device: String,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its type as sfdisk writes it: hex, or a GUID.
    pub kind: String,
    /// What the type is called, if it is a well-known one.
    pub type_name: Option<String>,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// What is made on it.
    pub makes: Makes,
}

/// What is made on a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Makes {
    /// Nothing: what was there is erased as far as it could be recognised.
    Nothing,
    /// It holds the logical partitions.
    Extended,
    /// A file system, or swap.
    FileSystem {
        /// Its kind as blkid names it.
        kind: String,
        /// Its label.
        label: Option<String>,
        /// Its UUID, if it is not a fresh one.
        uuid: Option<String>,
        /// Where it or its subvolumes are mounted in the clone.
        mount_points: Vec<String>,
        /// Bytes that are copied onto it; 0 if it stays empty.
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
    /// What these plans would do on a machine with these disks.
    #[must_use]
    pub fn new(storage: &Storage, disks: &[Disk]) -> Self {
        let plans = &storage.disks;
        let choices: Vec<&DiskChoice> = plans.iter().map(|plan| &plan.disk).collect();
        // One bad choice among several spoils all: nothing is written then.
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
                disks.iter_mut().for_each(|disk| disk.outcome = Outcome::Refuse(reason.to_string()));
                Vec::new()
            }
        };
        spare_all_if_one_is_refused(&mut disks);
        Self { disks, groups }
    }

    /// Whether everything would be written.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.disks.iter().all(|disk| matches!(disk.outcome, Outcome::Erase(_)))
    }
}

/// The disk that has the name in the plan, though it may not be the right one.
fn plan_disk(plan: &DiskPlan, disks: &[Disk]) -> Option<Disk> {
    disks.iter().find(|disk| plan.disk.name() == Some(&disk.name)).cloned()
}

/// All disks are checked before the first is written.
fn spare_all_if_one_is_refused(disks: &mut [DiskReport]) {
    let Some(refused) = disks.iter().find(|disk| matches!(disk.outcome, Outcome::Refuse(_))) else { return };
    let refused = refused.choice.clone();
    let reason = format!("nothing is written, as {refused} is refused");
    for disk in disks.iter_mut().filter(|disk| matches!(disk.outcome, Outcome::Erase(_))) {
        disk.outcome = Outcome::Refuse(reason.clone());
        disk.because_of = Some(refused.clone());
    }
}

impl DiskReport {
    /// What a plan would do with this disk, whose name and state are checked already.
    fn new(storage: &Storage, index: usize, plan: &DiskPlan, disk: &Disk) -> Self {
        let size = match SectorSize::try_from(disk.sector_size) {
            Ok(sector) => DiskSize::of_bytes(disk.size, sector),
            Err(e) => return Self::refused(plan, Some(disk.clone()), e.to_string()),
        };
        // The names that this seed gives are not shown.
        match fit(storage, index, size, &Seed([0; 32])) {
            Ok(layout) => Self {
                choice: plan.disk.to_string(),
                outcome: Outcome::Erase(NewTable::new(storage, index, &layout, &disk.name)),
                disk: Some(disk.clone()),
                because_of: None,
            },
            Err(e) => Self::refused(plan, Some(disk.clone()), e.to_string()),
        }
    }

    fn refused(plan: &DiskPlan, disk: Option<Disk>, reason: String) -> Self {
        Self { choice: plan.disk.to_string(), disk, outcome: Outcome::Refuse(reason), because_of: None }
    }
}

impl NewGroup {
    /// What becomes of the groups on disks that are all erased; none if one is not.
    fn all(storage: &Storage, disks: &[DiskReport]) -> Result<Vec<Self>, FitError> {
        let mut layouts = Vec::new();
        for (index, report) in disks.iter().enumerate() {
            let (Outcome::Erase(_), Some(disk)) = (&report.outcome, &report.disk) else {
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
    /// What is written for a plan whose layout on the disk with this name is known.
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

/// The kernel's name of a disk's partition: `sda1`, but `nvme0n1p1`.
#[must_use]
pub fn partition_name(disk: &str, number: u32) -> String {
    let mark = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{mark}{number}")
}
