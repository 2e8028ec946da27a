//! The new content of a node's disks, as a graph of volumes.
//!
//! A volume is a byte range with one content. Its backing says where the bytes are: a partition of a disk is
//! the simplest case. Volumes have ids, and the graph's edges use ids. So the order of the list means
//! nothing, and a file system does not depend on its backing.

use super::{DiskPlan, FileSystemPlan, GoldenNames, GroupId, LogicalVolume, RawPlan, VolumeGroup};
use serde::{Deserialize, Serialize};

/// The id of a volume within its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId(pub u32);

/// The disks to erase, and all their new content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// The disks to partition.
    pub disks: Vec<DiskPlan>,
    /// The volumes on them. A partition that stays empty has no volume.
    pub volumes: Vec<Volume>,
    /// The LVM volume groups.
    pub groups: Vec<VolumeGroup>,
}

impl Storage {
    /// The bytes that the golden node's data take on the volumes: files in file systems, and raw volumes.
    #[must_use]
    pub fn used(&self) -> u64 {
        let used = |volume: &Volume| match &volume.content {
            VolumeContent::FileSystem(fs) => fs.used,
            VolumeContent::Raw(raw) => raw.size,
            VolumeContent::Member { .. } | VolumeContent::Nothing => 0,
        };
        self.volumes.iter().map(used).fold(0, u64::saturating_add)
    }
}

/// A byte range and its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its id in the graph's edges.
    pub id: VolumeId,
    /// Its backing.
    pub backing: Backing,
    /// Its content.
    pub content: VolumeContent,
}

/// The backing of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// A partition.
    Partition {
        /// The disk, as an index into [`Storage::disks`].
        disk: usize,
        /// The partition's number in its table.
        number: u32,
    },
    /// An LVM logical volume.
    LogicalVolume(LogicalVolume),
}

/// The content of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeContent {
    /// A file system or swap space, created by a tool, with a kind, a label and a UUID.
    FileSystem(Box<FileSystemPlan>),
    /// The bytes of a golden volume.
    Raw(RawPlan),
    /// A physical volume of a group.
    Member {
        /// The group.
        group: GroupId,
        /// The golden node's names for it.
        golden: Option<GoldenNames>,
    },
    /// Nothing, or the backing of other volumes: a thin pool.
    Nothing,
}

/// The name of a volume in messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeName {
    /// A partition, by its number.
    Partition(u32),
    /// A logical volume.
    Logical {
        /// Its group's name.
        group: String,
        /// Its own name.
        name: String,
    },
}

impl std::fmt::Display for VolumeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partition(number) => write!(f, "partition {number}"),
            Self::Logical { group, name } => write!(f, "logical volume {group}/{name}"),
        }
    }
}

impl From<FileSystemPlan> for VolumeContent {
    fn from(plan: FileSystemPlan) -> Self {
        Self::FileSystem(Box::new(plan))
    }
}

impl From<RawPlan> for VolumeContent {
    fn from(plan: RawPlan) -> Self {
        Self::Raw(plan)
    }
}

impl Storage {
    /// One disk, and the content of its partitions by number.
    pub fn of<C: Into<VolumeContent>>(disk: DiskPlan, contents: impl IntoIterator<Item = (u32, C)>) -> Self {
        let mut storage = Self::default();
        storage.push(disk, contents);
        storage
    }

    /// Adds a disk, and the content of its partitions by number.
    pub fn push<C: Into<VolumeContent>>(
        &mut self,
        disk: DiskPlan,
        contents: impl IntoIterator<Item = (u32, C)>,
    ) {
        let index = self.disks.len();
        self.disks.push(disk);
        for (number, content) in contents {
            self.add(Backing::Partition { disk: index, number }, content.into());
        }
    }

    /// Adds the disks and partitions of another graph, with new ids and disk indexes. Groups have the same
    /// ids in both.
    pub fn append(&mut self, other: Self) {
        let first = self.disks.len();
        self.disks.extend(other.disks);
        for Volume { backing, content, .. } in other.volumes {
            let backing = match backing {
                Backing::Partition { disk, number } => Backing::Partition { disk: first + disk, number },
                backing @ Backing::LogicalVolume(_) => backing,
            };
            self.add(backing, content);
        }
    }

    /// Adds a volume.
    pub fn add(&mut self, backing: Backing, content: VolumeContent) -> VolumeId {
        let highest = self.volumes.iter().map(|volume| volume.id.0).max();
        let id = VolumeId(highest.map_or(0, |id| id.saturating_add(1)));
        self.volumes.push(Volume { id, backing, content });
        id
    }

