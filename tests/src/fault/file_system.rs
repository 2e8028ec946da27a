//! File systems on failing disks, and ways to damage them from outside.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::disk::{Access, Effect, FaultyDisk, Rule};
use crate::process::wait_until;
use crate::tool::{run, tool};

/// The types that this machine's kernel mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mounted as on nodes, and as mke2fs creates it.
    Ext4,
    /// The metadata is a log.
    Xfs,
    /// All data have checksums.
    Btrfs,
}

impl Kind {
    /// Its name for `mkfs` and `mount`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Near the smallest size that its tool accepts.
    fn size(self) -> u64 {
        let mib = match self {
            Self::Ext4 => 96,
            Self::Xfs => 300,
            Self::Btrfs => 128,
        };
        mib << 20
    }
}

/// The block size of ext4, as created here.
const BLOCK: u64 = 4096;

/// A mounted file system on its own disk.
pub struct FaultyFileSystem {
    kind: Kind,
    at: TempDir,
    /// The disk below.
    pub disk: FaultyDisk,
}

impl FaultyFileSystem {
    /// Creates and mounts it.
    ///
    /// # Panics
    /// When a tool is missing or fails.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let made = Self::unmounted(kind);
        made.mount().unwrap();
        made
    }

    /// Creates an ext4 whose block bitmaps are damaged, mounted with mke2fs's default: `errors=continue`.
    ///
    /// # Panics
    /// When a tool is missing or fails.
    #[must_use]
    pub fn with_damaged_bitmaps() -> Self {
        let made = Self::unmounted(Kind::Ext4);
        for block in made.block_bitmaps() {
            run("debugfs", ["-w", "-R", &format!("zap_block -p 0xa5 {block}"), made.disk.node()]);
        }
        made.mount().unwrap();
        made
    }

    /// The same, with block bitmaps that cannot be read.
    ///
    /// # Panics
    /// When a tool is missing or fails.
    #[must_use]
    pub fn with_unreadable_bitmaps() -> Self {
        let made = Self::unmounted(Kind::Ext4);
        let bitmaps = made.block_bitmaps();
        run("blockdev", ["--flushbufs", made.disk.node()]);
        for block in bitmaps {
            let range = block * BLOCK..(block + 1) * BLOCK;
            made.disk.harm(Rule { access: Access::Read, range, effect: Effect::Eio });
        }
        made.mount().unwrap();
        made
    }

    /// The positions of the bitmaps in blocks, according to dumpe2fs, except for those of the first two
    /// groups, so that writing starts without errors.
    fn block_bitmaps(&self) -> Vec<u64> {
        let groups = tool("dumpe2fs", [self.disk.node()]);
        let of_line = |line: &str| {
            let (_, rest) = line.split_once("Block bitmap at ")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        groups.lines().filter_map(of_line).skip(2).collect()
    }

    fn unmounted(kind: Kind) -> Self {
        let disk = FaultyDisk::new(kind.size());
        let options: &[&str] = match kind {
            // The file system does not change after mounting: nothing is initialised later. A bitmap that was
            // never created is never read, so all are created.
            Kind::Ext4 => &[
                "-q",
                "-F",
                "-b",
                "4096",
                "-g",
                "2048",
                "-O",
                "^metadata_csum,^uninit_bg",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ],
            Kind::Xfs => &["-q", "-f", "-K"],
            Kind::Btrfs => &["-q", "-f", "-K"],
        };
        let program = format!("mkfs.{}", kind.name());
        make(&program, &options.iter().copied().chain([disk.node()]).collect::<Vec<_>>());
        Self { kind, at: tempfile::tempdir().unwrap(), disk }
    }

    fn mount(&self) -> Result<(), String> {
        let at = self.path().to_str().unwrap();
        let output =
            Command::new("mount").args(["-t", self.kind.name(), self.disk.node(), at]).output().unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Its mount point.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.at.path()
    }

    /// Shuts it down with `EXT4_IOC_SHUTDOWN` or `XFS_IOC_GOINGDOWN`, which are the same: nothing is written
    /// any more. Returns false if this type has no such operation.
    #[must_use]
    pub fn shut_down(&self) -> bool {
        let output = Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()).output().unwrap();
        output.status.success() && self.kind != Kind::Btrfs
    }

    /// Drops all memory state: unmounts it as it is, and mounts it again once reading works.
    ///
    /// # Errors
    /// The error of `mount`, if it can no longer be mounted.
    ///
    /// # Panics
    /// When it stays in use.
    pub fn again(&self) -> Result<PathBuf, String> {
        wait_until("nobody uses the file system", || {
            Command::new("umount").arg(self.path()).output().unwrap().status.success()
        });
        self.disk.heal();
        self.mount()?;
        Ok(self.path().to_owned())
    }
}

impl Drop for FaultyFileSystem {
    fn drop(&mut self) {
        self.disk.heal();
        // A lazy unmount: a failing test may leave a process in there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// mkfs.btrfs examines the loop devices of all mounts, and fails if another test removes one of them in the
/// meantime.
fn make(program: &str, args: &[&str]) {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        let output = Command::new(program).env("LC_ALL", "C").args(args).output().unwrap();
        if output.status.success() {
            return;
        }
        if !String::from_utf8_lossy(&output.stderr).contains("cannot check mount status") {
            break;
        }
    }
    run(program, args.iter().copied());
}
