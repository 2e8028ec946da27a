//! Taking out who is too slow: what the members' heartbeats tell goes to [`Slowness`], and whom that names
//! leaves the chain, alive and free to come again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ka::chain::{Decision, Membership, NodeId, Offset, Reason, Slow, SlowLimits, Slowness, Standing};
use ka::wire::control;
use ka_net::relay::Progress;

/// One stream's watch.
pub(super) struct SlowNodes {
    slowness: Slowness,
    /// What the chain waited for when it was last judged.
    limit: Option<Reason>,
}

impl SlowNodes {
    pub(super) fn new(limits: SlowLimits) -> Self {
        Self { slowness: Slowness::new(limits), limit: None }
    }

    pub(super) fn on_heartbeat(&mut self, node: NodeId, progress: control::Progress, now: Duration) {
        let control::Progress { verified, written, spent } = progress;
        self.slowness.on_report(node, Standing { spent, verified, written }, now);
    }

    /// What the chain waits for.
    pub(super) fn limit(&self) -> Option<&Reason> {
        self.limit.as_ref()
    }

    /// Reports that are missing for a moment say nothing of the limit.
    fn note_limit(&mut self, chain: &[NodeId], now: Duration) {
        if let Some(limit) = self.slowness.limit(chain, now) {
            self.limit = Some(limit);
        }
    }

    /// Takes out who is too slow now. `golden` is how far the golden node's member is, whether its producer has
    /// come to its end tells `produced`, and whether another round may follow `again`.
    pub(super) fn judge(
        &mut self,
        membership: &mut Membership,
        golden: &Progress,
        produced: bool,
        again: bool,
        now: Duration,
    ) -> Vec<Decision> {
        let tail = Offset(golden.tail.load(Ordering::Relaxed));
        self.slowness.on_golden(golden.standing(), tail, now);
        self.note_limit(membership.chain(), now);
        let chain = membership.chain();
        // Blocks may still wait between producer and relay, so this is the end or a little before it.
        let end = produced.then(|| Offset(golden.verified.load(Ordering::Relaxed)));
        // Slow is better than not at all.
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
