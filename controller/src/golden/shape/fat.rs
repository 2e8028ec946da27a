//! The boot sector of FAT ("Microsoft Extensible Firmware Initiative FAT32 File System Specification").

use super::{Made, le16, le32};
use ka::plan::Shape;

pub(super) fn parse(bytes: &[u8]) -> Option<Made> {
    if le16(bytes, 510)? != 0xaa55 {
        return None;
    }
    let sector = u64::from(le16(bytes, 11)?);
    let per_cluster = u64::from(*bytes.get(13)?);
    if !sector.is_power_of_two() || !per_cluster.is_power_of_two() {
        return None;
    }
    let cluster = u32::try_from(sector * per_cluster).ok()?;
    let shape = Shape {
        block_size: Some(cluster),
        fat_bits: Some(bits(bytes, sector, per_cluster)?),
        ..Shape::default()
    };
    Some(Made { shape, ..Made::default() })
}

/// The number of clusters alone determines the FAT type.
fn bits(bytes: &[u8], sector: u64, per_cluster: u64) -> Option<u8> {
    let either = |short: u16, long: usize| match short {
        0 => le32(bytes, long).map(u64::from),
        short => Some(short.into()),
    };
    let reserved = u64::from(le16(bytes, 14)?);
    let fats = u64::from(*bytes.get(16)?) * either(le16(bytes, 22)?, 36)?;
    let root = (u64::from(le16(bytes, 17)?) * 32).div_ceil(sector);
    let data = either(le16(bytes, 19)?, 32)?.checked_sub(reserved + fats + root)?;
    Some(match data / per_cluster {
        0..4085 => 12,
        4085..65_525 => 16,
        _ => 32,
    })
}
