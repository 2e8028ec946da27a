//! How many control connections there may be, and which one makes room for the next.
//!
//! A host that cannot prove itself is a stranger: the strangers of one address make room for each other first. A host
//! that has proved itself is a node, and many nodes may have one address: behind a router that translates addresses, or
//! as programs on one machine. So only their number per address is limited, and what they make the controller keep.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Connections that may be open without proof.
pub(super) const MAX_UNPROVEN: usize = 512;
/// Proven connections in total.
const MAX_PROVEN: usize = 8192;
/// Bytes of messages that have begun and not ended, from one address. A node sends one message at a time, and few that
/// are longer than a frame.
const MAX_UNFINISHED: usize = 64 << 20;

/// A proven connection, as far as its place is concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven {
    pub(super) peer: IpAddr,
    /// Bytes of the message that has not ended.
    pub(super) unfinished: usize,
}

/// The unproven connection that makes room for a newcomer, if one must: the oldest of the address that has the most of
/// them. `unproven` comes with the oldest first.
pub(super) fn makes_room<K>(unproven: Vec<(K, IpAddr)>) -> Option<K> {
    if unproven.len() < MAX_UNPROVEN {
        return None;
    }
    let mut held = BTreeMap::<IpAddr, usize>::new();
    for (_, address) in &unproven {
        *held.entry(*address).or_default() += 1;
    }
    let most = held.values().copied().max()?;
    unproven.into_iter().find(|(_, address)| held.get(address) == Some(&most)).map(|(key, _)| key)
}

/// Why one more proven connection of `peer`, which is among `proven` already, is not taken, if it is not.
pub(super) fn refusal(
    peer: IpAddr,
    per_address: usize,
    proven: impl Iterator<Item = Proven> + Clone,
) -> Option<String> {
    let all = proven.clone().count();
    if all > MAX_PROVEN {
        return Some(format!("{} connections are open", all - 1));
    }
    // On the controller's own machine, whoever may read the join key may do more than this.
    if peer.is_loopback() {
        return None;
    }
    let beside = proven.filter(|one| one.peer == peer).count();
    (beside > per_address).then(|| {
        format!("{peer} has {} connections open, and `[net] per_address` allows {per_address}", beside - 1)
    })
}

/// Whether the nodes of `peer` have sent more than may be kept of messages that have not ended.
pub(super) fn keeps_too_much(peer: IpAddr, proven: impl Iterator<Item = Proven>) -> bool {
    proven.filter(|one| one.peer == peer).map(|one| one.unfinished).sum::<usize>() > MAX_UNFINISHED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn proven(of: &[(u8, usize)]) -> Vec<Proven> {
        let of_one =
            |&(last, count): &(u8, usize)| vec![Proven { peer: address(last), unfinished: 1 << 20 }; count];
        of.iter().flat_map(of_one).collect()
    }

    #[test]
    fn the_address_with_the_most_strangers_makes_room() {
        let strangers =
            |of: &[u8]| of.iter().copied().enumerate().map(|(key, last)| (key, address(last))).collect();
        let mut of = vec![1, 2, 2];
        assert_eq!(makes_room(strangers(&of)), None);
        of.resize(MAX_UNPROVEN, 9);
        // The honest one came first, and would have been the oldest of all.
        assert_eq!(makes_room(strangers(&of)), Some(3));
    }

    #[test]
    fn nodes_of_one_address_have_a_limit_that_can_be_set() {
        let refused = |peer, per_address, of: &[(u8, usize)]| {
            refusal(address(peer), per_address, proven(of).into_iter())
        };
        assert_eq!(refused(1, 256, &[(1, 200), (2, 300)]), None);
        assert_eq!(refused(1, 256, &[(1, 256)]), None);
        let told = "10.0.0.1 has 256 connections open, and `[net] per_address` allows 256";
        assert_eq!(refused(1, 256, &[(1, 257)]).as_deref(), Some(told));
        assert_eq!(refused(1, 1000, &[(1, 257)]), None);
        assert_eq!(refused(1, 9000, &[(1, 8193)]).as_deref(), Some("8192 connections are open"));
        let here = Proven { peer: Ipv4Addr::LOCALHOST.into(), unfinished: 0 };
        assert_eq!(refusal(here.peer, 1, vec![here; 3].into_iter()), None);
    }

    #[test]
    fn what_one_address_leaves_unfinished_has_a_limit() {
        let much = |peer, of: &[(u8, usize)]| keeps_too_much(address(peer), proven(of).into_iter());
        assert!(!much(1, &[(1, 64), (2, 200)]));
        assert!(much(1, &[(1, 65)]));
    }
}
