//! Control connections between the hub and the nodes: ordered, with delay, and with outages in which messages
//! wait or are lost.

use std::time::Duration;

use ka::chain::{ProgressSample, Report, View};
use ka::proof::{Forged, Proof};

use super::host::{Fate, Power};
use super::invariants::Violation;
use super::network::HostId;
use super::world::{Event, World};

/// From the controller.
#[derive(Clone, Debug)]
pub(super) enum ToNode {
    View(View<HostId>),
    Release,
    Expelled(String),
    Probe,
    Proof(Proof),
}

/// From a node.
#[derive(Clone, Debug)]
pub(super) enum ToHub {
    Heartbeat(ProgressSample),
    Complaint(Report),
    Forged(Forged),
}

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
    held_down: Vec<ToNode>,
    held_up: Vec<ToHub>,
    /// When the last message arrives, in each direction.
    last_down: Duration,
    last_up: Duration,
}

impl World<'_> {
    fn is_reachable(&self, host: HostId) -> bool {
        let node = &self.hosts[host];
        !node.isolated && node.control.outages == 0 && !node.control.down
    }

    pub(super) fn tell_node(&mut self, host: HostId, message: ToNode) {
        let now = self.now;
        let node = &mut self.hosts[host];
        if node.control.down {
            return;
        }
        // The golden node's member runs in the controller itself.
        let delay = if host == 0 { Duration::ZERO } else { node.plan.control };
        let arrival = (now + delay).max(node.control.last_down);
        node.control.last_down = arrival;
        let number = node.control.number;
        self.at(arrival, Event::ToNode { host, number, message });
    }

    pub(super) fn tell_hub(&mut self, host: HostId, message: ToHub) {
        let now = self.now;
        let node = &mut self.hosts[host];
        if node.control.down || node.fate == Fate::Stranger {
            return;
        }
        let delay = if host == 0 { Duration::ZERO } else { node.plan.control };
        let arrival = (now + delay).max(node.control.last_up);
        node.control.last_up = arrival;
        let number = node.control.number;
        self.at(arrival, Event::ToHub { host, number, message });
    }

    /// A heartbeat with its contents.
    pub(super) fn beat(&mut self, host: HostId) {
        let sample = self.sample(host);
        self.tell_hub(host, ToHub::Heartbeat(sample));
    }

    pub(super) fn on_to_node(&mut self, host: HostId, number: u32, message: ToNode) -> Result<(), Violation> {
        if number != self.hosts[host].control.number {
            return Ok(());
        }
        if !self.is_reachable(host) || self.hosts[host].power == Power::Hung {
            self.hosts[host].control.held_down.push(message);
            return Ok(());
        }
        if !self.hosts[host].takes_part() {
            return Ok(());
        }
        match message {
            ToNode::View(view) => {
                self.note(|| format!("host {host} learns {view:?}"));
                self.hosts[host].member.on_view(view, self.now);
            }
            ToNode::Release => {
                self.note(|| format!("host {host} is released"));
                self.hosts[host].released = true;
                self.settled = false;
                self.hosts[host].member.on_release();
            }
            ToNode::Probe => self.beat(host),
            ToNode::Proof(proof) => self.on_proof(host, proof)?,
            ToNode::Expelled(reason) => {
                self.note(|| format!("host {host} is told that it is out: {reason}"));
                self.settled = false;
                while let Some((id, end)) = self.hosts[host].connections.first().copied() {
                    self.close(id, end);
                }
                self.hosts[host].fate = Fate::Expelled(reason);
            }
        }
        self.pump(host)
    }

    pub(super) fn on_to_hub(&mut self, host: HostId, number: u32, message: ToHub) -> Result<(), Violation> {
        if number != self.hosts[host].control.number {
            return Ok(());
        }
        if !self.is_reachable(host) {
            self.hosts[host].control.held_up.push(message);
            return Ok(());
        }
        self.hub_hears(host, message)
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
        control.number += 1;
        control.down = true;
        control.held_down.clear();
        control.held_up.clear();
        let number = control.number;
        let delay = self.hosts[host].plan.control;
        self.after(delay, Event::Disconnected { host, number });
    }

    /// The node's process reconnects, if it can.
    pub(super) fn reconnect(&mut self, host: HostId) -> Result<(), Violation> {
        let node = &mut self.hosts[host];
        let able = node.control.down && node.control.outages == 0 && !node.isolated && node.lives();
        if !able || node.power == Power::Hung {
            return Ok(());
        }
        node.control.down = false;
        self.hub_welcomes(host)
    }
}
