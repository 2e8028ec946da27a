//! Taking out who is too slow: what the members' heartbeats tell goes to [`Slowness`], and whom that names
//! leaves the chain, alive and free to come again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ka::chain::{Decision, Membership, NodeId, Offset, Slow, SlowLimits, Slowness, Standing};
use ka::wire::control;
use ka_agent::relay::Progress;

/// One stream's watch.
pub(super) struct SlowNodes(Slowness);

impl SlowNodes {
    pub(super) fn new(limits: SlowLimits) -> Self {
        Self(Slowness::new(limits))
    }

    pub(super) fn on_heartbeat(&mut self, node: NodeId, progress: control::Progress, now: Duration) {
        let control::Progress { verified, written, spent } = progress;
        self.0.on_report(node, Standing { spent, verified, written }, now);
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
        self.0.on_report(NodeId::GOLDEN, golden.standing(), now);
        if membership.chain().len() <= 2 && !again {
            // Slow is better than not at all.
            return Vec::new();
        }
        // Blocks may still wait between producer and relay, so this is the end or a little before it.
        let end = produced.then(|| Offset(golden.verified.load(Ordering::Relaxed)));
        match self.0.judge(membership.chain(), end, now) {
            Some(Slow { node, reason }) => membership.expel(node, reason, true),
            None => Vec::new(),
        }
    }
}
