//! Network cards.

use std::collections::HashMap;
use std::net::IpAddr;

use ka::inventory::{Card, Duplex};

use super::{Tree, names, text};
use crate::rtnetlink::Netlink;

/// The loopback device's address.
const NO_MAC: &str = "00:00:00:00:00:00";

/// The machine's network cards, the one in use first. Interfaces without hardware (bridges, bonds, tunnels)
/// are left out, except for the one in use.
pub(super) fn cards(tree: &Tree, in_use: &str) -> Vec<Card> {
    let mut addresses = addresses().unwrap_or_else(|e| {
        log::warn!("addresses of the network cards: {e}");
        HashMap::new()
    });
    let class = tree.sys.join("class/net");
    let mut cards: Vec<Card> = names(&class)
        .into_iter()
        .filter(|name| name == in_use || class.join(name).join("device").exists())
        .map(|name| Card {
            mac: text(&class.join(&name).join("address")).to_ascii_lowercase(),
            addresses: addresses.remove(&name).unwrap_or_default(),
            speed: speed(&text(&class.join(&name).join("speed"))),
            duplex: duplex(&text(&class.join(&name).join("duplex"))),
            name,
        })
        .collect();
    cards.sort_by_key(|card| card.name != in_use);
    cards
}

/// The card with this address; `None` for the machine's own loopback addresses.
pub(super) fn with_address(tree: &Tree, address: IpAddr) -> Option<Card> {
    let (name, _) = addresses().ok()?.into_iter().find(|(_, all)| all.contains(&address))?;
    let card = cards(tree, &name).into_iter().find(|card| card.name == name)?;
    (!card.mac.is_empty() && card.mac != NO_MAC).then_some(card)
}

/// The kernel shows -1 for an unknown speed. So do drivers that never report one.
fn speed(text: &str) -> Option<u32> {
    text.parse().ok().filter(|speed| *speed > 0)
}

fn duplex(text: &str) -> Option<Duplex> {
    match text {
        "half" => Some(Duplex::Half),
        "full" => Some(Duplex::Full),
        _ => None,
    }
}

fn addresses() -> std::io::Result<HashMap<String, Vec<IpAddr>>> {
    let mut netlink = Netlink::open()?;
    let names: HashMap<u32, String> =
        netlink.links()?.into_iter().map(|link| (link.index, link.name)).collect();
    let mut addresses: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for (index, address) in netlink.addresses()? {
        if let Some(name) = names.get(&index) {
            addresses.entry(name.clone()).or_default().push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_card_has_the_speed_that_it_negotiated() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree { sys: root.path().to_owned(), ..Tree::of_this_machine() };
        for (speed, duplex, expected) in [
            (Some("100\n"), Some("half\n"), (Some(100), Some(Duplex::Half))),
            (Some("1000\n"), Some("full\n"), (Some(1000), Some(Duplex::Full))),
            // A virtual card, and one without carrier, whose attributes cannot be read.
            (Some("-1\n"), Some("unknown\n"), (None, None)),
            (Some("0\n"), Some("\n"), (None, None)),
            (None, None, (None, None)),
        ] {
            let folder = root.path().join("class/net/eth7");
            fs::create_dir_all(folder.join("device")).unwrap();
            for (name, content) in [("speed", speed), ("duplex", duplex)] {
                if let Some(content) = content {
                    fs::write(folder.join(name), content).unwrap();
                }
            }
            let card = cards(&tree, "eth7").remove(0);
            assert_eq!((card.speed, card.duplex), expected);
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
