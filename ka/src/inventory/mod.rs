//! A node's report about itself, by which the operator recognises a machine that may be erased.

pub mod identity;

use identity::DiskIdentity;
use serde::{Deserialize, Serialize};

/// A node's hardware as its agent found it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The machine's name if it knows one (from DHCP), otherwise empty.
    pub hostname: String,
    /// The network cards, the one that the agent uses first.
    pub cards: Vec<Card>,
    /// Whole disks that have or could have data: no loop devices, RAM disks or optical drives.
    pub disks: Vec<Disk>,
    /// Memory in bytes, as the kernel counts it.
    pub memory: u64,
    /// The firmware type.
    pub firmware: Firmware,
    /// The manufacturer's names for it.
    pub product: Product,
}

/// A machine's names from its firmware (SMBIOS), as its manufacturer set them. Missing values are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// The manufacturer.
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
    /// The interface's kernel name.
    pub name: String,
    /// The hardware address as `aa:bb:cc:dd:ee:ff`, lower case.
    pub mac: String,
    /// Its addresses, without prefix lengths.
    pub addresses: Vec<std::net::IpAddr>,
    /// The speed negotiated with its switch, in Mbit/s; `None` without a carrier, or if the driver does not
    /// report it.
    pub speed: Option<u32>,
    /// The duplex mode; `None` if the driver does not report it.
    pub duplex: Option<Duplex>,
}

/// Whether a card can send and receive at the same time. A chain needs that: every node relays what it
/// receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Duplex {
    /// Only one of the two at a time.
    Half,
    /// Both at the same time.
    Full,
}

/// A whole disk and its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name, such as `sda` or `nvme0n1`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// The model that the device reports, trimmed; empty if it reports none.
    pub model: String,
    /// The serial number that the device reports, trimmed; empty if it reports none.
    pub serial: String,
    /// How it is attached: `ata`, `scsi`, `usb`, `firewire`, `nvme`, `virtio`, `mmc`, `xen`, `loop`; empty if
    /// unknown.
    pub bus: String,
    /// It is attached to a hot-pluggable bus: USB, `FireWire`, Thunderbolt; regardless of its own `bus`.
    pub external: bool,
    /// Its names in /dev/disk/by-id: those that udev created, and those that it would create.
    pub by_id: Vec<String>,
    /// It is in a storage network (Fibre Channel, iSCSI, NVMe over fabrics), or its location is unknown:
    /// other machines may use it.
    pub network: bool,
    /// The kernel reports removable media, or it is an SD card.
    pub removable: bool,
    /// Mounted, used as swap, or held by another device (LVM, RAID, device mapper).
    pub in_use: bool,
    /// Its user, as a sentence without a full stop: `sda1 is mounted at /`.
    pub usage: Option<String>,
    /// The type of its partition table (`dos`, `gpt`), if it has one.
    pub table: Option<String>,
    /// Its contents: the whole disk's own signature, or those of its partitions.
    pub contents: Vec<Content>,
    /// The identity that is compared before it is written.
    pub identity: DiskIdentity,
}

impl Disk {
    /// Whether an operator may have plugged it in.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.external || matches!(self.bus.as_str(), "usb" | "firewire")
    }

    /// The display text for a disk without contents.
    #[must_use]
    pub fn nothing(&self) -> &'static str {
        // This is blkid's result for a protective MBR without a valid GPT behind it.
        if self.table.as_deref() == Some("PMBR") {
            "a GPT that cannot be read: there may be partitions on it"
        } else {
            "nothing found on it"
        }
    }
}

/// An item found on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The kernel name of the partition or disk.
    pub device: String,
    /// Size in bytes.
    pub size: u64,
    /// The signature's type as blkid names it (`ext4`, `swap`, `LVM2_member`), if one was found.
    pub kind: Option<String>,
    /// The file system's label, if it has one.
    pub label: Option<String>,
}

/// The firmware type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Firmware {
    /// PC BIOS.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}