    /// The volume with this id.
    #[must_use]
    pub fn volume(&self, id: VolumeId) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id == id)
    }

    /// The volumes that are partitions of a disk, with their partition numbers.
    pub fn partitions(&self, disk: usize) -> impl Iterator<Item = (u32, &Volume)> {
        self.volumes.iter().filter_map(move |volume| match volume.backing {
            Backing::Partition { disk: own, number } => (own == disk).then_some((number, volume)),
            Backing::LogicalVolume(_) => None,
        })
    }

    /// The volume on a partition of a disk.
    #[must_use]
    pub fn partition(&self, disk: usize, number: u32) -> Option<&Volume> {
        self.partitions(disk).find(|(own, _)| *own == number).map(|(_, volume)| volume)
    }

    /// All file systems and swap spaces.
    pub fn file_systems(&self) -> impl Iterator<Item = &FileSystemPlan> {
        self.volumes.iter().filter_map(Volume::file_system)
    }

    /// All file systems and swap spaces, mutable.
    pub fn file_systems_mut(&mut self) -> impl Iterator<Item = &mut FileSystemPlan> {
        self.volumes.iter_mut().filter_map(|volume| match &mut volume.content {
            VolumeContent::FileSystem(fs) => Some(&mut **fs),
            VolumeContent::Raw(_) | VolumeContent::Member { .. } | VolumeContent::Nothing => None,
        })
    }

    /// The volumes that are copied byte by byte.
    pub fn raw(&self) -> impl Iterator<Item = &RawPlan> {
        self.volumes.iter().filter_map(Volume::raw)
    }

    /// The volume that is mounted at `point`, itself or by a subvolume.
    #[must_use]
    pub fn at(&self, point: &str) -> Option<&Volume> {
        let is_there = |fs: &FileSystemPlan| fs.mount_points().any(|own| own == point);
        self.volumes.iter().find(|volume| volume.file_system().is_some_and(is_there))
    }

    /// The disks that hold a volume.
    #[must_use]
    pub fn disks_of(&self, volume: &Volume) -> Vec<usize> {
        match &volume.backing {
            Backing::Partition { disk, .. } => vec![*disk],
            Backing::LogicalVolume(lv) => {
                self.members(lv.group).flat_map(|member| self.disks_of(member)).collect()
            }
        }
    }

    /// The group with this id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&VolumeGroup> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The physical volumes of a group. Only partitions can be physical volumes, so that no group contains
    /// itself.
    pub fn members(&self, group: GroupId) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().filter(move |volume| {
            let is_member =
                matches!(volume.content, VolumeContent::Member { group: own, .. } if own == group);
            is_member && matches!(volume.backing, Backing::Partition { .. })
        })
    }

    /// The logical volume with this id.
    #[must_use]
    pub fn logical(&self, id: VolumeId) -> Option<&LogicalVolume> {
        match &self.volume(id)?.backing {
            Backing::LogicalVolume(lv) => Some(lv),
            Backing::Partition { .. } => None,
        }
    }

    /// The logical volumes of a group, each with its volume.
    pub fn logical_volumes(&self, group: GroupId) -> impl Iterator<Item = (&Volume, &LogicalVolume)> {
        self.volumes.iter().filter_map(move |volume| match &volume.backing {
            Backing::LogicalVolume(lv) if lv.group == group => Some((volume, lv)),
            Backing::LogicalVolume(_) | Backing::Partition { .. } => None,
        })
    }
}

impl Volume {
    /// Its name in messages.
    #[must_use]
    pub fn name(&self, storage: &Storage) -> VolumeName {
        match &self.backing {
            Backing::Partition { number, .. } => VolumeName::Partition(*number),
            Backing::LogicalVolume(lv) => VolumeName::Logical {
                group: storage.group(lv.group).map(|group| group.name.clone()).unwrap_or_default(),
                name: lv.name.clone(),
            },
        }
    }

    /// Its file system or swap space, if it has one.
    #[must_use]
    pub fn file_system(&self) -> Option<&FileSystemPlan> {
        match &self.content {
            VolumeContent::FileSystem(fs) => Some(fs),
            VolumeContent::Raw(_) | VolumeContent::Member { .. } | VolumeContent::Nothing => None,
        }
    }

    /// The golden volume that is copied onto it, if there is one.
    #[must_use]
    pub fn raw(&self) -> Option<&RawPlan> {
        match &self.content {
            VolumeContent::Raw(raw) => Some(raw),
            VolumeContent::FileSystem(_) | VolumeContent::Member { .. } | VolumeContent::Nothing => None,
        }
    }
}
