//! LVM: volume groups and their logical volumes.

use super::VolumeId;
use serde::{Deserialize, Serialize};

/// The id of a volume group within its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A volume group. Its physical volumes are the volumes whose content is a member of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeGroup {
    /// Its id in the graph's edges.
    pub id: GroupId,
    /// Its name, on the golden node and on the clone.
    pub name: String,
    /// The extent size in bytes.
    pub extent: u64,
    /// The number of extents of the golden group. Scaled volumes keep their share of it.
    pub golden_extents: u64,
}

/// A logical volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalVolume {
    /// Its volume group.
    pub group: GroupId,
    /// Its name, on the golden node and on the clone.
    pub name: String,
    /// Its size.
    pub size: LogicalSize,
    /// Its layout on the physical volumes.
    pub layout: LogicalLayout,
}

/// The size of a logical volume. It is rounded to whole extents, never fewer than its contents need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogicalSize {
    /// The same number of bytes on every node.
    Fixed(u64),
    /// The same share of the node's group as these bytes are of the golden group. Fixed sizes are subtracted
    /// from both groups first.
    Scaled(u64),
    /// A percentage of the group.
    Share(u8),
    /// A share, by weight, of the remaining space.
    Fill(u32),
}

/// The layout of a logical volume on the physical volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogicalLayout {
    /// One extent after another.
    Linear,
    /// In stripes over several physical volumes.
    Striped {
        /// The number of stripes.
        stripes: u32,
        /// The stripe size in bytes.
        stripe_size: u64,
    },
    /// A device-mapper RAID.
    Raid(Raid),
    /// A pool for thin volumes.
    ThinPool {
        /// The metadata size in bytes.
        metadata: u64,
        /// The chunk size in bytes.
        chunk: u64,
    },
    /// A thin volume: it has no extents of its own, but takes space in its pool as it is written.
    Thin {
        /// The pool.
        pool: VolumeId,
    },
}

/// A device-mapper RAID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raid {
    /// The level.
    pub level: RaidLevel,
    /// The number of images with data of their own: 1 for mirrors.
    pub data: u32,
    /// The number of further images, with the same data or with parity.
    pub redundant: u32,
    /// The stripe size in bytes; 0 for mirrors.
    pub stripe_size: u64,
}

/// A RAID level, named as for `lvcreate --type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaidLevel {
    /// Stripes.
    Raid0,
    /// Mirrors.
    Raid1,
    /// Stripes with parity on a dedicated image.
    Raid4,
    /// Stripes with parity.
    Raid5,
    /// Stripes with double parity.
    Raid6,
    /// Striped mirrors.
    Raid10,
}

impl RaidLevel {
    /// Its name for `lvcreate --type` and `lvs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raid0 => "raid0",
            Self::Raid1 => "raid1",
            Self::Raid4 => "raid4",
            Self::Raid5 => "raid5",
            Self::Raid6 => "raid6",
            Self::Raid10 => "raid10",
        }
    }
}

impl Raid {
    /// The number of all its images, each on a physical volume of its own.
    #[must_use]
    pub fn images(&self) -> u32 {
        self.data.saturating_add(self.redundant)
    }
}

impl LogicalLayout {
    /// Its name for `lvs`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Striped { .. } => "striped",
            Self::Raid(raid) => raid.level.name(),
            Self::ThinPool { .. } => "thin-pool",
            Self::Thin { .. } => "thin",
        }
    }

    /// The number of physical volumes that it needs.
    #[must_use]
    pub fn images(&self) -> u32 {
        match self {
            Self::Linear | Self::ThinPool { .. } => 1,
            Self::Striped { stripes, .. } => (*stripes).max(1),
            Self::Raid(raid) => raid.images().max(1),
            Self::Thin { .. } => 0,
        }
    }

    /// The number of equal parts of its data: its extents are a multiple of that.
    #[must_use]
    pub fn data_images(&self) -> u32 {
        match self {
            Self::Linear | Self::ThinPool { .. } | Self::Thin { .. } => 1,
            Self::Striped { stripes, .. } => (*stripes).max(1),
            Self::Raid(raid) => raid.data.max(1),
        }
    }

    /// The extents that each of its images takes for this many extents.
    #[must_use]
    pub fn image_extents(&self, extents: u64, extent: u64) -> u64 {
        let data = extents.div_ceil(u64::from(self.data_images()));
        match self {
            Self::Linear | Self::Striped { .. } => data,
            // LVM's metadata for each image takes one extent.
            Self::Raid(raid) if raid.level != RaidLevel::Raid0 => data.saturating_add(1),
            Self::Raid(_) => data,
            // A second copy is the spare for repairs.
            Self::ThinPool { metadata, .. } => data.saturating_add(2 * metadata.div_ceil(extent.max(1))),
            Self::Thin { .. } => 0,
        }
    }

    /// The group's extents that it takes in total for this many extents.
    #[must_use]
    pub fn cost(&self, extents: u64, extent: u64) -> u64 {
        self.image_extents(extents, extent).saturating_mul(u64::from(self.images()))
    }

    /// The most extents that it can have at this cost.
    #[must_use]
    pub fn extents_for(&self, cost: u64, extent: u64) -> u64 {
        let images = u64::from(self.images().max(1));
        let overhead = self.image_extents(0, extent);
        let data = (cost / images).saturating_sub(overhead);
        data.saturating_mul(u64::from(self.data_images()))
    }
}

/// The device-mapper name of a logical volume: `vg-lv`, with each `-` in either name doubled.
#[must_use]
pub fn mapper_name(group: &str, volume: &str) -> String {
    format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
}

/// Whether LVM accepts this as the name of a group or a volume (lvm(8), "VALID NAMES"), so that it can be an
/// argument of its tools and part of a path.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"+_.-".contains(&b);
    (1..=127).contains(&name.len())
        && name.bytes().all(is_valid)
        && !name.starts_with('-')
        && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn names_are_those_of_lvm() {
        assert_eq!(mapper_name("vg0", "root"), "vg0-root");
        assert_eq!(mapper_name("my-vg", "a-b"), "my--vg-a--b");
        for good in ["vg0", "a+b_c.d-e", "ubuntu-vg"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-x", ".", "..", "a/b", "a b", "ä", "a;b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    /// Figures from `lvs -a` on real groups with extents of 4 MiB.
    #[test]
    fn what_a_volume_takes_is_what_lvm_takes() {
        let raid = |level, data, redundant| {
            LogicalLayout::Raid(Raid { level, data, redundant, stripe_size: 65_536 })
        };
        let pool = LogicalLayout::ThinPool { metadata: 4 * MB, chunk: 65_536 };
        for (layout, extents, cost) in [
            (LogicalLayout::Linear, 25, 25),
            (LogicalLayout::Striped { stripes: 2, stripe_size: 65_536 }, 26, 26),
            (raid(RaidLevel::Raid1, 1, 1), 25, 52),
            (raid(RaidLevel::Raid5, 2, 1), 26, 42),
            (raid(RaidLevel::Raid6, 3, 2), 27, 50),
            (raid(RaidLevel::Raid10, 2, 2), 26, 56),
            (pool, 25, 27),
            (LogicalLayout::Thin { pool: VolumeId(0) }, 25, 0),
        ] {
            assert_eq!(layout.cost(extents, 4 * MB), cost, "{layout:?}");
            if layout.images() > 0 {
                assert_eq!(layout.extents_for(cost, 4 * MB), extents, "{layout:?}");
            }
        }
    }
}
