//! The controller: the real session, what carries out its effects, and an operator who is asleep.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ka::chain::LinkKeys;
use ka::mac::Mac;
use ka::seal::{Cipher, StreamKey};
use ka::session::status::Phase;
use ka::session::{Admission, Effect, Event, Input, Session, Started};
use ka::wire::control::StreamStart;

use super::Violation;
use super::world::{LOOK, Source, TIMEOUT, World};

impl World {
    pub(super) fn input(&mut self, input: Input) {
        let Some(session) = &mut self.session else { return };
        let effects = session.on(input, Duration::from_secs(self.now - self.since));
        self.queue.extend(effects);
        if std::mem::replace(&mut self.is_busy, true) {
            return;
        }
        while let Some(effect) = self.queue.pop_front() {
            match &mut self.killed_in {
                Some(0) => self.die(),
                Some(left) => *left -= 1,
                None => {}
            }
            if self.session.is_some() {
                self.carry_out(effect);
            }
        }
        self.is_busy = false;
    }

    pub(super) fn die(&mut self) {
        let down = self.kills.pop_front().map_or(1, |kill| kill.down);
        (self.session, self.source, self.killed_in) = (None, None, None);
        (self.resumes_at, self.deaths) = (self.now + down, self.deaths + 1);
        self.queue.clear();
        self.by_connection.clear();
        for machine in &mut self.machines {
            machine.dangling = None;
            if let Some(life) = &mut machine.life {
                (life.connection, life.lost_at) = (None, self.now);
            }
        }
    }

    pub(super) fn resume(&mut self) {
        let lines: Result<Vec<String>, _> = self.journal.iter().map(serde_json::to_string).collect();
        let events: Result<Vec<Event>, _> =
            lines.and_then(|lines| lines.iter().map(|line| serde_json::from_str(line)).collect());
        match events {
            Ok(events) => {
                let (session, effects) = Session::resume(self.spec.clone(), &events, Duration::ZERO);
                (self.session, self.since) = (Some(session), self.now);
                self.queue.extend(effects);
            }
            Err(error) => self.violation = Some(Violation(format!("the journal cannot be read: {error}"))),
        }
    }

    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Record(event) => self.journal.push(*event),
            Effect::Joined { connection, node } => {
                if let Some(i) = self.by_connection.get(&connection) {
                    self.by_node.insert(node, *i);
                    self.seen.insert(self.machines[*i].mac);
                }
            }
            Effect::Refused { connection, .. } => {
                if let Some(i) = self.by_connection.remove(&connection) {
                    self.leave(i);
                }
            }
            Effect::Send { connection, message } => self.deliver(connection, *message),
            Effect::StartStream { golden, window } => match started(golden, window) {
                Ok(started) => {
                    let stream = started.start.key.stream;
                    self.source = Some(Source {
                        stream,
                        view: None,
                        position: 0,
                        tail: 0,
                        is_produced: false,
                        tail_is_complete: false,
                    });
                    self.input(Input::Started(Box::new(started)));
                }
                Err(reason) => self.input(Input::StartFailed(reason)),
            },
            Effect::PlaceGolden(view) => {
                if let Some(source) = &mut self.source {
                    source.view = Some(*view);
                }
            }
            Effect::ReleaseStream | Effect::GiveUpStream => self.source = None,
            Effect::Report(_) | Effect::StoreLog(_) | Effect::AwaitBoot { .. } | Effect::Went(_) => {}
        }
    }

    /// `kactl run` without anybody at the terminal: it admits the list when all have come, or at the timeout;
    /// and machines that are done may not boot into the run any more.
    pub(super) fn operate(&mut self) {
        let Some(session) = &self.session else { return };
        if !session.book().is_admitted() {
            let named: BTreeSet<Mac> = session.arrivals().iter().map(|arrival| arrival.mac).collect();
            if named.len() >= self.spec.wanted || self.now >= TIMEOUT && !named.is_empty() {
                let all: BTreeSet<Mac> = self.machines.iter().map(|machine| machine.mac).collect();
                let others = if named.len() < self.spec.wanted { all } else { BTreeSet::new() };
                self.input(Input::Admit(Admission { named, others, ..Admission::default() }));
            }
        } else if self.now.is_multiple_of(LOOK) {
            let (status, _) = session.status();
            self.closed = !session.has_rounds();
            let over = |phase| matches!(phase, Phase::Finishing | Phase::Complete | Phase::Failed);
            let done = status.nodes.iter().filter(|node| over(node.phase) && !node.may_come_again);
            self.over.extend(done.filter_map(|node| node.mac));
        }
    }
}

fn started(golden: IpAddr, window: u64) -> Result<Started, String> {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).map_err(|e| e.to_string())?;
    let links = LinkKeys::generate().map_err(|e| e.to_string())?;
    Ok(Started { start: StreamStart { key, window }, golden: (golden, 1).into(), links })
}
