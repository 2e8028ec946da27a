//! While the stream runs: handles reports of its source and relay, and decisions of the chain's membership.

use super::Session;
use super::event::{Ending, Event, Judge};
use super::input::{Effect, StreamNotice};
use super::live::Known;
use super::node::{Node, State};
use super::trust::Finding;
use crate::chain::{Decision, NodeId, Reason, Report};
use crate::failure::{Failure, FailureKind};
use crate::proof::{Forged, Proof};
use crate::seal::StreamId;
use crate::step::Step;
use crate::wire::control::ToAgent;

impl Session {
    /// Handles a report from the stream's source or the golden node's relay.
    pub(super) fn on_notice(&mut self, notice: StreamNotice) {
        let Some(stream) = &mut self.stream else { return };
        match notice {
            StreamNotice::Complaint(report) => self.on_golden_complaint(report),
            StreamNotice::RelayFailed(reason) => {
                self.abort(Step::Relay, &reason, Ending::SourceFailed(reason.clone()));
            }
            StreamNotice::Root(root) => self.prove(Proof { root, last: None }),
            StreamNotice::Produced(proof) => {
                self.prove(proof);
                self.release();
            }
            StreamNotice::SourceFailed(reason) => {
                self.abort(Step::Source, &reason, Ending::SourceFailed(reason.clone()));
            }
            StreamNotice::TailComplete => {
                stream.on_tail_complete();
                self.release();
            }
        }
    }

    /// Lets all nodes forget the stream once the last member has it and all have its proof. A short stream is
    /// through the chain before its producer reports its end. The final proof must not be lost then, because
    /// all nodes wait for it.
    fn release(&mut self) {
        let Some(mut stream) = self.stream.take_if(|stream| stream.is_through()) else { return };
        stream.on_released(self.now);
        let id = stream.id();
        let members = stream.membership.chain().to_vec();
        self.record(Event::Released { stream: id });
        self.account(&stream);
        self.effects.push(Effect::ReleaseStream);
        for node in members {
            self.tell(node, ToAgent::Release { stream: id });
        }
        self.released_at = Some(self.now);
    }

    /// Sends the golden node's proof to all receivers of its stream, over connections that no other node can
    /// send on.
    fn prove(&mut self, proof: Proof) {
        let Some(running) = &mut self.stream else { return };
        running.on_proof(proof, self.now);
        let stream = running.id();
        if proof.last.is_some() {
            self.record(Event::Read { stream, proof });
        }
        for id in self.book.chosen.clone() {
            let receives = |node: &Node| node.stream() == Some(stream) && !node.is_dismissed();
            if self.book.nodes.get(&id).is_some_and(receives) {
                self.tell(id, ToAgent::Proof { stream, proof });
            }
        }
    }

    /// Handles a node's claim that its data differs from what the golden node sent. That its predecessor lied
    /// is only its own claim. So both are named, and neither gains by it ([`super::trust`]).
    pub(super) fn on_forged(&mut self, id: NodeId, stream: StreamId, forged: Forged) {
        let Some(node) = self.book.nodes.get(&id).filter(|node| node.stream() == Some(stream)) else {
            return;
        };
        if node.deceived.as_ref().is_some_and(|(known, _)| *known == stream) {
            return;
        }
        let place = node.position().unwrap_or(usize::MAX);
        let sender = forged.sender.filter(|sender| self.links.were_linked(stream, *sender, id));
        let sender = sender.or_else(|| self.predecessor(id, stream));
        let name = self.label_of(id);
        let from = sender.map_or_else(|| "a node that has left".into(), |id| self.label_of(id));
        log::error!(
            "{}: {name} received from {from}: {forged}. One of the two, or a node before them, sends forged \
             data or has faulty memory",
            self.spec.name
        );
        let finding = sender.map(|sender| Finding { place, sender, receiver: id });
        self.record(Event::Forged { stream, node: id, from, finding });
        self.restart_if_most_are_deceived(stream);
    }

    fn on_golden_complaint(&mut self, report: Report) {
        let now = self.now;
        let stream = self.stream.as_mut();
        let decisions = stream.map(|stream| stream.membership.on_complaint(NodeId::GOLDEN, report, now));
        self.decide(decisions.unwrap_or_default());
    }

