//! Stale contents for a disk: as little of each format as blkid needs to recognise it.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use crate::loop_device::{Loop, MIB};
use crate::tool::tool;

/// The remains of a previous use.
#[derive(Clone, Copy, Debug)]
pub enum Signature {
    /// A superblock of XFS.
    Xfs,
    /// The label of an LVM physical volume.
    Lvm,
    /// The superblock of a Linux RAID member (version 1.2, 4 KiB from the start).
    Md,
}

/// Old boot code, without changing a table.
pub fn boot_code(disk: &Loop) {
    disk.write(0, &[0xfa; 440]);
}

/// Plants a signature, and checks that blkid recognises it.
pub fn signature(disk: &Loop, at: u64, signature: Signature) {
    let (kind, offset, bytes) = match signature {
        Signature::Xfs => ("xfs", 0, xfs()),
        Signature::Lvm => ("LVM2_member", 512, lvm()),
        Signature::Md => ("linux_raid_member", 4096, md()),
    };
    disk.write(at + offset, &bytes);
    // blkid looks for RAID and LVM only on devices larger than a floppy disk.
    let size = if matches!(signature, Signature::Xfs) { MIB } else { 2 * MIB };
    let (at, size) = (at.to_string(), size.to_string());
    let found = tool("blkid", ["-p", "-O", &at, "-S", &size, "-o", "value", "-s", "TYPE", disk.node()]);
    assert_eq!(found.trim(), kind, "planted at {at}");
}

/// The start of an XFS superblock with 4 groups of 4096 blocks of 4096 bytes (big-endian).
fn xfs() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..4].copy_from_slice(b"XFSB");
    bytes[4..8].copy_from_slice(&4096_u32.to_be_bytes());
    bytes[8..16].copy_from_slice(&16384_u64.to_be_bytes());
    bytes[80..84].copy_from_slice(&1_u32.to_be_bytes());
    bytes[84..88].copy_from_slice(&4096_u32.to_be_bytes());
    bytes[88..92].copy_from_slice(&4_u32.to_be_bytes());
    bytes[96..100].copy_from_slice(&1000_u32.to_be_bytes());
    bytes[100..102].copy_from_slice(&4_u16.to_be_bytes());
    bytes[102..104].copy_from_slice(&512_u16.to_be_bytes());
    bytes[104..106].copy_from_slice(&512_u16.to_be_bytes());
    bytes[106..108].copy_from_slice(&8_u16.to_be_bytes());
    // Logarithms of the block, sector and inode sizes, of inodes per block, and of blocks per group.
    bytes[120..126].copy_from_slice(&[12, 9, 9, 3, 12, 0]);
    bytes[127] = 25;
    bytes
}

/// Sector 1 of a physical volume: `LABELONE`, its position, its checksum, and `LVM2 001` with a UUID.
fn lvm() -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..8].copy_from_slice(b"LABELONE");
    bytes[8..16].copy_from_slice(&1_u64.to_le_bytes());
    bytes[20..24].copy_from_slice(&32_u32.to_le_bytes());
    bytes[24..32].copy_from_slice(b"LVM2 001");
    bytes[32..64].copy_from_slice(b"abcdefghijklmnopqrstuvwxyz012345");
    let sum = bytes[20..].iter().fold(0xf597_a6cf_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    bytes[16..20].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// A superblock of version 1 that contains its own position: 8 sectors from the start.
fn md() -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    bytes[16..32].copy_from_slice(b"0123456789abcdef");
    bytes[144..152].copy_from_slice(&8_u64.to_le_bytes());
    bytes
}
