//! The superblock of ext2, ext3 and ext4, 1024 bytes from the start (ext4(5), the kernel's
//! Documentation/filesystems/ext4/super.rst).

use super::{Made, le16, le32, names};
use ka::plan::room;
use ka::plan::{ExtSettings, Shape};

const MAGIC: u16 = 0xef53;
/// `s_rev_level` of a file system whose inodes have 128 bytes and that has no features.
const OLD_REVISION: u32 = 0;
const BITS_64: u64 = 0x80;
const HAS_JOURNAL: u32 = 0x4;
const FAST_COMMIT: u32 = 0x400;
const BIGALLOC: u32 = 0x200;

/// Features by the names of mke2fs and dumpe2fs. Momentary states (a journal to replay, orphans) have no
/// name: no file system is created that way.
const COMPAT: [(u64, &str); 12] = [
    (0x1, "dir_prealloc"),
    (0x2, "imagic_inodes"),
    (0x4, "has_journal"),
    (0x8, "ext_attr"),
    (0x10, "resize_inode"),
    (0x20, "dir_index"),
    (0x40, "lazy_bg"),
    (0x100, "snapshot_bitmap"),
    (0x200, "sparse_super2"),
    (0x400, "fast_commit"),
    (0x800, "stable_inodes"),
    (0x1000, "orphan_file"),
];
const INCOMPAT: [(u64, &str); 16] = [
    (0x1, "compression"),
    (0x2, "filetype"),
    (0x4, ""),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x40, "extent"),
    (BITS_64, "64bit"),
    (0x100, "mmp"),
    (0x200, "flex_bg"),
    (0x400, "ea_inode"),
    (0x1000, "dirdata"),
    (0x2000, "metadata_csum_seed"),
    (0x4000, "large_dir"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const RO_COMPAT: [(u64, &str); 16] = [
    (0x1, "sparse_super"),
    (0x2, "large_file"),
    (0x8, "huge_file"),
    (0x10, "uninit_bg"),
    (0x20, "dir_nlink"),
    (0x40, "extra_isize"),
    (0x80, "snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x400, "metadata_csum"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x2000, "project"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
    (0x1_0000, ""),
];

pub(super) fn parse(bytes: &[u8]) -> Option<Made> {
    if le16(bytes, 56)? != MAGIC {
        return None;
    }
    let block_size = 1024_u32.checked_shl(le32(bytes, 24)?).filter(|size| (1024..=65_536).contains(size))?;
    let old = le32(bytes, 76)? == OLD_REVISION;
    let [compat, incompat, ro_compat] = [92, 96, 100].map(|at| le32(bytes, at));
    let (compat, incompat, ro_compat) = (compat?, incompat?, ro_compat?);
    let high = |at| if u64::from(incompat) & BITS_64 == 0 { Some(0) } else { le32(bytes, at) };
    let wide = |low, high: u32| u64::from(high) << 32 | u64::from(low);
    let blocks = wide(le32(bytes, 4)?, high(336)?);
    let reserved = wide(le32(bytes, 8)?, high(340)?);
    let features = [
        names(compat, "FEATURE_C", &COMPAT),
        names(incompat, "FEATURE_I", &INCOMPAT),
        names(ro_compat, "FEATURE_R", &RO_COMPAT),
    ];
    let shape = Shape {
        block_size: Some(block_size),
        bytes_per_inode: bytes_per_inode(blocks.checked_mul(block_size.into())?, le32(bytes, 0)?),
        inode_size: Some(if old { 128 } else { le16(bytes, 88)?.into() }),
        reserved: Some(thousandths_of_a_percent(reserved, blocks)?),
        features: (!old).then(|| features.concat()),
        ext: settings(bytes, block_size, compat, ro_compat, blocks),
        ..Shape::default()
    };
    Some(Made { shape, ..Made::default() })
}

/// Settings that are not features.
fn settings(bytes: &[u8], block_size: u32, compat: u32, ro_compat: u32, blocks: u64) -> Option<ExtSettings> {
    let block = u64::from(block_size);
    // `s_jnl_blocks` contains the journal's inode, and the size is in the last two words.
    let journal = u64::from(le32(bytes, 332)?) | u64::from(le32(bytes, 328)?) << 32;
    let is_inside = compat & HAS_JOURNAL != 0 && le32(bytes, 224)? != 0 && *bytes.get(253)? == 1;
    // Fast commits have a separate area in it, which mke2fs includes in its calculation.
    let usual = room::journal_blocks(blocks) * block;
    let is_usual = compat & FAST_COMMIT != 0 || journal.abs_diff(usual) <= usual / 8;
    Some(ExtSettings {
        errors: le16(bytes, 60)?,
        mount_options: le32(bytes, 256)?,
        max_mounts: i16::from_le_bytes(super::at(bytes, 54)?),
        check_interval: le32(bytes, 68)?,
        journal: (is_inside && !is_usual && journal > 0).then_some(journal),
        stride: u64::from(le16(bytes, 356)?) * block,
        stripe_width: u64::from(le32(bytes, 368)?) * block,
        cluster_size: match ro_compat & BIGALLOC {
            0 => None,
            _ => 1024_u32.checked_shl(le32(bytes, 28)?),
        },
    })
}

/// The bytes per inode of the file system, if they differ from mke2fs's default.
fn bytes_per_inode(size: u64, inodes: u32) -> Option<u32> {
    let exact = size.checked_div(inodes.into())?;
    // Each group gets a few more inodes, to fill their blocks.
    let round = exact.checked_next_multiple_of(1024)?;
    let told = if (round - exact) * 100 <= exact { round } else { exact };
    let default = room::default_bytes_per_inode(size);
    (told.abs_diff(default) > default / 10).then(|| u32::try_from(told).ok()).flatten()
}

/// The roundest ratio that yields this number of blocks when mke2fs rounds down: most probably the original
/// setting.
fn thousandths_of_a_percent(part: u64, whole: u64) -> Option<u32> {
    let (part, whole) = (u128::from(part), u128::from(whole));
    let exact = (part * 100_000).checked_div(whole)?;
    let gives = |share: &u128| share * whole / 100_000 == part;
    let near = |step: u128| [exact / step * step, (exact / step + 1) * step];
    let share = [1000, 500, 100, 10, 1].into_iter().flat_map(near).find(gives).unwrap_or(exact);
    u32::try_from(share).ok().filter(|share| *share <= 100_000)
}

#[cfg(test)]
mod tests {
    use super::thousandths_of_a_percent;

    #[test]
    fn a_share_is_what_mke2fs_was_told() {
        for (part, whole, share) in [
            (0, 1000, Some(0)),
            (409, 40_960, Some(1000)),
            (3276, 65_536, Some(5000)),
            (819, 65_536, Some(1250)),
            (327, 65_536, Some(500)),
            (65_536, 65_536, Some(100_000)),
            (1, 0, None),
            (2, 1, None),
        ] {
            assert_eq!(thousandths_of_a_percent(part, whole), share, "{part} of {whole}");
        }
    }
}
