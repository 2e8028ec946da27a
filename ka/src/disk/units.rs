//! Quantities of a disk, each with its own type: a sector number is not a size, and neither is a number of
//! bytes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in a MB of a desc: 2^20, as in the original. Partitions aligned to 1 MiB then have whole MB, and a
/// size in a desc is exactly the partition's size.
pub const MB: u64 = 1 << 20;

/// A logical block address: the number of a sector, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lba(pub u64);

/// A number of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SectorCount(pub u64);

/// A disk's logical sector size in bytes: a power of two from 512 to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SectorSize(u32);

/// An unsupported sector size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sectors of {0} bytes are not supported: expected 512 to 4096, a power of two")]
pub struct BadSectorSize(pub u32);

impl SectorSize {
    /// 512 bytes, which nearly every disk has or emulates.
    pub const B512: Self = Self(512);
    /// 4096 bytes.
    pub const B4096: Self = Self(4096);

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Sectors in one MB of 2^20 bytes.
    #[must_use]
    pub fn per_mb(self) -> u64 {
        MB / self.bytes()
    }
}

impl TryFrom<u32> for SectorSize {
    type Error = BadSectorSize;

    fn try_from(bytes: u32) -> Result<Self, BadSectorSize> {
        if bytes.is_power_of_two() && (512..=4096).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(BadSectorSize(bytes))
        }
    }
}

impl From<SectorSize> for u32 {
    fn from(size: SectorSize) -> u32 {
        size.0
    }
}

impl SectorCount {
    /// The size in bytes; saturates far beyond any disk.
    #[must_use]
    pub fn bytes(self, sector: SectorSize) -> u64 {
        self.0.saturating_mul(sector.bytes())
    }
}

impl Lba {
    /// The offset in bytes from the disk's start; saturates far beyond any disk.
    #[must_use]
    pub fn bytes(self, sector: SectorSize) -> u64 {
        self.0.saturating_mul(sector.bytes())
    }
}

/// The size of a disk, and its sector size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSize {
    /// The number of sectors.
    pub sectors: SectorCount,
    /// The sector size.
    pub sector: SectorSize,
}

impl DiskSize {
    /// The size of a disk of `bytes` bytes; a partial sector at the end is ignored.
    #[must_use]
    pub fn of_bytes(bytes: u64, sector: SectorSize) -> Self {
        Self { sectors: SectorCount(bytes / sector.bytes()), sector }
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.sectors.bytes(self.sector)
    }
}

/// Bytes for a message about disks: in MB of 2^20 bytes, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InMb(pub u64);

impl fmt::Display for InMb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.0.div_ceil(MB))
    }
}

/// Two sizes in bytes to be compared: in MB, unless they differ but have the same number of MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Against(pub u64, pub u64);

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(size, other) = *self;
        if size != other && size.div_ceil(MB) == other.div_ceil(MB) {
            return write!(f, "{size} bytes");
        }
        InMb(size).fmt(f)
    }
}

/// Bytes of disks and files for a person, with three or four digits: `512 B`, `3.5 GB`. A GB has 10^9 bytes,
/// as disk makers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal(pub u64);

impl fmt::Display for Decimal {
    // Exact up to 2^53, and beyond that more precise than what is shown.
    #[allow(clippy::cast_precision_loss)]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut scaled = self.0 as f64;
        let mut unit = "B";
        for next in UNITS {
            // A value that would show as 1000.0 belongs to the next unit.
            if scaled < 999.95 {
                break;
            }
            scaled /= 1000.0;
            unit = next;
        }
        f.pad(&format!("{scaled:.1} {unit}"))
    }
}
