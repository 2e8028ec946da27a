//! The controller's side: the real membership, and the hub's handling of its decisions.

use ka::chain::{Decision, NodeId, Slow};

use super::control::{ToHub, ToNode};
use super::host::Heard;
use super::invariants::{
    Violation, invariant_everybody_has_everything_at_release, invariant_only_the_faulty_are_expelled,
    invariant_only_the_slow_are_bypassed,
};
use super::network::HostId;
use super::schedule::When;
use super::world::World;

impl World<'_> {
    pub(super) fn hub_hears(&mut self, host: HostId, message: ToHub) -> Result<(), Violation> {
        let node = node_of(host);
        if let Some(reason) = self.gone.get(&host).cloned() {
            self.tell_node(host, ToNode::Expelled(reason));
            return Ok(());
        }
        self.membership.on_heartbeat(node, self.now);
        match message {
            ToHub::Heartbeat(sample) => {
                self.membership.on_position(node, sample.verified);
                let all = self.hosts[0].heard;
                let heard = &mut self.hosts[host].heard;
                if sample.verified > heard.position.max(all.position) {
                    *heard = Heard { position: sample.verified, moved: self.now };
                } else if all.position > heard.position {
                    // The hub knew that it has this much before it reported it.
                    *heard = all;
                }
                self.slowness.on_report(node, sample, self.now);
            }
            ToHub::Forged(forged) => self.hub_hears_of_forgery(host, forged)?,
            ToHub::Complaint(report) if !self.released => {
                self.note(|| format!("the hub hears from {node}: {report:?}"));
                if self.schedule.malice(host).accuses {
                    self.hosts[host_of(report.about)].slandered_by.insert(host);
                }
                let decisions = self.membership.on_complaint(node, report, self.now);
                self.carry_out(decisions)?;
            }
            ToHub::Complaint(_) => {}
        }
        self.hub_judges()
    }

    pub(super) fn hub_judges(&mut self) -> Result<(), Violation> {
        if self.released {
            return Ok(());
        }
        let golden = &self.hosts[0].member;
        let (sent, tail) = (golden.verified(), golden.tail_position());
        if tail > self.hosts[0].heard.position {
            self.hosts[0].heard = Heard { position: tail, moved: self.now };
        }
        self.membership.on_golden(sent, tail, self.now);
        let decisions = self.membership.judge(self.now);
        self.carry_out(decisions)?;
        self.hub_judges_slowness()
    }

    /// Removes members that are too slow.
    fn hub_judges_slowness(&mut self) -> Result<(), Violation> {
        let golden = &self.hosts[0];
        self.slowness.on_golden(golden.sample(), golden.member.tail_position(), self.now);
        let end = golden.member.total().map(|_| golden.member.verified());
        let Some(Slow { node, reason }) = self.slowness.judge(self.membership.chain(), end, self.now) else {
            return Ok(());
        };
        invariant_only_the_slow_are_bypassed(self, host_of(node), &reason.to_string())?;
        self.hosts[host_of(node)].suspect = true;
        self.outcome.slow += 1;
        let decisions = self.membership.expel(node, reason, true);
        self.carry_out(decisions)
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) -> Result<(), Violation> {
        for decision in decisions {
            match decision {
                Decision::Probe(node) => self.tell_node(host_of(node), ToNode::Probe),
                Decision::Expelled { node, reason, alive } => {
                    let host = host_of(node);
                    self.note(|| format!("{node} is expelled: {reason}"));
                    let reason = reason.to_string();
                    self.gone.insert(host, reason.clone());
                    self.settled = false;
                    self.tell_node(host, ToNode::Expelled(reason));
                    invariant_only_the_faulty_are_expelled(self, host, alive)?;
                }
                Decision::NewEpoch(_) => {
                    self.chain = self.membership.chain().iter().map(|id| host_of(*id)).collect();
                    self.settled = false;
                    for place in 0..self.chain.len() {
                        self.places[self.chain[place]] = place;
                        self.tell_place(self.chain[place]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a node its view.
    pub(super) fn tell_place(&mut self, host: HostId) {
        if let Some(view) = self.membership.view(node_of(host), |id| Some(host_of(id))) {
            self.tell_node(host, ToNode::View(view));
        }
    }

    /// A node has reconnected: it is sent everything that it may have missed.
    pub(super) fn hub_welcomes(&mut self, host: HostId) -> Result<(), Violation> {
        if let Some(reason) = self.gone.get(&host).cloned() {
            self.tell_node(host, ToNode::Expelled(reason));
            return Ok(());
        }
        self.membership.on_heartbeat(node_of(host), self.now);
        if let Some(proof) = self.proof {
            self.tell_node(host, ToNode::Proof(proof));
        }
        if self.released {
            self.tell_node(host, ToNode::Release);
        } else {
            self.tell_place(host);
        }
        self.hub_judges()
    }

    /// Releases all members once the golden node knows that all have everything.
    pub(super) fn release_when_done(&mut self) -> Result<(), Violation> {
        let golden = &self.hosts[0].member;
        if self.released || golden.total().is_none() || golden.tail_position() != golden.verified() {
            return Ok(());
        }
        self.note(|| "all have all: the hub releases".to_owned());
        self.released = true;
        self.settled = false;
        self.outcome.drained = self.now;
        self.arm(|when| when == When::Released);
        invariant_everybody_has_everything_at_release(self)?;
        for place in 0..self.chain.len() {
            self.tell_node(self.chain[place], ToNode::Release);
        }
        Ok(())
    }
}

pub(super) fn node_of(host: HostId) -> NodeId {
    NodeId(u32::try_from(host).unwrap_or(u32::MAX))
}

pub(super) fn host_of(node: NodeId) -> HostId {
    node.0 as usize
}
