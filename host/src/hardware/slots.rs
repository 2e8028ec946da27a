//! Network cards as pieces of hardware: what distinguishes two cards of one machine, and pairs them with
//! another machine's cards.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use ka::mac::Mac;

use super::{Tree, names, text};
use crate::rtnetlink::Netlink;

/// A network card of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlottedCard {
    /// The kernel's name of the interface.
    pub interface: String,
    /// The card's permanent address, even inside a bond or bridge.
    pub mac: Option<Mac>,
    /// Its driver; empty if unknown.
    pub driver: String,
}

/// The machine's cards in slot order.
#[must_use]
pub fn slotted_cards() -> Vec<SlottedCard> {
    let links = Netlink::open().and_then(|mut netlink| netlink.links());
    let links = links.unwrap_or_else(|e| {
        log::warn!("cannot read the network cards' permanent addresses: {e}");
        Vec::new()
    });
    let permanent = links.into_iter().filter_map(|link| Some((link.name, link.permanent?))).collect();
    of(&Tree::of_this_machine(), &permanent)
}

fn of(tree: &Tree, permanent: &HashMap<String, Mac>) -> Vec<SlottedCard> {
    let class = tree.sys.join("class/net");
    let mut cards: Vec<(Vec<u64>, PathBuf, SlottedCard)> = Vec::new();
    for interface in names(&class) {
        let folder = class.join(&interface);
        let Ok(device) = folder.join("device").canonicalize() else { continue };
        let driver = fs::read_link(device.join("driver")).ok();
        let driver = driver.and_then(|to| Some(to.file_name()?.to_str()?.to_owned())).unwrap_or_default();
        // In a bond, `address` is the bond's. Kernels before 5.6 show the card's own only here.
        let of_slave = text(&folder.join("bonding_slave/perm_hwaddr")).parse().ok();
        let current = || text(&folder.join("address")).parse().ok();
        let mac = permanent.get(&interface).copied().or(of_slave).or_else(current);
        let port = text(&folder.join("dev_port")).parse().unwrap_or(0);
        let mut order: Vec<u64> = numbers(&device.to_string_lossy());
        order.push(port);
        cards.push((order, device, SlottedCard { interface, mac, driver }));
    }
    cards.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    cards.into_iter().map(|(_, _, card)| card).collect()
}

/// The numbers in a device path, in order. PCI numbers are hexadecimal, so `0a` comes after `09`.
fn numbers(path: &str) -> Vec<u64> {
    let parts = path.split(|c: char| !c.is_ascii_hexdigit()).filter(|part| !part.is_empty());
    parts.filter_map(|part| u64::from_str_radix(part, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn cards_come_in_the_order_of_their_slots_with_their_own_addresses() {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path().join("sys");
        for (slot, interface, driver, address, own) in [
            ("0000:00:0a.0", "ens10", "e1000", "02:00:00:00:00:0a", None),
            ("0000:00:04.0", "ens4", "e1000", "02:00:00:00:00:bb", Some("02:00:00:00:00:04")),
            ("0000:00:03.0", "eth9", "virtio_net", "02:00:00:00:00:bb", None),
        ] {
            let device = sys.join("devices/pci0000:00").join(slot);
            let driver = sys.join("bus/drivers").join(driver);
            let folder = sys.join("class/net").join(interface);
            for folder in [&device, &driver, &folder, &folder.join("bonding_slave")] {
                fs::create_dir_all(folder).unwrap();
            }
            symlink(&driver, device.join("driver")).unwrap();
            symlink(&device, folder.join("device")).unwrap();
            fs::write(folder.join("address"), format!("{address}\n")).unwrap();
            if let Some(own) = own {
                fs::write(folder.join("bonding_slave/perm_hwaddr"), own).unwrap();
            }
        }
        fs::create_dir_all(sys.join("class/net/br0")).unwrap();
        let tree = Tree { sys, ..Tree::of_this_machine() };
        let permanent = HashMap::from([("eth9".to_owned(), "02:00:00:00:00:03".parse().unwrap())]);
        let found: Vec<_> = of(&tree, &permanent)
            .into_iter()
            .map(|card| (card.interface, card.mac.unwrap().to_string(), card.driver))
            .collect();
        let card = |interface: &str, last: &str, driver: &str| {
            (interface.to_owned(), format!("02:00:00:00:00:{last}"), driver.to_owned())
        };
        assert_eq!(
            found,
            [card("eth9", "03", "virtio_net"), card("ens4", "04", "e1000"), card("ens10", "0a", "e1000")]
        );
    }
}
