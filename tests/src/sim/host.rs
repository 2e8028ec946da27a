//! One simulated host: the shell around a member, as the agent is in reality.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use ka::chain::LinkMessage;
use ka::chain::{Action, LinkId, Member, NodeId, Offset, ProgressSample, Spent, Trouble, Waiting};
use ka::proof::Checker;
use ka::seal::{Block, StreamId, Total};
use ka::wire::control::{Ticket, ToController};

use super::control::Control;
use super::invariants::{Judged, Violation, invariant_writer_sees_the_stream};
use super::network::{ACCEPTOR, Connection, ConnectionId, DIALLER, Frame, HostId, time_of};
use super::schedule::HostPlan;
use super::stream::Stream;
use super::world::{Event, World};

/// The parts of a host that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    /// The process.
    On,
    /// The process, but it is stopped.
    Hung,
    /// Only the kernel.
    Down,
    /// Nothing.
    Off,
}

/// The outcome of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// None yet.
    Running,
    /// It has the whole stream.
    Complete,
    /// Its writer failed; the node knows.
    Failed,
    /// The controller has given up the stream for it, for this reason: it waits for another round.
    Expelled(String),
    /// It returned after a reboot, and is not a member of this chain.
    Stranger,
}

/// One host.
pub(super) struct Host {
    pub(super) plan: HostPlan,
    /// Its number in the session.
    pub(super) id: NodeId,
    pub(super) power: Power,
    /// Isolated from all others.
    pub(super) isolated: bool,
    pub(super) member: Member<HostId>,
    /// Incremented when the process dies: its timers die with it.
    pub(super) life: u32,
    /// Connections, and which end belongs to this host.
    pub(super) connections: Vec<(ConnectionId, usize)>,
    /// The writer's current work: the end offset, and the stream's totals if it ends there.
    pub(super) writing: Option<(Offset, Option<Total>)>,
    /// The plaintext that the writer has received.
    pub(super) plaintext: usize,
    pub(super) fate: Fate,
    pub(super) released: bool,
    /// The stream that it receives, or has received last.
    pub(super) stream: Option<StreamId>,
    /// What proves to the controller that it is the same node.
    pub(super) ticket: Option<Ticket>,
    /// What the controller must know, even after an outage.
    pub(super) said: Vec<ToController>,
    /// It has carried out its plan, and waits for the stream.
    pub(super) planned: bool,
    /// Its stream was given up after it had its own result: it relays no more.
    pub(super) cut: bool,
    /// It has left the session, or was dismissed from it with a copy.
    pub(super) left: bool,
    pub(super) is_dismissed: bool,
    /// The controller has dismissed it with a copy, whether it knows that or not.
    pub(super) is_served: bool,
    /// The stream that it receives, as its golden node sends it.
    pub(super) data: Rc<Stream>,
    /// The machine has a complete copy, which must not be erased.
    pub(super) has_copy: bool,
    /// It has the last proof of its stream.
    pub(super) is_proven: bool,
    /// Since when the controller knows that it waits for a round.
    pub(super) waits_since: Option<Duration>,
    /// A fault has hit it or one of its links.
    pub(super) suspect: bool,
    pub(super) spent: Spent,
    waiting: Waiting,
    pub(super) control: Control,
    pub(super) judged: Judged,
    /// Its copy compared with the golden node's roots, and with the final block's claim once everything is
    /// written.
    pub(super) checker: Checker,
    pub(super) claimed: Option<Total>,
    /// Its writer received data that the golden node never sent.
    pub(super) deceived: bool,
    /// The blocks of its own that it forwards.
    pub(super) forgeries: Vec<(usize, Block)>,
    /// The member that sent it a forged block.
    pub(super) deceivers: BTreeSet<HostId>,
    /// Its progress as known to the hub; for the golden node, the progress of all.
    pub(super) heard: Heard,
    /// Liars that have complained of it.
    pub(super) slandered_by: BTreeSet<HostId>,
}

