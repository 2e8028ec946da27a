//! Network cards.

use std::collections::HashMap;
use std::net::IpAddr;

use ka::inventory::Card;

use super::{Tree, names, text};
use crate::boot::network::rtnetlink::Netlink;

/// What the loopback device has.
const NO_MAC: &str = "00:00:00:00:00:00";

/// The machine's cards, the one in use first. Interfaces without a device behind them (bridges, bonds, tunnels) are
/// not cards, except for the one in use.
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
            name,
        })
        .collect();
    cards.sort_by_key(|card| card.name != in_use);
    cards
}

/// The card that has this address; none for one of the machine itself.
pub(super) fn with_address(tree: &Tree, address: IpAddr) -> Option<Card> {
    let (name, _) = addresses().ok()?.into_iter().find(|(_, all)| all.contains(&address))?;
    let card = cards(tree, &name).into_iter().find(|card| card.name == name)?;
    (!card.mac.is_empty() && card.mac != NO_MAC).then_some(card)
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
