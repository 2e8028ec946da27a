//! Selects the connection that makes room when there are too many: never one that makes progress.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The maximum number of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    /// In total.
    pub(super) total: usize,
    /// From one address: behind a NAT router, many machines share one.
    pub(super) per_address: usize,
    /// From one address, counting only connections without progress.
    pub(super) still_per_address: usize,
}

/// A connection that moves no byte for this long is stalled, and may have to make room.
pub(super) const STALLED: Duration = Duration::from_secs(3);

/// The decision on a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict<K> {
    /// There is room.
    Take,
    /// This one makes room.
    InPlaceOf(K),
    /// All slots are in active use: it waits until one is free.
    Wait,
    /// Its address already has its share, in active use.
    Refuse,
}

/// A connection as seen by the choice of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<K> {
    pub(super) key: K,
    pub(super) address: IpAddr,
    /// How long no byte has moved.
    pub(super) still: Duration,
    /// It has received its answer, and is only kept open.
    pub(super) idle: bool,
}

impl<K> Holder<K> {
    /// Whether it may have to make room.
    pub(super) fn may_go(&self) -> bool {
        self.idle || self.still >= STALLED
    }
}

impl Slots {
    /// Whether there is room for one more connection from `newcomer`. The address with the most connections
    /// loses one first, so that one address cannot take the others' slots by opening more.
    pub(super) fn judge<K: Copy>(self, newcomer: IpAddr, holders: &[Holder<K>]) -> Verdict<K> {
        let mut held = BTreeMap::<IpAddr, usize>::new();
        for holder in holders {
            *held.entry(holder.address).or_default() += 1;
        }
        let own = held.get(&newcomer).copied().unwrap_or(0);
        let goes = |among: &dyn Fn(&&Holder<K>) -> bool| {
            let rank = |holder: &&Holder<K>| (held.get(&holder.address).copied(), holder.idle, holder.still);
            holders.iter().filter(among).filter(|holder| holder.may_go()).max_by_key(rank).map(|h| h.key)
        };
        let still = holders.iter().filter(|holder| holder.address == newcomer && holder.may_go()).count();
        if own >= self.per_address || still >= self.still_per_address {
            return goes(&|holder| holder.address == newcomer).map_or(Verdict::Refuse, Verdict::InPlaceOf);
        }
        if holders.len() < self.total {
            return Verdict::Take;
        }
        goes(&|_| true).map_or(Verdict::Wait, Verdict::InPlaceOf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// `(address, seconds without a byte)`; the key is the place in the list.
    fn holders(list: &[(u8, u64)]) -> Vec<Holder<usize>> {
        let holder = |(key, &(last, still)): (usize, &(u8, u64))| Holder {
            key,
            address: address(last),
            still: Duration::from_secs(still),
            idle: false,
        };
        list.iter().enumerate().map(holder).collect()
    }

    #[test]
    fn who_makes_room() {
        let slots = Slots { total: 4, per_address: 3, still_per_address: 3 };
        for (newcomer, held, verdict) in [
            (1, &[][..], Verdict::Take),
            (1, &[(1, 9), (1, 9)][..], Verdict::Take),
            // Its own share is used up: its own stalled connection is closed, although there is room.
            (1, &[(1, 0), (1, 5), (1, 9)], Verdict::InPlaceOf(2)),
            (1, &[(1, 0), (1, 0), (1, 0)], Verdict::Refuse),
            // Full: the address with the most connections loses the one that has been idle longest.
            (9, &[(1, 60), (2, 4), (2, 5), (3, 0)], Verdict::InPlaceOf(2)),
            // Connections that make progress keep their slots, however many arrive.
            (9, &[(1, 0), (2, 1), (3, 2), (4, 0)], Verdict::Wait),
            (9, &[(1, 0), (2, 1), (3, 3), (4, 0)], Verdict::InPlaceOf(2)),
        ] {
            assert_eq!(slots.judge(address(newcomer), &holders(held)), verdict, "{newcomer}: {held:?}");
        }
    }

    /// 200 machines behind one router load at the same time, and each is served; the same address can hold
    /// only few connections that do nothing.
    #[test]
    fn an_address_may_have_more_that_load_than_that_wait() {
        let slots = Slots { total: 400, per_address: 300, still_per_address: 2 };
        let mut held = vec![(1, 0); 200];
        assert_eq!(slots.judge(address(1), &holders(&held)), Verdict::Take);
        held.extend([(1, 9), (1, 8)]);
        assert_eq!(slots.judge(address(1), &holders(&held)), Verdict::InPlaceOf(200));
        assert_eq!(slots.judge(address(2), &holders(&held)), Verdict::Take);
        assert_eq!(slots.judge(address(1), &holders(&vec![(1, 0); 300])), Verdict::Refuse);
    }

    #[test]
    fn an_idle_connection_goes_first() {
        let mut held = holders(&[(1, 0), (2, 0)]);
        held[1].idle = true;
        assert_eq!(
            Slots { total: 2, per_address: 2, still_per_address: 2 }.judge(address(9), &held),
            Verdict::InPlaceOf(1)
        );
    }
}
