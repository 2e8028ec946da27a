//! The kind and UUID of the file system on a device, read from where the kernel reads them.

use ka::plan::FileSystemKind;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file system that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::disk) struct Found {
    /// Its kind.
    pub(in crate::disk) kind: FileSystemKind,
    /// Its UUID as blkid prints it.
    pub(in crate::disk) uuid: String,
}

/// The offset of ext's superblock.
const EXT: u64 = 1024;
/// The offset of the superblocks of reiserfs and btrfs.
const AT_64K: u64 = 65_536;
/// The offset of JFS's superblock.
const JFS: u64 = 32_768;

/// Looks for a file system of the same family as this kind.
pub(in crate::disk) fn read(kind: FileSystemKind, device: &Path) -> io::Result<Option<Found>> {
    let file = File::open(device)?;
    let has = |at: u64, magic: &[u8]| -> io::Result<bool> {
        let mut found = vec![0; magic.len()];
        file.read_exact_at(&mut found, at)?;
        Ok(found == magic)
    };
    // The magic bytes, and the position of the UUID.
    let (magic_at, magic, uuid_at): (u64, &[u8], u64) = match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => {
            (EXT + 56, &[0x53, 0xef], EXT + 104)
        }
        FileSystemKind::Xfs => (0, b"XFSB", 32),
        FileSystemKind::Jfs => (JFS, b"JFS1", JFS + 136),
        FileSystemKind::Reiserfs => (AT_64K + 52, b"ReIsEr2Fs", AT_64K + 84),
        FileSystemKind::Btrfs => (AT_64K + 64, b"_BHRfS_M", AT_64K + 32),
        // A page of 4096 bytes. The UUID follows the version, the last page and the number of bad pages at
        // offset 1024.
        FileSystemKind::Swap => (4096 - 10, b"SWAPSPACE2", 1024 + 12),
        FileSystemKind::Vfat => return fat(&file),
    };
    if !has(magic_at, magic)? {
        return Ok(None);
    }
    let mut uuid = [0; 16];
    file.read_exact_at(&mut uuid, uuid_at)?;
    let is_ext = matches!(kind, FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4);
    let kind = if is_ext { ext_kind(&file)? } else { kind };
    Ok(Some(Found { kind, uuid: text_uuid(uuid) }))
}

/// ext2, ext3 and ext4 differ only in their features; libblkid distinguishes them in the same way.
fn ext_kind(file: &File) -> io::Result<FileSystemKind> {
    const HAS_JOURNAL: u32 = 0x4;
    /// filetype, needs_recovery, meta_bg.
    const INCOMPATIBLE_OF_EXT3: u32 = 0x16;
    /// sparse_super, large_file, btree_dir.
    const READ_ONLY_OF_EXT3: u32 = 0x7;
    let mut words = [0; 12];
    file.read_exact_at(&mut words, EXT + 92)?;
    let word = |at: usize| {
        words.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (compatible, incompatible, read_only) = (word(0), word(4), word(8));
    Ok(if incompatible & !INCOMPATIBLE_OF_EXT3 != 0 || read_only & !READ_ONLY_OF_EXT3 != 0 {
        FileSystemKind::Ext4
    } else if compatible & HAS_JOURNAL != 0 {
        FileSystemKind::Ext3
    } else {
        FileSystemKind::Ext2
    })
}

/// FAT has a 32-bit serial number. FAT32 stores it at another offset than FAT12 and FAT16.
fn fat(file: &File) -> io::Result<Option<Found>> {
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0)?;
    let is_at = |at: usize, magic: &[u8]| sector.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let serial_at = match () {
        () if !is_at(510, &[0x55, 0xaa]) => return Ok(None),
        () if is_at(82, b"FAT32   ") => 67,
        () if is_at(54, b"FAT1") => 39,
        () => return Ok(None),
    };
    let serial =
        sector.get(serial_at..).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_le_bytes(*b));
    Ok(serial.map(|serial| Found {
        kind: FileSystemKind::Vfat,
        uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
    }))
}

fn text_uuid(bytes: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    let mut text = String::with_capacity(36);
    for (i, digit) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_everybody_does() {
        let bytes =
            [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        assert_eq!(text_uuid(bytes), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn an_empty_device_has_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        for kind in FileSystemKind::ALL {
            assert_eq!(read(kind, file.path()).unwrap(), None);
        }
    }
}
