//! The faults of the machines, and what their agents do.

use std::net::{IpAddr, Ipv4Addr};

use ka::chain::{NodeId, Offset};
use ka::failure::{Failure, FailureKind};
use ka::inventory::{Card, Inventory};
use ka::seal::StreamId;
use ka::session::{Arriving, ConnectionId, Input};
use ka::step::Step;
use ka::wire::control::{Hello, Progress, ToAgent, ToController};

use super::Violation;
use super::machine::{At, Disk, Life, TOTAL};
use super::plan::Fault;
use super::world::{BEAT, END, IDLE, PATIENCE, WINDOW, World};

impl World {
    pub(super) fn fault(&mut self, i: usize) {
        let (now, machine) = (self.now, &mut self.machines[i]);
        if machine.boots_at.is_some_and(|at| at <= now) {
            machine.boot(now);
        }
        let (plan, mac) = (machine.plan, machine.mac);
        let is_at = |at: u64| now == plan.wakes_at + at;
        match plan.fault {
            Fault::None | Fault::NeverWakes => {}
            Fault::Flaps { at, lasts } => {
                if is_at(at) {
                    self.cut(i, lasts);
                }
            }
            Fault::Dies { at } if is_at(at) => self.power_cut(i),
            Fault::Returns { at, after } => {
                if is_at(at) {
                    self.power_cut(i);
                }
                if is_at(at + after) && !self.closed && !self.over.contains(&mac) {
                    self.machines[i].boots_at = Some(now + plan.boots_for);
                }
            }
            Fault::Hangs { at } if is_at(at) => {
                self.dangle(i);
                if let Some(life) = &mut self.machines[i].life {
                    life.is_hung = true;
                }
            }
            Fault::Stalls { at } if is_at(at) => {
                if let Some(life) = &mut machine.life {
                    life.is_stalled = true;
                }
            }
            Fault::DiskFails { at } if is_at(at) => self.disk_fails(i),
            Fault::Dies { .. } | Fault::Hangs { .. } | Fault::Stalls { .. } | Fault::DiskFails { .. } => {}
        }
    }

    /// The power goes; what is on the disk stays.
    pub(super) fn power_cut(&mut self, i: usize) {
        self.dangle(i);
        self.machines[i].life = None;
        self.machines[i].boots_at = None;
    }

    /// From now on nothing comes over the machine's connection.
    pub(super) fn dangle(&mut self, i: usize) {
        let (now, machine) = (self.now, &mut self.machines[i]);
        machine.quiet_since = now;
        let ends = machine.life.as_ref().and_then(|life| Some((life.ticket?.node, life.connection?)));
        if let Some((node, connection)) = ends {
            self.by_connection.remove(&connection);
            machine.dangling = Some((node, connection, now + IDLE));
        }
    }

    pub(super) fn give_up_silence(&mut self, i: usize) {
        if let Some((node, connection, at)) = self.machines[i].dangling
            && at <= self.now
        {
            self.machines[i].dangling = None;
            self.input(Input::Closed { node, connection, reason: "it has gone silent".into() });
        }
    }

    /// Its connection is reset, and it cannot dial for a while.
    pub(super) fn cut(&mut self, i: usize, lasts: u64) {
        let now = self.now;
        let Some(life) = &mut self.machines[i].life else { return };
        if let (Some(connection), Some(ticket)) = (life.connection.take(), life.ticket) {
            life.lost_at = now + lasts;
            self.by_connection.remove(&connection);
            self.input(Input::Closed { node: ticket.node, connection, reason: "reset".into() });
        }
    }

    pub(super) fn disk_fails(&mut self, i: usize) {
        let Some(life) = &self.machines[i].life else { return };
        let step = match life.at {
            At::Preparing { .. } => Step::MakeFileSystem,
            At::Receiving(_) => Step::ReceiveSystem,
            At::Finishing { .. } if !life.done => Step::BootLoader,
            _ => return,
        };
        self.fail(i, step, false);
    }

    pub(super) fn fail(&mut self, i: usize, step: Step, transient: bool) {
        let machine = &mut self.machines[i];
        let Some(life) = &mut machine.life else { return };
        let stream = life.stream();
        life.at = At::Failed { transient };
        let kind = if transient {
            FailureKind::Aborted { reason: "the stream was given up".into() }
        } else {
            FailureKind::Disk { reason: "Input/output error".into() }
        };
        let failure = Failure { step, kind, transient, stream };
        life.failure = Some(failure.clone());
        self.say(i, ToController::Failed(failure));
    }

    /// It has left, and boots from its disk.
    pub(super) fn leave(&mut self, i: usize) {
        self.machines[i].life = None;
        self.machines[i].quiet_since = self.now;
    }

    pub(super) fn say(&mut self, i: usize, message: ToController) {
        let Some(life) = self.machines[i].life.as_ref().filter(|life| !life.is_hung) else { return };
        if let (Some(ticket), Some(_)) = (life.ticket, life.connection)
            && self.session.as_ref().is_some_and(|session| session.knows(ticket.node))
        {
            self.input(Input::Message { node: ticket.node, message });
        }
    }

    pub(super) fn beat(&mut self, i: usize) {
        let Some(life) = &self.machines[i].life else { return };
        let written = if life.is_stalled { 0 } else { life.verified };
        let (verified, written) = (Offset(life.verified), Offset(written));
        self.say(i, ToController::Heartbeat(Progress { verified, written, ..Progress::default() }));
    }

