//! What a run asks of a node: disks, file systems, mounts, boot loader.

pub mod allot;
mod confirmed;
pub mod fit;
mod group;
pub mod report;
pub mod room;
mod volume;

pub use allot::{Allotment, Allotted};
pub use confirmed::{ConfirmedPlan, ConfirmedStorage, PLAN_VERSION, UnknownPlan, VersionedPlan};
pub use group::{
    GroupId, LogicalLayout, LogicalSize, LogicalVolume, Raid, RaidLevel, VolumeGroup, is_name, mapper_name,
};
pub use volume::{Backing, Storage, Volume, VolumeContent, VolumeId, VolumeName};

use crate::disk::choice::DiskChoice;
use crate::inventory::Firmware;
use crate::mac::Mac;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use zeroize::Zeroize;

/// All that a node must know to become a copy of the golden node. Made and checked by the controller
/// before any node is touched, executed by the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run's name.
    pub run: String,
    /// Disks to erase, and what is made on them.
    pub storage: Storage,
    /// How the node is made to boot.
    pub boot: BootPlan,
    /// How the node is made a machine of its own.
    pub finish: FinishPlan,
    /// What the node does at the end.
    pub after: After,
}

/// One disk to erase and partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// Which of the node's disks.
    pub disk: DiskChoice,
    /// The description, already checked.
    pub desc: crate::disk::description::Description,
    /// The golden disk's size in bytes, if fixed sizes are to scale with the disk's (`--scale`).
    pub scale_from: Option<u64>,
    /// The disk and its partitions get the identities that the description names (`--keep-uuids`), not fresh
    /// ones.
    pub keep_ids: bool,
    /// Boot code for the first sector (446 bytes), where no boot loader is installed (`-m`, `-M`).
    pub boot_code: Option<Vec<u8>>,
    /// The one entry of a GPT's protective MBR is active, for a BIOS that starts no disk without such an entry.
    pub protective_active: bool,
}

impl DiskPlan {
    /// A disk to partition.
    #[must_use]
    pub fn new(disk: DiskChoice, desc: crate::disk::description::Description) -> Self {
        Self { disk, desc, scale_from: None, keep_ids: false, boot_code: None, protective_active: false }
    }
}

/// A file system, or swap space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemPlan {
    /// What to make.
    pub kind: FileSystemKind,
    /// Label to set, if the golden one has a label.
    pub label: Option<String>,
    /// The UUID to set (`--keep-uuids`); a fresh one if none.
    pub uuid: Option<String>,
    /// How it is made, as far as the golden one tells.
    pub shape: Shape,
    /// Where it is mounted, as seen from the clone's root (`/`, `/boot`); none for swap, for file
    /// systems that only have to exist, and where only `subvolumes` are mounted.
    pub mount_point: Option<String>,
    /// A btrfs's subvolumes, outer ones first.
    pub subvolumes: Vec<Subvolume>,
    /// The directories that its mounts cover, as far as the golden node has them.
    pub covered: Vec<Covered>,
    /// Bytes that the golden files take on the new file system; 0 where nothing is copied.
    pub used: u64,
    /// Inodes that the golden files take, where their number is fixed when the file system is made (ext); else 0.
    pub inodes: u64,
    /// The option with which a golden btrfs compresses what is written, as the kernel lists it: `compress=zstd:3`. The
    /// node writes with it too.
    pub compress: Option<String>,
    /// How the golden node calls this file system: what the clone's configuration may name, and what
    /// becomes the new file system's.
    pub golden: Option<GoldenNames>,
}

impl FileSystemPlan {
    /// An empty file system with nothing said but its kind.
    #[must_use]
    pub fn new(kind: FileSystemKind) -> Self {
        Self {
            kind,
            label: None,
            uuid: None,
            shape: Shape::default(),
            mount_point: None,
            subvolumes: Vec::new(),
            covered: Vec::new(),
            used: 0,
            inodes: 0,
            compress: None,
            golden: None,
        }
    }

    /// Where it is mounted, as a whole and by its subvolumes.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        let subvolumes = self.subvolumes.iter().map(|subvolume| &subvolume.mount_point);
        std::iter::once(&self.mount_point).chain(subvolumes).filter_map(|point| point.as_deref())
    }
}

/// What to make on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileSystemKind {
    /// ext2.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// JFS.
    Jfs,
    /// ReiserFS 3.6.
    Reiserfs,
    /// btrfs.
    Btrfs,
    /// FAT, as the EFI system partition has it.
    Vfat,
    /// Swap space.
    Swap,
}

impl FileSystemKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ext2,
        Self::Ext3,
        Self::Ext4,
        Self::Xfs,
        Self::Jfs,
        Self::Reiserfs,
        Self::Btrfs,
        Self::Vfat,
        Self::Swap,
    ];

    /// Its name as blkid(8) and mount(8) have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Jfs => "jfs",
            Self::Reiserfs => "reiserfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        }
    }

    /// The kind that has this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a file system is made: what of the golden one the tools can set. What is not said is left to the
