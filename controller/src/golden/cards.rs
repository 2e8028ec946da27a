//! The golden node's network cards: what its configuration may name, and a clone's must not.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ka::mac::Mac;
use ka::plan::{GoldenHost, NodeAddress};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// A network card of the golden node, or what the kernel shows as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The kernel's name of the interface.
    pub interface: String,
    /// The name of the card itself: a bridge or VLAN has one below it.
    pub below: Option<String>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its addresses, each with the length of its network's prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The cards as they are now.
///
/// # Errors
/// The system does not tell.
pub fn cards() -> nix::Result<Vec<Card>> {
    let mut cards: Vec<Card> = Vec::new();
    for entry in getifaddrs()? {
        let index = cards.iter().position(|card| card.interface == entry.interface_name);
        let index = index.unwrap_or_else(|| {
            let below = hardware(Path::new("/sys/class/net"), &entry.interface_name);
            cards.push(Card { interface: entry.interface_name.clone(), below, ..Card::default() });
            cards.len() - 1
        });
        let Some(card) = cards.get_mut(index) else { continue };
        let mac = entry.address.as_ref().and_then(|address| address.as_link_addr()?.addr());
        // The loop's, all zeros, is nobody's.
        card.mac = card.mac.or(mac.map(Mac).filter(|mac| *mac != Mac([0; 6])));
        if let (Some(address), Some(mask)) = (ip(entry.address), ip(entry.netmask)) {
            card.addresses.push((address, ones(mask)));
        }
    }
    Ok(cards)
}

/// The card behind an interface: itself, or the only one below it.
fn hardware(class: &Path, interface: &str) -> Option<String> {
    if class.join(interface).join("device").exists() {
        return Some(interface.to_owned());
    }
    let entries = fs::read_dir(class.join(interface)).into_iter().flatten().flatten();
    let lower =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("lower_")?.to_owned()));
    let cards: Vec<String> = lower.filter(|name| class.join(name).join("device").exists()).collect();
    match cards.as_slice() {
        [card] => Some(card.clone()),
        _ => None,
    }
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

/// What a node has to replace, that reaches this machine at `local` and is to have the address `own`: the address that
/// this machine has in the same network, else the one at which it serves the nodes. Only that card is known to stand
/// for the one by which the node was reached.
#[must_use]
pub fn golden_host(cards: &[Card], local: IpAddr, own: Option<&NodeAddress>) -> GoldenHost {
    let local = local.to_canonical();
    let has = |card: &&Card| card.addresses.iter().any(|(address, _)| *address == local);
    let serving = cards.iter().find(has);
    let neighbour = own.and_then(|own| {
        let in_network =
            |&&(address, prefix): &&(IpAddr, u8)| network(address, prefix) == network(own.address, prefix);
        let first = serving.into_iter().chain(cards).filter(|card| card.interface != "lo");
        first
            .flat_map(|card| card.addresses.iter().map(move |address| (card, address)))
            .find(|(_, a)| in_network(a))
    });
    let address = neighbour.map_or(local, |(_, (address, _))| *address);
    let is_serving = |card: &&Card| neighbour.is_none_or(|(other, _)| other.interface == card.interface);
    GoldenHost {
        address: Some(address),
        mac: serving.and_then(|card| card.mac),
        interface: serving.filter(is_serving).and_then(|card| card.below.clone()),
    }
}

/// The network that an address is in; none for a prefix that covers everything, or is too long for the family.
fn network(address: IpAddr, prefix: u8) -> Option<(bool, u128)> {
    let (bits, length) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32_u32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let host = length.checked_sub(u32::from(prefix)).filter(|_| prefix > 0)?;
    Some((address.is_ipv4(), bits.checked_shr(host).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(interface: &str, last: u8, addresses: &[(&str, u8)]) -> Card {
        Card {
            interface: interface.into(),
            below: Some(interface.into()),
            mac: Some(Mac([2, 0, 0, 0, 0, last])),
            addresses: addresses
                .iter()
                .map(|(address, prefix)| (address.parse().unwrap(), *prefix))
                .collect(),
        }
    }

    #[test]
    fn the_address_to_replace_is_the_one_of_the_same_network() {
        let cards = [
            card("lo", 0, &[("127.0.0.1", 8)]),
            card("ens3", 3, &[("10.0.0.1", 24), ("fe80::1", 64)]),
            card("ens4", 4, &[("192.168.7.1", 24)]),
        ];
        let own = |text: &str| NodeAddress { address: text.parse().unwrap(), prefix: None, gateway: None };
        for (local, own, address, interface) in [
            ("10.0.0.1", None, "10.0.0.1", Some("ens3")),
            ("::ffff:10.0.0.1", None, "10.0.0.1", Some("ens3")),
            ("10.0.0.1", Some(own("10.0.0.7")), "10.0.0.1", Some("ens3")),
            // The nodes are cloned over one card, and live on another.
            ("10.0.0.1", Some(own("192.168.7.9")), "192.168.7.1", None),
            // Another network, which this machine is not in.
            ("10.0.0.1", Some(own("172.16.0.9")), "10.0.0.1", Some("ens3")),
            ("10.9.9.9", None, "10.9.9.9", None),
        ] {
            let host = golden_host(&cards, local.parse().unwrap(), own.as_ref());
            assert_eq!(host.address, Some(address.parse().unwrap()), "{local}");
            assert_eq!(host.interface.as_deref(), interface, "{local} {own:?}");
            assert_eq!(host.mac.is_some(), local != "10.9.9.9");
        }
    }

    #[test]
    fn a_bridges_card_is_the_one_below_it() {
        let class = tempfile::tempdir().unwrap();
        for path in
            ["ens3/device", "ens4/device", "br0/lower_ens3", "bond0/lower_ens3", "bond0/lower_ens4", "lo"]
        {
            fs::create_dir_all(class.path().join(path)).unwrap();
        }
        let of = |interface: &str| hardware(class.path(), interface);
        assert_eq!((of("ens4").as_deref(), of("br0").as_deref()), (Some("ens4"), Some("ens3")));
        assert_eq!((of("bond0"), of("lo")), (None, None));
    }

    #[test]
    fn this_machine_has_a_loop() {
        let cards = cards().unwrap();
        let lo = cards.iter().find(|card| card.interface == "lo").unwrap();
        assert!(lo.mac.is_none() && lo.addresses.contains(&("127.0.0.1".parse().unwrap(), 8)), "{lo:?}");
    }
}
