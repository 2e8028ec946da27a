//! Computes the places of partitions from a description and a disk's size.
//!
//! Everything is aligned to 1 MiB, as in every current partitioning tool: the first partition begins there, a
//! share of the remaining space is a whole number of MB (2^20 bytes), and less than one MB at the end of the
//! disk stays unused. Each logical partition has one MB before it for its table. Partitions are in number
//! order; or, if the description gives their places on the described disk, in that order.
//!
//! A description with starts and without `fill` is reproduced exactly, if the disk is at least as large and
//! nothing is scaled. Otherwise the starts only determine the order.

mod arrange;
mod exact;
mod share;

use super::description::{Description, DiskId, Entry, GPT_LENGTH, Header, Role};
use super::guid::Guid;
use super::ids::Seed;
use super::kind::{PartitionKind, TableKind};
use super::units::{Against, DiskSize, InMb, Lba, MB, SectorCount, SectorSize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// MB at the start of the disk outside any partition: the table, and the boot loader after it.
const HEAD_MB: u64 = 1;

/// The number of sectors that an MBR can address: its fields have 32 bits. This is 2 TiB with 512-byte
/// sectors.
pub(super) const MBR_REACH: SectorCount = SectorCount(1 << 32);

/// The minimum bytes for the entries of a GPT (UEFI specification, 5.3.1).
const GPT_ENTRIES: u64 = 16 << 10;

/// The partitions of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The disk.
    pub disk: DiskSize,
    /// Its identifier, which also determines the kind of table.
    pub id: DiskId,
    /// The number of GPT entries.
    pub length: u32,
    /// The partitions by number.
    pub partitions: Vec<Placed>,
}

/// A partition with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number: 1 to 4 in an MBR, or from 5 for a logical one.
    pub number: u32,
    /// Its type.
    pub kind: PartitionKind,
    /// Its role in the table.
    pub role: Role,
    /// Its first sector.
    pub start: Lba,
    /// Its length in sectors.
    pub size: SectorCount,
    /// The sector of a logical partition's table.
    pub ebr: Option<Lba>,
    /// Its name in a GPT; empty if it has none.
    pub name: String,
    /// Its GUID in a GPT.
    pub uuid: Option<Guid>,
    /// The attribute bits in a GPT.
    pub attributes: u64,
    /// Whether the description sets its active flag.
    pub bootable: bool,
}

/// How a description is adapted to a disk of another size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placing {
    /// The described disk's size in bytes, if the fixed sizes of data partitions are to be scaled to this
    /// disk. Boot partitions and swap are never scaled.
    pub scale: Option<u64>,
    /// Whether the disk and its partitions get the description's identifiers instead of new ones.
    pub keep_ids: bool,
}

/// The minimum bytes of partitions, by number, for their contents.
pub type Least = BTreeMap<u32, u64>;

impl Placed {
    /// The first sector after the partition.
    #[must_use]
    pub fn end(&self) -> Lba {
        Lba(self.start.0.saturating_add(self.size.0))
    }
}

/// Why a description does not give a layout on a disk. Lines are those of the description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The sizes exceed the disk.
    #[error(
        "the disk has {}, the description needs {}{}", Against(*.have, *.need), Against(*.need, *.have),
        if *.all_fixed {
            ": all its sizes are fixed. Give the last partition `fill` (in sfdisk's form `size=+`) in place of its size"
        } else {
            ""
        }
    )]
    TooSmall {
        /// There is no room for the shares.
        all_fixed: bool,
        /// The disk's size in bytes.
        have: u64,
        /// The minimum size in bytes, with the table, and 1 MB for each `fill`.
        need: u64,
    },
    /// The extended partition is too small for its logical ones.
    #[error(
        "line {line}: the extended partition has {}, its logical partitions need {}, with 1 MB for the table of each",
        Against(*.have, *.need), Against(*.need, *.have)
    )]
    ExtendedTooSmall {
        /// The extended partition's line.
        line: u32,
        /// Its size in bytes.
        have: u64,
        /// The size that it needs.
        need: u64,
    },
    /// A partition ends beyond the reach of an MBR.
    #[error(
        "line {line}: partition {number} would end at {}, and a partition table of this kind (MBR) reaches \
         {} on this disk: give sizes in MB instead of `fill`, so that the last partition ends before that, or \
         describe a GPT: a script in sfdisk's form with `label: gpt`",
        InMb(*.end), InMb(*.reach)
    )]
    BeyondMbr {
        /// The partition's number.
        number: u32,
        /// Its line.
        line: u32,
        /// Where it would end, in bytes.
        end: u64,
        /// Where the last partition can end, in bytes.
        reach: u64,
    },
    /// Two partitions overlap.
    #[error("line {line}: partition {number} begins before partition {other} ends")]
    Overlap {
        /// The partition's number.
        number: u32,
        /// Its line.
        line: u32,
        /// The other partition.
        other: u32,
    },
    /// A logical partition is outside the extended one, or has no room for its table before it.
    #[error(
        "line {line}: logical partition {number} does not fit into the extended one, with a sector for its \
         table before it"
    )]
    Outside {
        /// The partition's number.
        number: u32,
        /// Its line.
        line: u32,
    },
}

