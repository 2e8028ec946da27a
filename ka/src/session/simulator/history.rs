//! What happens: anything at first, and then whatever brings a session to its end.

use super::*;

impl World {
    /// Anything may happen.
    pub(super) fn step(&mut self) {
        let i = usize::try_from(self.random.bits() % 64).unwrap() % self.agents.len().max(1);
        let some = i < self.agents.len();
        match self.random.below(24) {
            0..=2 => {
                let machine = u8::try_from(1 + self.random.below(MACHINES.into())).unwrap();
                let idle = !self.agents.iter().any(|a| a.machine == machine && a.alive);
                if idle || self.random.chance(15) {
                    self.boot(machine);
                }
            }
            3 => {
                let time = Duration::from_millis(self.random.below(20_000));
                self.pass(time);
            }
            4 if some && self.random.chance(40) => {
                let closes = self.random.chance(50);
                self.note(format!("machine {} dies", self.agents[i].machine));
                self.end(i, closes);
            }
            5 | 6 if some => self.cut(i),
            7 | 8 if some => self.come_back(i),
            9 if some => self.repeat(i),
            10 if some => {
                let (epoch, about) =
                    (Epoch(self.random.below(4)), NodeId(u32::try_from(self.random.below(8)).unwrap()));
                let trouble = [Trouble::Reset, Trouble::Silent, Trouble::Damaged, Trouble::Impossible];
                let trouble = trouble[usize::try_from(self.random.below(4)).unwrap()];
                let stream = self.session.stream_id().unwrap_or(StreamId([0; 16]));
                self.say(i, ToController::Complaint { stream, report: Report { epoch, about, trouble } });
            }
            11 => {
                let macs: Vec<Mac> = self.session.arrivals().iter().map(|arrival| arrival.mac).collect();
                if self.planned && self.session.book.named.is_empty() && !macs.is_empty() {
                    let (named, others) = macs.split_at(macs.len().min(self.spec.wanted));
                    let (named, others) = (named.iter().copied().collect(), others.iter().copied().collect());
                    self.input(Input::Admit(Admission { named, others, ..Admission::default() }));
                } else if !self.planned && self.random.chance(20) {
                    self.input(Input::Go);
                }
            }
            12 => self.complain(),
            13 => self.drain(),
            14 if self.random.chance(8) => {
                self.note("the source fails");
                self.input(Input::Stream(StreamNotice::RelayFailed("no more".into())));
            }
            16 if self.random.chance(30) => self.stranger(),
            17 if some && self.random.chance(50) => self.finds_a_forgery(i),
            15 if self.random.chance(25) => self.killed_in = Some(self.random.below(8)),
            _ if some => {
                let well = self.random.chance(85);
                self.beat(i);
                self.work(i, well);
            }
            _ => {}
        }
        self.turn();
    }

    /// The golden node knows that the last chain member is complete, if every living member is.
    pub(super) fn drain(&mut self) {
        let Some(stream) = self.session.stream_id() else { return };
        let members = self.session.members();
        let has_all = |id: &NodeId| {
            *id == NodeId::GOLDEN
                || self.agents.iter().any(|a| a.ticket.is_some_and(|t| t.node == *id) && a.at == At::Has(stream))
                // A member that failed continues to relay while it lives.
                || self.agents.iter().any(|a| {
                    a.ticket.is_some_and(|t| t.node == *id) && a.alive && matches!(a.at, At::Failed { .. })
                })
        };
        if members.iter().all(has_all) {
            self.note("all have all");
            let kills = self.kills;
            // A short stream is through the chain before its producer reports its end.
            let produced = StreamNotice::Produced(proof());
            let notices = if self.random.chance(50) {
                [produced, StreamNotice::TailComplete]
            } else {
                [StreamNotice::TailComplete, produced]
            };
            for notice in notices {
                self.input(Input::Stream(notice));
            }
            if self.kills > kills {
                return;
            }
            assert!(self.session.stream_id().is_none(), "the stream is not released");
            let known = self.book.released == Some(stream) && self.book.total(stream).is_some();
            assert!(known, "nodes wait for the proof for ever");
        }
    }

    /// The neighbours of a dead member complain about it.
    pub(super) fn complain(&mut self) {
        let Some(running) = &self.session.stream else { return };
        let chain = running.membership.chain().to_vec();
        let (Some(stream), Some(epoch)) = (self.session.stream_id(), self.epoch()) else { return };
        let lives = |world: &Self, id: NodeId| {
            id == NodeId::GOLDEN
                || world
                    .agents
                    .iter()
                    .any(|a| a.speaks() && a.ticket.is_some_and(|t| t.node == id) && a.at != At::Gone)
        };
        for pair in chain.windows(2) {
            for (reporter, about) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                if lives(self, about) || !lives(self, reporter) {
                    continue;
                }
                let report = Report { epoch, about, trouble: Trouble::Silent };
                if reporter == NodeId::GOLDEN {
                    self.input(Input::Stream(StreamNotice::Complaint(report)));
                } else if let Some(i) =
                    self.agents.iter().position(|a| a.ticket.is_some_and(|t| t.node == reporter))
                {
                    self.say(i, ToController::Complaint { stream, report });
                }
            }
        }
    }

    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.session.stream.as_ref().map(|stream| stream.membership.epoch())
    }

    /// From now on every living machine behaves, and no new one joins.
    pub(super) fn settle(&mut self) {
        self.note("all behave");
        (0..self.agents.len()).for_each(|i| self.come_back(i));
        if !self.is_admitted() && self.session.arrivals().is_empty() {
            return;
        }
        let flooded = self.random.chance(30);
        for second in 0..PATIENCE {
            for i in 0..self.agents.len() {
                if second == IDLE && !self.agents[i].speaks() {
                    self.cut(i);
                }
                if self.agents[i].is_stranger() {
                    // It has no connection left.
                    if self.agents[i].connection.is_none() {
                        self.agents[i].at = At::Gone;
                    }
                    continue;
                }
                self.come_back(i);
                self.beat(i);
                self.work(i, true);
            }
            if !self.is_admitted() {
                // This also happens again if the process was killed before it had recorded it.
                let named = self.session.arrivals().iter().map(|arrival| arrival.mac).collect();
                self.input(Input::Admit(Admission { named, ..Admission::default() }));
            }
            if flooded {
                self.stranger();
            }
            self.turn();
            self.complain();
            self.drain();
            self.turn();
            if self.session.ending().is_some() && !self.hears_more() {
                return self.judge();
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("no end comes");
    }

    /// Whether the operator has no answer left to give.
    pub(super) fn is_admitted(&self) -> bool {
        !self.planned || !self.book.named.is_empty() || self.session.ending().is_some()
    }
}
