//! The superblock of XFS, in the first sector ("XFS Algorithms & Data Structures", superblocks).

use super::{Made, be16, be32, be64, names};
use ka::plan::Shape;

/// Version 5 has checksums and three feature words.
const CHECKSUMS: u16 = 5;

/// The names of mkfs.xfs(8)'s options. Features of a checksummed file system that cannot be disabled, and
/// momentary states, have none.
const RO_COMPAT: [(u64, &str); 4] = [(0x1, "finobt"), (0x2, "rmapbt"), (0x4, "reflink"), (0x8, "inobtcount")];
const INCOMPAT: [(u64, &str); 9] = [
    (0x1, "ftype"),
    (0x2, "sparse"),
    (0x4, ""),
    (0x8, "bigtime"),
    (0x10, ""),
    (0x20, "nrext64"),
    (0x40, "exchange"),
    (0x80, "parent"),
    (0x100, "metadir"),
];
/// Version 4, in the second feature word.
const FTYPE: u32 = 0x200;

/// Both versions, in the word with the version: lookup ignores the case of ASCII letters in names.
const ASCII_CI: u16 = 0x4000;

pub(super) fn parse(bytes: &[u8]) -> Option<Made> {
    bytes.strip_prefix(b"XFSB")?;
    let block_size = be32(bytes, 4)?;
    let version = be16(bytes, 100)? & 0xf;
    let mut features = Vec::new();
    if version == CHECKSUMS {
        features.push("crc".to_owned());
        features.extend(names(be32(bytes, 212)?, "ro-compat-", &RO_COMPAT));
        features.extend(names(be32(bytes, 216)?, "incompat-", &INCOMPAT));
    } else if be32(bytes, 200)? & FTYPE != 0 {
        features.push("ftype".to_owned());
    }
    if be16(bytes, 100)? & ASCII_CI != 0 {
        features.push("ascii-ci".to_owned());
    }
    let blocks = be64(bytes, 8)?;
    let overhead = reserved_blocks(blocks, &features).saturating_mul(block_size.into());
    let shape = Shape {
        block_size: Some(block_size),
        inode_size: Some(be16(bytes, 104)?.into()),
        features: Some(features),
        stripe: stripe(bytes, block_size),
        ..Shape::default()
    };
    // `sb_qflags`: quotas of users, groups or projects are accounted.
    let quotas = be16(bytes, 176)? & 0x49 != 0;
    Some(Made { shape, overhead, pool: None, quotas })
}

/// Unit and width of a stripe, which the superblock counts in blocks.
fn stripe(bytes: &[u8], block_size: u32) -> Option<(u32, u32)> {
    let in_bytes = |at| be32(bytes, at)?.checked_mul(block_size);
    Some((in_bytes(184)?, in_bytes(188)?)).filter(|(unit, width)| *unit > 0 && width >= unit)
}

/// The blocks that the kernel reserves in each allocation group for trees that may still grow: they count as
/// used, and grow with the file system rather than with its files. The shares are those of empty file systems
/// of 20 and 400 GiB.
fn reserved_blocks(blocks: u64, features: &[String]) -> u64 {
    let has = |name: &str| features.iter().any(|f| f == name);
    let share = |name: &str, thousandths: u64| if has(name) { blocks / 1000 * thousandths } else { 0 };
    share("finobt", 1) + share("reflink", 6) + share("rmapbt", 12)
}
