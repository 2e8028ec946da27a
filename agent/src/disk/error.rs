//! What can go wrong with a node's disk, with the facts that a person needs to act on it.

use super::claim::Refusal;
use ka::disk::fit::FitError;
use ka::disk::mbr::{MbrError, SetActiveError};
use std::io;
use std::path::PathBuf;

/// Why a disk is not prepared, or not made bootable.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk may not be written, and was not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The plan doesn't go onto this disk, which was not written.
    #[error("{disk}: {reason}; nothing was written")]
    Fit {
        /// The disk's name.
        disk: String,
        /// What doesn't fit, with the figures.
        reason: FitError,
    },
    /// A call to the kernel failed.
    #[error("{device}: can't {doing}: {source}", device = .device.display())]
    Io {
        /// The device, or the path where one was to be mounted.
        device: PathBuf,
        /// What was to be done, as in "can't …".
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The table can't be written as an MBR.
    #[error("the partition table can't be written: {0}")]
    Table(#[from] MbrError),
    /// The kernel sees other partitions than those written.
    #[error("{disk}: the kernel should see {expected}, and sees {found}")]
    KernelView {
        /// The disk's name.
        disk: String,
        /// The partitions that were written.
        expected: String,
        /// The partitions that the kernel has.
        found: String,
    },
    /// A device node doesn't come, or stays in use.
    #[error("{path} did not appear, or was not free, within {seconds} s", path = .path.display())]
    NoNode {
        /// The path that was waited for.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
    /// A tool can't be started, or failed.
    #[error("{tool} for {device}: {outcome}{output}", device = .device.display())]
    Tool {
        /// The tool's name.
        tool: &'static str,
        /// What it was to work on.
        device: PathBuf,
        /// How it ended, or why it did not begin.
        outcome: String,
        /// What it printed, after `: `; empty if it printed nothing.
        output: String,
    },
    /// What a tool made is not what it was asked for.
    #[error("{device}: expected {expected} after {tool}, found {found}", device = .device.display())]
    ReadBack {
        /// The partition.
        device: PathBuf,
        /// The tool.
        tool: &'static str,
        /// What it was asked for.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The table on the disk is not the one that was written.
    #[error("{disk}: the partition table is not the one that was written: another program changed it")]
    TableChanged {
        /// The disk's name.
        disk: String,
    },
    /// A file system that can't be made.
    #[error("{device}: can't make {kind}: only ext4 and swap can be made", device = .device.display())]
    Unsupported {
        /// The partition's device node.
        device: PathBuf,
        /// What was asked for.
        kind: ka::plan::FileSystemKind,
    },
    /// The active flag can't be set.
    #[error("{disk}: can't set the active flag: {reason}")]
    Activate {
        /// The disk's name.
        disk: String,
        /// What is wrong with the table.
        reason: SetActiveError,
    },
}

impl DiskError {
    /// An error of the operating system on a device.
    pub(super) fn io(device: impl Into<PathBuf>, doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { device: device.into(), doing, source: source.into() }
    }
}