    /// What an agent does in a second.
    pub(super) fn work(&mut self, i: usize) {
        let now = self.now;
        let Some(life) = self.machines[i].life.as_ref().filter(|life| !life.is_hung) else { return };
        if life.connection.is_none() && now >= life.lost_at {
            if now - life.lost_at > PATIENCE {
                return self.leave(i);
            }
            if self.session.is_some() {
                self.join(i);
            }
        }
        if now.is_multiple_of(BEAT) {
            self.beat(i);
        }
        let plan = self.machines[i].plan;
        let Some(life) = &mut self.machines[i].life else { return };
        match life.at {
            At::Preparing { until } if until <= now && !life.is_stalled => {
                life.at = At::Ready;
                self.say(i, ToController::Ready);
            }
            At::Receiving(stream) if life.verified == TOTAL && life.is_proven && !life.is_stalled => {
                life.at = At::Finishing { stream, until: now + plan.finishes_for };
                self.say(i, ToController::Complete { stream, total: END });
                self.say(i, ToController::Step(Step::BootLoader.into()));
            }
            At::Finishing { until, .. } if until <= now && !life.done && !life.is_stalled => {
                life.done = true;
                self.machines[i].disk = Disk::Clone;
                self.say(i, ToController::Done);
            }
            At::Failed { .. } if !life.done => {
                life.done = true;
                self.say(i, ToController::Done);
            }
            _ => {}
        }
    }

    /// It joins, or is back with its ticket and repeats what the controller must know.
    pub(super) fn join(&mut self, i: usize) {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        self.by_connection.insert(connection, i);
        let machine = &mut self.machines[i];
        let Some(life) = &mut machine.life else { return };
        let resume = life.ticket;
        (life.connection, life.again) = (Some(connection), resume.is_some());
        let card = Card { name: "eth0".into(), mac: machine.mac.to_string(), ..Card::default() };
        let hello = Hello {
            session: "kainstall".into(),
            version: String::new(),
            key: life.key,
            data_port: 1,
            window: WINDOW,
            inventory: Inventory { cards: vec![card], ..Inventory::default() },
            erasable: true,
            place: 0,
            resume,
        };
        let peer = IpAddr::from([10, 0, 1, machine.mac.0[5]]);
        let id = NodeId(self.next_node);
        self.next_node += 1;
        let mut token = [0; 16];
        token[..4].copy_from_slice(&id.0.to_le_bytes());
        let local = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
        self.input(Input::Hello(Box::new(Arriving {
            id,
            hello,
            connection,
            peer,
            local,
            token,
            time: 0,
            tpm: None,
        })));
        self.beat(i);
        self.repeat(i);
    }

    pub(super) fn repeat(&mut self, i: usize) {
        let Some(life) = &self.machines[i].life else { return };
        let done = life.done;
        match life.at {
            At::Ready => self.say(i, ToController::Ready),
            At::Finishing { stream, .. } => self.say(i, ToController::Complete { stream, total: END }),
            At::Failed { .. } => {
                if let Some(failure) = life.failure.clone() {
                    self.say(i, ToController::Failed(failure));
                }
            }
            At::Waiting | At::Preparing { .. } | At::Receiving(_) => {}
        }
        if done {
            self.say(i, ToController::Done);
        }
    }

    pub(super) fn deliver(&mut self, connection: ConnectionId, message: ToAgent) {
        let Some(i) = self.by_connection.get(&connection).copied() else { return };
        let (now, machine) = (self.now, &mut self.machines[i]);
        let Some(life) = machine.life.as_mut().filter(|life| life.connection == Some(connection)) else {
            return;
        };
        match message {
            ToAgent::Welcome { ticket, .. } => life.ticket = Some(ticket),
            ToAgent::Plan(_) => {
                let is_new = match life.at {
                    At::Waiting => true,
                    At::Failed { transient } => transient && life.done,
                    At::Preparing { .. } | At::Ready | At::Receiving(_) | At::Finishing { .. } => false,
                };
                if is_new {
                    life.at = At::Preparing { until: now + machine.plan.prepares_for };
                    (life.view, life.done, life.verified) = (None, false, 0);
                    if machine.disk == Disk::Clone {
                        let why = format!("{} has its clone and is erased", machine.mac);
                        self.violation.get_or_insert(Violation(why));
                    }
                    machine.disk = Disk::Half;
                    machine.erasures += 1;
                } else if !life.again {
                    let why = format!("{} gets a plan while it is {:?}", machine.mac, life.at);
                    self.violation.get_or_insert(Violation(why));
                }
            }
            ToAgent::Stream(start) if life.at == At::Ready => begin(life, start.key.stream),
            ToAgent::View { stream, view }
                if life.at == At::Receiving(stream) || life.stream() == Some(stream) =>
            {
                life.view = Some((stream, view));
            }
            ToAgent::Proof { stream, proof } if life.at == At::Receiving(stream) => {
                life.is_proven |= proof.last.is_some();
            }
            ToAgent::Release { stream } if life.stream() == Some(stream) => life.is_released = true,
            // A controller killed before it had sent the stream gives up one that the node does not know.
            ToAgent::Abort { stream, .. }
                if life.at == At::Receiving(stream)
                    || life.at == At::Ready && life.last_stream != Some(stream) =>
            {
                self.fail(i, Step::Receive, true);
                if let Some(life) = &mut self.machines[i].life {
                    life.view = None;
                }
            }
            ToAgent::Bye | ToAgent::Refused { .. } => {
                self.by_connection.remove(&connection);
                self.leave(i);
            }
            ToAgent::Probe => self.beat(i),
            _ => {}
        }
    }
}

fn begin(life: &mut Life, stream: StreamId) {
    life.at = At::Receiving(stream);
    life.last_stream = Some(stream);
    (life.view, life.verified, life.is_proven, life.is_released) = (None, 0, false, false);
}
