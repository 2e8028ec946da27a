//! Removes nodes that are too slow: the members' heartbeats feed [`Slowness`], and a node that it names
//! leaves the chain alive, free to join again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::input::Golden;
use crate::chain::{
    Decision, Limit, Limiter, Membership, NodeId, ProgressSample, Slow, SlowLimits, Slowness,
};
use crate::wire::control;

/// Watches one stream.
pub(super) struct SlowNodes {
    slowness: Slowness,
    /// What limits the chain, and when that was last seen.
    limit: Option<(Limit, Duration)>,
    /// How long a limit stays valid without being seen again.
    believed: Duration,
    limits: Limits,
    /// When the chain was last judged.
    judged: Option<Duration>,
}

/// Everything that has limited a chain, for how long, and the last figures of each.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits(BTreeMap<Limiter, (Duration, Limit)>);

impl Limits {
    fn note(&mut self, limit: Limit, passed: Duration) {
        let (time, last) = self.0.entry(limit.what).or_insert((Duration::ZERO, limit));
        *time += passed;
        *last = limit;
    }

    /// The limits of an earlier round and of this one, combined.
    pub(super) fn and(&self, next: &Self) -> Self {
        let mut both = self.clone();
        for (time, limit) in next.0.values() {
            both.note(*limit, *time);
        }
        both
    }

    /// Sorted by duration, longest first.
    pub(super) fn longest_first(&self) -> Vec<(Duration, Limit)> {
        let mut all: Vec<_> = self.0.values().copied().collect();
        all.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        all
    }
}

impl SlowNodes {
    pub(super) fn new(limits: SlowLimits) -> Self {
        // After a change of the chain, everything is measured again for this time.
        let believed = 2 * limits.after;
        let slowness = Slowness::new(limits);
        Self { slowness, limit: None, believed, limits: Limits::default(), judged: None }
    }

    pub(super) fn on_heartbeat(&mut self, node: NodeId, progress: control::Progress, now: Duration) {
        let control::Progress { verified, written, spent } = progress;
        self.slowness.on_report(node, ProgressSample { spent, verified, written }, now);
    }

    /// What limits the chain now.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.limit.map(|(limit, _)| limit)
    }

    /// Everything that has limited it.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn note_limit(&mut self, chain: &[NodeId], now: Duration) {
        let found = self.slowness.limit(chain, now);
        self.note_found(found, now);
    }

    /// Reports that are missing for a moment do not change the limit. But a card that is back at its full
    /// speed is no longer a limit.
    fn note_found(&mut self, found: Option<Limit>, now: Duration) {
        let passed = now.saturating_sub(self.judged.replace(now).unwrap_or(now));
        let recent = self.limit.filter(|(_, seen)| now.saturating_sub(*seen) < self.believed);
        self.limit = found.map(|limit| (limit, now)).or(recent);
        if let Some((limit, _)) = self.limit {
            self.limits.note(limit, passed);
        }
    }

    /// Removes a node that is too slow now. `golden` is the state of the golden node's member, `produced` is
    /// whether its producer has reached its end, and `again` is whether another round may follow.
    pub(super) fn judge(
        &mut self,
        membership: &mut Membership,
        golden: &Golden,
        produced: bool,
        again: bool,
        now: Duration,
    ) -> Vec<Decision> {
        self.slowness.on_golden(golden.sample, golden.tail, now);
        self.note_limit(membership.chain(), now);
        let chain = membership.chain();
        // Blocks may still wait between producer and relay, so this is the end or slightly before it.
        let end = produced.then_some(golden.sample.verified);
        // A slow copy is better than none.
        let alone = chain.len() <= 2 && !again;
        let found = if alone {
            self.slowness.judge_standstill(chain, now)
        } else {
            self.slowness.judge(chain, end, now)
        };
        match found {
            Some(Slow { node, reason }) => membership.expel(node, reason, true),
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(what: Limiter, rate: f64) -> Limit {
        Limit { what, rate, best: 9.0, busy: 0.9, others: 0.1 }
    }

    #[test]
    fn what_was_waited_for_longest_comes_first_over_all_rounds() {
        let (disk, s) = (Limiter::Writer(NodeId(3)), Duration::from_secs);
        let (mut first, mut second) = (Limits::default(), Limits::default());
        for (what, rate, passed) in [(disk, 1.0, 4), (Limiter::Source, 2.0, 10), (disk, 1.5, 4)] {
            first.note(limit(what, rate), s(passed));
        }
        assert_eq!(first.longest_first(), [(s(10), limit(Limiter::Source, 2.0)), (s(8), limit(disk, 1.5))]);
        second.note(limit(disk, 3.0), s(5));
        let both = first.and(&second);
        assert_eq!(both.longest_first(), [(s(13), limit(disk, 3.0)), (s(10), limit(Limiter::Source, 2.0))]);
        assert_eq!(Limits::default().longest_first(), []);
    }

    /// A card negotiates 100 Mbit/s in the middle of a run, and later 1 Gbit/s again.
    #[test]
    fn a_limit_is_shown_while_it_is_one() {
        let mut slow = SlowNodes::new(SlowLimits::default());
        let s = Duration::from_secs;
        let card = limit(Limiter::Link { from: NodeId::GOLDEN, to: NodeId(1) }, 1.0);
        for (at, found, shown) in [
            (1, None, None),
            (20, Some(card), Some(card)),
            // A node died, and all are measured again.
            (39, None, Some(card)),
            (50, Some(card), Some(card)),
            (71, None, None),
            (80, None, None),
        ] {
            slow.note_found(found, s(at));
            assert_eq!(slow.limit(), shown, "after {at} s");
        }
        let (time, _) = slow.limits().longest_first()[0];
        assert_eq!(time, s(49), "from the first moment to the last at which it was one");
    }
}
