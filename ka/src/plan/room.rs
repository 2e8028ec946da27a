//! How much of a partition files can use, per file system, and the minimum size of each.
//!
//! The estimates are always slightly too optimistic: a plan is refused only if it certainly does not fit.

use super::{FileSystemKind, FileSystemPlan};
use crate::disk::units::{MB, SectorSize};

/// The minimum and maximum bytes per inode that mke2fs accepts.
const BYTES_PER_INODE: (u64, u64) = (1024, 64 << 20);

/// The smallest partition, in bytes, on which the tools create this file system.
#[must_use]
pub fn least_size(fs: &FileSystemPlan, sector: SectorSize) -> u64 {
    match fs.kind {
        FileSystemKind::Ext2 => 256 << 10,
        // A journal needs 2048 blocks. Without one mke2fs silently creates an ext2.
        FileSystemKind::Ext3 => 2048 * u64::from(fs.shape.block_size.unwrap_or(1024)).max(sector.bytes()),
        FileSystemKind::Ext4 | FileSystemKind::Vfat => MB,
        // mkfs.xfs since 5.19; 16 MB before.
        FileSystemKind::Xfs => 300 * MB,
        FileSystemKind::Jfs => 16 * MB,
        // The journal, 8193 blocks of 4096 bytes, and some space behind it.
        FileSystemKind::Reiserfs => 33 * MB,
        // With duplicate metadata, as on one disk.
        FileSystemKind::Btrfs => 109 * MB,
        // Ten pages.
        FileSystemKind::Swap => 10 * 4096,
    }
}

/// The bytes that files can use on a file system of this size, counted as statvfs(3) counts used space.
#[must_use]
pub fn room(fs: &FileSystemPlan, size: u64) -> u64 {
    match fs.kind {
        FileSystemKind::Ext2 => ext_room(fs, size, false),
        FileSystemKind::Ext3 | FileSystemKind::Ext4 => ext_room(fs, size, true),
        // The log: a 2048th, with a minimum of 10 MB.
        FileSystemKind::Xfs => size.saturating_sub((size / 2048).clamp(10 * MB, 2048 * MB)),
        // The log: 0.4 %, up to 128 MB.
        FileSystemKind::Jfs => size.saturating_sub((size / 256).min(128 * MB)),
        // One bitmap block per 32768 blocks; the journal counts as used.
        FileSystemKind::Reiserfs => size.saturating_sub(size / 32768),
        // The size of btrfs trees is unknown until they grow. FAT tables take at most a 128th, often a
        // 1000th.
        FileSystemKind::Btrfs | FileSystemKind::Vfat | FileSystemKind::Swap => size,
    }
}

/// The minimum size in bytes, in whole MB, of a file system for the copied data.
#[must_use]
pub fn size_for(fs: &FileSystemPlan, sector: SectorSize) -> u64 {
    let least = least_size(fs, sector);
    let fits = |mb: u64| {
        let size = mb.saturating_mul(MB);
        size >= least && room(fs, size) >= fs.used && most_inodes(fs.kind, size) >= inodes_needed(fs)
    };
    // Larger file systems have more overhead, in steps. A search from below finds the first sufficient size.
    let mut mb = fs.used.max(least).div_ceil(MB).max(1);
    while !fits(mb) && mb < u64::MAX / (2 * MB) {
        mb += (mb / 256).max(1);
    }
    mb.saturating_mul(MB)
}

/// The bytes that files can use on an ext4 of this size: everything except inode tables and journal, as
/// mke2fs creates them by default.
#[must_use]
pub fn ext4_room(size: u64) -> u64 {
    room(&FileSystemPlan::new(FileSystemKind::Ext4), size)
}

/// The inodes that a file system needs for the golden files: a few more than they take, for the system's
/// first hours. 0 if inodes are created on demand.
#[must_use]
pub fn inodes_needed(fs: &FileSystemPlan) -> u64 {
    match (fs.kind, fs.inodes) {
        (FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4, inodes @ 1..) => {
            inodes.saturating_add(inodes / 20).saturating_add(16)
        }
        _ => 0,
    }
}

/// The maximum number of inodes of a file system of this size.
#[must_use]
pub fn most_inodes(kind: FileSystemKind, size: u64) -> u64 {
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => {
            (size / BYTES_PER_INODE.0).min(u32::MAX.into())
        }
        _ => u64::MAX,
    }
}

/// The bytes per inode for an ext of this size: the golden one's, or mke2fs's default; fewer if the golden
/// files need more inodes.
#[must_use]
pub fn bytes_per_inode(fs: &FileSystemPlan, size: u64) -> u64 {
    let wanted = fs.shape.bytes_per_inode.map_or_else(|| default_bytes_per_inode(size), u64::from);
    let enough = size.checked_div(inodes_needed(fs)).unwrap_or(u64::MAX);
    // Inode numbers have 32 bits.
    let least = (size / u64::from(u32::MAX) + 1).max(BYTES_PER_INODE.0);
    wanted.min(enough).min(BYTES_PER_INODE.1).max(least)
}