/// A position, and since when it is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    pub(super) position: Offset,
    pub(super) moved: Duration,
}

impl Host {
    pub(super) fn new(id: NodeId, plan: HostPlan, member: Member<HostId>, data: Rc<Stream>) -> Self {
        Self {
            plan,
            id,
            power: Power::On,
            isolated: false,
            member,
            life: 0,
            connections: Vec::new(),
            writing: None,
            plaintext: 0,
            fate: Fate::Running,
            released: false,
            stream: None,
            ticket: None,
            said: Vec::new(),
            planned: false,
            cut: false,
            left: false,
            is_dismissed: false,
            is_served: false,
            data,
            has_copy: false,
            is_proven: false,
            waits_since: None,
            suspect: false,
            spent: Spent::default(),
            waiting: Waiting::default(),
            control: Control::default(),
            judged: Judged::default(),
            checker: Checker::default(),
            claimed: None,
            deceived: false,
            forgeries: Vec::new(),
            deceivers: BTreeSet::new(),
            heard: Heard::default(),
            slandered_by: BTreeSet::new(),
        }
    }

    /// Its report to the controller about itself.
    pub(super) fn sample(&self) -> ProgressSample {
        let (verified, written) = (self.member.verified(), self.member.written());
        ProgressSample { spent: self.spent, verified, written }
    }

    /// Whether its process runs and takes part.
    pub(super) fn takes_part(&self) -> bool {
        self.power == Power::On && !self.cut && !self.left && !matches!(self.fate, Fate::Expelled(_))
    }

    /// Whether its process runs and has not left the session.
    pub(super) fn speaks(&self) -> bool {
        self.power == Power::On && !self.left
    }

    /// Whether it can still become complete, according to its own state.
    pub(super) fn lives(&self) -> bool {
        matches!(self.power, Power::On | Power::Hung)
            && !self.cut
            && !self.left
            && !matches!(self.fate, Fate::Expelled(_) | Fate::Stranger)
    }
}

