//! Nodes join, send messages and disconnect.

use std::sync::Arc;

use super::book::Stage;
use super::event::{Ending, Event, Joined, Judge, Refused};
use super::input::{Arriving, ConnectionId, Effect, Piece};
use super::live::Live;
use super::node::{Node, State};
use super::{AdmissionPolicy, Session};
use crate::chain::{MIN_WINDOW, NodeId};
use crate::failure::{Failure, FailureKind};
use crate::step::Step;
use crate::wire::control::{Ticket, ToAgent, ToController};

/// A node that was heard within this many detection times is alive. It sends three heartbeats per detection
/// time.
pub(super) const ALIVE: u32 = 2;
/// The limits, in bytes, for the reports of all nodes of a session and of those of one address: a typical
/// node reports about 3 kB.
const MAX_IN_ALL: usize = 32 << 20;
const MAX_OF_AN_ADDRESS: usize = MAX_IN_ALL / 8;
/// The maximum lengths, in bytes, of a step's name and of a failure's reason including a tool's output.
const MAX_STEP: usize = 256;
const MAX_REASON: usize = 16 << 10;

impl Session {
    /// Handles a node that wants to join, or returns.
    pub(super) fn on_hello(&mut self, arriving: Arriving) {
        let connection = arriving.connection;
        let outcome = match arriving.hello.resume {
            Some(ticket) => self.on_return(ticket, connection, arriving.time),
            None => self.on_arrival(arriving),
        };
        if let Err(reason) = outcome {
            self.effects.push(Effect::Refused { connection, reason });
        }
    }

    fn on_arrival(&mut self, arriving: Arriving) -> Result<(), String> {
        let Arriving { id, hello, connection, peer, local, token, time, tpm } = arriving;
        if hello.window < MIN_WINDOW {
            return Err(format!(
                "the node can keep a window of {} bytes, and {MIN_WINDOW} are \
                needed",
                hello.window
            ));
        }
        let ticket = Ticket { node: id, token };
        let weight = hello.weight();
        let joined = Joined {
            ticket,
            key: hello.key,
            data_port: hello.data_port,
            window: hello.window,
            erasable: hello.erasable,
            place: hello.place,
            peer,
            local,
            weight,
            tpm,
            inventory: Arc::new(hello.inventory),
        };
        let node = Node::new(joined.clone());
        self.check(&node)?;
        self.has_room(&node)?;
        let settled = match self.fit(&node) {
            Ok(settled) => settled,
            Err(reason) => {
                self.refuse_for_good(&node, &reason);
                return Err(reason);
            }
        };
        self.replace_waiting(&node)?;
        let later = if self.book.round == 0 { "" } else { ", for the next round" };
        self.record(Event::Joined(Box::new(joined)));
        self.effects.push(Effect::Report(format!("{}: {} has joined{later}", self.spec.name, node.label())));
        self.live.insert(id, Live::new(Some(connection), self.now));
        self.effects.push(Effect::Joined { connection, node: id });
        settled.into_iter().for_each(|event| self.record(event));
        self.welcome(ticket, time);
        // Only nodes that answer are waited for.
        self.tell(id, ToAgent::Probe);
        self.last_join = self.now;
        Ok(())
    }

    /// A machine that was reset while it waited joins again before its old connection ends: it counts once.
    /// If the old node still sends messages, it was not reset. Then the newcomer is another machine, and both
    /// are shown.
    fn replace_waiting(&mut self, newcomer: &Node) -> Result<(), String> {
        if self.spec.admission == AdmissionPolicy::First {
            // Running hosts may receive two copies at a time.
            return Ok(());
        }
        let same = |node: &&Node| node.is_waiting() && node.mac().is_some() && node.mac() == newcomer.mac();
        let older: Vec<NodeId> = self.book.nodes.values().filter(same).map(Node::id).collect();
        let peer = newcomer.joined.peer;
        for id in &older {
            let quiet = self.spec.dead_after * ALIVE;
            let Some(known) = self.node(*id) else { continue };
            let is_heard = self.now.saturating_sub(known.live.heard_at) < quiet;
            let speaks = known.live.connection.is_some() && is_heard;
            if speaks && known.node.joined.key != newcomer.joined.key {
                let (label, address) = (known.node.label(), known.node.joined.peer);
                log::error!("{}: {peer} claims the hardware address of {label}, which waits", self.spec.name);
                self.record(Event::Claimed { node: *id, by: peer });
                self.tell(*id, ToAgent::Probe);
                return Err(format!(
                    "another machine with the same hardware address is waiting at {address}: one of the two \
                     claims it falsely"
                ));
            }
        }
        for id in older {
            let reason = "the machine has joined again".to_owned();
            let connection = self.live.get(&id).and_then(|live| live.connection);
            self.record(Event::Left { node: id, reason: reason.clone() });
            self.refuse(connection, &reason);
        }
        Ok(())
    }

