//! When a lease must be renewed: RFC 2131, 4.4.5, with the clock passed in.

use std::time::Duration;

/// The value that means "infinite".
const INFINITE: u32 = u32::MAX;

/// Shorter leases count as this many seconds: a lease of 0 s would be renewed without a pause.
const SHORTEST: u32 = 10;

/// The minimum time between two attempts to renew: a minute (RFC 2131, 4.4.5), but at most this fraction of a
/// short lease, or one or two lost packets would end it.
const RETRY: Duration = Duration::from_secs(60);
const PART: u32 = 16;

/// The ages of a lease at which something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timers {
    renew: Duration,
    rebind: Duration,
    expire: Duration,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing for this long.
    Wait(Duration),
    /// Ask the server that granted the lease.
    Renew,
    /// Ask all servers.
    Rebind,
    /// The lease has expired: start over.
    Expired,
}

impl Timers {
    /// From the server's seconds; `None` for a lease that never expires.
    pub(super) fn new(lease: u32, renew: Option<u32>, rebind: Option<u32>) -> Option<Self> {
        if lease == INFINITE {
            return None;
        }
        let lease = lease.max(SHORTEST);
        let (renew, rebind) = match (renew, rebind) {
            (Some(renew), Some(rebind)) if 0 < renew && renew < rebind && rebind < lease => (renew, rebind),
            _ => (lease / 2, lease - lease / 8),
        };
        let seconds = |s: u32| Duration::from_secs(s.into());
        Some(Self { renew: seconds(renew), rebind: seconds(rebind), expire: seconds(lease) })
    }

    /// What is due at `age` of the lease, if the last attempt to renew was at age `last`.
    pub(super) fn due(&self, age: Duration, last: Option<Duration>) -> Due {
        let (phase, end, due) = if age < self.renew {
            return Due::Wait(self.renew - age);
        } else if age < self.rebind {
            (self.renew, self.rebind, Due::Renew)
        } else if age < self.expire {
            (self.rebind, self.expire, Due::Rebind)
        } else {
            (self.expire, Duration::MAX, Due::Expired)
        };
        // Within a phase, each attempt waits for half of the remaining time.
        let next = match last {
            Some(last) if last >= phase => {
                let least = RETRY.min(self.expire / PART).max(Duration::from_secs(1));
                let half = if due == Due::Expired { RETRY } else { (end - last) / 2 };
                (last + half.max(least)).min(end)
            }
            _ => phase,
        };
        if age >= next { due } else { Due::Wait(next - age) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_servers_times_are_taken_if_they_make_sense() {
        for (lease, renew, rebind, expected) in [
            (3600, None, None, (1800, 3150, 3600)),
            (3600, Some(100), Some(200), (100, 200, 3600)),
            (3600, Some(200), Some(100), (1800, 3150, 3600)),
            (3600, Some(0), Some(0), (1800, 3150, 3600)),
            (3600, Some(10), Some(4000), (1800, 3150, 3600)),
            (0, None, None, (5, 9, 10)),
        ] {
            let (a, b, c) = expected;
            let timers = Timers { renew: s(a), rebind: s(b), expire: s(c) };
            assert_eq!(Timers::new(lease, renew, rebind), Some(timers), "{lease} {renew:?} {rebind:?}");
        }
        assert_eq!(Timers::new(u32::MAX, None, None), None);
    }

    #[test]
    fn each_phase_has_its_question() {
        let timers = Timers::new(8000, None, None).unwrap();
        for (age, last, expected) in [
            (0, None, Due::Wait(s(4000))),
            (3999, None, Due::Wait(s(1))),
            (4000, None, Due::Renew),
            (4001, Some(4000), Due::Wait(s(1499))),
            (5500, Some(4000), Due::Renew),
            (6950, Some(6940), Due::Wait(s(50))),
            (7000, Some(6999), Due::Rebind),
            (7001, Some(7000), Due::Wait(s(499))),
            (7990, Some(7960), Due::Wait(s(10))),
            (8000, Some(7999), Due::Expired),
            (8001, Some(8000), Due::Wait(s(59))),
            (8060, Some(8000), Due::Expired),
            (99_999, None, Due::Expired),
        ] {
            assert_eq!(timers.due(s(age), last.map(s)), expected, "{age} {last:?}");
        }
    }

    /// A silent server is asked at shrinking intervals, never more often than once per minute, until the
    /// lease expires.
    #[test]
    fn silence_is_met_with_patience() {
        for lease in [10, 60, 120, 3600, 86_400, u32::MAX - 1] {
            let timers = Timers::new(lease, None, None).unwrap();
            let (mut age, mut last, mut tries) = (Duration::ZERO, None, Vec::new());
            loop {
                match timers.due(age, last) {
                    Due::Wait(wait) => {
                        assert!(!wait.is_zero());
                        age += wait;
                    }
                    Due::Expired => break,
                    due => {
                        tries.push(due);
                        last = Some(age);
                    }
                }
            }
            assert_eq!(age, s(lease.into()));
            assert_eq!(tries.first(), Some(&Due::Renew));
            assert!(tries.contains(&Due::Rebind));
            assert!(tries.len() < 70, "{} tries in {lease} s", tries.len());
            assert!(tries.is_sorted_by_key(|due| *due == Due::Rebind));
        }
    }
}
