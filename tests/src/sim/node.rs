//! What a node's agent does besides relaying: it carries out its plan, receives one stream after another, and
//! reports.

use ka::chain::Member;
use ka::failure::{Failure, FailureKind};
use ka::proof::Checker;
use ka::seal::StreamId;
use ka::step::Step;
use ka::wire::control::{StreamStart, Ticket, ToController};

use super::host::{Fate, Host};
use super::invariants::{Judged, Violation};
use super::network::{ACCEPTOR, HostId};
use super::outcome::{invariant_only_the_admitted_are_erased, invariant_what_was_released_stays_so};
use super::world::{Event, World};

impl Host {
    /// Whether it waits for another round.
    pub(super) fn waits(&self) -> bool {
        matches!(self.fate, Fate::Expelled(_)) && !self.planned
    }
}

impl World<'_> {
    pub(super) fn on_welcome(&mut self, host: HostId, ticket: Ticket) {
        let node = &mut self.hosts[host];
        if node.ticket.is_none() {
            node.ticket = Some(ticket);
            node.id = ticket.node;
        }
        for message in node.said.clone() {
            self.tell_hub(host, message);
        }
        self.beat(host);
    }

    /// The node erases its disk, and is ready at once.
    pub(super) fn on_plan(&mut self, host: HostId) -> Result<(), Violation> {
        if self.hosts[host].planned {
            // It was repeated after an outage.
            return Ok(());
        }
        invariant_only_the_admitted_are_erased(self, host)?;
        let node = &mut self.hosts[host];
        node.planned = true;
        node.said.clear();
        self.say(host, ToController::Ready);
        Ok(())
    }

    /// Another stream begins, with another member.
    pub(super) fn on_stream(&mut self, host: HostId, start: &StreamStart) {
        if self.hosts[host].stream == Some(start.key.stream) {
            return;
        }
        self.close_read(host);
        let dead_after = self.schedule.dead_after;
        let id = self.hosts[host].id;
        let member = Member::node(id, &start.key, start.window, dead_after).with_rules(self.rules);
        let segment = self.schedule.segment();
        let node = &mut self.hosts[host];
        let rests = node.fate == Fate::Stranger;
        node.stream = Some(start.key.stream);
        node.data = std::rc::Rc::clone(&self.stream);
        node.planned = false;
        node.said.clear();
        node.member = member;
        if node.fate == Fate::Failed {
            // Its disk was full before the stream came.
            node.member.on_writer_failed();
        } else {
            node.fate = Fate::Running;
        }
        (node.writing, node.plaintext, node.claimed) = (None, 0, None);
        (node.released, node.cut, node.deceived, node.is_proven) = (false, false, false, false);
        node.deceivers.clear();
        node.checker = Checker::with_segments(segment);
        node.judged = Judged::default();
        node.heard = super::host::Heard { position: ka::chain::Offset(0), moved: self.now };
        if self.outcome.rounds > 1 {
            node.spent = ka::chain::Spent::default();
        }
        let life = node.life;
        if rests {
            self.after(std::time::Duration::ZERO, Event::Tick { host, life });
        }
    }

    /// The connections that the last member has read close; what knocks waits for the next one.
    fn close_read(&mut self, host: HostId) {
        let connections = self.hosts[host].connections.clone();
        for (id, end) in connections {
            if end != ACCEPTOR || self.connections[id].links[end].is_some() {
                self.close(id, end);
            }
        }
    }

    /// The controller has given up the stream for this node.
    pub(super) fn on_abort(
        &mut self,
        host: HostId,
        stream: StreamId,
        reason: String,
    ) -> Result<(), Violation> {
        let node = &mut self.hosts[host];
        if node.planned && node.stream != Some(stream) {
            // The controller was killed before it could send the stream.
            node.planned = false;
            node.fate = Fate::Expelled(reason.clone());
            self.fail(host, FailureKind::Session { reason }, true);
            return Ok(());
        }
        if node.stream != Some(stream) || node.cut || matches!(node.fate, Fate::Expelled(_)) {
            return Ok(());
        }
        self.note(|| format!("host {host} is told that it is out: {reason}"));
        invariant_what_was_released_stays_so(self, host, &reason)?;
        self.settled = false;
        self.close_read(host);
        let node = &mut self.hosts[host];
        node.writing = None;
        if node.fate != Fate::Running {
            // Its own result stays.
            node.cut = true;
            return Ok(());
        }
        node.fate = Fate::Expelled(reason.clone());
        self.fail(host, FailureKind::Aborted { reason }, true);
        Ok(())
    }

    /// The node reports that its copy has failed, and has nothing left of it.
    pub(super) fn fail(&mut self, host: HostId, kind: FailureKind, transient: bool) {
        let stream = self.hosts[host].stream.filter(|_| !matches!(kind, FailureKind::Session { .. }));
        self.settled = false;
        self.say(host, ToController::Failed(Failure { step: Step::Receive, kind, transient, stream }));
        self.say(host, ToController::Done);
    }

    /// The node's copy is complete.
    pub(super) fn complete(&mut self, host: HostId) {
        let node = &mut self.hosts[host];
        node.fate = Fate::Complete;
        node.has_copy = true;
        let (Some(stream), Some(total)) = (node.stream, node.claimed) else { return };
        self.settled = false;
        self.note(|| format!("host {host} is complete"));
        self.say(host, ToController::Complete { stream, total });
        self.say(host, ToController::Done);
    }
}
