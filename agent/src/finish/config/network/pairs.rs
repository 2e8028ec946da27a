//! Pairs the golden node's cards with this node's.
//!
//! A configuration that waits for a card in another machine brings nothing up. One card is known: the node
//! was reached through it. The others are paired by the operator's choice, by a name that both have, and by
//! driver and slot.

use ka::mac::Mac;
use ka::plan::{GoldenCard, GoldenHost};
use ka::sha256::Sha256;

use ka_host::hardware::SlottedCard;

/// A golden card, and the node's card for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) golden: String,
    pub(super) golden_mac: Mac,
    pub(super) own: Mac,
}

/// All golden hardware addresses, with their replacements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// Golden cards with a counterpart on this node.
    pub(super) cards: Vec<Pair>,
    /// Golden cards without a counterpart: interface and address.
    pub(super) lost: Vec<(String, Mac)>,
    /// Addresses that a site has chosen for a bridge or similar, and this node's replacements.
    pub(super) pinned: Vec<(Mac, Mac)>,
}

impl Pairs {
    /// Pairs the cards. `told` are the operator's pairs, `own` the node's cards by slot, `reached` the card
    /// through which the node was reached.
    pub(super) fn new(
        golden: &GoldenHost,
        told: &[(String, Mac)],
        own: &[SlottedCard],
        reached: Option<Mac>,
    ) -> Self {
        let mut pairs = Self::default();
        let cards: Vec<(&GoldenCard, Mac)> = golden
            .cards
            .iter()
            .filter(|card| card.driver.is_some())
            .filter_map(|card| Some((card, card.mac?)))
            .collect();
        for (interface, mac) in told {
            match cards.iter().find(|(card, _)| card.interface == *interface) {
                Some((card, golden)) => pairs.add(&card.interface, *golden, *mac),
                None => warning!("{interface}={mac}: the golden node has no card {interface}"),
            }
        }
        if let (Some(golden_mac), Some(reached)) = (golden.mac, reached) {
            let card = cards.iter().find(|(_, mac)| *mac == golden_mac);
            let name = card.map(|(card, _)| card.interface.clone()).or(golden.interface.clone());
            pairs.add(&name.unwrap_or_default(), golden_mac, reached);
        }
        for (card, golden) in &cards {
            let same = |own: &&SlottedCard| {
                own.interface == card.interface && Some(&own.driver) == card.driver.as_ref()
            };
            if !is_the_kernels(&card.interface)
                && let Some(mac) = own.iter().find(same).and_then(|own| own.mac)
            {
                pairs.add(&card.interface, *golden, mac);
            }
        }
        for (card, golden) in &cards {
            let free = own.iter().filter(|own| Some(&own.driver) == card.driver.as_ref());
            let next = free.filter_map(|own| own.mac).find(|mac| !pairs.has_own(*mac));
            match next {
                Some(mac) => pairs.add(&card.interface, *golden, mac),
                None if pairs.of(*golden).is_none() => pairs.lost.push((card.interface.clone(), *golden)),
                None => {}
            }
        }
        let seed = reached.or_else(|| own.first()?.mac);
        let pinned = golden.cards.iter().filter(|card| card.pinned).filter_map(|card| card.mac);
        pairs.pinned = pinned.filter_map(|mac| Some((mac, derived(mac, seed?)))).collect();
        pairs
    }

    fn add(&mut self, golden: &str, golden_mac: Mac, own: Mac) {
        if self.of(golden_mac).is_none() && !self.has_own(own) {
            log::info!("this node's card {own} stands for the golden node's {golden} ({golden_mac})");
            self.cards.push(Pair { golden: golden.to_owned(), golden_mac, own });
        }
    }

    fn of(&self, golden: Mac) -> Option<Mac> {
        self.cards.iter().find(|pair| pair.golden_mac == golden).map(|pair| pair.own)
    }

    fn has_own(&self, mac: Mac) -> bool {
        self.cards.iter().any(|pair| pair.own == mac)
    }