/// tool's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Bytes in a block (ext, XFS), in a sector of btrfs, or in a cluster of FAT.
    pub block_size: Option<u32>,
    /// Bytes in an inode (ext, XFS).
    pub inode_size: Option<u32>,
    /// Bytes of the partition for each inode (ext), where they are not mke2fs's default.
    pub bytes_per_inode: Option<u32>,
    /// Reserved blocks in thousandths of a percent of all (ext).
    pub reserved: Option<u32>,
    /// Features by the names of the tool that sets them: all that the golden one has (ext: as
    /// `dumpe2fs -h` lists them; XFS: `crc`, `reflink`, …; btrfs: `-O` names).
    pub features: Option<Vec<String>>,
    /// Bits of FAT: 12, 16 or 32.
    pub fat_bits: Option<u8>,
    /// Settings of ext that are no features.
    pub ext: Option<ExtSettings>,
    /// The unit and the width of a stripe in bytes (XFS), if the golden one has them.
    pub stripe: Option<(u32, u32)>,
}

/// Settings of ext that are no features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtSettings {
    /// What the kernel does about errors: 1 goes on, 2 makes it read-only, 3 panics.
    pub errors: u16,
    /// Mount options that hold without being named (`s_default_mount_opts`).
    pub mount_options: u32,
    /// Mounts between two checks; below 1 there is no such limit.
    pub max_mounts: i16,
    /// Seconds between two checks; 0 if it does not matter.
    pub check_interval: u32,
    /// Bytes of the journal, if it is inside and not as large as mke2fs makes it.
    pub journal: Option<u64>,
    /// Bytes of a RAID's chunk, and of its whole stripe; 0 if unknown.
    pub stride: u64,
    /// The same for all disks of the RAID.
    pub stripe_width: u64,
    /// Bytes of a cluster (`bigalloc`).
    pub cluster_size: Option<u32>,
}

/// A directory on which a file system is mounted, as it is beneath the mount. No stream has it: what is read of a
/// mount point is the root of the mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The mount point, as seen from the clone's root.
    pub mount_point: String,
    /// Permission bits with set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: names and values, ACLs in the kernel's binary form.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Flags, project and the like: `chattr +i` on a mount point keeps files out of it while nothing is mounted.
    pub traits: crate::archive::Traits,
}

/// A subvolume of a btrfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subvolume {
    /// Its path from the top of the file system, without a slash in front: `@home`; empty for the top itself.
    pub path: String,
    /// Where it is mounted, as seen from the clone's root, if it is mounted by itself.
    pub mount_point: Option<String>,
    /// It is what is mounted when no subvolume is named (`btrfs subvolume get-default`).
    pub default: bool,
    /// Its number on the golden node. The clone's is another one: numbers follow the order of making.
    pub golden_id: Option<u64>,
}

/// A volume that is copied as it is, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawPlan {
    /// Its name in the stream: the golden volume's kernel name, such as `sda3`.
    pub name: String,
    /// Its size in bytes on the golden node: the least that the node's must have.
    pub size: u64,
    /// How the golden node calls what is on it; the clone has the same UUIDs there.
    pub golden: Option<GoldenNames>,
}

/// The names under which the golden node's configuration may know a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenNames {
    /// The file system's UUID.
    pub uuid: Option<String>,
    /// The partition's UUID (PARTUUID).
    pub partuuid: Option<String>,
    /// The file system's label. The clone has it too, unless no tool can set it.
    pub label: Option<String>,
    /// Device nodes: `/dev/sda1`, `/dev/disk/by-id/…`.
    pub devices: Vec<String>,
    /// What blkid finds on it: `ext4`, `LVM2_member`.
    pub kind: Option<String>,
}

/// How the node is made to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// The boot loader to install.
    pub loader: Loader,
    /// Modules that the initrd must have, beyond what the node's hardware asks for.
    pub initrd_modules: Vec<String>,
    /// The kernels whose initrd is rebuilt.
    pub kernels: Kernels,
    /// What starts the golden node.
    pub golden_firmware: Firmware,
    /// A node with the other firmware is converted (`--firmware auto`), not refused.
    pub convert_firmware: bool,
    /// Where the node's firmware looks first from now on.
    pub order: BootOrder,
    /// The firmware's menu must have an entry for the node's system, or the node fails (`--nvram require`). Otherwise
    /// a loader at the path that every firmware tries is enough.
    pub require_nvram: bool,
}

