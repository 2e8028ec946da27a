//! The status of a session.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::Session;
use super::arrival::Arrival;
use super::book::Stage;
use super::event::Refused;
use super::node::Node;
use super::status::{
    LimitStatus, LimitedBy, MemberName, NodeStatus, Phase, RunStatus, Transfer, uncompressed_of,
};
use crate::chain::{Limit, Limiter, NodeId};
use crate::failure::{Failure, FailureKind};
use crate::mac::Mac;
use crate::step::Step;

impl Session {
    /// The current status.
    #[must_use]
    pub fn status(&self) -> (RunStatus, Transfer) {
        let (mut transfer, mut notes, mut limit) = (self.book.transfer, &self.book.notes, None);
        let mut limits = &self.limits;
        if let Some(stream) = &self.stream {
            (transfer, notes) = (stream.figures(self.now), &stream.golden().notes);
            limit = stream.limit().map(|limit| limit.reason().named(|id| self.label_of(id)));
            limits = stream.limits();
        }
        let limits = self.earlier_limits.and(limits).longest_first();
        let uncompressed = |sealed| uncompressed_of(&transfer, sealed);
        // A node that only joined, and left or was not chosen, is not part of the session.
        let gathering = matches!(self.book.stage, Stage::Gathering) && self.spec.plans.is_none();
        let shown = self
            .nodes()
            .filter(|known| !known.node.is_waiting() || gathering && known.live.connection.is_some());
        let has_rounds = self.has_rounds();
        let chosen = self.book.nodes.values().filter(|node| node.is_chosen());
        let back: BTreeSet<Mac> = chosen.filter_map(Node::mac).collect();
        let vanished = self.book.vanished.difference(&back).map(|mac| NodeStatus::vanished(*mac));
        let status = RunStatus {
            sent: transfer.uncompressed,
            // The estimate may be too low.
            total: self.spec.total.map(|total| total.max(transfer.uncompressed)),
            limit,
            limits: limits.into_iter().map(|(time, limit)| self.limit_status(time, limit)).collect(),
            notes: notes.clone(),
            nodes: shown
                .map(|known| NodeStatus {
                    hostname: self.name_of(known.node),
                    ..known.status(uncompressed, has_rounds)
                })
                .chain(vanished)
                .chain(self.book.refused.iter().map(refused))
                .collect(),
            ..RunStatus::new(&self.spec.name, &self.spec.name, self.spec.started)
        };
        (status, self.book.earlier.and(transfer))
    }

    /// The machines that wait to be admitted, in the order in which they joined.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.waiting().filter_map(Node::arrival).collect()
    }

    /// The name that a node has, or will have.
    fn name_of(&self, node: &Node) -> String {
        let given = node.mac().and_then(|mac| self.book.names.get(&mac)?.as_ref());
        given.map_or(&node.joined.inventory.hostname, |name| &name.hostname).clone()
    }

    fn limit_status(&self, time: Duration, limit: Limit) -> LimitStatus {
        let member = |id| self.member_name(id);
        let Limit { what, rate, best, busy, others } = limit;
        let what = match what {
            Limiter::Source => LimitedBy::Source,
            Limiter::Writer(node) => LimitedBy::Disk { node: member(node) },
            Limiter::Link { from, to } => LimitedBy::Link { from: member(from), to: member(to) },
        };
        LimitStatus { what, time, rate, best, busy, others }
    }

    /// A chain member, for programs.
    fn member_name(&self, id: NodeId) -> MemberName {
        let node = self.book.nodes.get(&id);
        MemberName {
            name: self.label_of(id),
            mac: node.and_then(Node::mac),
            address: node.map(|node| node.joined.peer),
        }
    }
}

/// A machine that was refused is listed as failed.
fn refused(refused: &Refused) -> NodeStatus {
    NodeStatus {
        address: refused.address.unwrap_or(IpAddr::from([0, 0, 0, 0])),
        hostname: refused.hostname.clone(),
        phase: Phase::Failed,
        failure: Some(Failure::own(
            Step::CheckMachine,
            FailureKind::Refused { reason: refused.reason.clone() },
        )),
        ..NodeStatus::vanished(refused.mac)
    }
}
