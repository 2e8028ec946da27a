//! What a run asks of a node: disks, file systems, mounts, boot loader.

use serde::{Deserialize, Serialize};

/// All that a node must know to become a copy of the golden node. Made and checked by the controller
/// before any node is touched, executed by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run's name.
    pub run: String,
    /// Disks to partition, and what goes onto them.
    pub disks: Vec<DiskPlan>,
    /// How the node is made to boot.
    pub boot: BootPlan,
    /// What the node does at the end.
    pub after: After,
}

/// One disk to erase and partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// The kernel's name of the disk on the node, such as `sda`.
    pub disk: String,
    /// The description, already checked.
    pub desc: crate::disk::desc::Desc,
    /// One entry for each partition that gets a file system or swap.
    pub file_systems: Vec<FileSystemPlan>,
}

/// The file system of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemPlan {
    /// The partition's number.
    pub partition: u32,
    /// What to make.
    pub kind: FileSystemKind,
    /// Label to set, if the golden one has a label.
    pub label: Option<String>,
    /// Where it is mounted, as seen from the clone's root (`/`, `/boot`); none for swap and for file
    /// systems that only have to exist.
    pub mount_point: Option<String>,
    /// Bytes that the golden file system uses and the new one must take; 0 where nothing is copied.
    pub used: u64,
    /// How the golden node calls this file system: what the clone's configuration may name, and what
    /// becomes the new file system's.
    pub golden: Option<GoldenNames>,
}

/// What to make on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileSystemKind {
    /// ext4.
    Ext4,
    /// Swap space.
    Swap,
}

impl std::fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Swap => "swap",
        })
    }
}

/// The names under which the golden node's configuration may know a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenNames {
    /// The file system's UUID.
    pub uuid: Option<String>,
    /// The partition's UUID (PARTUUID).
    pub partuuid: Option<String>,
    /// Device nodes: `/dev/sda1`, `/dev/disk/by-id/…`.
    pub devices: Vec<String>,
}

/// How the node is made to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// The boot loader to install.
    pub loader: Loader,
    /// Modules that the initrd must have, beyond what the node's hardware asks for.
    pub initrd_modules: Vec<String>,
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loader {
    /// GRUB 2, installed with the copied system's own tools.
    Grub,
    /// None: the node's loader is somebody else's matter.
    None,
}

/// What a node does when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Reboots.
    Reboot,
    /// Powers off.
    Poweroff,
    /// Waits in a shell.
    Shell,
}
