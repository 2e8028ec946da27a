//! What a node reports of itself, so that a person can tell whether it is the machine that may be erased.

pub mod identity;

use identity::DiskIdentity;
use serde::{Deserialize, Serialize};

/// A node's hardware as its agent found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The machine's name as far as it knows one (from DHCP), else empty.
    pub hostname: String,
    /// Network cards, the one that the agent uses first.
    pub cards: Vec<Card>,
    /// Whole disks that carry data or could: no loop devices, RAM disks or optical drives.
    pub disks: Vec<Disk>,
    /// Memory in bytes, as the kernel counts it.
    pub memory: u64,
    /// What started the machine.
    pub firmware: Firmware,
    /// What its maker calls it.
    pub product: Product,
}

/// A machine as its maker wrote it into the firmware (SMBIOS). Whatever is not there is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The maker.
    pub maker: String,
    /// The model.
    pub model: String,
    /// The serial number.
    pub serial: String,
}

impl Product {
    /// All of its texts.
    pub(crate) fn texts(&mut self) -> [&mut String; 3] {
        [&mut self.maker, &mut self.model, &mut self.serial]
    }
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The kernel's name of the interface.
    pub name: String,
    /// The hardware address as `aa:bb:cc:dd:ee:ff`, lower case.
    pub mac: String,
    /// Its addresses, without prefix length.
    pub addresses: Vec<std::net::IpAddr>,
    /// What it has negotiated with its switch, in Mbit/s; none without a carrier, or if the driver does not say.
    pub speed: Option<u32>,
    /// Whether it sends and receives at the same time; none if the driver does not say.
    pub duplex: Option<Duplex>,
}

/// Whether a card sends and receives at the same time. A chain needs that: every node relays what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duplex {
    /// One or the other.
    Half,
    /// Both.
    Full,
}

/// A whole disk and what is on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name, such as `sda` or `nvme0n1`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Model as the device tells it, trimmed; empty if it tells none.
    pub model: String,
    /// Serial number as the device tells it, trimmed; empty if it tells none.
    pub serial: String,
    /// How it is attached: `ata`, `scsi`, `usb`, `firewire`, `nvme`, `virtio`, `mmc`, `xen`, `loop`; empty if that
    /// is not known.
    pub bus: String,
    /// It hangs on a cable that is made to be plugged in and out: USB, `FireWire`, Thunderbolt; whatever its own
    /// `bus` is.
    pub external: bool,
    /// Its names in /dev/disk/by-id: those that udev gave it, and those that it would give.
    pub by_id: Vec<String>,
    /// It lies in a storage network (Fibre Channel, iSCSI, NVMe over fabrics), or nobody knows where: other
    /// machines may use it.
    pub network: bool,
    /// The kernel says that its media can be removed, or it is an SD card.
    pub removable: bool,
    /// Mounted, used as swap, or held by another device (LVM, RAID, device mapper).
    pub in_use: bool,
    /// Who uses it, as a sentence without its end: `sda1 is mounted at /`.
    pub usage: Option<String>,
    /// The kind of its partition table (`dos`, `gpt`), if it has one.
    pub table: Option<String>,
    /// What is on it: the whole disk's own signature, or its partitions'.
    pub contents: Vec<Content>,
    /// What is compared before it is written.
    pub identity: DiskIdentity,
}

impl Disk {
    /// Whether it may be a disk that a person has plugged in.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.external || matches!(self.bus.as_str(), "usb" | "firewire")
    }

    /// What a person is told of a disk without contents.
    #[must_use]
    pub fn nothing(&self) -> &'static str {
        // So blkid calls a protective MBR with no valid GPT behind it.
        if self.table.as_deref() == Some("PMBR") {
            "a GPT that cannot be read: there may be partitions on it"
        } else {
            "nothing found on it"
        }
    }
}

/// Something found on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The partition's or the disk's kernel name.
    pub device: String,
    /// Size in bytes.
    pub size: u64,
    /// The signature's type as blkid names it (`ext4`, `swap`, `LVM2_member`), if one was found.
    pub kind: Option<String>,
    /// The file system's label, if it has one.
    pub label: Option<String>,
}

/// What started the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// PC BIOS.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}
