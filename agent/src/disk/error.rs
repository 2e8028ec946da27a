//! Failures of a node's disks, with the facts that a person needs to act on them.

use super::claim::Refusal;
use crate::unpack::UnpackError;
use ka::disk::choice::ChoiceError;
use ka::disk::mbr::SetActiveError;
use ka::disk::table::{EncodeError, TableError};
use ka::failure::FailureKind;
use ka::plan::fit::FitError;
use ka_host::health::Lost;
use ka_host::words;
use std::io;
use std::path::PathBuf;

/// Why a disk was not prepared, or not made bootable.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk may not be written, and was not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk's name is ambiguous, or the disk may not be written.
    #[error("{0}; nothing was written")]
    Choice(ChoiceError),
    /// Not every disk in the plan was confirmed.
    #[error("the plan erases {wanted} disks, and {found} were confirmed; nothing was written")]
    Unconfirmed {
        /// The plan's disks.
        wanted: usize,
        /// The confirmed disks.
        found: usize,
    },
    /// The plan does not fit this disk. The disk was not written.
    #[error("{disk}: {reason}; nothing was written")]
    Fit {
        /// The disk's name.
        disk: String,
        /// What does not fit, with the figures.
        reason: Box<FitError>,
    },
    /// Another disk of the machine has a volume group with the same name.
    #[error(
        "the volume group {group} is to be made, and {on}, which is not erased, has one of that name: the system would \
         not know which is meant. Rename that one (`vgrename`), take its disk out, or erase it; nothing was written",
        on = .on.display()
    )]
    GroupExists {
        /// The group's name.
        group: String,
        /// A physical volume of the other group.
        on: PathBuf,
    },
    /// A name that LVM does not accept.
    #[error("`{0}` is not a valid name of a volume group or logical volume; nothing was written")]
    LvmName(String),
    /// An LVM tool failed.
    #[error("lvm {tool} for {of}: {outcome}{output}")]
    Lvm {
        /// The tool.
        tool: String,
        /// The group or the volume.
        of: String,
        /// Its exit status.
        outcome: String,
        /// Its output, after a colon.
        output: String,
    },
    /// A mount point that is not an absolute, plain path, or is used twice.
    #[error("`{0}` is not a mount point: expected an absolute path without `..`, once; nothing was written")]
    MountPoint(String),
    /// A subvolume path that leads outside the file system.
    #[error(
        "`{0}` is not a subvolume: expected a path without `..` and without a slash in front; nothing was \
         written"
    )]
    Subvolume(String),
    /// A file system that cannot be created.
    #[error("{device}: cannot make {kind}: {reason}; nothing was written", device = .device.display())]
    Recipe {
        /// The partition's device node.
        device: PathBuf,
        /// The requested settings.
        kind: ka::plan::FileSystemKind,
        /// What is missing or wrong.
        reason: RecipeError,
    },
    /// A file system has lost some of the data written to it.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The medium returns other data than was written.
    #[error(
        "{device}: the disk has lost what was written to it without an error: {what}; it cannot be trusted, replace it",
        device = .device.display()
    )]
    NotKept {
        /// The device node.
        device: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A system call failed.
    #[error("{device}: cannot {doing}: {}", words::of_io(.error), device = .device.display())]
    Io {
        /// The device, or the mount point.
        device: PathBuf,
        /// The action, as in "cannot …".
        doing: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
    /// A mount point could not be given the attributes that the golden node's directory has underneath its
    /// mount.
    #[error("the mount point beneath its file system: {0}")]
    Covered(UnpackError),
    /// The table cannot be encoded.
    #[error("{disk}: the partition table cannot be written: {reason}")]
    Encode {
        /// The disk's name.
        disk: String,
        /// What is wrong with it.
        reason: EncodeError,
    },
    /// The table that was written can no longer be read.
    #[error("{disk}: {reason}")]
    Table {
        /// The disk's name.
        disk: String,
        /// What was found.
        reason: TableError,
    },
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
    /// A device node does not appear, or stays in use.
    #[error("{path} did not appear, or was not free, within {seconds} s", path = .path.display())]
    NoNode {
        /// The path.
        path: PathBuf,
        /// The time waited.
        seconds: u64,
    },
    /// A tool cannot be started, or failed.
    #[error("{tool} for {device}: {outcome}{output}", device = .device.display())]
    Tool {
        /// The tool's name.
        tool: &'static str,
        /// The object of its work.
        device: PathBuf,
        /// Its exit status, or why it did not start.
        outcome: String,
        /// Its output, after `: `; empty if it printed nothing.
        output: String,
    },
    /// The result of a tool differs from the request.
    #[error(
        "{device}: expected {expected} after {tool}, found {found}: the tool did not make it, or the disk has lost what \
         was written",
        device = .device.display()
    )]
    ReadBack {
        /// The partition.
        device: PathBuf,
        /// The tool.
        tool: &'static str,
        /// The requested result.
        expected: String,
        /// The actual result.
        found: String,
    },
    /// The table on the disk is not the one that was written.
    #[error(
        "{disk}: the partition table is not the one that was written: another program changed it, or the disk has lost \
         what was written"
    )]
    TableChanged {
        /// The disk's name.
        disk: String,
    },
    /// The active flag cannot be set.
    #[error("{disk}: cannot set the active flag: {reason}")]
    Activate {
        /// The disk's name.
        disk: String,
        /// What is wrong with the table.
        reason: SetActiveError,
    },
}

impl From<ChoiceError> for DiskError {
    fn from(error: ChoiceError) -> Self {
        Self::Choice(error)
    }
}

/// Why a file system cannot be created, found out before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The tool is not installed.
    #[error("there is no {0}: the golden node must have it, so that stage2 can bring it")]
    NoTool(&'static str),
    /// Not a valid UUID for this kind of file system.
    #[error("expected a UUID {expected}, found `{found}`")]
    Uuid {
        /// The plan's value.
        found: String,
        /// An example.
        expected: &'static str,
    },
}

impl DiskError {
    /// The kind of failure, for the run's report.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        let reason = self.to_string();
        match self {
            Self::Refused(_)
            | Self::Choice(_)
            | Self::Unconfirmed { .. }
            | Self::GroupExists { .. }
            | Self::LvmName(_)
            | Self::Fit { .. }
            | Self::MountPoint(_)
            | Self::Subvolume(_)
            | Self::Recipe { .. } => FailureKind::Unfit { reason },
            Self::Lost(_) | Self::NotKept { .. } | Self::ReadBack { .. } => FailureKind::NotKept { reason },
            Self::Tool { .. } | Self::Lvm { .. } => FailureKind::Tool { reason },
            Self::Io { .. }
            | Self::Covered(_)
            | Self::Encode { .. }
            | Self::Table { .. }
            | Self::KernelView { .. }
            | Self::NoNode { .. }
            | Self::TableChanged { .. }
            | Self::Activate { .. } => FailureKind::Disk { reason },
        }
    }

    /// An operating system error on a device.
    pub(super) fn io(device: impl Into<PathBuf>, doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { device: device.into(), doing, error: source.into() }
    }
}