/// The default of mke2fs (mke2fs.conf(5)), by the file system's size.
#[must_use]
pub fn default_bytes_per_inode(size: u64) -> u64 {
    match size / MB {
        0..3 => 8192,
        3..512 => 4096,
        512..4_194_304 => 16384,
        4_194_304..16_777_216 => 32768,
        _ => 65536,
    }
}

fn ext_room(fs: &FileSystemPlan, size: u64, has_journal: bool) -> u64 {
    let block = if size / MB < 512 { 1024 } else { 4096 };
    let journal_blocks = if has_journal { journal_blocks(size / block) } else { 0 };
    let journal = fs.shape.ext.and_then(|ext| ext.journal).unwrap_or_default().max(journal_blocks * block);
    let inode_size = u64::from(fs.shape.inode_size.unwrap_or(256));
    let inode_tables = (size / bytes_per_inode(fs, size)).saturating_mul(inode_size);
    size.saturating_sub(inode_tables).saturating_sub(journal)
}

/// The journal's blocks that mke2fs creates by default for a file system of this many blocks.
#[must_use]
pub fn journal_blocks(blocks: u64) -> u64 {
    match blocks {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        4_194_304..8_388_608 => 32_768,
        8_388_608..16_777_216 => 65_536,
        16_777_216..33_554_432 => 131_072,
        _ => 262_144,
    }
}

/// Whether a partition of this size can have a FAT32 by the specification: at least 65,525 clusters, which
/// are then one sector each, and two tables for them.
#[must_use]
pub fn holds_fat32(size: u64, sector: SectorSize) -> bool {
    size >= least_fat32(sector)
}

/// The minimum size in bytes of such a partition.
#[must_use]
pub fn least_fat32(sector: SectorSize) -> u64 {
    let tables = (2 * 4 * 65_600_u64).div_ceil(sector.bytes()) + 2;
    (65_600 + tables + 32) * sector.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Shape;

    #[test]
    fn the_size_for_what_is_used_has_room_for_it() {
        for kind in FileSystemKind::ALL {
            for used in [0, 1, MB, 300 * MB, 511 * MB, 7 << 30, 3 << 40] {
                let fs = FileSystemPlan { used, ..FileSystemPlan::new(kind) };
                let size = size_for(&fs, SectorSize::B512);
                assert!(
                    room(&fs, size) >= used && size >= least_size(&fs, SectorSize::B512),
                    "{kind} {used}"
                );
                assert!(size <= used.max(301 * MB) * 11 / 10, "{kind} {used}: {size}");
            }
        }
    }

    #[test]
    fn inodes_are_as_many_as_the_golden_files_need() {
        let of = |bytes_per_inode, inodes, mb| {
            let shape = Shape { bytes_per_inode, ..Shape::default() };
            let fs = FileSystemPlan { shape, inodes, ..FileSystemPlan::new(FileSystemKind::Ext4) };
            let ratio = super::bytes_per_inode(&fs, mb * MB);
            assert!(mb * MB / ratio >= inodes_needed(&fs) || ratio == 1024, "{fs:?}");
            ratio
        };
        assert_eq!(of(None, 0, 400), 4096);
        assert_eq!(of(None, 60_000, 400), 4096);
        // The default for a larger disk has space for fewer files.
        assert_eq!(of(None, 100_000, 1000), 9984);
        assert_eq!(of(Some(4096), 1000, 100_000), 4096);
        assert_eq!(of(Some(1 << 20), 1_000_000, 100_000), 99_862);
        assert_eq!(of(None, 1_000_000, 512), 1024);
        assert_eq!(of(Some(1024), 10, 40 << 20), 10_241);
        let many = FileSystemPlan { inodes: 1_000_000, ..FileSystemPlan::new(FileSystemKind::Ext4) };
        let size = size_for(&many, SectorSize::B512);
        assert!(most_inodes(many.kind, size) >= 1_050_016 && size < 1100 * MB, "{size}");
        assert!(room(&many, size) < size * 3 / 4 + MB, "inode tables take a quarter");
    }

    /// A size at which mke2fs would create an ext2 is refused.
    #[test]
    fn an_ext3_has_room_for_its_journal() {
        let mut fs = FileSystemPlan::new(FileSystemKind::Ext3);
        assert_eq!(least_size(&fs, SectorSize::B512), 2 * MB);
        assert_eq!(least_size(&fs, SectorSize::B4096), 8 * MB);
        fs.shape.block_size = Some(2048);
        assert_eq!(least_size(&fs, SectorSize::B512), 4 * MB);
    }
}
