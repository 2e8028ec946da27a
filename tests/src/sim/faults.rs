//! The effects of faults on the simulated world, and their ends.

use std::time::Duration;

use ka::failure::FailureKind;

use super::host::{Fate, Power};
use super::invariants::Violation;
use super::network::HostId;
use super::schedule::{Fault, Planned, Victim, When};
use super::world::{Event, World};

/// The state of an impaired path between two hosts.
#[derive(Clone, Copy, Default)]
pub(super) struct Path {
    /// Nothing passes.
    pub(super) cut: bool,
    /// The number of frames still to be damaged.
    pub(super) damage: u32,
}

/// How a fault ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relief {
    Resume(HostId),
    Rejoin(HostId),
    Restart(HostId),
    Heal(HostId, HostId),
    ControlBack(HostId),
    /// Another process takes the session over.
    TakeOver,
    /// A node finds the new process.
    Return(HostId),
}

impl World<'_> {
    /// Starts the timers of all faults that wait for `when`.
    pub(super) fn arm(&mut self, ready: impl Fn(When) -> bool) {
        let schedule = self.schedule;
        for (index, planned) in schedule.faults.iter().enumerate() {
            if !self.armed[index] && ready(planned.when) {
                self.armed[index] = true;
                self.after(planned.after, Event::Fault(index));
            }
        }
    }

    pub(super) fn on_fault(&mut self, planned: Planned) -> Result<(), Violation> {
        let Some(victim) = self.find(planned) else { return Ok(()) };
        self.last_victim = victim;
        self.disturbed = self.now;
        self.settled = false;
        let behind = self.behind(victim);
        self.note(|| format!("{:?} hits host {victim} (behind it: {behind:?})", planned.fault));
        if planned.fault.is_death() {
            self.count_death(victim, behind.is_none());
        }
        match planned.fault {
            Fault::Crash => self.crash(victim),
            Fault::Restart(after) => {
                self.crash(victim);
                self.after(after, Event::Relief(Relief::Restart(victim)));
            }
            Fault::Hang(lasts) => {
                self.hosts[victim].suspect = true;
                self.hosts[victim].power = Power::Hung;
                self.relieve(lasts, Relief::Resume(victim));
            }
            Fault::Silence(lasts) => {
                self.hosts[victim].suspect = true;
                self.hosts[victim].isolated = true;
                if lasts.is_none() {
                    self.hosts[victim].power = Power::Off;
                }
                self.relieve(lasts, Relief::Rejoin(victim));
            }
            Fault::Slow(_) | Fault::SlowLink(_) | Fault::SlowWriter(_) => {
                self.slow_down(victim, planned.fault);
            }
            Fault::WriterFails => return self.fail_writer(victim),
            Fault::Outage { lasts, lost } => {
                let all = matches!(planned.victim, Victim::All);
                if all {
                    // The controller's own faults remove no member.
                    for host in 1..self.hosts.len() {
                        let back = lasts + self.random.time(self.schedule.dead_after / 2);
                        self.begin_outage(host, back, lost);
                    }
                } else {
                    self.hosts[victim].suspect = true;
                    self.begin_outage(victim, lasts, lost);
                }
            }
            Fault::Kill { lasts, effects } => {
                self.hub.killed_in = Some(effects);
                self.after(lasts, Event::Relief(Relief::TakeOver));
                for host in 1..self.hosts.len() {
                    let back = lasts + self.random.time(self.schedule.dead_after * 2);
                    self.after(back, Event::Relief(Relief::Return(host)));
                }
            }
            Fault::Reset | Fault::Cut(_) | Fault::Damage(_) | Fault::DamageBack(_) => {
                if let Some(behind) = behind {
                    self.harm_link(victim, behind, planned.fault);
                }
            }
        }
        Ok(())
    }

    /// The member that a fault hits now; `None` if there is no possible victim.
    fn find(&self, planned: Planned) -> Option<HostId> {
        let link = matches!(
            planned.fault,
            Fault::Reset
                | Fault::Cut(_)
                | Fault::Damage(_)
                | Fault::DamageBack(_)
                | Fault::Slow(_)
                | Fault::SlowLink(_)
                | Fault::SlowWriter(_)
        );
        let alive: Vec<HostId> = self
            .chain
            .iter()
            .copied()
            .filter(|host| {
                (link || *host != 0) && self.hosts[*host].power == Power::On && self.hosts[*host].lives()
            })
            .collect();
        let place = match planned.victim {
            Victim::Position(place) => place,
            Victim::Tail => alive.len().checked_sub(1)?,
            Victim::Behind => {
                let before = self.chain.iter().position(|host| *host == self.last_victim);
                let next = self.chain.iter().skip(before.map_or(0, |place| place + 1));
                return next.copied().find(|host| alive.contains(host));
            }
            Victim::All => 0,
        };
        alive.get(place.checked_rem(alive.len())?).copied()
    }

    fn behind(&self, host: HostId) -> Option<HostId> {
        let place = self.chain.iter().position(|other| *other == host)?;
        self.chain[place + 1..].iter().copied().find(|other| self.hosts[*other].lives())
    }

    fn count_death(&mut self, victim: HostId, tail: bool) {
        self.hosts[victim].suspect = true;
        if self.released {
            return;
        }
        let near = self.deaths.iter().any(|before| self.now - *before <= self.schedule.dead_after);
        self.outcome.close_deaths |= near;
        self.outcome.tail_deaths |= tail;
        self.outcome.deaths += 1;
        self.deaths.push(self.now);
    }

    fn relieve(&mut self, lasts: Option<Duration>, relief: Relief) {
        if let Some(lasts) = lasts {
            self.after(lasts, Event::Relief(relief));
        }
    }

    fn crash(&mut self, host: HostId) {
        self.close_all(host);
        let node = &mut self.hosts[host];
        node.power = Power::Down;
        node.life += 1;
        node.writing = None;
        self.lose_control(host);
    }

    fn fail_writer(&mut self, host: HostId) -> Result<(), Violation> {
        let node = &mut self.hosts[host];
        if node.fate == Fate::Running {
            node.fate = Fate::Failed;
            node.writing = None;
            node.member.on_writer_failed();
            let reason = "the disk is full".to_owned();
            self.fail(host, FailureKind::Stream { reason }, false);
        }
        self.pump(host)
    }

    fn slow_down(&mut self, host: HostId, fault: Fault) {
        let times = fault.slows();
        let node = &mut self.hosts[host];
        let plan = &mut node.plan;
        if host == 0 {
            // Its producer: a slow card there could not be distinguished from its successor's.
            plan.writer = (plan.writer / times).max(1);
            self.outcome.slowed_golden = true;
            return;
        }
        node.suspect = true;
        if !matches!(fault, Fault::SlowWriter(_)) {
            plan.shape.rate = (plan.shape.rate / times).max(1);
        }
        if !matches!(fault, Fault::SlowLink(_)) {
            plan.writer = (plan.writer / times).max(1);
        }
    }

    fn begin_outage(&mut self, host: HostId, lasts: Duration, lost: bool) {
        self.hosts[host].control.outages += 1;
        if lost {
            self.lose_control(host);
        }
        self.after(lasts, Event::Relief(Relief::ControlBack(host)));
    }

    fn harm_link(&mut self, from: HostId, to: HostId, fault: Fault) {
        self.hosts[from].suspect = true;
        self.hosts[to].suspect = true;
        match fault {
            Fault::Cut(lasts) => {
                self.paths.entry((from, to)).or_default().cut = true;
                self.paths.entry((to, from)).or_default().cut = true;
                self.relieve(lasts, Relief::Heal(from, to));
            }
            Fault::Damage(frames) => self.paths.entry((from, to)).or_default().damage = frames,
            Fault::DamageBack(frames) => self.paths.entry((to, from)).or_default().damage = frames,
            _ => self.reset_between(from, to),
        }
    }

    /// A device between two hosts resets their connections: both ends see it.
    fn reset_between(&mut self, from: HostId, to: HostId) {
        let between: Vec<_> = self.hosts[from]
            .connections
            .iter()
            .copied()
            .filter(|(id, end)| self.connections[*id].hosts[1 - *end] == to)
            .collect();
        for (id, end) in between {
            self.transmit(id, end, super::network::Frame::Closed);
            self.transmit(id, 1 - end, super::network::Frame::Closed);
        }
    }

    pub(super) fn on_relief(&mut self, relief: Relief) -> Result<(), Violation> {
        self.disturbed = self.now;
        self.settled = false;
        self.note(|| format!("{relief:?}"));
        match relief {
            Relief::Resume(host) => {
                if self.hosts[host].power != Power::Hung {
                    return Ok(());
                }
                self.hosts[host].power = Power::On;
                if self.schedule.clock_first {
                    self.hosts[host].member.on_tick(self.now);
                }
                self.start_timers(host);
                if !self.schedule.clock_first {
                    self.pump(host)?;
                }
                if self.hosts[host].writing.is_some() {
                    self.on_written(host)?;
                }
                self.control_back(host)?;
                self.pump(host)
            }
            Relief::Rejoin(host) => {
                self.hosts[host].isolated = false;
                self.redeliver(|hosts| hosts.contains(&host));
                self.control_back(host)
            }
            Relief::Restart(host) => {
                self.on_restart(host);
                Ok(())
            }
            Relief::Heal(a, b) => {
                for way in [(a, b), (b, a)] {
                    self.paths.entry(way).or_default().cut = false;
                }
                self.redeliver(|hosts| hosts.contains(&a) && hosts.contains(&b));
                Ok(())
            }
            Relief::TakeOver => self.take_over(),
            Relief::Return(host) => self.control_back(host),
            Relief::ControlBack(host) => {
                let control = &mut self.hosts[host].control;
                control.outages = control.outages.saturating_sub(1);
                self.control_back(host)
            }
        }
    }

    fn control_back(&mut self, host: HostId) -> Result<(), Violation> {
        self.reconnect(host);
        self.flush_control(host)
    }

    fn redeliver(&mut self, concerned: impl Fn([HostId; 2]) -> bool) {
        for id in 0..self.connections.len() {
            if concerned(self.connections[id].hosts) {
                for end in [0, 1] {
                    self.after(Duration::ZERO, Event::Arrive { id, end });
                }
            }
        }
    }
}
