//! The superblock of btrfs, 64 KiB from the start (btrfs's "On-disk format", superblock).

use super::{Made, le32, le64, names};
use ka::plan::Shape;

const MAGIC: &[u8; 8] = b"_BHRfS_M";

/// The names of `mkfs.btrfs -O`. Features that every current tool enables, or that appear by use alone, have
/// none.
const INCOMPAT: [(u64, &str); 14] = [
    (0x1, ""),
    (0x2, ""),
    (0x4, "mixed-bg"),
    (0x8, ""),
    (0x10, ""),
    (0x20, ""),
    (0x40, "extref"),
    (0x80, "raid56"),
    (0x100, "skinny-metadata"),
    (0x200, "no-holes"),
    (0x400, ""),
    (0x800, "raid1c34"),
    (0x1000, "zoned"),
    (0x4000, "raid-stripe-tree"),
];
const RO_COMPAT: [(u64, &str); 4] =
    [(0x1, "free-space-tree"), (0x2, ""), (0x4, "verity"), (0x8, "block-group-tree")];

/// The devices of a btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Their number.
    pub devices: u64,
}

pub(super) fn parse(bytes: &[u8]) -> Option<Made> {
    bytes.get(64..)?.strip_prefix(MAGIC)?;
    let mut features = names(le64(bytes, 188)?, "incompat-", &INCOMPAT);
    features.extend(names(le64(bytes, 180)?, "ro-compat-", &RO_COMPAT));
    let shape = Shape { block_size: Some(le32(bytes, 144)?), features: Some(features), ..Shape::default() };
    Some(Made { shape, overhead: 0, pool: Some(Pool { devices: le64(bytes, 136)? }), quotas: false })
}
