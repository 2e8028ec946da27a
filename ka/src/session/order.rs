//! The chain's order: by address, or by rank, so that a chain crosses each uplink once.
//!
//! The order only decides which node follows which. A node that is in no list is served too, behind the
//! listed ones.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::inventory::{Card, Duplex};
use crate::mac::Mac;

/// The order of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChainOrder {
    /// By address.
    Address,
    /// The rank of each named node, then by address.
    Ranked(#[serde(with = "pairs")] BTreeMap<Name, usize>),
}

/// The name of a node in an order file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Name {
    /// Its card's hardware address.
    Mac(Mac),
    /// Its address.
    Address(IpAddr),
}

/// The properties that decide the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The card from which the node booted, if it reported one.
    pub mac: Option<Mac>,
    /// Its address, with its data port.
    pub address: SocketAddr,
}

impl ChainOrder {
    /// The indexes of `nodes` in chain order.
    #[must_use]
    pub fn arrange(&self, nodes: &[Candidate]) -> Vec<usize> {
        let mut order: Vec<(usize, &Candidate)> = nodes.iter().enumerate().collect();
        order.sort_by_key(|(_, node)| (self.rank(node), node.address));
        order.into_iter().map(|(index, _)| index).collect()
    }

    fn rank(&self, node: &Candidate) -> usize {
        let Self::Ranked(ranks) = self else { return 0 };
        let by_card = node.mac.and_then(|mac| ranks.get(&Name::Mac(mac)));
        let by_address = || ranks.get(&Name::Address(node.address.ip().to_canonical()));
        by_card.or_else(by_address).copied().unwrap_or(usize::MAX)
    }
}

/// The rate of a chain through a card, in Mbit/s, if known. Each node relays what it receives, so a
/// half-duplex card has half the rate.
#[must_use]
pub fn pace(card: &Card) -> Option<u32> {
    let half = card.duplex == Some(Duplex::Half);
    card.speed.map(|speed| if half { speed / 2 } else { speed })
}

/// Which cards are known to be slow: below half the rate of the fastest. Their nodes go to the end of the
/// chain, where no node is behind them.
#[must_use]
pub fn slow_cards<'a>(cards: impl IntoIterator<Item = Option<&'a Card>>) -> Vec<bool> {
    let paces: Vec<Option<u32>> = cards.into_iter().map(|card| card.and_then(pace)).collect();
    let fastest = paces.iter().flatten().max().copied().unwrap_or(0);
    paces.into_iter().map(|pace| pace.is_some_and(|pace| pace < fastest.div_ceil(2))).collect()
}

/// (De)serialises ranks as pairs: a [`Name`] cannot be a key of a JSON object.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Name;

    pub(super) fn serialize<S: Serializer>(ranks: &BTreeMap<Name, usize>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ranks)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Name, usize>, D::Error> {
        Vec::<(Name, usize)>::deserialize(from).map(|pairs| pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_one_address_come_by_port() {
        let nodes =
            [3, 1, 2].map(|port| Candidate { mac: None, address: SocketAddr::from(([127, 0, 0, 1], port)) });
        assert_eq!(ChainOrder::Address.arrange(&nodes), [1, 2, 0]);
    }

    #[test]
    fn slow_cards_are_known_before_the_run() {
        let card = |speed, duplex| Card { speed, duplex: Some(duplex), ..Card::default() };
        let (full, half) = (Duplex::Full, Duplex::Half);
        for (cards, expected) in [
            ([card(Some(1000), full), card(Some(100), full), card(None, full)], [false, true, false]),
            ([card(Some(100), full), card(Some(100), full), card(None, full)], [false, false, false]),
            ([card(Some(1000), half), card(Some(2500), full), card(Some(2500), full)], [true, false, false]),
            ([card(Some(100), full), card(Some(100), half), card(Some(10), full)], [false, false, true]),
            ([card(None, full), card(None, full), card(None, half)], [false, false, false]),
        ] {
            assert_eq!(slow_cards(cards.iter().map(Some)), expected, "{cards:?}");
        }
        assert_eq!(slow_cards([None]), [false]);
    }
}
