//! The machines, and what they say.

use super::*;

/// The state of an agent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum At {
    Waiting,
    Preparing,
    Ready,
    Receiving(StreamId),
    /// It has a copy of this stream.
    Has(StreamId),
    Failed {
        transient: bool,
    },
    /// It was dismissed or rejected.
    Gone,
}

/// One life of a machine.
pub(super) struct Agent {
    pub(super) machine: u8,
    pub(super) alive: bool,
    pub(super) connection: Option<ConnectionId>,
    pub(super) ticket: Option<Ticket>,
    pub(super) at: At,
    pub(super) epoch: Option<(StreamId, Epoch)>,
    pub(super) done: bool,
    /// A message may have been lost with a connection: it is repeated.
    pub(super) again: bool,
}

impl Agent {
    /// Whether it sends only a hello, and never anything else.
    pub(super) fn is_stranger(&self) -> bool {
        self.machine >= STRANGERS
    }

    pub(super) fn speaks(&self) -> bool {
        self.alive && !self.is_stranger()
    }
}

impl World {
    /// The machine boots, whatever its state.
    pub(super) fn boot(&mut self, machine: u8) {
        self.note(format!("machine {machine} boots"));
        let closes = self.random.chance(50);
        for i in 0..self.agents.len() {
            if self.agents[i].machine == machine && self.agents[i].alive {
                self.end(i, closes);
            }
        }
        let connection = self.connection();
        let agent = Agent {
            machine,
            alive: true,
            connection: Some(connection),
            ticket: None,
            at: At::Waiting,
            epoch: None,
            done: false,
            again: false,
        };
        self.agents.push(agent);
        self.hello(self.agents.len() - 1, connection);
    }

    /// A host with the key joins, and holds its connection open.
    pub(super) fn stranger(&mut self) {
        let count = self.agents.iter().filter(|agent| agent.is_stranger()).count();
        if let Some(machine) = u8::try_from(count).ok().and_then(|count| STRANGERS.checked_add(count)) {
            self.boot(machine);
        }
    }

    pub(super) fn hello(&mut self, i: usize, connection: ConnectionId) {
        let (machine, resume) = (self.agents[i].machine, self.agents[i].ticket);
        let mac = format!("52:54:00:00:00:{machine:02x}");
        let card = Card { name: "eth0".into(), mac, ..Card::default() };
        let hello = Hello {
            session: "kainstall".into(),
            version: String::new(),
            key: [0; 32],
            data_port: 1,
            window: 1 << 23,
            inventory: Inventory { cards: vec![card], ..Inventory::default() },
            erasable: true,
            place: 0,
            resume,
        };
        let (peer, local) = (IpAddr::from([10, 0, 0, machine]), IpAddr::from(Ipv4Addr::LOCALHOST));
        let id = NodeId(self.next);
        self.next += 1;
        self.agents[i].again = resume.is_some();
        let token = [u8::try_from(self.next % 251).unwrap(); 16];
        let arriving = Arriving { id, hello, connection, peer, local, token, time: 0, tpm: None };
        self.input(Input::Hello(Box::new(arriving)));
    }

    /// The agent ends, and the controller may or may not notice.
    pub(super) fn end(&mut self, i: usize, closes: bool) {
        self.agents[i].alive = false;
        if closes {
            self.cut(i);
        }
    }

    pub(super) fn cut(&mut self, i: usize) {
        if let (Some(connection), Some(ticket)) = (self.agents[i].connection.take(), self.agents[i].ticket) {
            let reason = "cut".to_owned();
            self.input(Input::Closed { node: ticket.node, connection, reason });
        }
    }

    pub(super) fn say(&mut self, i: usize, message: ToController) {
        let agent = &self.agents[i];
        if let (true, Some(ticket), Some(_)) = (agent.speaks(), agent.ticket, agent.connection)
            && self.session.knows(ticket.node)
        {
            if !matches!(message, ToController::Heartbeat(_)) {
                self.note(format!("machine {} says {}", self.agents[i].machine, short(&message)));
            }
            self.input(Input::Message { node: ticket.node, message });
        }
    }