    /// Whether one more node may wait: machines that never do anything must not fill the memory.
    fn has_room(&self, newcomer: &Node) -> Result<(), String> {
        // A node that has just gone is remembered for a while, and uses the same memory.
        let here = || {
            let here = self.nodes().filter(|n| n.live.connection.is_some() || n.node.is_waiting());
            here.map(|known| &known.node.joined)
        };
        let peer = newcomer.joined.peer;
        let beside = || here().filter(|joined| joined.peer == peer);
        if !peer.is_loopback() {
            let (count, most) = (beside().count(), self.spec.per_address);
            if count >= most {
                return Err(format!(
                    "{count} nodes have joined from {peer} already, and `[net] per_address` allows {most}"
                ));
            }
            let weight: usize = beside().map(|joined| joined.weight).sum();
            if weight + newcomer.joined.weight > MAX_OF_AN_ADDRESS {
                return Err(format!("the nodes at {peer} have sent too much data about themselves"));
            }
        }
        let weight: usize = here().map(|joined| joined.weight).sum();
        if weight + newcomer.joined.weight > MAX_IN_ALL {
            return Err("too many machines are waiting here".into());
        }
        Ok(())
    }

    /// Whether a newcomer may wait here.
    fn check(&self, node: &Node) -> Result<(), String> {
        let gathering = matches!(self.book.stage, Stage::Gathering);
        if let AdmissionPolicy::Lasting(_) = self.spec.admission {
            return Ok(());
        }
        if !gathering && !self.has_rounds() {
            return Err("it has started without this node".into());
        }
        if self.spec.admission == AdmissionPolicy::Named {
            if !node.joined.erasable {
                return Err(
                    "the kernel was not started with 'kamethod': this machine may not be erased".into()
                );
            }
            if !gathering && !self.allows(node) {
                return Err("it has started without this node".into());
            }
        }
        Ok(())
    }

    /// Checks a latecomer against the plan. While the session gathers, the operator sees the machine's
    /// problem instead.
    fn fit(&self, node: &Node) -> Result<Option<Event>, String> {
        let later =
            self.spec.admission == AdmissionPolicy::Named && !matches!(self.book.stage, Stage::Gathering);
        if later { self.settle(node) } else { Ok(None) }
    }

    /// Refuses a machine for the whole session, so that it boots from its disk: otherwise it would join again
    /// and again.
    fn refuse_for_good(&mut self, node: &Node, reason: &str) {
        if let Some(mac) = node.mac().filter(|mac| self.book.allowed.contains(mac)) {
            self.show_refused(mac, Vec::new(), Some(node), reason);
        }
    }