impl World<'_> {
    /// Carries out everything that a member can do now, then judges it.
    pub(super) fn pump(&mut self, host: HostId) -> Result<(), Violation> {
        if !self.hosts[host].takes_part() {
            return Ok(());
        }
        self.act(host);
        loop {
            let read = self.read(host);
            let wrote = self.write(host)?;
            let relayed = self.relay(host);
            let acked = self.ack(host);
            if !(read || wrote || relayed || acked) {
                break;
            }
        }
        if host == 0 && self.producer_waits && self.hosts[0].member.wants_block() {
            self.producer_waits = false;
            self.after(Duration::ZERO, Event::Produce(self.outcome.streams));
        }
        self.account(host);
        self.judge_step(host)
    }

    /// Accounts what the host has waited for until now, and records what it waits for next.
    fn account(&mut self, host: HostId) {
        let node = &self.hosts[host];
        let to_successor = |(id, end): &&(ConnectionId, usize)| {
            let link = self.connections[*id].links[*end];
            link.is_some() && link == node.member.successor_link()
        };
        let down = node.connections.iter().find(to_successor);
        let waiting = Waiting {
            starved: node.member.wants_block(),
            output: down.is_some_and(|(id, end)| self.connections[*id].pipes[*end].blocked),
            writer: node.member.is_held_by_writer(),
        };
        let now = self.now;
        let node = &mut self.hosts[host];
        node.spent.add(node.waiting, now);
        node.waiting = waiting;
    }

    /// Carries out the member's queued requests.
    pub(super) fn act(&mut self, host: HostId) {
        for action in self.hosts[host].member.take_actions() {
            match action {
                Action::Dial { link, to, name } => {
                    let id = self.connections.len();
                    self.connections.push(Connection::new(host, link, to.address));
                    self.hosts[host].connections.push((id, DIALLER));
                    self.hosts[to.address].connections.push((id, ACCEPTOR));
                    self.transmit(id, DIALLER, Frame::Knock(name));
                }
                Action::Accept { link, .. } => self.on_link(host, link, |world, id, end| {
                    world.transmit(id, end, Frame::Accepted);
                }),
                Action::Send { link, message } => self.on_link(host, link, |world, id, end| {
                    world.transmit(id, end, Frame::Message(message));
                }),
                Action::Close { link } | Action::Part { link } => self.on_link(host, link, World::close),
                // A liar does not draw attention to its link.
                Action::Complain(_) if self.withholds(host) => {}
                Action::Complain(report) => {
                    let stream = self.hosts[host].data.key.stream;
                    self.tell_hub(host, ToController::Complaint { stream, report });
                }
            }
        }
    }

    fn on_link(&mut self, host: HostId, link: LinkId, act: impl FnOnce(&mut Self, ConnectionId, usize)) {
        let known = |(id, end): &&(ConnectionId, usize)| self.connections[*id].links[*end] == Some(link);
        if let Some((id, end)) = self.hosts[host].connections.iter().find(known).copied() {
            act(self, id, end);
        }
    }

    /// One end closes: data in flight to it are lost.
    pub(super) fn close(&mut self, id: ConnectionId, end: usize) {
        if !self.connections[id].open[end] {
            return;
        }
        self.transmit(id, end, Frame::Closed);
        self.connections[id].open[end] = false;
        let host = self.connections[id].hosts[end];
        self.hosts[host].connections.retain(|here| *here != (id, end));
    }

    /// Reads the arrived data that the member asks for.
    fn read(&mut self, host: HostId) -> bool {
        let mut read = false;
        let mut at = 0;
        while let Some((id, end)) = self.hosts[host].connections.get(at).copied() {
            at += 1;
            while let Some(frame) = self.next_frame(host, id, end) {
                read = true;
                let link = self.connections[id].links[end];
                let member = &mut self.hosts[host].member;
                match (frame, link) {
                    (Frame::Knock(name), _) => {
                        let link = member.new_link();
                        self.connections[id].links[end] = Some(link);
                        member.on_knock(link, name);
                    }
                    (Frame::Accepted, Some(link)) => {
                        self.connections[id].accepted = true;
                        member.on_open(link, self.now);
                    }
                    (Frame::Message(message), Some(link)) => self.on_message(host, link, message),
                    (Frame::Block(block), Some(link)) => {
                        member.on_block(link, block.clone(), self.now);
                        self.prove(host, &block, self.connections[id].hosts[1 - end]);
                    }
                    (Frame::Damaged, Some(link)) => {
                        self.close(id, end);
                        self.hosts[host].member.on_lost(link, Trouble::Damaged);
                    }
                    (Frame::Closed, Some(link)) => {
                        member.on_lost(link, Trouble::Reset);
                        self.forget(id, end);
                    }
                    (_, None) => self.forget(id, end),
                }
                self.act(host);
            }
            if !self.hosts[host].connections.contains(&(id, end)) {
                // A removed connection may have moved the others forward in the list.
                at = 0;
            }
        }
        read
    }

    fn on_message(&mut self, host: HostId, link: LinkId, message: LinkMessage) {
        self.hosts[host].member.on_message(link, message, self.now);
    }

    /// The next frame that the shell would read: it reads nothing from a predecessor while the member has no
    /// room.
    fn next_frame(&mut self, host: HostId, id: ConnectionId, end: usize) -> Option<Frame> {
        if end == DIALLER && self.connections[id].accepted && self.withholds(host) {
            return None;
        }
        let member = &self.hosts[host].member;
        let wanted = member.wants_block() || member.total().is_some();
        let connection = &mut self.connections[id];
        if !connection.open[end] || (end == DIALLER && connection.accepted && !wanted) {
            return None;
        }
        let pipe = &mut connection.pipes[1 - end];
        let frame = pipe.read()?;
        if std::mem::take(&mut pipe.blocked) {
            let delay = self.shape(id).delay;
            self.after(delay, Event::Room { id, end: 1 - end });
        }
        Some(frame)
    }

    fn forget(&mut self, id: ConnectionId, end: usize) {
        self.connections[id].open[end] = false;
        let host = self.connections[id].hosts[end];
        self.hosts[host].connections.retain(|here| *here != (id, end));
    }

    /// Sends as many blocks to the successor as the connection accepts.
    fn relay(&mut self, host: HostId) -> bool {
        let node = &self.hosts[host];
        let Some(link) = node.member.successor_link() else { return false };
        let known = |(id, end): &&(ConnectionId, usize)| self.connections[*id].links[*end] == Some(link);
        let Some((id, end)) = node.connections.iter().find(known).copied() else { return false };
        let shape = self.shape(id);
        let mut relayed = false;
        while self.connections[id].pipes[end].has_room(shape) {
            let Some((_, block)) = self.hosts[host].member.next_block() else { return relayed };
            let block = self.perhaps_forge(host, block);
            self.transmit(id, end, Frame::Block(block));
            relayed = true;
        }
        self.connections[id].pipes[end].blocked = true;
        relayed
    }

    fn ack(&mut self, host: HostId) -> bool {
        let Some((link, message)) = self.hosts[host].member.next_ack() else { return false };
        self.on_link(host, link, |world, id, end| world.transmit(id, end, Frame::Message(message)));
        true
    }

    /// Passes plaintext to the writer when it is idle.
    fn write(&mut self, host: HostId) -> Result<bool, Violation> {
        if host == 0 || self.hosts[host].writing.is_some() || self.hosts[host].fate != Fate::Running {
            return Ok(false);
        }
        let Some(plaintext) = self.hosts[host].member.next_plaintext() else { return Ok(false) };
        invariant_writer_sees_the_stream(self, host, &plaintext)?;
        let stream = Rc::clone(&self.hosts[host].data);
        let true_total = stream.total;
        let truth = stream.plaintext.get(self.hosts[host].plaintext..).unwrap_or_default();
        let node = &mut self.hosts[host];
        node.deceived |=
            !truth.starts_with(&plaintext.bytes) || plaintext.total.is_some_and(|total| total != true_total);
        if self.schedule.proves()
            && let Err(forged) = node.checker.on_content(&plaintext.bytes, plaintext.from)
        {
            self.on_forged(host, forged)?;
            return Ok(true);
        }
        let node = &mut self.hosts[host];
        node.plaintext += plaintext.bytes.len();
        node.writing = Some((plaintext.end, plaintext.total));
        let time = time_of(plaintext.bytes.len() as u64, node.plan.writer);
        let life = node.life;
        self.after(time, Event::Written { host, life });
        Ok(true)
    }

    /// The writer has finished its current work.
    pub(super) fn on_written(&mut self, host: HostId) -> Result<(), Violation> {
        if !self.hosts[host].takes_part() {
            return Ok(());
        }
        let node = &mut self.hosts[host];
        if let Some((end, total)) = node.writing.take() {
            node.member.on_written(end);
            node.claimed = node.claimed.or(total);
            self.perhaps_complete(host)?;
        }
        self.pump(host)
    }

    /// A new machine with an old address: it joins, and does not know what it was.
    pub(super) fn on_restart(&mut self, host: HostId) {
        let node = &mut self.hosts[host];
        node.power = Power::On;
        node.fate = Fate::Stranger;
        node.isolated = false;
        (node.writing, node.plaintext, node.claimed) = (None, 0, None);
        (node.stream, node.ticket, node.planned, node.left, node.waits_since) =
            (None, None, false, false, None);
        node.said.clear();
        node.spent = Spent::default();
        node.judged = Judged::default();
        node.member =
            Member::node(NodeId(u32::MAX), &self.stream.key, self.schedule.window, self.schedule.dead_after);
        self.note(|| format!("host {host} is there again"));
        let life = self.hosts[host].life;
        self.after(Duration::ZERO, Event::Heartbeat { host, life });
        self.reconnect(host);
    }
}
