//! Reads the golden node's network cards.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ka::mac::Mac;
use ka::session::cards::Card;
use ka_host::hardware::slotted_cards;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// The current cards: hardware first, in the order of their slots.
///
/// # Errors
/// The system does not report them.
pub fn cards() -> nix::Result<Vec<Card>> {
    let class = Path::new("/sys/class/net");
    let hardware = slotted_cards().into_iter().map(|card| Card {
        below: vec![card.interface.clone()],
        interface: card.interface,
        mac: card.mac,
        driver: Some(card.driver),
        addresses: Vec::new(),
    });
    let mut cards: Vec<Card> = hardware.collect();
    for entry in getifaddrs()? {
        let index = cards.iter().position(|card| card.interface == entry.interface_name);
        let index = index.unwrap_or_else(|| {
            let below = hardware_below(class, &entry.interface_name, DEEPEST);
            cards.push(Card { interface: entry.interface_name.clone(), below, ..Card::default() });
            cards.len() - 1
        });
        let Some(card) = cards.get_mut(index) else { continue };
        let mac = entry.address.as_ref().and_then(|address| address.as_link_addr()?.addr());
        // The loopback address, all zeros, belongs to no card.
        card.mac = card.mac.or(mac.map(Mac).filter(|mac| *mac != Mac([0; 6])));
        if let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) {
            card.addresses.push((address, ones(mask)));
        }
    }
    Ok(cards)
}

/// A VLAN on a bridge over bonds has three levels; more are a loop.
const DEEPEST: usize = 8;

/// The cards that an interface is made of: itself, or all that are below it. The bridge ports of virtual
/// machines and containers are not cards.
fn hardware_below(class: &Path, interface: &str, deepest: usize) -> Vec<String> {
    if class.join(interface).join("device").exists() {
        return vec![interface.to_owned()];
    }
    let Some(deepest) = deepest.checked_sub(1) else { return Vec::new() };
    let entries = fs::read_dir(class.join(interface)).into_iter().flatten().flatten();
    let lower =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("lower_")?.to_owned()));
    let mut cards: Vec<String> = lower.flat_map(|name| hardware_below(class, &name, deepest)).collect();
    cards.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    cards.dedup();
    cards
}

fn ip(address: Option<SockaddrStorage>) -> Option<IpAddr> {
    let address = address?;
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

fn ones(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cards_below_a_bridge_are_found_through_bonds_and_vlans() {
        let class = tempfile::tempdir().unwrap();
        for path in [
            "ens3/device",
            "ens4/device",
            "br0/lower_ens3",
            "bond0/lower_ens3",
            "bond0/lower_ens4",
            "br1/lower_bond0.7",
            "br1/lower_vnet0",
            "vnet0",
            "bond0.7/lower_bond0",
            "lo",
            "round/lower_round",
        ] {
            fs::create_dir_all(class.path().join(path)).unwrap();
        }
        let of = |interface: &str| hardware_below(class.path(), interface, DEEPEST);
        assert_eq!((of("ens4"), of("br0")), (vec!["ens4".to_owned()], vec!["ens3".to_owned()]));
        assert_eq!(of("bond0"), ["ens3", "ens4"]);
        assert_eq!(of("br1"), ["ens3", "ens4"]);
        assert!(of("lo").is_empty() && of("round").is_empty());
    }

    #[test]
    fn this_machine_has_a_loop() {
        let cards = cards().unwrap();
        let lo = cards.iter().find(|card| card.interface == "lo").unwrap();
        assert!(lo.mac.is_none() && lo.addresses.contains(&("127.0.0.1".parse().unwrap(), 8)), "{lo:?}");
    }
}
