//! How a golden file system was made: what its superblock tells.
//!
//! The superblocks are read directly. The tools that print the same things are not on every golden node,
//! change their words between versions, and some want the file system unmounted.

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

/// What the superblock of a file system tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// What the tools can set for the new one.
    pub shape: Shape,
    /// What the file system itself takes of its size, in bytes, and `statvfs(3)` counts as used.
    pub overhead: u64,
    /// The devices of a btrfs.
    pub pool: Option<Pool>,
    /// An XFS counts quotas.
    pub quotas: bool,
}

/// Reads a superblock; none if it is not one of the kind.
type Parse = fn(&[u8]) -> Option<Made>;

/// Reads what the superblock on a device tells. Kinds whose tools have nothing to set tell nothing.
///
/// # Errors
/// The device cannot be read, or has no superblock of this kind.
pub fn read(kind: FileSystemKind, device: &Path) -> io::Result<Made> {
    let (at, length, parse): (_, _, Parse) = match kind {
        FileSystemKind::Ext2 | FileSystemKind::Ext3 | FileSystemKind::Ext4 => (1024, 1024, ext::parse),
        FileSystemKind::Xfs => (0, 512, xfs::parse),
        FileSystemKind::Btrfs => (65_536, 4096, btrfs::parse),
        FileSystemKind::Vfat => (0, 512, fat::parse),
        // Always blocks of 4096 bytes, and nothing else that can be chosen.
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
/// lost in silence.
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
