//! Nodes come, speak and go.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ka::chain::{MIN_WINDOW, NodeId};
use ka::keys;
use ka::wire::control::{Hello, Ticket, ToAgent, ToController};

use super::{Gate, Session, State, failure};
use crate::hub::Arrival;
use crate::hub::clock;
use crate::hub::logs::{Logs, Piece};
use crate::hub::net::ConnectionId;
use crate::hub::node::Node;
use crate::status::Phase;

/// A node that has said something within so many detection times is alive. It beats three times in one.
const ALIVE: u32 = 2;
/// So many nodes may join a session from one address. Machines have one each.
const MOST_OF_AN_ADDRESS: usize = 64;
/// What all nodes of a session may have told of themselves, in bytes: a usual one tells some 3 kB.
const MOST_IN_ALL: usize = 32 << 20;

impl Session {
    /// A node wants to join, or comes back.
    pub(in crate::hub) fn on_hello(
        &mut self,
        id: NodeId,
        hello: Hello,
        connection: ConnectionId,
        addresses: (IpAddr, IpAddr),
        now: Duration,
    ) -> Result<NodeId, String> {
        if let Some(ticket) = hello.resume {
            return self.on_return(ticket, connection, now);
        }
        if hello.window < MIN_WINDOW {
            return Err(format!("the node can keep {} bytes, and {MIN_WINDOW} are needed", hello.window));
        }
        let token = keys::random().map_err(|e| e.to_string())?;
        let mut node = Node::new(Ticket { node: id, token }, hello, connection, addresses);
        self.check(&node)?;
        self.has_room(&node)?;
        if let Err(reason) = self.fit(&mut node) {
            self.refuse_for_good(&node, &reason);
            return Err(reason);
        }
        self.replace_waiting(&node)?;
        let later = if self.round == 0 { "" } else { ", for the next round" };
        log::info!("{}: {} has joined{later}", self.spec.name, node.label());
        let ticket = node.ticket;
        self.nodes.insert(id, node);
        self.welcome(ticket);
        self.last_join = clock::now();
        Ok(id)
    }

    /// A machine that was reset while it waited comes again before its old connection ends: it counts once. But one that
    /// still speaks was not reset: then the newcomer is another machine, and both are shown.
    fn replace_waiting(&mut self, newcomer: &Node) -> Result<(), String> {
        if self.spec.gate == Gate::First {
            // Hosts that run may receive twice at a time.
            return Ok(());
        }
        let same = |node: &&Node| {
            node.phase == Phase::Joined && node.mac().is_some() && node.mac() == newcomer.mac()
        };
        let older: Vec<NodeId> = self.nodes.values().filter(same).map(Node::id).collect();
        for id in &older {
            let quiet = self.spec.dead_after * ALIVE;
            let Some(node) = self.nodes.get_mut(id) else { continue };
            let speaks = node.connection.is_some() && clock::now() - node.heard_at < quiet;
            if speaks && node.key != newcomer.key {
                node.claimed_by.insert(newcomer.peer);
                let (label, peer) = (node.label(), newcomer.peer);
                log::error!("{}: {peer} claims the hardware address of {label}, which waits", self.spec.name);
                self.tell(*id, ToAgent::Probe);
                return Err(format!(
                    "another machine waits with the same hardware address at {}: one of the two only claims it",
                    self.nodes.get(id).map_or(peer, |node| node.peer)
                ));
            }
        }
        for id in older {
            let reason = "the machine has joined again".to_owned();
            self.tell(id, ToAgent::Refused { reason });
            self.nodes.remove(&id);
        }
        Ok(())
    }

    /// Whether one more may wait: nobody fills the memory with machines that never do anything.
    fn has_room(&self, newcomer: &Node) -> Result<(), String> {
        // One that has just gone is remembered for a while, and takes as much.
        let here = self.nodes.values().filter(|n| n.connection.is_some() || n.phase == Phase::Joined);
        let beside = here.clone().filter(|node| node.peer == newcomer.peer).count();
        if beside >= MOST_OF_AN_ADDRESS && !newcomer.peer.is_loopback() {
            return Err(format!("{beside} nodes have joined from {} already", newcomer.peer));
        }
        let weight: usize = here.map(|node| node.weight).sum();
        if weight + newcomer.weight > MOST_IN_ALL {
            return Err("too many machines wait here".into());
        }
        Ok(())
    }