    pub(super) fn hear(&mut self, i: usize, message: ToAgent) {
        if matches!(message, ToAgent::Plan(_)) {
            let mac = Mac([0x52, 0x54, 0, 0, 0, self.agents[i].machine]);
            assert!(self.admitted.contains(&mac), "{mac} was not admitted and is erased");
        }
        let agent = &mut self.agents[i];
        match message {
            ToAgent::Welcome { ticket, .. } => agent.ticket = Some(ticket),
            ToAgent::Plan(_) => match agent.at {
                At::Waiting => agent.at = At::Preparing,
                At::Failed { transient: true } if agent.done => {
                    (agent.at, agent.done, agent.epoch) = (At::Preparing, false, None);
                }
                // It was repeated after an outage.
                At::Preparing | At::Ready | At::Failed { .. } if agent.again => {}
                ref at => panic!("a plan for machine {} that is {at:?}", agent.machine),
            },
            ToAgent::Stream(start) => match agent.at {
                At::Ready => agent.at = At::Receiving(start.key.stream),
                At::Waiting if !self.planned => agent.at = At::Receiving(start.key.stream),
                At::Failed { transient: true } if !self.planned && agent.done => {
                    (agent.at, agent.done, agent.epoch) = (At::Receiving(start.key.stream), false, None);
                }
                At::Receiving(stream) | At::Has(stream) if stream == start.key.stream => {}
                At::Failed { .. } if agent.again => {}
                ref at => panic!("a stream for machine {} that is {at:?}", agent.machine),
            },
            ToAgent::View { stream, view } => {
                if let Some((known, epoch)) = agent.epoch {
                    assert!(known != stream || view.epoch >= epoch, "an epoch falls");
                }
                agent.epoch = Some((stream, view.epoch));
            }
            ToAgent::Abort { stream, .. } if agent.at == At::Receiving(stream) => {
                agent.at = At::Failed { transient: true };
                self.fail(i, Some(stream), true);
            }
            ToAgent::Abort { .. } => {}
            ToAgent::Bye | ToAgent::Refused { .. } => {
                // A copy that is refused counts as failed.
                if matches!((&message, &agent.at), (ToAgent::Bye, At::Has(_))) {
                    self.copies.insert(agent.machine);
                }
                (agent.at, agent.connection) = (At::Gone, None);
            }
            ToAgent::Probe => self.beat(i),
            _ => {}
        }
    }

    pub(super) fn fail(&mut self, i: usize, stream: Option<StreamId>, transient: bool) {
        self.agents[i].at = At::Failed { transient };
        self.say(i, ToController::Failed(failure(Step::Receive, "it went wrong".into(), transient, stream)));
    }

    pub(super) fn beat(&mut self, i: usize) {
        let verified = Offset(self.passed.as_secs());
        self.say(i, ToController::Heartbeat(Progress { verified, written: verified, ..Progress::default() }));
    }

    /// The agent makes progress, or fails.
    pub(super) fn work(&mut self, i: usize, well: bool) {
        let stream = self.agents[i].epoch.map(|(stream, _)| stream);
        match self.agents[i].at.clone() {
            At::Preparing if well => {
                self.agents[i].at = At::Ready;
                self.say(i, ToController::Step(Step::MakeFileSystem.into()));
                self.say(i, ToController::Ready);
            }
            At::Preparing | At::Ready if !well => self.fail(i, None, false),
            At::Receiving(stream) if well && self.is_read(stream) => {
                self.agents[i].at = At::Has(stream);
                self.say(i, ToController::Complete { stream, total: TOTAL });
            }
            At::Receiving(_) if well => {}
            // Only the controller's own failures are transient.
            At::Receiving(stream) => self.fail(i, Some(stream), false),
            // Finishing, or handing over the log.
            At::Has(_) if !well && !self.agents[i].done => self.fail(i, stream, false),
            At::Has(_) | At::Failed { .. } => {
                self.agents[i].done = true;
                self.say(i, ToController::Done);
            }
            _ => {}
        }
    }

    /// Whether the stream was read to its end. An agent is complete only after the final proof, which may
    /// have come long ago. A stream whose process was killed earlier has no end.
    pub(super) fn is_read(&mut self, stream: StreamId) -> bool {
        if self.session.stream_id() == Some(stream) {
            self.input(Input::Stream(StreamNotice::Produced(proof())));
        }
        self.session.book.total(stream).is_some()
    }

    /// Its data differs from what the golden node sent, or it claims so.
    pub(super) fn finds_a_forgery(&mut self, i: usize) {
        let At::Receiving(stream) = self.agents[i].at else { return };
        let forged = crate::proof::Forged { from: 0, to: 1, sender: None };
        self.say(i, ToController::Forged { stream, forged });
        self.fail(i, Some(stream), true);
    }

    /// After an outage an agent repeats what the controller must know.
    pub(super) fn repeat(&mut self, i: usize) {
        let stream = self.agents[i].epoch.map(|(stream, _)| stream);
        match self.agents[i].at.clone() {
            At::Ready => self.say(i, ToController::Ready),
            At::Has(stream) => self.say(i, ToController::Complete { stream, total: TOTAL }),
            At::Failed { transient } => {
                self.say(i, ToController::Failed(failure(Step::Receive, "again".into(), transient, stream)));
            }
            _ => {}
        }
        if self.agents[i].done {
            self.say(i, ToController::Done);
        }
    }

    pub(super) fn come_back(&mut self, i: usize) {
        if self.agents[i].speaks() && self.agents[i].at != At::Gone && self.agents[i].connection.is_none() {
            let connection = self.connection();
            self.agents[i].connection = Some(connection);
            self.hello(i, connection);
            self.turn();
            self.repeat(i);
        }
    }
}
