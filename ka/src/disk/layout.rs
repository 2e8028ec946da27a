//! From a description and a disk's size to partitions with places.
//!
//! Everything is aligned to 1 MiB, as every partitioning tool of today does: the first partition
//! begins there, sizes are whole MB of 2^20 bytes, and what is left over at the disk's end (less than
//! a MB) stays unused. Partitions lie on the disk in the order of their numbers.

use super::desc::{Desc, Entry, Kind, Size};
use super::units::{DiskSize, InMb, Lba, MB, SectorCount};

/// MB at the disk's start that belong to no partition: the table, and the boot loader behind it.
const HEAD_MB: u64 = 1;

/// Sectors that an MBR can name: its start and size fields have 32 bits. 2 TiB with sectors of 512 bytes.
const MBR_REACH: SectorCount = SectorCount(1 << 32);

/// The partitions of one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The disk that they are for.
    pub disk: DiskSize,
    /// The partitions by number.
    pub partitions: Vec<Placed>,
}

/// A partition with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number, 1 to 4.
    pub number: u32,
    /// Its type in the MBR's list.
    pub kind: u8,
    /// Its first sector.
    pub start: Lba,
    /// Its length.
    pub size: SectorCount,
}

impl Placed {
    /// The first sector behind the partition.
    #[must_use]
    pub fn end(&self) -> Lba {
        Lba(self.start.0.saturating_add(self.size.0))
    }
}

/// Why a description gives no layout on a disk. The lines are the description's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A part of the description's grammar that can't be written yet.
    #[error("line {line}: extended and logical partitions are not supported yet: use at most 4 primaries")]
    Extended {
        /// The first line that asks for it.
        line: u32,
    },
    /// Sizes that add up to more than the disk.
    #[error("the disk has {}, the description needs {}", InMb(*.have), InMb(*.need))]
    TooSmall {
        /// The disk's size in bytes.
        have: u64,
        /// The least size in bytes, with 1 MB for the table, and 1 MB for `fill`.
        need: u64,
    },
    /// A partition that ends where an MBR's numbers end.
    #[error(
        "line {line}: partition {number} would end at {}, and a partition table of this kind (MBR) reaches \
         {} on this disk: give sizes in MB instead of `fill`, so that the last partition ends before that",
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
}

impl Layout {
    /// Places the partitions of a description on a disk.
    ///
    /// # Errors
    /// The description asks for extended partitions, or for more than the disk or the table has.
    pub fn new(desc: &Desc, disk: DiskSize) -> Result<Self, LayoutError> {
        check_supported(desc)?;
        let have = disk.bytes() / MB;
        let least = |e: &Entry| match e.size {
            Size::Mb(mb) => u64::from(mb),
            Size::Fill => 1,
        };
        let need = HEAD_MB + desc.entries().iter().map(least).sum::<u64>();
        if need > have {
            return Err(LayoutError::TooSmall { have: disk.bytes(), need: need.saturating_mul(MB) });
        }
        let fill = have - need + 1;
        let mut next = HEAD_MB;
        let mut partitions = Vec::new();
        for entry in desc.entries() {
            let size = match entry.size {
                Size::Mb(mb) => u64::from(mb),
                Size::Fill => fill,
            };
            let placed = place(entry, next, size, disk)?;
            partitions.push(placed);
            next += size;
        }
        Ok(Self { disk, partitions })
    }

    /// The partition with this number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Placed> {
        self.partitions.iter().find(|p| p.number == number)
    }
}

/// Tells whether a description asks only for what can be written.
///
/// # Errors
/// Names the first line that asks for an extended partition.
pub fn check_supported(desc: &Desc) -> Result<(), LayoutError> {
    match desc.entries().iter().find(|e| e.kind == Kind::Extended || e.number > 4) {
        Some(entry) => Err(LayoutError::Extended { line: entry.line }),
        None => Ok(()),
    }
}

fn place(entry: &Entry, start_mb: u64, size_mb: u64, disk: DiskSize) -> Result<Placed, LayoutError> {
    let Kind::Data(kind) = entry.kind else { return Err(LayoutError::Extended { line: entry.line }) };
    let per_mb = disk.sector.per_mb();
    let placed = Placed {
        number: entry.number,
        kind,
        start: Lba(start_mb * per_mb),
        size: SectorCount(size_mb * per_mb),
    };
    if placed.end().0 > MBR_REACH.0 {
        return Err(LayoutError::BeyondMbr {
            number: entry.number,
            line: entry.line,
            end: placed.end().bytes(disk.sector),
            reach: MBR_REACH.bytes(disk.sector),
        });
    }
    Ok(placed)
}
