//! How a golden file system was created, according to its superblock.
//!
//! The superblocks are read directly. The tools that print the same values are not on every golden node,
//! change their output between versions, and some need the file system unmounted.

mod btrfs;
mod ext;
mod fat;
#[cfg(test)]
mod tests;
mod xfs;

pub use btrfs::Pool;

use ka::plan::{FileSystemKind, Shape};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The information from the superblock of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The settings that the tools can reproduce.
    pub shape: Shape,
    /// The space that the file system itself uses, in bytes, and that `statvfs(3)` counts as used.
    pub overhead: u64,
    /// The devices of a btrfs.
    pub pool: Option<Pool>,
    /// The XFS accounts quotas.
    pub quotas: bool,
}

/// Parses a superblock; returns `None` if it is not of this type.
type Parse = fn(&[u8]) -> Option<Made>;

/// Reads the superblock on a device. The result is empty for types whose tools have no settings.
///
/// # Errors
/// The device cannot be read, or has no superblock of this type.
pub fn read(kind: FileSystemKind, device: &Path) -> io::Result<Made> {
    let (at, length, parse): (_, _, Parse) = match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => (1024, 1024, ext::parse),
        FileSystemKind::Xfs => (0, 512, xfs::parse),
        FileSystemKind::Btrfs => (65_536, 4096, btrfs::parse),
        FileSystemKind::Vfat => (0, 512, fat::parse),
        // Blocks always have 4096 bytes, and nothing else can be chosen.
        FileSystemKind::Jfs | FileSystemKind::Reiserfs | FileSystemKind::Swap => return Ok(Made::default()),
    };
    let mut bytes = vec![0; length];
    File::open(device)?.read_exact_at(&mut bytes, at)?;
    parse(&bytes).ok_or_else(|| {
        let problem = format!("{}: no superblock of {kind} that ka can read", device.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

/// The `N` bytes at an offset.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    at(bytes, offset).map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    at(bytes, offset).map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    at(bytes, offset).map(u64::from_le_bytes)
}

fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    at(bytes, offset).map(u16::from_be_bytes)
}

fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    at(bytes, offset).map(u32::from_be_bytes)
}

fn be64(bytes: &[u8], offset: usize) -> Option<u64> {
    at(bytes, offset).map(u64::from_be_bytes)
}

/// The names of the bits that are set. A bit without a name gets one that no tool knows, so that it is not
/// lost silently.
fn names<T: Into<u64>>(bits: T, unnamed: &str, known: &[(u64, &str)]) -> Vec<String> {
    let bits = bits.into();
    let set = (0..64).map(|bit| 1_u64 << bit).filter(|mask| bits & mask != 0);
    set.map(|mask| {
        let name = known.iter().find(|(bit, _)| *bit == mask).map(|(_, name)| (*name).to_owned());
        name.unwrap_or_else(|| format!("{unnamed}{}", mask.trailing_zeros()))
    })
    .filter(|name| !name.is_empty())
    .collect()
}
