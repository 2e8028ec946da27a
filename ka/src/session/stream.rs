//! The running stream: its chain, and the golden node's reports about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::input::{Golden, Started};
use super::slow::{Limits, SlowNodes};
use super::status::Transfer;
use crate::chain::{Decision, Limit, LinkKeys, LinkName, Membership, NodeId, SlowLimits, View};
use crate::proof::Proof;
use crate::seal::StreamId;
use crate::wire::control::{Progress, StreamStart};

/// A running attempt.
pub(super) struct Stream {
    pub(super) start: StreamStart,
    pub(super) membership: Membership,
    addresses: BTreeMap<NodeId, SocketAddr>,
    links: LinkKeys,
    slow: SlowNodes,
    golden: Golden,
    started: Duration,
    sent: Option<Duration>,
    /// The golden node's latest proof: it covers everything before it.
    proof: Option<Proof>,
    /// The last member has verified everything.
    tail_complete: bool,
    drained: Option<Duration>,
}

impl Stream {
    /// The stream runs down this chain of nodes with the addresses of their data ports.
    pub(super) fn new(
        started: Started,
        order: &[(NodeId, SocketAddr)],
        dead_after: Duration,
        slow: SlowLimits,
        now: Duration,
    ) -> Self {
        let Started { start, golden, links } = started;
        let nodes: Vec<NodeId> = order.iter().map(|(node, _)| *node).collect();
        let mut addresses: BTreeMap<NodeId, SocketAddr> = order.iter().copied().collect();
        addresses.insert(NodeId::GOLDEN, golden);
        Self {
            start,
            membership: Membership::new(&nodes, dead_after, now),
            addresses,
            links,
            slow: SlowNodes::new(slow),
            golden: Golden::default(),
            started: now,
            sent: None,
            proof: None,
            tail_complete: false,
            drained: None,
        }
    }

    pub(super) fn id(&self) -> StreamId {
        self.start.key.stream
    }

    /// The place of `node` in the current epoch.
    pub(super) fn view(&self, node: NodeId) -> Option<View<SocketAddr>> {
        let mut view = self.membership.view(node, |id| self.addresses.get(&id).copied())?;
        let secret =
            |from, to| self.links.secret(&LinkName { stream: self.id(), epoch: view.epoch, from, to });
        let up = view.predecessor_id().map(|predecessor| secret(predecessor, node));
        let down = view.successor.map(|successor| secret(node, successor));
        view.secrets.up = up.unwrap_or_default();
        view.secrets.down = down.unwrap_or_default();
        Some(view)
    }

    /// Records the golden node's position.
    pub(super) fn on_golden(&mut self, golden: Golden) {
        self.golden = golden;
    }

    /// The membership's current decisions; `again` is whether another round may follow.
    pub(super) fn judge(&mut self, again: bool, now: Duration) -> Vec<Decision> {
        self.membership.on_golden(self.golden.sample.verified, self.golden.tail, now);
        let mut decisions = self.membership.judge(now);
        let produced = self.sent.is_some();
        decisions.extend(self.slow.judge(&mut self.membership, &self.golden, produced, again, now));
        decisions
    }

    /// What limits the chain, once that is known.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.slow.limit()
    }

    /// Everything that has limited it.
    pub(super) fn limits(&self) -> &Limits {
        self.slow.limits()
    }

    /// Records a member's heartbeat: its position, and what it waits for.
    pub(super) fn on_heartbeat(&mut self, node: NodeId, progress: Progress, now: Duration) {
        self.membership.on_heartbeat(node, now);
        self.membership.on_position(node, progress.verified);
        self.slow.on_heartbeat(node, progress, now);
    }

    /// Whether any node is left.
    pub(super) fn has_nodes(&self) -> bool {
        self.membership.chain().len() > 1
    }

    /// Takes the golden node's next proof; the last one means that the whole stream has been produced.
    pub(super) fn on_proof(&mut self, proof: Proof, now: Duration) {
        self.proof = Some(proof);
        if proof.last.is_some() {
            self.sent.get_or_insert(now);
        }
    }

    /// The golden node's latest proof, for a returning node.
    pub(super) fn proof(&self) -> Option<Proof> {
        self.proof
    }

    /// Records that the last member of the chain has verified everything.
    pub(super) fn on_tail_complete(&mut self) {
        self.tail_complete = true;
    }

    /// Whether the whole stream was produced and has reached the end of the chain. The two reports come in
    /// any order.
    pub(super) fn is_through(&self) -> bool {
        self.tail_complete && self.proof.is_some_and(|proof| proof.last.is_some())
    }

    /// Records that all members have verified everything.
    pub(super) fn on_released(&mut self, now: Duration) {
        self.drained.get_or_insert(now);
    }

    /// The golden node's last known state.
    pub(super) fn golden(&self) -> &Golden {
        &self.golden
    }

    /// The transfer's figures.
    pub(super) fn figures(&self, now: Duration) -> Transfer {
        let sent = self.sent.unwrap_or(now);
        Transfer {
            uncompressed: self.golden.uncompressed,
            wire: self.golden.sample.verified.0,
            sending: sent.saturating_sub(self.started),
            draining: self.drained.unwrap_or(now).saturating_sub(sent),
            rounds: 1,
        }
    }
}
