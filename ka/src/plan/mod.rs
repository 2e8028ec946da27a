//! The plan of a run for a node: disks, file systems, mounts, boot loader.

pub mod allot;
mod check;
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

/// Everything that a node must know to become a copy of the golden node. The controller makes and checks it
/// before any node is touched, and the agent executes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The run's name.
    pub run: String,
    /// The disks to erase, and their new content.
    pub storage: Storage,
    /// How the node is made bootable.
    pub boot: BootPlan,
    /// How the node gets its own identity.
    pub finish: FinishPlan,
    /// What the node does at the end.
    pub after: FinalAction,
}

/// One disk to erase and partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskPlan {
    /// The choice of one of the node's disks.
    pub disk: DiskChoice,
    /// The description, already checked.
    pub desc: crate::disk::description::Description,
    /// The golden disk's size in bytes, if fixed sizes scale with the disk's size (`--scale`).
    pub scale_from: Option<u64>,
    /// The disk and its partitions get the identities in the description (`--keep-uuids`), not fresh ones.
    pub keep_ids: bool,
    /// Boot code for the first sector (446 bytes), if no boot loader is installed (`-m`, `-M`).
    pub boot_code: Option<Vec<u8>>,
    /// The only entry of a GPT's protective MBR is active, for a BIOS that boots no disk without an active
    /// entry.
    pub protective_active: bool,
}

impl DiskPlan {
    /// Creates the plan for a disk to partition.
    #[must_use]
    pub fn new(disk: DiskChoice, desc: crate::disk::description::Description) -> Self {
        Self { disk, desc, scale_from: None, keep_ids: false, boot_code: None, protective_active: false }
    }
}

/// A file system, or swap space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemPlan {
    /// The kind of file system.
    pub kind: FileSystemKind,
    /// The label to set, if the golden file system has one.
    pub label: Option<String>,
    /// The UUID to set (`--keep-uuids`); a fresh one if `None`.
    pub uuid: Option<String>,
    /// How it is created, as far as the golden file system shows.
    pub shape: Shape,
    /// Its mount point, as seen from the clone's root (`/`, `/boot`). `None` for swap, for file systems that
    /// are not mounted, and if only `subvolumes` are mounted.
    pub mount_point: Option<String>,
    /// The subvolumes of a btrfs, outer ones first.
    pub subvolumes: Vec<Subvolume>,
    /// The directories covered by its mounts, as far as the golden node has them.
    pub covered: Vec<Covered>,
    /// The bytes that the golden files take on the new file system; 0 if nothing is copied.
    pub used: u64,
    /// The inodes that the golden files take, if their number is fixed at creation (ext); otherwise 0.
    pub inodes: u64,
    /// The compression option of a golden btrfs, as the kernel lists it: `compress=zstd:3`. The node writes
    /// with it too.
    pub compress: Option<String>,
    /// The golden node's names for this file system: the clone's configuration may use them, and they are
    /// replaced with the new file system's names.
    pub golden: Option<GoldenNames>,
}

impl FileSystemPlan {
    /// An empty file system with only its kind set.
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

    /// All its mount points: its own and those of its subvolumes.
    pub fn mount_points(&self) -> impl Iterator<Item = &str> {
        let subvolumes = self.subvolumes.iter().map(|subvolume| &subvolume.mount_point);
        std::iter::once(&self.mount_point).chain(subvolumes).filter_map(|point| point.as_deref())
    }
}

/// The kind of content for a partition.
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
    /// FAT, as on the EFI system partition.
    Vfat,
    /// Swap space.
    Swap,
}

impl FileSystemKind {
    /// All kinds.
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

    /// Its name for blkid(8) and mount(8).
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

    /// The kind with this name.
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

/// How a file system is created: the properties of the golden one that the tools can set. Anything unset is
/// left to the tool's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The size in bytes of a block (ext, XFS), a btrfs sector, or a FAT cluster.
    pub block_size: Option<u32>,
    /// The inode size in bytes (ext, XFS).
    pub inode_size: Option<u32>,
    /// The bytes of the partition per inode (ext), if they differ from mke2fs's default.
    pub bytes_per_inode: Option<u32>,
    /// Reserved blocks in thousandths of a percent of all blocks (ext).
    pub reserved: Option<u32>,
    /// Features by the names of the tool that sets them: all features of the golden one (ext: as `dumpe2fs
    /// -h` lists them; XFS: `crc`, `reflink`, …; btrfs: `-O` names).
    pub features: Option<Vec<String>>,
    /// The FAT width in bits: 12, 16 or 32.
    pub fat_bits: Option<u8>,
    /// Ext settings other than features.
    pub ext: Option<ExtSettings>,
    /// The stripe unit and width in bytes (XFS), if the golden one has them.
    pub stripe: Option<(u32, u32)>,
}

/// Ext settings other than features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtSettings {
    /// The kernel's reaction to errors: 1 continues, 2 remounts read-only, 3 panics.
    pub errors: u16,
    /// Default mount options (`s_default_mount_opts`).
    pub mount_options: u32,
    /// The number of mounts between two checks; no limit if below 1.
    pub max_mounts: i16,
    /// The seconds between two checks; no limit if 0.
    pub check_interval: u32,
    /// The size of the journal in bytes, if it is internal and not of mke2fs's default size.
    pub journal: Option<u64>,
    /// The bytes of a RAID chunk; 0 if unknown.
    pub stride: u64,
    /// The bytes of a full stripe, over all data disks of the RAID; 0 if unknown.
    pub stripe_width: u64,
    /// The cluster size in bytes (`bigalloc`).
    pub cluster_size: Option<u32>,
}

