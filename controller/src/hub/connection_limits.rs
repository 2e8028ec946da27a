//! Limits the number of control connections, and selects the one to drop for a new one.
//!
//! A host that has not proved itself is a stranger: strangers of one address displace each other first. A
//! host that has proved itself is a node. Many nodes may share one address, behind a NAT router or as
//! programs on one machine, so for nodes only the number of connections per address and the buffered bytes
//! are limited.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The maximum number of open connections without proof.
pub(super) const MAX_UNPROVEN: usize = 512;
/// The maximum number of proven connections in total.
const MAX_PROVEN: usize = 8192;
/// The maximum size of all incomplete messages from one address, in bytes. A node sends one message at a
/// time, and few are longer than a frame.
const MAX_UNFINISHED: usize = 64 << 20;

/// A proven connection, as the limits see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven {
    pub(super) peer: IpAddr,
    /// The size of the incomplete message, in bytes.
    pub(super) unfinished: usize,
}

/// Selects the unproven connection to drop for a new one, if necessary: the oldest of the address with the
/// most. `unproven` is ordered from the oldest.
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

/// Why one more proven connection of `peer`, already counted in `proven`, is rejected; `None` if it is
/// accepted.
pub(super) fn refusal(
    peer: IpAddr,
    per_address: usize,
    proven: impl Iterator<Item = Proven> + Clone,
) -> Option<String> {
    let all = proven.clone().count();
    if all > MAX_PROVEN {
        return Some(format!("{} connections are open", all - 1));
    }
    // On the controller's own machine, a process that can read the join key can do more than this anyway.
    if peer.is_loopback() {
        return None;
    }
    let beside = proven.filter(|one| one.peer == peer).count();
    (beside > per_address).then(|| {
        format!("{peer} has {} connections open, and `[net] per_address` allows {per_address}", beside - 1)
    })
}

/// Whether the incomplete messages of `peer` exceed the limit.
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
        // The honest host connected first, and is the oldest of all.
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