    /// The replacement of a golden address where it is assigned rather than matched.
    pub(super) fn given(&self) -> Vec<(Mac, Mac)> {
        let seed = self.cards.first().map(|pair| pair.own);
        let lost = self.lost.iter().filter_map(|(_, mac)| Some((*mac, derived(*mac, seed?))));
        let cards = self.cards.iter().map(|pair| (pair.golden_mac, pair.own));
        cards.chain(lost).chain(self.pinned.iter().copied()).collect()
    }
}

/// Names that the kernel assigns in the order of detection: they do not identify a card.
fn is_the_kernels(interface: &str) -> bool {
    interface.strip_prefix("eth").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A unique address of this node in place of a chosen one: the same whenever the node is cloned, with the
/// bits of a locally administered unicast address.
fn derived(golden: Mac, own: Mac) -> Mac {
    let digest = Sha256::digest([golden.0, own.0].concat());
    let mut bytes = [0; 6];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Mac(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, last])
    }

    fn golden(interface: &str, last: u8, driver: &str) -> GoldenCard {
        GoldenCard {
            interface: interface.to_owned(),
            mac: Some(mac(last)),
            driver: Some(driver.to_owned()).filter(|driver| !driver.is_empty()),
            pinned: driver.is_empty(),
        }
    }

    fn own(interface: &str, last: u8, driver: &str) -> SlottedCard {
        SlottedCard { interface: interface.to_owned(), mac: Some(mac(last)), driver: driver.to_owned() }
    }

    fn host(cards: Vec<GoldenCard>) -> GoldenHost {
        GoldenHost { mac: Some(mac(1)), interface: Some("ens3".to_owned()), cards, ..GoldenHost::default() }
    }

    fn told(pairs: &Pairs) -> Vec<(u8, u8)> {
        pairs.cards.iter().map(|pair| (pair.golden_mac.0[5], pair.own.0[5])).collect()
    }

    #[test]
    fn cards_are_paired_by_word_by_name_and_by_slot() {
        let cards = vec![
            golden("ens3", 1, "e1000"),
            golden("ens4", 2, "e1000"),
            golden("ens5", 3, "e1000"),
            golden("ib0", 4, "mlx"),
        ];
        let host = host(cards);
        // By driver and slot; the node was reached through its second card.
        let own_cards = [own("eth0", 11, "e1000"), own("eth1", 12, "e1000"), own("eth2", 13, "e1000")];
        let pairs = Pairs::new(&host, &[], &own_cards, Some(mac(12)));
        assert_eq!(told(&pairs), [(1, 12), (2, 11), (3, 13)]);
        assert_eq!(pairs.lost, [("ib0".to_owned(), mac(4))]);
        // By name, where names are stable.
        let named = [own("ens5", 11, "e1000"), own("ens3", 12, "e1000"), own("ens4", 13, "virtio")];
        let pairs = Pairs::new(&host, &[], &named, Some(mac(12)));
        assert_eq!(told(&pairs), [(1, 12), (3, 11)]);
        // By the operator's choice, even against the card through which the node was reached.
        let pairs = Pairs::new(
            &host,
            &[("ens5".to_owned(), mac(12)), ("x".to_owned(), mac(9))],
            &own_cards,
            Some(mac(12)),
        );
        assert_eq!(told(&pairs), [(3, 12), (1, 11), (2, 13)]);
        // Only the one card is known.
        let alone = GoldenHost { cards: Vec::new(), ..host };
        assert_eq!(told(&Pairs::new(&alone, &[], &[], Some(mac(12)))), [(1, 12)]);
    }

    #[test]
    fn a_pinned_address_is_another_on_each_node_and_stays_that() {
        let host = host(vec![golden("ens3", 1, "e1000"), golden("br0", 9, "")]);
        let of = |last| Pairs::new(&host, &[], &[own("eth0", last, "e1000")], Some(mac(last))).pinned;
        let (one, other) = (of(11), of(12));
        assert_eq!(one.first().map(|(golden, _)| *golden), Some(mac(9)));
        assert_ne!(one, other);
        assert_eq!(one, of(11));
        let Mac(bytes) = one[0].1;
        assert_eq!(bytes[0] & 3, 2, "for one machine, and chosen");
    }
}