impl BootPlan {
    /// This boot loader, on nodes whose firmware is the golden node's; all else is as it mostly is.
    #[must_use]
    pub fn new(loader: Loader, golden_firmware: Firmware) -> Self {
        Self {
            loader,
            initrd_modules: Vec::new(),
            kernels: Kernels::All,
            golden_firmware,
            convert_firmware: false,
            order: BootOrder::Network,
            require_nvram: false,
        }
    }
}

/// A boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loader {
    /// GRUB 2, installed with the copied system's own tools, for the node's firmware.
    Grub,
    /// GRUB 0.97, with its `menu.lst`.
    GrubLegacy,
    /// LILO, with its `lilo.conf`.
    Lilo,
    /// systemd-boot.
    SystemdBoot,
    /// extlinux, of Syslinux.
    Extlinux,
    /// None: the node's loader is somebody else's matter.
    None,
}

impl Loader {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Grub, Self::GrubLegacy, Self::Lilo, Self::SystemdBoot, Self::Extlinux, Self::None];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grub => "grub",
            Self::GrubLegacy => "grub-legacy",
            Self::Lilo => "lilo",
            Self::SystemdBoot => "systemd-boot",
            Self::Extlinux => "extlinux",
            Self::None => "none",
        }
    }

    /// The one that has this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|loader| loader.name() == name)
    }
}

impl std::fmt::Display for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Installed kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernels {
    /// Every one.
    #[default]
    All,
    /// The one that boots when nobody chooses.
    Default,
}

/// What a node's firmware tries first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootOrder {
    /// The network, then the disk: whoever serves the network boot decides.
    #[default]
    Network,
    /// The disk.
    Disk,
}

/// How a node is made a machine of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishPlan {
    /// The node's own name; the golden node's stays if there is none.
    pub name: Option<NodeName>,
    /// What the golden node's network configuration may name.
    pub golden: GoldenHost,
    /// What else its configuration may name.
    pub machine: GoldenMachine,
    /// How the node tells that it runs from its own disk, if it is to tell.
    pub first_boot: Option<FirstBoot>,
    /// What the server wants to know that `ka.store_log` names. The command line would tell everybody on the wire.
    pub store_log_password: Option<Secret>,
}

/// A text that is never shown, and leaves memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A node's name, and its address if that is written down on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The host name, with its domain or without.
    pub hostname: String,
    /// Takes the place of the golden node's static address.
    pub address: Option<NodeAddress>,
    /// Which of its cards stands for which of the golden node's, by the golden interface, where somebody says so.
    pub cards: Vec<(String, Mac)>,
}

/// A node's static address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of the network's prefix in bits; the golden node's if none.
    pub prefix: Option<u8>,
    /// The default gateway; the golden node's if none.
    pub gateway: Option<IpAddr>,
}

/// The golden node's place in the network: the card through which it serves the nodes, and the address that a
/// node's takes the place of, which may be another card's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenHost {
    /// The address.
    pub address: Option<IpAddr>,
    /// The card's own hardware address, not that of a bridge or bond above it.
    pub mac: Option<Mac>,
    /// The card's name, if the address is on it, or on what is made of it alone: a bridge, a VLAN.
    pub interface: Option<String>,
    /// All its interfaces that have a hardware address: cards first, in the order of their slots.
    pub cards: Vec<GoldenCard>,
}

/// An interface of the golden node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenCard {
    /// The kernel's name of it.
    pub interface: String,
    /// Its hardware address: the one that a card has by itself, whatever bond it is in.
    pub mac: Option<Mac>,
    /// What drives it; none for what is made of other interfaces, such as a bridge.
    pub driver: Option<String>,
    /// Somebody has chosen the address: no card has it.
    pub pinned: bool,
}

/// Names of the golden machine that its clones do not have, beside those of the file systems that are cloned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenMachine {
    /// Its host name as `/etc/hostname` or the kernel has it.
    pub hostname: Option<String>,
    /// All device nodes and links for disks, partitions, and what is made of them: `/dev/sda`,
    /// `/dev/disk/by-uuid/…`, `/dev/mapper/…`, `/dev/md/…`.
    pub devices: Vec<String>,
    /// The identifiers of its partition tables, as blkid prints them.
    pub tables: Vec<String>,
}

/// Where a clone tells that it has come up from its own disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBoot {
    /// `HOST:PORT` of an HTTP server of the controller.
    pub controller: String,
    /// A secret of this node and this run, sent once.
    pub token: String,
}

/// What a node does when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum After {
    /// Reboots.
    Reboot,
    /// Starts the installed system's kernel, without the firmware and the boot loader.
    Kexec,
    /// Powers off.
    Poweroff,
    /// Waits in a shell.
    Shell,
}

impl FromStr for After {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reboot" => Ok(Self::Reboot),
            "kexec" => Ok(Self::Kexec),
            "poweroff" => Ok(Self::Poweroff),
            "shell" => Ok(Self::Shell),
            _ => Err("expected reboot, kexec, poweroff or shell"),
        }
    }
}