/// The directory under a mount point, as it is without the mount. It is in no stream: reading a mount point
/// returns the root of the mounted file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The mount point, as seen from the clone's root.
    pub mount_point: String,
    /// Permission bits including set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes: names and values, with ACLs in the kernel's binary form.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Inode flags, project and the like: `chattr +i` on a mount point prevents files from being written into
    /// it while nothing is mounted.
    pub traits: crate::archive::Traits,
}

/// A subvolume of a btrfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subvolume {
    /// Its path from the top of the file system, without a leading slash: `@home`; empty for the top itself.
    pub path: String,
    /// Its own mount point, as seen from the clone's root, if it has one.
    pub mount_point: Option<String>,
    /// It is the default subvolume, mounted when none is named (`btrfs subvolume get-default`).
    pub default: bool,
    /// Its id on the golden node. The clone's differs: ids follow the order of creation.
    pub golden_id: Option<u64>,
}

/// A volume that is copied byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawPlan {
    /// Its name in the stream: the golden volume's kernel name, such as `sda3`.
    pub name: String,
    /// Its size in bytes on the golden node: the minimum for the node's.
    pub size: u64,
    /// The golden node's names for its content; the clone's has the same UUIDs.
    pub golden: Option<GoldenNames>,
}

/// The names by which the golden node's configuration may refer to a file system.
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
    /// Its type as blkid reports it: `ext4`, `LVM2_member`.
    pub kind: Option<String>,
}

/// How the node is made bootable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootPlan {
    /// The boot loader to install.
    pub loader: Loader,
    /// Modules that the initrd must have, in addition to those for the node's hardware.
    pub initrd_modules: Vec<String>,
    /// The kernels whose initrd is rebuilt.
    pub kernels: Kernels,
    /// The golden node's firmware type.
    pub golden_firmware: Firmware,
    /// A node with the other firmware type is converted (`--firmware auto`), not refused.
    pub convert_firmware: bool,
    /// The boot source that the node's firmware tries first from now on.
    pub order: BootOrder,
    /// The firmware's menu must have an entry for the node's system, or the node fails (`--nvram require`).
    /// Otherwise a loader at the default path that every firmware tries is enough.
    pub require_nvram: bool,
}

impl BootPlan {
    /// This boot loader, for nodes with the golden node's firmware type; all other settings are the usual
    /// ones.
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
    /// None: ka does not manage the node's loader.
    None,
}

impl Loader {
    /// All boot loaders.
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

    /// The loader with this name.
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
    /// All of them.
    #[default]
    All,
    /// The default kernel.
    Default,
}

/// What a node's firmware tries first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootOrder {
    /// The network, then the disk: the network boot server decides.
    #[default]
    Network,
    /// The disk.
    Disk,
}

/// How a node gets its own identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishPlan {
    /// The node's own name; `None` keeps the golden node's.
    pub name: Option<NodeName>,
    /// Names in the golden node's network configuration that must be replaced.
    pub golden: GoldenHost,
    /// Other names of the golden machine in its configuration.
    pub machine: GoldenMachine,
    /// How the node reports that it runs from its own disk, if it has to.
    pub first_boot: Option<FirstBoot>,
    /// The password for the server in `ka.store_log`. On the command line, anyone on the wire could read it.
    pub store_log_password: Option<Secret>,
}

/// A text that is never displayed, and is erased from memory on drop.
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

/// A node's name, and its address if that is configured on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// The host name, with or without its domain.
    pub hostname: String,
    /// The replacement for the golden node's static address.
    pub address: Option<NodeAddress>,
    /// Which of its cards replaces which of the golden node's, by the golden interface name, if specified.
    pub cards: Vec<(String, Mac)>,
}

/// A node's static address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The address.
    pub address: IpAddr,
    /// The prefix length in bits; the golden node's if `None`.
    pub prefix: Option<u8>,
    /// The default gateway; the golden node's if `None`.
    pub gateway: Option<IpAddr>,
}

/// The golden node's place in the network: the card through which it serves the nodes, and the address that a
/// node's address replaces, which may be on another card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenHost {
    /// The address.
    pub address: Option<IpAddr>,
    /// The card's own hardware address, not that of a bridge or bond above it.
    pub mac: Option<Mac>,
    /// The card's name, if it has the address itself, or if a bridge or VLAN on this card alone has it.
    pub interface: Option<String>,
    /// All its interfaces with a hardware address: cards first, in slot order.
    pub cards: Vec<GoldenCard>,
}

/// An interface of the golden node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenCard {
    /// Its kernel name.
    pub interface: String,
    /// Its hardware address: a card's own one, even in a bond.
    pub mac: Option<Mac>,
    /// Its driver; `None` for an interface made of others, such as a bridge.
    pub driver: Option<String>,
    /// The address was assigned by hand: no card has it.
    pub pinned: bool,
}

/// Names of the golden machine that its clones do not have, besides those of the cloned file systems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldenMachine {
    /// Its host name, from `/etc/hostname` or the kernel.
    pub hostname: Option<String>,
    /// All device nodes and links for disks, partitions, and devices on top of them: `/dev/sda`,
    /// `/dev/disk/by-uuid/…`, `/dev/mapper/…`, `/dev/md/…`.
    pub devices: Vec<String>,
    /// The identifiers of its partition tables, as blkid prints them.
    pub tables: Vec<String>,
}

/// Where a clone reports that it has booted from its own disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstBoot {
    /// `HOST:PORT` of an HTTP server of the controller.
    pub controller: String,
    /// A secret for this node and this run, sent once.
    pub token: String,
}

/// What a node does at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinalAction {
    /// Reboots.
    Reboot,
    /// Starts the installed system's kernel, without the firmware and the boot loader.
    Kexec,
    /// Powers off.
    Poweroff,
    /// Waits in a shell.
    Shell,
}

impl FromStr for FinalAction {
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