    pub(super) fn decide(&mut self, decisions: Vec<Decision>) {
        let mut companions = Vec::new();
        for decision in decisions {
            match decision {
                Decision::Probe(node) => self.tell(node, ToAgent::Probe),
                Decision::Expelled { node, reason, alive } => {
                    self.expel(node, &reason, alive);
                    companions.extend(self.companions(node));
                }
                Decision::NewEpoch(epoch) => {
                    log::debug!("{}: epoch {}", self.spec.name, epoch.0);
                    self.send_views();
                }
            }
        }
        for id in companions {
            // The first of them takes the others with it.
            if self.book.nodes.get(&id).is_some_and(|node| matches!(node.state, State::Receiving)) {
                self.leave_behind(id, "another node with its address has joined but takes no part".into());
            }
        }
        if let Some(stream) = self.stream.take_if(|stream| !stream.has_nodes()) {
            self.effects.push(Effect::GiveUpStream);
            self.account(&stream);
        }
    }

    /// The late nodes at the address of a removed node that took no part. They have received nothing either:
    /// one host with many identities costs a chain one removal, not one for each identity.
    fn companions(&self, id: NodeId) -> Vec<NodeId> {
        let out = self.node(id).filter(|known| known.node.is_failed() && known.took_no_part());
        let Some(peer) = out.map(|known| known.node.joined.peer).filter(|peer| !peer.is_loopback()) else {
            return Vec::new();
        };
        let is_companion = |known: &Known<'_>| {
            let receives = matches!(known.node.state, State::Receiving);
            receives && known.took_no_part() && known.node.joined.peer == peer
        };
        self.nodes().filter(is_companion).map(|known| known.node.id()).collect()
    }

    fn expel(&mut self, id: NodeId, reason: &Reason, alive: bool) {
        let Some(stream) = self.stream_id() else { return };
        let reason = reason.named(|id| self.label_of(id));
        // A dead machine's remaining messages are not awaited.
        let judge = if alive { Judge::Bypassed } else { Judge::Dead };
        let kind = FailureKind::Removed { reason: reason.clone() };
        let failure = Failure { step: Step::Chain, kind, transient: alive, stream: Some(stream) };
        self.fail(id, failure, judge);
        self.tell(id, ToAgent::Abort { stream, reason });
    }

    pub(super) fn send_views(&mut self) {
        let Some(stream) = &self.stream else { return };
        let id = stream.id();
        let chain = stream.membership.chain();
        self.links.on_chain(id, chain);
        let views: Vec<_> = chain.iter().filter_map(|node| Some((*node, stream.view(*node)?))).collect();
        for (node, view) in views {
            if node == NodeId::GOLDEN {
                self.effects.push(Effect::PlaceGolden(Box::new(view)));
            } else {
                self.tell(node, ToAgent::View { stream: id, view });
            }
        }
    }

    /// The predecessor of this node: in the current chain, or in the stream's initial one if the stream is
    /// over.
    fn predecessor(&self, id: NodeId, stream: StreamId) -> Option<NodeId> {
        if let Some(running) = &self.stream
            && running.membership.chain().contains(&id)
        {
            return running.membership.chain().iter().take_while(|member| **member != id).last().copied();
        }
        let place = self.book.nodes.get(&id)?.position()?;
        let before =
            |node: &&Node| node.stream() == Some(stream) && node.position().is_some_and(|p| p < place);
        let last = self.book.nodes.values().filter(before).max_by_key(|node| node.position());
        Some(last.map_or(NodeId::GOLDEN, Node::id))
    }

    /// Gives up the stream, and with it the session, for all nodes.
    pub(super) fn abort(&mut self, step: Step, reason: &str, ending: Ending) {
        log::error!("{}: {reason}", self.spec.name);
        let running = self.stream_id();
        self.record(Event::GivenUp { ending });
        if let Some(stream) = self.stream.take() {
            self.effects.push(Effect::GiveUpStream);
            self.account(&stream);
        }
        self.starting.clear();
        for id in self.book.chosen.clone() {
            // A complete copy stays complete.
            if let Some(node) = self.book.nodes.get(&id).filter(|node| !node.has_copy()) {
                let kind = FailureKind::Aborted { reason: reason.to_owned() };
                let failure = Failure::transient(step, kind).with(node.stream());
                self.fail(id, failure, Judge::Controller);
            }
            if let Some(stream) = running {
                // These nodes still hand over their logs.
                self.tell(id, ToAgent::Abort { stream, reason: reason.to_owned() });
            }
        }
    }

    /// Records the stream's figures and notes.
    pub(super) fn account(&mut self, stream: &super::Stream) {
        let (transfer, notes) = (stream.figures(self.now), stream.golden().notes.clone());
        self.limits = stream.limits().clone();
        self.record(Event::Ended { transfer, notes });
    }
}
