//! Control connections between the hub and the nodes: ordered, with delay, and with outages in which messages
//! wait or are lost.

use std::time::Duration;

use ka::chain::{Neighbour, View};
use ka::inventory::{Card, Inventory};
use ka::session::Arriving;
use ka::session::ConnectionId;
use ka::wire::control::{Hello, Progress, ToAgent, ToController};

use super::host::{Fate, Power};
use super::hub::{address_of, host_at, mac_of};
use super::invariants::Violation;
use super::network::HostId;
use super::outcome::invariant_everybody_learns_one_outcome;
use super::world::{Event, World};

/// What a node offers to keep. The golden node's window is far smaller, and counts.
const WINDOW: u64 = 1 << 30;

/// One node's control connection.
#[derive(Default)]
pub(super) struct Control {
    /// The connection's generation: data from an older one are lost.
    pub(super) number: u32,
    /// The connection is lost, and not established again yet.
    pub(super) down: bool,
    /// The number of current outages that hold messages back.
    pub(super) outages: u32,
    /// Messages that wait for the end of an outage, or for a stopped process to continue.
    held_down: Vec<ToAgent>,
    held_up: Vec<ToController>,
    /// When the last message arrives, in each direction.
    last_down: Duration,
    last_up: Duration,
}

impl World<'_> {
    fn is_reachable(&self, host: HostId) -> bool {
        let node = &self.hosts[host];
        !node.isolated && node.control.outages == 0 && !node.control.down
    }

    /// Whether the controller and this node's process hear each other.
    pub(super) fn is_heard(&self, host: HostId) -> bool {
        self.is_reachable(host) && self.hosts[host].speaks()
    }

    fn delay_to(&self, host: HostId) -> Duration {
        // The golden node's member runs in the controller itself. Without faults while nodes join, nothing is
        // to be learnt from the time that it takes.
        let at_once = host == 0 || !self.schedule.gathers && !self.has_begun;
        if at_once { Duration::ZERO } else { self.hosts[host].plan.control }
    }

    pub(super) fn tell_node(&mut self, host: HostId, message: ToAgent) {
        let delay = self.delay_to(host);
        let now = self.now;
        let node = &mut self.hosts[host];
        if node.control.down {
            return;
        }
        let arrival = (now + delay).max(node.control.last_down);
        node.control.last_down = arrival;
        let number = node.control.number;
        self.at(arrival, Event::ToNode { host, number, message });
    }

    pub(super) fn tell_hub(&mut self, host: HostId, message: ToController) {
        let delay = self.delay_to(host);
        let now = self.now;
        let node = &mut self.hosts[host];
        if node.control.down || node.left {
            return;
        }
        let arrival = (now + delay).max(node.control.last_up);
        node.control.last_up = arrival;
        let number = node.control.number;
        self.at(arrival, Event::ToHub { host, number, message });
    }

    /// Tells the controller what it must know, even if the connection is lost meanwhile.
    pub(super) fn say(&mut self, host: HostId, message: ToController) {
        if host > 0 {
            self.hosts[host].said.push(message.clone());
        }
        self.tell_hub(host, message);
    }

    /// A heartbeat with its contents.
    pub(super) fn beat(&mut self, host: HostId) {
        let ka::chain::ProgressSample { spent, verified, written } = self.sample(host);
        self.tell_hub(host, ToController::Heartbeat(Progress { verified, written, spent }));
    }

    pub(super) fn on_to_node(
        &mut self,
        host: HostId,
        number: u32,
        message: ToAgent,
    ) -> Result<(), Violation> {
        if number != self.hosts[host].control.number {
            return Ok(());
        }
        if !self.is_reachable(host) || self.hosts[host].power == Power::Hung {
            self.hosts[host].control.held_down.push(message);
            return Ok(());
        }
        if !self.hosts[host].speaks() {
            return Ok(());
        }
        self.on_order(host, message)?;
        self.pump(host)
    }

    fn on_order(&mut self, host: HostId, message: ToAgent) -> Result<(), Violation> {
        match message {
            ToAgent::Welcome { ticket, .. } => self.on_welcome(host, ticket),
            ToAgent::Plan(_) => return self.on_plan(host),
            ToAgent::Stream(start) => self.on_stream(host, &start),
            ToAgent::View { stream, view } => {
                if host == 0 || self.hosts[host].stream == Some(stream) {
                    self.note(|| format!("host {host} learns {view:?}"));
                    let view = of_hosts(view);
                    self.hosts[host].member.on_view(view, self.now);
                }
            }
            ToAgent::Release { stream } => {
                if host == 0 || self.hosts[host].stream == Some(stream) {
                    self.note(|| format!("host {host} is released"));
                    self.hosts[host].released = true;
                    self.hosts[host].member.on_release();
                }
            }
            ToAgent::Proof { stream, proof } => {
                if self.hosts[host].stream == Some(stream) {
                    self.on_proof(host, proof)?;
                }
            }
            ToAgent::Abort { stream, reason } => self.on_abort(host, stream, reason)?,
            ToAgent::Probe => self.beat(host),
            ToAgent::Bye | ToAgent::Refused { .. } => {
                self.note(|| format!("host {host} leaves: {message:?}"));
                let is_complete = matches!(message, ToAgent::Bye);
                invariant_everybody_learns_one_outcome(self, host, is_complete)?;
                self.settled = false;
                self.close_all(host);
                let node = &mut self.hosts[host];
                node.left = true;
                node.is_dismissed = is_complete && node.fate == Fate::Complete;
            }
            ToAgent::Redirect { .. } | ToAgent::Heartbeat | ToAgent::Tpm(_) => {}
        }
        Ok(())
    }

    pub(super) fn on_to_hub(
        &mut self,
        host: HostId,
        number: u32,
        message: ToController,
    ) -> Result<(), Violation> {
        if number != self.hosts[host].control.number {
            return Ok(());
        }
        if !self.is_reachable(host) {
            self.hosts[host].control.held_up.push(message);
            return Ok(());
        }
        self.hub_hears(host, number, message)
    }

    /// Messages that had to wait are delivered.
    pub(super) fn flush_control(&mut self, host: HostId) -> Result<(), Violation> {
        let number = self.hosts[host].control.number;
        for message in std::mem::take(&mut self.hosts[host].control.held_up) {
            self.on_to_hub(host, number, message)?;
        }
        for message in std::mem::take(&mut self.hosts[host].control.held_down) {
            self.on_to_node(host, number, message)?;
        }
        Ok(())
    }

    /// The connection is lost, with everything in flight on it.
    pub(super) fn lose_control(&mut self, host: HostId) {
        let control = &mut self.hosts[host].control;
        if control.down {
            return;
        }
        let number = control.number;
        control.number += 1;
        control.down = true;
        control.held_down.clear();
        control.held_up.clear();
        let delay = self.hosts[host].plan.control;
        self.after(delay, Event::Disconnected { host, number });
    }

    /// The node's process connects, if it can, and sends a hello.
    pub(super) fn reconnect(&mut self, host: HostId) {
        let node = &mut self.hosts[host];
        let able = node.control.down && node.control.outages == 0 && !node.isolated;
        if host == 0 || !able || !node.speaks() || self.hub.is_dead {
            return;
        }
        node.control.down = false;
        self.greet(host);
    }

    /// The first message on a connection.
    pub(super) fn greet(&mut self, host: HostId) {
        let mac = mac_of(host).to_string();
        let card = Card { name: "eth0".into(), mac, ..Card::default() };
        let hello = Hello {
            session: "kainstall".into(),
            version: String::new(),
            key: [u8::try_from(self.hosts[host].life % 251).unwrap_or(0); 32],
            data_port: 1,
            window: WINDOW,
            inventory: Inventory { cards: vec![card], ..Inventory::default() },
            erasable: true,
            place: 0,
            resume: self.hosts[host].ticket,
        };
        self.tell_hub(host, ToController::Hello(Box::new(hello)));
    }

    /// A hello as the controller gets it.
    pub(super) fn arriving(&mut self, host: HostId, connection: ConnectionId, hello: Hello) -> Arriving {
        let known = hello.resume.is_some() || self.hosts[host].life > 0;
        // Without restarts, a node has the number of its host.
        let id = if known { self.hub.next_node() } else { super::hub::node_of(host) };
        let token = [u8::try_from(id.0 % 251).unwrap_or(0); 16];
        let (peer, local) = (address_of(host).ip(), address_of(0).ip());
        Arriving { id, hello, connection, peer, local, token, time: 0, tpm: None }
    }

    /// The data connections of a host close.
    pub(super) fn close_all(&mut self, host: HostId) {
        while let Some((id, end)) = self.hosts[host].connections.first().copied() {
            self.close(id, end);
        }
    }

    /// Whether a node's process may still come to an end of its own.
    pub(super) fn is_done(&self, host: HostId) -> bool {
        let node = &self.hosts[host];
        match node.power {
            Power::Down | Power::Off => true,
            // Stopped for good, unless it is to continue.
            Power::Hung => !self.will_resume(host),
            Power::On => {
                node.left || node.fate == Fate::Stranger && node.ticket.is_none() && !self.is_heard(host)
            }
        }
    }
}

fn of_hosts(view: View<std::net::SocketAddr>) -> View<HostId> {
    let neighbour = |near: Neighbour<_>| Neighbour { id: near.id, address: host_at(near.address) };
    View {
        epoch: view.epoch,
        predecessor: view.predecessor.map(neighbour),
        successor: view.successor,
        secrets: ka::chain::Secrets::default(),
    }
}
