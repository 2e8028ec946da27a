//! What is around a session: it carries out the effects in their order, and may be killed between any two.

use super::*;

impl World {
    /// Passes an input to the session, and carries out its effects in order.
    pub(super) fn input(&mut self, input: Input) {
        let effects = self.session.on(input, self.passed);
        self.queue.extend(effects);
        if std::mem::replace(&mut self.is_busy, true) {
            // An agent's answer is delivered after all pending effects.
            return;
        }
        self.carry_out();
        self.is_busy = false;
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.queue.pop_front() {
            match &mut self.killed_in {
                Some(0) => {
                    self.take_over();
                    continue;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            match effect {
                Effect::Record(event) => {
                    self.note(format!("-- {}", short(&event)));
                    let is_over = self.book.ending().is_some();
                    assert!(!is_over || matches!(*event, Event::Resumed), "{event:?} after the end");
                    self.book.apply(&event, self.session.terms());
                    if let Event::Admitted(admission) = &*event {
                        self.admitted = admission.named.union(&admission.others).copied().collect();
                    }
                    self.journal.push(*event);
                }
                Effect::Report(_) => {}
                Effect::Joined { connection, node } => {
                    let agent = self.agents.iter().position(|a| a.connection == Some(connection));
                    let known = agent.and_then(|i| self.agents[i].ticket);
                    assert!(known.is_none_or(|ticket| ticket.node == node), "it is somebody else");
                }
                Effect::Refused { connection, reason } => {
                    self.closed.insert(connection);
                    if let Some(i) = self.agents.iter().position(|a| a.connection == Some(connection)) {
                        self.note(format!("machine {} is refused: {reason}", self.agents[i].machine));
                        (self.agents[i].at, self.agents[i].connection) = (At::Gone, None);
                    }
                }
                Effect::Send { connection, message } => self.deliver(connection, *message),
                Effect::StartStream { golden, window } => {
                    let started = Started {
                        start: StreamStart {
                            key: StreamKey::generate(Cipher::ChaCha20Poly1305).unwrap(),
                            window,
                        },
                        golden: (golden, 1).into(),
                        links: LinkKeys::generate().unwrap(),
                    };
                    self.input(Input::Started(Box::new(started)));
                }
                Effect::PlaceGolden(_)
                | Effect::ReleaseStream
                | Effect::GiveUpStream
                | Effect::StoreLog(_)
                | Effect::AwaitBoot { .. }
                | Effect::Went(_) => {}
            }
        }
    }

    /// The process is killed, and another one reads the recorded events.
    pub(super) fn take_over(&mut self) {
        self.note("the controller is killed");
        self.killed_in = None;
        self.kills += 1;
        self.queue.clear();
        let lines: Vec<String> = self.journal.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let read: Vec<Event> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read, self.journal, "version {VERSION}");
        for agent in &mut self.agents {
            self.closed.extend(agent.connection.take());
        }
        let (session, effects) = Session::resume(self.spec.clone(), &read, self.passed);
        self.session = session;
        self.queue.extend(effects);
    }

    pub(super) fn connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// Lets the session work, and delivers its messages to the agents.
    pub(super) fn turn(&mut self) {
        self.input(Input::Tick);
        self.check();
    }

    pub(super) fn deliver(&mut self, connection: ConnectionId, message: ToAgent) {
        let last = matches!(message, ToAgent::Bye | ToAgent::Refused { .. });
        if self.closed.contains(&connection) {
            // The hub has closed it, and another goodbye is harmless.
            assert!(last, "{message:?} after the last word");
            return;
        }
        if last {
            self.closed.insert(connection);
        }
        let Some(i) = self.agents.iter().position(|agent| agent.connection == Some(connection)) else {
            return;
        };
        if self.agents[i].alive {
            self.note(format!("machine {} hears {}", self.agents[i].machine, short(&message)));
            self.hear(i, message);
        }
    }
}

/// The start of a message identifies it.
pub(super) fn short(message: &impl std::fmt::Debug) -> String {
    format!("{message:?}").chars().take(70).collect()
}
