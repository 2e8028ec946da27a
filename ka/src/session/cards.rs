//! The golden node's network cards: its configuration may name them, and a clone's must not.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::plan::{GoldenCard, GoldenHost, NodeAddress};

/// A network card of the golden node, or another interface that the kernel lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The interface's kernel name.
    pub interface: String,
    /// The names of the underlying cards, or its own if it is a card: a bridge, a VLAN or a bond is built on
    /// them.
    pub below: Vec<String>,
    /// Its hardware address: a card's own one, even in a bond.
    pub mac: Option<Mac>,
    /// Its driver, if it is a card.
    pub driver: Option<String>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The golden addresses and card that a node must replace. The node reaches this machine at `local`, and gets
/// the address `own`. That replaces this machine's address in the same network, or else the address at which
/// this machine serves the nodes. Only that card is known to correspond to the one by which the node was
/// reached.
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
    // The node was reached through a card. So that corresponds to the card below a bridge, whatever address
    // the card has; of several cards below a bond, to the first.
    let below = serving.and_then(|card| card.below.first());
    let hardware = below.and_then(|name| cards.iter().find(|card| card.interface == *name));
    GoldenHost {
        address: Some(address),
        mac: hardware.and_then(|card| card.mac),
        interface: serving.filter(is_serving).and(below).cloned(),
        cards: golden_cards(cards),
    }
}

/// The facts about all interfaces with a hardware address that a clone must know.
fn golden_cards(cards: &[Card]) -> Vec<GoldenCard> {
    let is_cards = |mac: Mac| cards.iter().any(|card| card.driver.is_some() && card.mac == Some(mac));
    let with_address = cards.iter().filter_map(|card| Some((card, card.mac?)));
    let told = with_address.map(|(card, mac)| GoldenCard {
        interface: card.interface.clone(),
        mac: Some(mac),
        driver: card.driver.clone(),
        pinned: card.driver.is_none() && !is_cards(mac),
    });
    told.collect()
}

/// The network of an address; `None` for a prefix that covers everything, or that is too long for the family.
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
            below: vec![interface.into()],
            mac: Some(Mac([2, 0, 0, 0, 0, last])),
            driver: Some("e1000".into()),
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
            // The nodes are cloned over one card, but operate on another.
            ("10.0.0.1", Some(own("192.168.7.9")), "192.168.7.1", None),
            // A network without this machine.
            ("10.0.0.1", Some(own("172.16.0.9")), "10.0.0.1", Some("ens3")),
            ("10.9.9.9", None, "10.9.9.9", None),
        ] {
            let host = golden_host(&cards, local.parse().unwrap(), own.as_ref());
            assert_eq!(host.address, Some(address.parse().unwrap()), "{local}");
            assert_eq!(host.interface.as_deref(), interface, "{local} {own:?}");
            assert_eq!(host.mac.is_some(), local != "10.9.9.9");
        }
    }

    /// The golden node serves through a bridge that has its own address.
    #[test]
    fn the_card_below_a_bridge_is_meant_not_the_bridges_own_address() {
        let own = |last| Some(Mac([2, 0, 0, 0, 0, last]));
        let above = |interface: &str, below: &[&str], last, addresses: &[(&str, u8)]| Card {
            below: below.iter().map(|name| (*name).to_owned()).collect(),
            driver: None,
            mac: own(last),
            ..card(interface, last, addresses)
        };
        let cards = [
            card("ens3", 3, &[]),
            card("ens4", 4, &[]),
            card("ens5", 5, &[]),
            above("br0", &["ens3"], 0xb0, &[("10.0.0.1", 24)]),
            above("bond0", &["ens4", "ens5"], 4, &[]),
            above("vlan7", &["ens4", "ens5"], 4, &[("10.7.0.1", 24)]),
        ];
        let of = |local: &str| golden_host(&cards, local.parse().unwrap(), None);
        let bridged = of("10.0.0.1");
        assert_eq!((bridged.mac, bridged.interface.as_deref()), (own(3), Some("ens3")));
        let bonded = of("10.7.0.1");
        assert_eq!((bonded.mac, bonded.interface.as_deref()), (own(4), Some("ens4")));
        let pinned: Vec<_> =
            bridged.cards.iter().filter(|card| card.pinned).map(|card| card.interface.as_str()).collect();
        assert_eq!(pinned, ["br0"], "a bond has the address of one of its cards");
        assert_eq!(bridged.cards.iter().filter(|card| card.driver.is_some()).count(), 3);
    }
}
