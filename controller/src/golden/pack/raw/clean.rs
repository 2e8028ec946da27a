//! Checks whether a file system's own tables describe everything that it uses.
//!
//! After a crash, some of that is only in the journal until the file system is mounted. Not all of
//! partclone's programs check for this: their map then lacks blocks that are in use.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;

/// For ext2, ext3 and ext4: the offset of the superblock, its magic, the incompatible features, and
/// `needs_recovery` among them (the kernel's `Documentation/filesystems/ext4/super.rst`).
const EXT_MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
const EXT_INCOMPAT: u64 = 1024 + 0x60;
const EXT_NEEDS_RECOVERY: u32 = 0x4;

/// For btrfs: the superblock's magic, and the offset of its log tree, 0 if there is none (`struct
/// btrfs_super_block`).
const BTRFS_MAGIC: (u64, [u8; 8]) = (0x1_0040, *b"_BHRfS_M");
const BTRFS_LOG_ROOT: u64 = 0x1_0060;

/// Why the map of a file system of `kind` (blkid's word) cannot be trusted.
pub(super) fn check(kind: &str, device: &Path, fd: BorrowedFd<'_>) -> Result<(), String> {
    let dirty = || Err("its journal contains changes that were not written back".to_owned());
    match kind {
        "ext2" | "ext3" | "ext4" => {
            expect(fd, EXT_MAGIC)?;
            let features = u32::from_le_bytes(at(fd, EXT_INCOMPAT)?);
            if features & EXT_NEEDS_RECOVERY == 0 { Ok(()) } else { dirty() }
        }
        "btrfs" => {
            expect(fd, BTRFS_MAGIC)?;
            if u64::from_le_bytes(at(fd, BTRFS_LOG_ROOT)?) == 0 { Ok(()) } else { dirty() }
        }
        "xfs" => xfs(device),
        // No journal, or a mark of its own that partclone respects.
        "vfat" | "exfat" | "ntfs" => Ok(()),
        other => Err(format!("there is no reliable map of what {other} uses")),
    }
}

/// Runs xfs_logprint(8), because finding the log's end needs a search.
fn xfs(device: &Path) -> Result<(), String> {
    let output = Command::new("xfs_logprint").arg("-t").arg(device).output();
    let output = output.map_err(|e| format!("xfs_logprint (package xfsprogs) cannot be run: {e}"))?;
    if String::from_utf8_lossy(&output.stdout).contains("<CLEAN>") {
        Ok(())
    } else {
        Err("xfs_logprint does not report a clean log".to_owned())
    }
}

fn expect<const N: usize>(fd: BorrowedFd<'_>, (offset, magic): (u64, [u8; N])) -> Result<(), String> {
    if at(fd, offset)? == magic { Ok(()) } else { Err("its superblock is not where it should be".to_owned()) }
}

fn at<const N: usize>(fd: BorrowedFd<'_>, offset: u64) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    match rustix::io::pread(fd, &mut bytes, offset) {
        Ok(got) if got == N => Ok(bytes),
        Ok(_) => Err("it ends within its superblock".to_owned()),
        Err(errno) => Err(format!("its superblock cannot be read: {errno}")),
    }
}
