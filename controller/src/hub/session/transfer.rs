//! While the stream runs: what its threads and the chain's membership want done.

use std::time::Duration;

use ka::chain::{Decision, NodeId, Reason, Report};
use ka::failure::{Failure, FailureKind};
use ka::proof::{Forged, Proof};
use ka::seal::StreamId;
use ka::step::Step;
use ka::wire::control::ToAgent;

use super::{Ending, Session, State};
use crate::hub::clock;
use crate::hub::node::Node;
use crate::status::Phase;
use crate::stream::StreamNotice;

impl Session {
    /// What the stream's threads say.
    pub(in crate::hub) fn on_notice(&mut self, notice: StreamNotice, now: Duration) {
        let State::Streaming(stream) = &mut self.state else { return };
        match notice {
            StreamNotice::Complaint(report) => self.on_golden_complaint(report, now),
            StreamNotice::RelayFailed(reason) => {
                self.abort(Step::Relay, &reason, Ending::SourceFailed(reason.clone()));
            }
            StreamNotice::Root(root) => self.prove(Proof { root, last: None }),
            StreamNotice::Produced(Ok(proof)) => {
                self.prove(proof);
                self.release();
            }
            StreamNotice::Produced(Err(error)) => {
                let reason = error.to_string();
                self.abort(Step::Source, &reason, Ending::SourceFailed(reason.clone()));
            }
            StreamNotice::TailComplete => {
                stream.on_tail_complete();
                self.release();
            }
        }
    }

    /// Lets everybody forget the stream once the last member has it and all know its proof. A short stream is through
    /// the chain before its producer has said so: the last proof must not be lost then, because all wait for it.
    fn release(&mut self) {
        let State::Streaming(stream) = &mut self.state else { return };
        if !stream.is_through() {
            return;
        }
        stream.release();
        let id = stream.id();
        self.proven = stream.proof().map(|proof| (id, proof));
        let members = stream.membership.chain().to_vec();
        self.account();
        for node in members {
            self.tell(node, ToAgent::Release { stream: id });
        }
        self.released_at = Some(clock::now());
        self.state = State::Leaving;
    }

    /// Hands the golden node's proof to everybody who receives its stream, over connections that nobody else can speak on.
    fn prove(&mut self, proof: Proof) {
        let State::Streaming(running) = &mut self.state else { return };
        running.on_proof(proof);
        let stream = running.id();
        self.totals.extend(proof.last.map(|total| (stream, total)));
        for id in self.chosen.clone() {
            let receives = |node: &Node| node.stream == Some(stream) && !node.dismissed;
            if self.nodes.get(&id).is_some_and(receives) {
                self.tell(id, ToAgent::Proof { stream, proof });
            }
        }
    }