    /// Whether a node is one of this session's.
    pub(in crate::hub) fn knows(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Whether a newcomer may wait here.
    fn check(&self, node: &Node) -> Result<(), String> {
        let gathering = matches!(self.state, State::Gathering);
        if let Gate::Lasting(_) = self.spec.gate {
            return Ok(());
        }
        if !gathering && !self.has_rounds() {
            return Err("it has begun without this node".into());
        }
        if self.spec.gate == Gate::Named {
            if !node.erasable {
                return Err(
                    "the kernel was not started with 'kamethod': this machine may not be erased".into()
                );
            }
            if !gathering && !self.allows(node) {
                return Err("it has begun without this node".into());
            }
        }
        Ok(())
    }

    /// What the plan has against a latecomer. While the session gathers, whoever is asked sees what is wrong with the
    /// machine.
    fn fit(&self, node: &mut Node) -> Result<(), String> {
        let later = self.spec.gate == Gate::Named && !matches!(self.state, State::Gathering);
        if later { self.settle(node) } else { Ok(()) }
    }

    /// The machine boots from its disk from now on: it would come again and again.
    fn refuse_for_good(&mut self, node: &Node, reason: &str) {
        let Some(mac) = node.mac().filter(|mac| self.allowed.remove(mac)) else { return };
        self.show_refused(mac, Some(node), reason);
    }

    /// A node whose connection was lost is back; it is told again what it may have missed.
    fn on_return(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        now: Duration,
    ) -> Result<NodeId, String> {
        let id = ticket.node;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.ticket == ticket) else {
            return Err("it does not know this node any more".into());
        };
        if node.phase == Phase::Joined && matches!(self.state, State::Over(_)) {
            return Err("it has ended without this node".into());
        }
        let (mac, local, own) = (node.mac(), node.local, node.own.clone().unwrap_or_default());
        let failed = node.failure.as_ref().map(|failure| failure.reason.clone());
        let stream = node.stream;
        if let (Some(reason), None) = (&failed, stream) {
            // The round went on without it, and nothing that it waits for will come.
            return Err(reason.clone());
        }
        log::info!("{}: {} is back", self.spec.name, node.label());
        node.connection = Some(connection);
        node.lost_at = None;
        node.heard_at = clock::now();
        self.welcome(ticket);
        if matches!(self.state, State::Preparing)
            && self.chosen.contains(&id)
            && let Some(plan) = self.spec.plans.as_ref().map(|plans| plans.of(mac, local, &own))
        {
            self.tell(id, ToAgent::Plan(plan.into()));
        }
        let (mut place, mut proof) = (None, None);
        if let State::Streaming(running) = &mut self.state {
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
                if let Some((_, proof)) = self.proven.filter(|(proven, _)| *proven == stream) {
                    self.tell(id, ToAgent::Proof { stream, proof });
                    self.tell(id, ToAgent::Release { stream });
                }
            }
            _ => {}
        }
        Ok(id)
    }

    fn welcome(&mut self, ticket: Ticket) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let welcome = ToAgent::Welcome { ticket, time, dead_after: self.spec.dead_after };
        self.tell(ticket.node, welcome);
    }

    /// A node's connection has ended.
    pub(in crate::hub) fn on_closed(&mut self, id: NodeId, connection: ConnectionId, reason: &str) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.connection == Some(connection)) else {
            return;
        };
        if node.dismissed {
            return;
        }
        log::debug!("{}: the connection of {} is lost: {reason}", self.spec.name, node.label());
        node.connection = None;
        node.lost_at = Some(clock::now());
        if let State::Streaming(stream) = &mut self.state {
            stream.membership.on_disconnect(id);
        }
    }

    /// A node says something.
    pub(in crate::hub) fn on_message(&mut self, id: NodeId, message: ToController, now: Duration) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.heard_at = clock::now();
        let running = if let State::Streaming(stream) = &mut self.state { Some(stream) } else { None };
        match message {
            ToController::Hello(_) => log::warn!("{} says hello twice", node.label()),
            ToController::Heartbeat(progress) => {
                node.on_progress(progress);
                if let Some(stream) = running {
                    stream.on_heartbeat(id, progress, now);
                }
            }
            ToController::Complaint { stream, report } => {
                if let Some(running) = running.filter(|running| running.id() == stream) {
                    let decisions = running.membership.on_complaint(id, report, now);
                    self.decide(decisions);
                }
            }
            ToController::Step { name } => node.on_step(name),
            ToController::Ready => {
                if matches!(node.phase, Phase::Planned | Phase::Preparing) {
                    node.phase = Phase::Ready;
                }
            }
            ToController::Complete { stream, total } => {
                if node.stream == Some(stream) && self.totals.get(&stream) != Some(&total) {
                    let reason = format!(
                        "it says that it has {} bytes of the stream, and that is not what the golden node sent",
                        total.length
                    );
                    node.on_failed(failure("receive", reason, false, Some(stream)));
                } else {
                    node.on_complete(stream, total.length);
                }
            }
            ToController::Forged { stream, forged } => self.on_forged(id, stream, forged),
            ToController::Notes { stream, tally } => node.on_notes(stream, &tally),
            ToController::Failed(failure) => node.on_failed(failure),
            ToController::Log { offset, bytes } => {
                if node.chosen {
                    let piece = Piece { node: id, label: node.label(), name: node.log_name(), offset, bytes };
                    self.store_log(piece);
                }
            }
            // It was sent away, and has not heard it.
            ToController::Done if node.dismissed => self.tell(id, ToAgent::Bye),
            ToController::Done => node.on_done(),
        }
    }

    fn store_log(&mut self, piece: Piece) {
        let Some(directory) = &self.spec.log else { return };
        if self.logs.is_none() {
            match Logs::new(directory.clone(), self.spec.wanted) {
                Ok(logs) => self.logs = Some(logs),
                Err(error) => log::error!("the log of {} cannot be stored: {error}", piece.label),
            }
        }
        if let Some(logs) = &self.logs {
            logs.store(piece);
        }
    }

    /// The machines that wait to be let in, in the order in which they came.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.waiting().filter_map(Node::arrival).collect()
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.phase == Phase::Joined && node.connection.is_some())
    }
}
