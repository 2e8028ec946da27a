//! The hardware of this machine: cards, disks, memory, firmware.
//!
//! All of it is read from the kernel, so that a person can recognise this machine and see what would be
//! erased on it. What cannot be read is left empty and logged: a node with an odd card is still a node.

mod attachment;
mod cards;
mod contents;
mod disks;
mod identity;
mod network;
mod slots;
mod storage;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use ka::inventory::identity::DiskIdentity;
use ka::inventory::{Card, Disk, Firmware, Inventory, Product};
use ka::mac::Mac;

pub use network::{CardModules, card_modules};
pub use slots::{SlottedCard, slotted_cards};
pub use storage::storage_modules;

/// The card through which this machine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// The name that the network assigns to this machine, if any.
    pub hostname: Option<String>,
}

/// The directories in which the kernel presents the machine.
#[derive(Clone, Debug)]
struct Tree {
    sys: PathBuf,
    proc: PathBuf,
    dev: PathBuf,
}

impl Tree {
    fn of_this_machine() -> Self {
        Self { sys: PathBuf::from("/sys"), proc: PathBuf::from("/proc"), dev: PathBuf::from("/dev") }
    }
}

/// Takes an inventory of the machine. Disk contents are probed with `blkid` if it is in the path.
#[must_use]
pub fn inventory(uplink: &Uplink) -> Inventory {
    let tree = Tree::of_this_machine();
    let mut disks = disks::disks(&tree);
    contents::fill_in(&mut disks, &tree);
    Inventory {
        hostname: uplink.hostname.clone().unwrap_or_default(),
        cards: cards::cards(&tree, &uplink.interface),
        disks,
        memory: memory(&text(&tree.proc.join("meminfo"))),
        firmware: firmware_of(&tree),
        product: product_of(&tree),
    }
}

/// The machine's model, as named by its maker.
#[must_use]
pub fn product() -> Product {
    product_of(&Tree::of_this_machine())
}

fn product_of(tree: &Tree) -> Product {
    let says = |name: &str| printable(&text(&tree.sys.join("class/dmi/id").join(name)));
    Product { maker: says("sys_vendor"), model: says("product_name"), serial: says("product_serial") }
}

/// The card that the network uses, with its address.
#[must_use]
pub fn card_in_use(uplink: &Uplink) -> Card {
    let known = cards::cards(&Tree::of_this_machine(), &uplink.interface).into_iter().next();
    let known = known.filter(|card| card.name == uplink.interface).unwrap_or_default();
    Card {
        name: uplink.interface.clone(),
        mac: uplink.mac.to_string(),
        addresses: vec![uplink.address.into()],
        ..known
    }
}

/// The card through which this machine reaches `peer`, if any.
#[must_use]
pub fn card_towards(peer: SocketAddr) -> Option<Card> {
    // No packet is sent: the system only selects the route and the source address.
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    cards::with_address(&Tree::of_this_machine(), socket.local_addr().ok()?.ip())
}

/// The hardware address of the first network card by name, for a machine that has no host name yet.
#[must_use]
pub fn first_card() -> Option<String> {
    let card = card_modules("").into_iter().next()?;
    Some(text(&Path::new("/sys/class/net").join(card.interface).join("address")))
        .filter(|mac| !mac.is_empty())
}

/// The firmware that started this machine.
#[must_use]
pub fn firmware() -> Firmware {
    firmware_of(&Tree::of_this_machine())
}

fn firmware_of(tree: &Tree) -> Firmware {
    if tree.sys.join("firmware/efi").exists() { Firmware::Uefi } else { Firmware::Bios }
}

/// The machine's current disks, and the loop devices with a backing file. With `look`, also their contents.
#[must_use]
pub fn disks(look: bool) -> Vec<Disk> {
    let tree = Tree::of_this_machine();
    let mut disks = disks::all(&tree);
    if look {
        contents::fill_in(&mut disks, &tree);
    }
    disks
}

/// The identity of the disk with this kernel name, which is one of [`disks()`], as it is now.
#[must_use]
pub fn identity_of(name: &str) -> Option<DiskIdentity> {
    disks(false).into_iter().find(|disk| disk.name == name).map(|disk| disk.identity)
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_else(|| {
        log::warn!("/proc/meminfo has no MemTotal");
        0
    }) * 1024
}

/// A file of sysfs or proc, trimmed; empty if it is missing, as most attributes exist for some devices only.
fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default()
}

/// Text that a device reports is shown on terminals, so its control characters are removed.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

/// The names in a folder in natural order: shorter ones first, so that `sdb` comes before `sdaa`.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        let meminfo = "MemTotal:        2014440 kB\nMemFree:          994 kB\n";
        assert_eq!(memory(meminfo), 2_014_440 * 1024);
        assert_eq!(memory("MemFree: 1 kB\n"), 0);
    }

    #[test]
    fn a_machine_is_what_its_firmware_says() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree { sys: folder.path().to_owned(), ..Tree::of_this_machine() };
        assert_eq!(product_of(&tree), Product::default());
        let dmi = folder.path().join("class/dmi/id");
        fs::create_dir_all(&dmi).unwrap();
        fs::write(dmi.join("sys_vendor"), "QEMU\n").unwrap();
        fs::write(dmi.join("product_serial"), "  A1\u{7}B2 \n").unwrap();
        let expected = Product { maker: "QEMU".into(), model: String::new(), serial: "A1B2".into() };
        assert_eq!(product_of(&tree), expected);
    }

    #[test]
    fn control_characters_are_not_told() {
        assert_eq!(printable(" a\x1b[2Jb\0\0 \n"), "a[2Jb");
    }
}
