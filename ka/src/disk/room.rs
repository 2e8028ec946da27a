//! How much of a partition files can use, by file system, and how small one can be.
//!
//! Always a little more than there will be: a plan is refused for what surely doesn't fit, and nothing is
//! refused that would.

use super::units::MB;
use crate::plan::FileSystemKind;

/// The smallest partition, in bytes, on which the tools make this.
#[must_use]
pub fn least_size(kind: FileSystemKind) -> u64 {
    match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => 64 << 10,
        // mkfs.xfs since 5.19; 16 MB before.
        FileSystemKind::Xfs => 300 * MB,
        FileSystemKind::Jfs => 16 * MB,
        // The journal, 8193 blocks of 4096 bytes, and something behind it.
        FileSystemKind::Reiserfs => 33 * MB,
        // With metadata twice, as on one disk.
        FileSystemKind::Btrfs => 109 * MB,
        FileSystemKind::Vfat => 64 << 10,
        // Ten pages.
        FileSystemKind::Swap => 10 * 4096,
    }
}

/// What files can use, in bytes, of a file system of so many bytes: counted as statvfs(3) counts what is
/// used.
#[must_use]
pub fn room(kind: FileSystemKind, size: u64) -> u64 {
    match kind {
        FileSystemKind::Ext2 => ext_room(size, false),
        FileSystemKind::Ext3 | FileSystemKind::Ext4 => ext_room(size, true),
        // Its log: a 2048th, and never less than ten MB of it.
        FileSystemKind::Xfs => size.saturating_sub((size / 2048).clamp(10 * MB, 2048 * MB)),
        // Its log: 0.4 %, up to 128 MB.
        FileSystemKind::Jfs => size.saturating_sub((size / 256).min(128 * MB)),
        // A block of bits for every 32768; the journal counts as used.
        FileSystemKind::Reiserfs => size.saturating_sub(size / 32768),
        // What its trees take is not known before they grow, and a file system of FAT has tables of at most
        // a 128th, often of a 1000th.
        FileSystemKind::Btrfs | FileSystemKind::Vfat | FileSystemKind::Swap => size,
    }
}

/// The least size in bytes, in whole MB, of a file system that so many bytes go onto.
#[must_use]
pub fn size_for(kind: FileSystemKind, used: u64) -> u64 {
    let fits = |mb: u64| {
        let size = mb.saturating_mul(MB);
        size >= least_size(kind) && room(kind, size) >= used
    };
    // Formats take more when they are larger, by steps; a search from below finds the first size that does.
    let mut mb = used.max(least_size(kind)).div_ceil(MB).max(1);
    while !fits(mb) && mb < u64::MAX / (2 * MB) {
        mb += (mb / 256).max(1);
    }
    mb.saturating_mul(MB)
}

/// What files can use of an ext4 of so many bytes: all but inode tables and journal, as mke2fs makes
/// them by default.
#[must_use]
pub fn ext4_room(size: u64) -> u64 {
    ext_room(size, true)
}

fn ext_room(size: u64, has_journal: bool) -> u64 {
    let (block, bytes_per_inode) = match size / MB {
        0..3 => (1024, 8192),
        3..512 => (1024, 4096),
        512..4_194_304 => (4096, 16384),
        4_194_304..16_777_216 => (4096, 32768),
        _ => (4096, 65536),
    };
    let journal_blocks = match size / block {
        _ if !has_journal => 0,
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        4_194_304..8_388_608 => 32_768,
        8_388_608..16_777_216 => 65_536,
        16_777_216..33_554_432 => 131_072,
        _ => 262_144,
    };
    let inode_tables = size / bytes_per_inode * 256;
    size.saturating_sub(inode_tables).saturating_sub(journal_blocks * block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_for_what_is_used_has_room_for_it() {
        for kind in FileSystemKind::ALL {
            for used in [0, 1, MB, 300 * MB, 511 * MB, 7 << 30, 3 << 40] {
                let size = size_for(kind, used);
                assert!(room(kind, size) >= used && size >= least_size(kind), "{kind} {used}");
                assert!(size <= used.max(301 * MB) * 11 / 10, "{kind} {used}: {size}");
            }
        }
    }
}