    /// A node has found that what it received is not what the golden node sent. That its predecessor lied is its word
    /// alone: so both are named, and neither gains by it ([`super::trust`]).
    pub(super) fn on_forged(&mut self, id: NodeId, stream: StreamId, forged: Forged) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.stream == Some(stream)) else { return };
        if node.deceived_in == Some(stream) {
            return;
        }
        let place = node.position.unwrap_or(usize::MAX);
        let sender = forged.sender.filter(|sender| self.trust.were_linked(stream, *sender, id));
        let sender = sender.or_else(|| self.predecessor(id, stream));
        let label = |id: &NodeId| self.nodes.get(id).map_or_else(|| id.to_string(), Node::label);
        let (name, from) =
            (label(&id), sender.map_or_else(|| "a node that has left".into(), |id| label(&id)));
        log::error!(
            "{}: {name} received from {from}: {forged}. One of the two, or a node before them, sends forged data or \
             has bad memory",
            self.spec.name
        );
        if let Some(sender) = sender {
            self.trust.on_forged(stream, place, sender, id);
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        (node.deceived_by, node.deceived_in) = (Some(from), Some(stream));
    }

    fn on_golden_complaint(&mut self, report: Report, now: Duration) {
        if let State::Streaming(stream) = &mut self.state {
            let decisions = stream.membership.on_complaint(NodeId::GOLDEN, report, now);
            self.decide(decisions);
        }
    }

    pub(super) fn decide(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Probe(node) => self.tell(node, ToAgent::Probe),
                Decision::Expelled { node, reason, alive } => self.expel(node, &reason, alive),
                Decision::NewEpoch(epoch) => {
                    log::debug!("{}: epoch {}", self.spec.name, epoch.0);
                    self.send_views();
                }
            }
        }
        if matches!(&self.state, State::Streaming(stream) if !stream.has_nodes()) {
            if let State::Streaming(stream) = &mut self.state {
                stream.give_up();
            }
            self.account();
            self.state = State::Leaving;
        }
    }

    fn expel(&mut self, id: NodeId, reason: &Reason, alive: bool) {
        let Some(stream) = self.stream_id() else { return };
        let reason = reason.named(|id| self.label_of(id));
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // A copy that is complete stays so: only its memory was lost to the chain.
        if node.phase != Phase::Finishing && node.phase != Phase::Complete {
            let kind = FailureKind::Removed { reason: reason.clone() };
            node.fail(Failure { step: Step::Chain, kind, transient: alive, stream: Some(stream) });
            // Nobody waits for what a dead machine may still say.
            node.dead = !alive;
            if alive {
                self.bypassed += 1;
                node.bypassed = self.bypassed;
            }
        }
        self.tell(id, ToAgent::Abort { stream, reason });
    }

    pub(super) fn send_views(&mut self) {
        let State::Streaming(stream) = &self.state else { return };
        stream.place_golden();
        let id = stream.id();
        self.trust.on_chain(id, stream.membership.chain());
        let members = stream.membership.chain().iter().filter(|node| **node != NodeId::GOLDEN);
        let views: Vec<_> = members.filter_map(|node| Some((*node, stream.view(*node)?))).collect();
        for (node, view) in views {
            self.tell(node, ToAgent::View { stream: id, view });
        }
    }

    /// Whom a node had before it: in the chain as it is, or as the stream began if it is over.
    fn predecessor(&self, id: NodeId, stream: StreamId) -> Option<NodeId> {
        if let State::Streaming(running) = &self.state
            && running.membership.chain().contains(&id)
        {
            return running.membership.chain().iter().take_while(|member| **member != id).last().copied();
        }
        let place = self.nodes.get(&id)?.position?;
        let before = |node: &&Node| node.stream == Some(stream) && node.position.is_some_and(|p| p < place);
        let last = self.nodes.values().filter(before).max_by_key(|node| node.position);
        Some(last.map_or(NodeId::GOLDEN, Node::id))
    }

    /// Gives the stream, and with it the session, up for everybody.
    pub(super) fn abort(&mut self, step: Step, reason: &str, ending: Ending) {
        log::error!("{}: {reason}", self.spec.name);
        let running = self.stream_id();
        if let State::Streaming(stream) = &mut self.state {
            stream.give_up();
        }
        self.account();
        for id in self.chosen.clone() {
            if let Some(stream) = running {
                self.tell(id, ToAgent::Abort { stream, reason: reason.to_owned() });
            }
            // A copy that is complete stays so.
            let incomplete = |node: &&mut Node| !matches!(node.phase, Phase::Finishing | Phase::Complete);
            if let Some(node) = self.nodes.get_mut(&id).filter(incomplete) {
                let stream = node.stream;
                let kind = FailureKind::Aborted { reason: reason.to_owned() };
                node.fail(Failure::transient(step, kind).with(stream));
            }
        }
        // They still hand over their logs.
        self.given_up = Some(ending);
        self.state = State::Leaving;
    }

    /// Keeps the stream's figures, and what was noted of it.
    fn account(&mut self) {
        if let State::Streaming(stream) = &self.state {
            self.transfer = stream.figures();
            self.source_notes = stream.notes();
            self.limits = stream.limits().clone();
        }
    }
}
