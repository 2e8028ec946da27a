//! What can go wrong with a node's disk, with the facts that a person needs to act on it.

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

/// Why a disk is not prepared, or not made bootable.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk may not be written, and was not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is not sure which disk is meant, or it is none to write to.
    #[error("{0}; nothing was written")]
    Choice(ChoiceError),
    /// Not every disk of the plan was confirmed.
    #[error("the plan erases {wanted} disks, and {found} were confirmed; nothing was written")]
    Unconfirmed {
        /// The plan's disks.
        wanted: usize,
        /// Those that were confirmed.
        found: usize,
    },
    /// The plan doesn't go onto this disk, which was not written.
    #[error("{disk}: {reason}; nothing was written")]
    Fit {
        /// The disk's name.
        disk: String,
        /// What doesn't fit, with the figures.
        reason: Box<FitError>,
    },
    /// Another disk of the machine has a volume group of the same name.
    #[error(
        "the volume group {group} is to be made, and {on}, which is not erased, has one of that name: the system would \
         not know which is meant. Rename that one (`vgrename`), take its disk out, or erase it; nothing was written",
        on = .on.display()
    )]
    GroupExists {
        /// The group's name.
        group: String,
        /// A physical volume of the other one.
        on: PathBuf,
    },
    /// A name that LVM does not take.
    #[error("`{0}` is no name of a volume group or logical volume; nothing was written")]
    LvmName(String),
    /// A tool of LVM failed.
    #[error("lvm {tool} for {of}: {outcome}{output}")]
    Lvm {
        /// Which.
        tool: String,
        /// The group or the volume.
        of: String,
        /// How it ended.
        outcome: String,
        /// What it said, after a colon.
        output: String,
    },
    /// A mount point that is no absolute, plain path, or is used twice.
    #[error("`{0}` is no mount point: expected an absolute path without `..`, once; nothing was written")]
    MountPoint(String),
    /// A path of a subvolume that leads elsewhere.
    #[error(
        "`{0}` is no subvolume: expected a path without `..` and without a slash in front; nothing was written"
    )]
    Subvolume(String),
    /// A file system that cannot be made.
    #[error("{device}: cannot make {kind}: {reason}; nothing was written", device = .device.display())]
    Recipe {
        /// The partition's device node.
        device: PathBuf,
        /// What was asked for.
        kind: ka::plan::FileSystemKind,
        /// What is missing or wrong.
        reason: RecipeError,
    },
    /// A file system has lost something of what was written.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The medium gives back something else than was written.
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
    /// A call to the kernel failed.
    #[error("{device}: cannot {doing}: {}", words::of_io(.error), device = .device.display())]
    Io {
        /// The device, or the path where one was to be mounted.
        device: PathBuf,
        /// What was to be done, as in "cannot …".
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// A mount point that cannot be made what the golden one is beneath its mount.
    #[error("the mount point beneath its file system: {0}")]
    Covered(UnpackError),
    /// The table cannot be written as bytes.
    #[error("{disk}: the partition table cannot be written: {reason}")]
    Encode {
        /// The disk's name.
        disk: String,
        /// What is wrong with it.
        reason: EncodeError,
    },
    /// The table that was written cannot be read any more.
    #[error("{disk}: {reason}")]
    Table {
        /// The disk's name.
        disk: String,
        /// What is there.
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
    /// A device node doesn't come, or stays in use.
    #[error("{path} did not appear, or was not free, within {seconds} s", path = .path.display())]
    NoNode {
        /// The path that was waited for.
        path: PathBuf,
        /// How long.
        seconds: u64,
    },
    /// A tool cannot be started, or failed.
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
        /// What it was asked for.
        expected: String,
        /// What is there.
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

/// Why a file system cannot be made, which is known before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The tool is not there.
    #[error("there is no {0}: the golden node must have it, so that stage2 can bring it")]
    NoTool(&'static str),
    /// No UUID of this kind of file system.
    #[error("expected a UUID {expected}, found `{found}`")]
    Uuid {
        /// What the plan says.
        found: String,
        /// An example.
        expected: &'static str,
    },
}

impl DiskError {
    /// What kind of failure it is, for the run's report.
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

    /// An error of the operating system on a device.
    pub(super) fn io(device: impl Into<PathBuf>, doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io { device: device.into(), doing, error: source.into() }
    }
}