    /// A node whose connection was lost is back. It receives again whatever it may have missed.
    fn on_return(&mut self, ticket: Ticket, connection: ConnectionId, time: u64) -> Result<(), String> {
        let id = ticket.node;
        let now = self.now;
        let is_over = self.ending().is_some();
        let known = self.book.nodes.get(&id).filter(|node| node.joined.ticket == ticket);
        let (Some(node), Some(live)) = (known, self.live.get_mut(&id)) else {
            return Err("it no longer knows this node".into());
        };
        if node.is_waiting() && is_over {
            return Err("it has ended without this node".into());
        }
        let failed = node.failed().map(|failed| failed.failure.kind.to_string());
        let stream = node.stream();
        let nothing_comes = stream.is_none() || is_over;
        if let Some(reason) = failed.as_ref().filter(|_| nothing_comes) {
            // The round or the session continued without it, and nothing that it waits for will come.
            return Err(reason.clone());
        }
        log::info!("{}: {} is back", self.spec.name, node.label());
        let is_preparing = matches!(self.book.stage, Stage::Preparing) && self.book.chosen.contains(&id);
        (live.connection, live.lost_at, live.heard_at) = (Some(connection), None, now);
        self.returned_at.get_or_insert(now);
        self.effects.push(Effect::Joined { connection, node: id });
        self.welcome(ticket, time);
        if is_preparing {
            self.send_plan(id);
        }
        let (mut place, mut proof) = (None, None);
        if let Some(running) = &mut self.stream {
            running.membership.on_heartbeat(id, now);
            proof = running.proof();
            place = running.view(id).map(|view| (running.start.clone(), running.id(), view));
        }
        match (place, failed, stream) {
            (Some((start, stream, view)), ..) => {
                self.tell(id, ToAgent::Stream(Box::new(start)));
                self.tell(id, ToAgent::View { stream, view });
                if let Some(proof) = proof {
                    self.tell(id, ToAgent::Proof { stream, proof });
                }
            }
            (None, Some(reason), Some(stream)) => self.tell(id, ToAgent::Abort { stream, reason }),
            // It may have missed both while it was away, and waits for the first of them.
            (None, None, Some(stream)) => {
                let released = self.book.read.filter(|_| self.book.released == Some(stream));
                if let Some((_, proof)) = released.filter(|(read, _)| *read == stream) {
                    self.tell(id, ToAgent::Proof { stream, proof });
                    self.tell(id, ToAgent::Release { stream });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn welcome(&mut self, ticket: Ticket, time: u64) {
        let (dead_after, patience) = (self.spec.dead_after, self.spec.patience);
        let welcome = ToAgent::Welcome { ticket, time, dead_after, patience };
        self.tell(ticket.node, welcome);
    }

    /// Handles the end of a node's connection.
    pub(super) fn on_closed(&mut self, id: NodeId, connection: ConnectionId, reason: &str) {
        let now = self.now;
        let Some(node) = self.book.nodes.get(&id) else { return };
        let Some(live) = self.live.get_mut(&id).filter(|live| live.connection == Some(connection)) else {
            return;
        };
        if node.is_dismissed() {
            return;
        }
        log::debug!("{}: lost the connection to {}: {reason}", self.spec.name, node.label());
        (live.connection, live.lost_at) = (None, Some(now));
        if let Some(stream) = &mut self.stream {
            stream.membership.on_disconnect(id);
        }
    }

    /// Handles a node's message.
    pub(super) fn on_message(&mut self, id: NodeId, message: ToController) {
        let now = self.now;
        let (Some(node), Some(live)) = (self.book.nodes.get(&id), self.live.get_mut(&id)) else { return };
        live.on_heard(now);
        if let Some(stream) = &mut self.stream {
            // Whatever it says, it lives.
            stream.membership.on_heartbeat(id, now);
        }
        match message {
            ToController::Hello(_) => log::warn!("{} sent two hellos", node.label()),
            ToController::Heartbeat(progress) => {
                live.on_progress(progress, now);
                if let Some(stream) = &mut self.stream {
                    stream.on_heartbeat(id, progress, now);
                }
            }
            ToController::Complaint { stream, report } => {
                if let Some(running) = self.stream.as_mut().filter(|running| running.id() == stream) {
                    let decisions = running.membership.on_complaint(id, report, now);
                    self.decide(decisions);
                }
            }
            ToController::Step(mut doing) => {
                shorten(&mut doing.what, MAX_STEP);
                // Only a new step counts: a repeated step is no progress.
                if node.doing.as_ref() != Some(&doing)
                    || matches!(node.state, State::Preparing { begun: false })
                {
                    self.record(Event::Step { node: id, doing });
                }
            }
            ToController::Tpm(_) => log::debug!("{} speaks of its TPM after its hello", node.label()),
            ToController::Ready => self.record(Event::Ready { node: id }),
            ToController::Complete { stream, total } => {
                if node.stream() == Some(stream) && self.book.total(stream) != Some(total) {
                    let kind = FailureKind::WrongTotal { length: total.length };
                    self.on_failed(id, Failure::own(Step::Receive, kind).with(stream));
                } else {
                    let failed = node.is_failed();
                    self.record(Event::Complete { node: id, stream, length: total.length });
                    self.note_acquittal(id, failed);
                }
            }
            ToController::Forged { stream, forged } => self.on_forged(id, stream, forged),
            ToController::Notes { stream, tally } => {
                if node.stream() == Some(stream) {
                    self.record(Event::Noted { node: id, tally: tally.bounded() });
                }
            }
            ToController::Failed(failure) => self.on_failed(id, failure),
            ToController::Log { offset, bytes } => self.store_log(id, offset, bytes),
            // It was dismissed, and has not received the message.
            ToController::Done if node.is_dismissed() => self.tell(id, ToAgent::Bye),
            ToController::Done => {
                let failed = node.is_failed();
                self.record(Event::Done { node: id });
                self.note_acquittal(id, failed);
            }
        }
    }

    /// Stores a piece of the log of a node that takes part.
    pub(super) fn store_log(&mut self, id: NodeId, offset: u64, bytes: Vec<u8>) {
        if let Some(node) = self.book.nodes.get(&id).filter(|node| node.is_chosen()) {
            let piece = Piece { node: id, label: node.label(), name: node.log_name(), offset, bytes };
            self.effects.push(Effect::StoreLog(piece));
        }
    }

    /// Logs that a node's copy is complete after all.
    fn note_acquittal(&self, id: NodeId, failed: bool) {
        if let Some(node) = self.book.nodes.get(&id).filter(|node| failed && !node.is_failed()) {
            log::info!("{} is complete nevertheless", node.label());
        }
    }

    /// Handles a node's report of its failure, or a report that amounts to one.
    fn on_failed(&mut self, id: NodeId, mut failure: Failure) {
        let Some(node) = self.book.nodes.get(&id) else { return };
        if let Some(text) = failure.kind.text_mut() {
            shorten(text, MAX_REASON);
        }
        if failure.stream.is_some() && failure.stream != node.stream() {
            log::debug!("{} repeats a failure of an earlier round: {}", node.label(), failure.kind);
            return;
        }
        let failure = node.judge_deceit(failure);
        self.fail(id, failure, Judge::Node);
    }

    /// Fails a node on the judge's verdict. The first reason counts; its consequences are not reported again.
    pub(super) fn fail(&mut self, id: NodeId, failure: Failure, by: Judge) {
        let Some(node) = self.book.nodes.get(&id) else { return };
        let was_failed = node.is_failed();
        let (label, words) = (node.label(), format!("{} failed: {}", failure.step, failure.kind));
        self.record(Event::Failed { node: id, failure, by });
        if !was_failed && self.book.nodes.get(&id).is_some_and(Node::is_failed) {
            log::error!("{label}: {words}");
        }
    }

    /// Dismisses a waiting machine with the reason. Its end is shown.
    pub(super) fn send_away(&mut self, mac: crate::mac::Mac, reason: &str) {
        let ids: Vec<NodeId> = self.waiting().filter(|n| n.mac() == Some(mac)).map(Node::id).collect();
        let gone = ids.last().and_then(|id| self.book.nodes.get(id)).cloned();
        let connections: Vec<_> = ids.iter().filter_map(|id| self.live.get(id)?.connection).collect();
        self.show_refused(mac, ids, gone.as_ref(), reason);
        connections.into_iter().for_each(|connection| self.refuse(Some(connection), reason));
    }

    /// Refuses the host on a connection, if there is one. This is the final message there.
    fn refuse(&mut self, connection: Option<ConnectionId>, reason: &str) {
        if let Some(connection) = connection {
            let message = Box::new(ToAgent::Refused { reason: reason.to_owned() });
            self.effects.push(Effect::Send { connection, message });
        }
    }

    /// Refuses a machine that the plan cannot serve; it is listed among the failed ones.
    fn show_refused(&mut self, mac: crate::mac::Mac, nodes: Vec<NodeId>, node: Option<&Node>, reason: &str) {
        log::warn!("{}: {mac} is rejected: {reason}", self.spec.name);
        self.record(Event::Refused(Refused {
            mac,
            nodes,
            address: node.map(|node| node.joined.peer),
            hostname: node.map(|node| node.joined.inventory.hostname.clone()).unwrap_or_default(),
            reason: reason.to_owned(),
        }));
    }

    /// Stops the session for the operator.
    pub(super) fn stop(&mut self, reason: &str) {
        match self.book.stage {
            Stage::Over(_) => {}
            Stage::Gathering => self.end(Ending::Stopped),
            Stage::Preparing | Stage::Streaming(_) | Stage::Leaving => {
                self.abort(Step::Session, reason, Ending::Stopped);
            }
        }
    }
}

/// Truncates an untrusted text at a character boundary.
fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        let border = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(border);
        text.push_str(" ...");
    }
}