impl Layout {
    /// Computes the places of a description's partitions on a disk. A share gets at least its minimum in
    /// `least`, if possible. New signatures and GUIDs are derived from `seed`.
    ///
    /// # Errors
    /// The description needs more than the disk or the table has, or contradicts itself.
    pub fn new(
        description: &Description,
        disk: DiskSize,
        placing: &Placing,
        least: &Least,
        seed: &Seed,
    ) -> Result<Self, LayoutError> {
        let space = Space::of(description.header(), disk);
        let places = match placing.scale {
            None => exact::places(description, &space)?,
            Some(_) => None,
        };
        let places = match places {
            Some(places) => places,
            None => arrange::places(description, &space, placing.scale, least)?,
        };
        let id = match (description.header().id, description.table()) {
            (Some(id), _) if placing.keep_ids => id,
            (_, TableKind::Mbr) => DiskId::Mbr(seed.signature()),
            (_, TableKind::Gpt) => DiskId::Gpt(seed.disk()),
        };
        let mut partitions = Vec::new();
        for (entry, place) in description.entries().iter().zip(places) {
            let placed = placed(entry, place, placing, seed);
            check_reach(entry, &placed, &space)?;
            partitions.push(placed);
        }
        partitions.sort_by_key(|p| p.number);
        Ok(Self { disk, id, length: space.length, partitions })
    }

    /// How the layout differs from the places in the description, if it gives them all: the disk is too
    /// small, or its usable area differs.
    #[must_use]
    pub fn departures(&self, description: &Description) -> Vec<String> {
        let entries = description.entries();
        if entries.iter().any(Entry::is_fill) {
            return Vec::new();
        }
        let sector = self.disk.sector;
        let moved = entries.iter().filter_map(|entry| {
            let wanted = description.bytes(entry.start?, sector);
            let start = self.partition(entry.number)?.start.bytes(sector);
            (start != wanted).then(|| {
                let Entry { number, line, .. } = entry;
                format!(
                    "line {line}: partition {number} begins at byte {start}, not at {wanted}: this disk has no room for \
                     all partitions where the description puts them"
                )
            })
        });
        moved.collect()
    }

    /// The kind of table.
    #[must_use]
    pub fn table(&self) -> TableKind {
        self.id.table()
    }

    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Placed> {
        numbered(&self.partitions, number)
    }

    /// The PARTUUID of a partition, as the kernel and blkid print it.
    #[must_use]
    pub fn partuuid(&self, number: u32) -> Option<String> {
        let placed = self.partition(number)?;
        match self.id {
            DiskId::Mbr(signature) => Some(signature.partuuid(placed.number)),
            DiskId::Gpt(_) => placed.uuid.map(|uuid| uuid.to_string()),
        }
    }
}

/// The partition with this number.
pub(super) fn numbered(partitions: &[Placed], number: u32) -> Option<&Placed> {
    partitions.iter().find(|placed| placed.number == number)
}

fn placed(entry: &Entry, place: Extent, placing: &Placing, seed: &Seed) -> Placed {
    let uuid = (entry.kind.table() == TableKind::Gpt)
        .then(|| entry.uuid.filter(|_| placing.keep_ids).unwrap_or_else(|| seed.partition(entry.number)));
    Placed {
        number: entry.number,
        kind: entry.kind,
        role: entry.role,
        start: Lba(place.start),
        size: SectorCount(place.size),
        ebr: place.ebr.map(Lba),
        name: entry.name.clone(),
        uuid,
        attributes: entry.attributes,
        bootable: entry.bootable,
    }
}

fn check_reach(entry: &Entry, placed: &Placed, space: &Space) -> Result<(), LayoutError> {
    if entry.kind.table() == TableKind::Gpt || placed.end().0 <= MBR_REACH.0 {
        return Ok(());
    }
    let sector = space.disk.sector;
    Err(LayoutError::BeyondMbr {
        number: entry.number,
        line: entry.line,
        end: placed.end().bytes(sector),
        reach: MBR_REACH.bytes(sector),
    })
}

/// A place in sectors, with the place of a logical partition's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    size: u64,
    ebr: Option<u64>,
}

/// The usable area of a disk.
struct Space {
    disk: DiskSize,
    /// The first usable sector, and the first after the last.
    first: u64,
    end: u64,
    /// The number of GPT entries.
    length: u32,
}

impl Space {
    fn of(header: &Header, disk: DiskSize) -> Self {
        let length = header.length.unwrap_or(GPT_LENGTH);
        let sectors = disk.sectors.0;
        match header.table {
            TableKind::Mbr => Self { disk, first: 1, end: sectors, length },
            TableKind::Gpt => {
                let entries = gpt_entries(length, disk.sector);
                Self { disk, first: 2 + entries, end: sectors.saturating_sub(1 + entries), length }
            }
        }
    }

    /// Whole MB up to the end of the usable area.
    fn end_mb(&self) -> u64 {
        self.end / self.disk.sector.per_mb()
    }

    /// A number of bytes in sectors, rounded up.
    fn sectors(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.disk.sector.bytes())
    }

    fn too_small(&self, description: &Description, need_mb: u64) -> LayoutError {
        let tail = (self.disk.sectors.0 - self.end.min(self.disk.sectors.0)) * self.disk.sector.bytes();
        LayoutError::TooSmall {
            all_fixed: !description.entries().iter().any(Entry::is_fill),
            have: self.disk.bytes(),
            need: need_mb.saturating_mul(MB).saturating_add(tail),
        }
    }
}

/// The sectors for the entries of a GPT, at the start of the disk and again at its end.
pub(super) fn gpt_entries(length: u32, sector: SectorSize) -> u64 {
    (u64::from(length) * 128).max(GPT_ENTRIES).div_ceil(sector.bytes())
}
