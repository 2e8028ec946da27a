//! The controller's process around the real [`Session`]. It carries out the session's effects in their order,
//! and keeps its events. It may be killed between any two effects. Another process then takes the session
//! over from the events, which have been through JSON.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ka::chain::{LinkKeys, NodeId};
use ka::inventory::Firmware;
use ka::mac::Mac;
use ka::plan::{BootPlan, FinalAction, FinishPlan, Loader, Plan, Storage};
use ka::session::event::Judge;
use ka::session::plans::Plans;
use ka::session::{
    Admission, AdmissionPolicy, ConnectionId, Effect, Event as SessionEvent, Golden, Input, Session,
    SessionSpec, Started, StreamNotice, Target,
};
use ka::wire::control::{StreamStart, ToAgent, ToController};

use super::host::{Fate, Heard, Power};
use super::invariants::{
    FEW, Violation, invariant_only_the_faulty_are_expelled, invariant_only_the_slow_are_bypassed,
};
use super::network::HostId;
use super::outcome::{invariant_nobody_is_left_out, invariant_nothing_follows_the_last_word};
use super::schedule::Schedule;
use super::world::World;

/// The controller's process.
pub(super) struct Process {
    pub(super) session: Session,
    spec: SessionSpec,
    /// The session's events: all that a process leaves behind.
    pub(super) journal: Vec<SessionEvent>,
    effects: VecDeque<Effect>,
    is_busy: bool,
    /// It is killed after this many more effects.
    pub(super) killed_in: Option<usize>,
    pub(super) is_dead: bool,
    /// The node of each connection, and the connections on which the last message was sent.
    owners: BTreeMap<ConnectionId, NodeId>,
    closed: BTreeSet<ConnectionId>,
    next_node: u32,
}

impl Process {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let plan = Plan {
            run: "kainstall".into(),
            storage: Storage::default(),
            boot: BootPlan::new(Loader::None, Firmware::Bios),
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        };
        let target = Target { plan, left_out: Vec::new(), other_firmware: None };
        let spec = SessionSpec {
            admission: AdmissionPolicy::Named,
            plans: Some(Plans::new(target)),
            window: schedule.window,
            dead_after: schedule.dead_after,
            slow: schedule.slow,
            rounds: schedule.rounds,
            // A stopped process that holds its connection open is given up after this time.
            step_limit: schedule.dead_after * 20,
            ..SessionSpec::new("kainstall", schedule.nodes())
        };
        Self {
            session: Session::new(spec.clone(), std::time::Duration::ZERO),
            spec,
            journal: Vec::new(),
            effects: VecDeque::new(),
            is_busy: false,
            killed_in: None,
            is_dead: false,
            owners: BTreeMap::new(),
            closed: BTreeSet::new(),
            next_node: u32::try_from(schedule.hosts.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn next_node(&mut self) -> NodeId {
        self.next_node += 1;
        NodeId(self.next_node)
    }
}

/// What became of a chain's members in one step of the session: why each of them is removed, and whether it
/// lives.
type Removals = BTreeMap<NodeId, (String, bool)>;

impl World<'_> {
    /// Passes an input to the session, and carries out its effects.
    pub(super) fn input(&mut self, input: Input) -> Result<(), Violation> {
        if self.hub.is_dead {
            return Ok(());
        }
        let stream = self.hub.session.stream_id();
        self.had_rounds = self.hub.session.has_rounds();
        let effects = self.hub.session.on(input, self.now);
        if !effects.is_empty() {
            let removals = removals(&effects);
            self.hub.effects.extend(effects);
            self.follow_chain(stream == self.hub.session.stream_id(), &removals)?;
        }
        if std::mem::replace(&mut self.hub.is_busy, true) {
            return Ok(());
        }
        let done = self.carry_out();
        self.hub.is_busy = false;
        done
    }

    /// The chain has changed: judges the removals, and knows the new places.
    fn follow_chain(&mut self, same: bool, removals: &Removals) -> Result<(), Violation> {
        let mut chain: Vec<HostId> = self.hub.session.chain().iter().map(|id| self.host_of(*id)).collect();
        let mut same = same;
        if chain.is_empty() {
            // With its last node the chain has gone, too.
            chain.clone_from(&self.chain);
            chain.retain(|host| !removals.contains_key(&self.hosts[*host].id));
            same = true;
        }
        if chain == self.chain {
            return Ok(());
        }
        if same {
            let gone: Vec<HostId> = self.chain.iter().copied().filter(|host| !chain.contains(host)).collect();
            for host in gone {
                let removal = removals.get(&self.hosts[host].id);
                let (reason, alive) = removal.cloned().unwrap_or((String::new(), true));
                self.note(|| format!("host {host} is expelled: {reason}"));
                self.gone.insert(host, reason.clone());
                if is_slowness(&reason) {
                    invariant_only_the_slow_are_bypassed(self, host, &reason)?;
                    self.hosts[host].suspect = true;
                    self.outcome.slow += 1;
                }
                invariant_only_the_faulty_are_expelled(self, host, alive)?;
            }
        }
        self.chain = chain;
        for place in 0..self.chain.len() {
            self.places[self.chain[place]] = place;
        }
        self.settled = false;
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), Violation> {
        while let Some(effect) = self.hub.effects.pop_front() {
            match &mut self.hub.killed_in {
                Some(0) => {
                    self.kill_controller();
                    return Ok(());
                }
                Some(left) => *left -= 1,
                None => {}
            }
            match effect {
                Effect::Record(event) => {
                    self.judge_event(&event)?;
                    self.hub.journal.push(*event);
                }
                Effect::Joined { connection, node } => self.on_joined(connection, node),
                Effect::Refused { connection, reason } => {
                    self.tell(connection, ToAgent::Refused { reason })?;
                }
                Effect::Send { connection, message } => self.tell(connection, *message)?,
                Effect::StartStream { window, .. } => self.start_stream(window)?,
                Effect::PlaceGolden(view) => {
                    let stream = self.stream.key.stream;
                    self.tell_node(0, ToAgent::View { stream, view: *view });
                }
                Effect::ReleaseStream => self.on_released()?,
                Effect::GiveUpStream => self.end_stream(),
                Effect::Report(_) | Effect::StoreLog(_) | Effect::AwaitBoot { .. } | Effect::Went(_) => {}
            }
        }
        Ok(())
    }

    fn judge_event(&mut self, event: &SessionEvent) -> Result<(), Violation> {
        self.note(|| format!("-- {}", short(event)));
        match event {
            SessionEvent::Admitted(admission) => {
                self.admitted = admission.named.union(&admission.others).copied().collect();
            }
            SessionEvent::Round { nodes, round, .. } => {
                invariant_nobody_is_left_out(self, Some(nodes))?;
                self.outcome.rounds = self.outcome.rounds.max(*round);
                for node in nodes {
                    let host = self.host_of(*node);
                    self.gone.remove(&host);
                    self.hosts[host].waits_since = None;
                }
            }
            SessionEvent::Dismissed { node } => {
                let host = self.host_of(*node);
                let node = &mut self.hosts[host];
                node.is_served |= node.fate == Fate::Complete;
            }
            SessionEvent::Over { .. } => {
                self.settled = false;
                invariant_nobody_is_left_out(self, None)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_joined(&mut self, connection: ConnectionId, node: NodeId) {
        let (host, _) = self.end_of(connection);
        self.hub.owners.insert(connection, node);
        self.owners.insert(node, host);
        self.hosts[host].id = node;
    }

    fn tell(&mut self, connection: ConnectionId, message: ToAgent) -> Result<(), Violation> {
        let last = matches!(message, ToAgent::Bye | ToAgent::Refused { .. });
        let is_closed = self.hub.closed.contains(&connection);
        invariant_nothing_follows_the_last_word(self, is_closed && !last, &message)?;
        if last {
            self.hub.closed.insert(connection);
            self.hub.owners.remove(&connection);
        }
        let (host, number) = self.end_of(connection);
        if !is_closed && self.hosts[host].control.number == number {
            self.tell_node(host, message);
        }
        Ok(())
    }

    /// The host and the generation of a connection.
    fn end_of(&self, connection: ConnectionId) -> (HostId, u32) {
        let hosts = self.hosts.len();
        (connection.0 % hosts, u32::try_from(connection.0 / hosts).unwrap_or(u32::MAX))
    }

    pub(super) fn connection_of(&self, host: HostId, number: u32) -> ConnectionId {
        ConnectionId(number as usize * self.hosts.len() + host)
    }

    pub(super) fn host_of(&self, node: NodeId) -> HostId {
        self.owners.get(&node).copied().unwrap_or_default()
    }

    /// A message from a host has reached the controller.
    pub(super) fn hub_hears(
        &mut self,
        host: HostId,
        number: u32,
        message: ToController,
    ) -> Result<(), Violation> {
        if self.hub.is_dead {
            return Ok(());
        }
        if host == 0 {
            if let ToController::Complaint { report, .. } = message {
                self.note(|| format!("the golden node complains: {report:?}"));
                self.input(Input::Stream(StreamNotice::Complaint(report)))?;
            }
            return self.hub_judges();
        }
        let connection = self.connection_of(host, number);
        let is_beat = matches!(message, ToController::Heartbeat(_));
        match message {
            ToController::Hello(hello) => {
                let arriving = self.arriving(host, connection, *hello);
                self.input(Input::Hello(Box::new(arriving)))?;
                self.perhaps_admit()?;
            }
            message => {
                let Some(node) = self.hub.owners.get(&connection).copied() else { return Ok(()) };
                self.take_note(host, &message)?;
                self.input(Input::Message { node, message })?;
            }
        }
        if is_beat && self.hosts.len() > FEW { Ok(()) } else { self.hub_judges() }
    }

    /// What the invariants need to know of a message.
    fn take_note(&mut self, host: HostId, message: &ToController) -> Result<(), Violation> {
        match message {
            ToController::Heartbeat(progress) => {
                let all = self.hosts[0].heard;
                let heard = &mut self.hosts[host].heard;
                if progress.verified > heard.position.max(all.position) {
                    *heard = Heard { position: progress.verified, moved: self.now };
                } else if all.position > heard.position {
                    // The hub knew that it has this much before it reported it.
                    *heard = all;
                }
            }
            ToController::Complaint { report, .. } if !self.released => {
                let report = *report;
                self.note(|| format!("the hub hears from host {host}: {report:?}"));
                if self.schedule.malice(host).accuses {
                    let about = self.host_of(report.about);
                    self.hosts[about].slandered_by.insert(host);
                }
            }
            ToController::Forged { forged, .. } => self.hub_hears_of_forgery(host, *forged)?,
            ToController::Done => {
                let now = self.now;
                let node = &mut self.hosts[host];
                node.waits_since = node.waits_since.or(node.waits().then_some(now));
            }
            _ => {}
        }
        Ok(())
    }

    /// The controller's regular work.
    pub(super) fn hub_judges(&mut self) -> Result<(), Violation> {
        if self.hub.is_dead {
            return Ok(());
        }
        if self.streams_now && !self.released {
            let golden = &self.hosts[0];
            let tail = golden.member.tail_position();
            let sample = golden.sample();
            if tail > golden.heard.position {
                self.hosts[0].heard = Heard { position: tail, moved: self.now };
            }
            let golden =
                Golden { sample, tail, uncompressed: sample.verified.0, notes: ka::notes::Tally::default() };
            self.input(Input::Golden(golden))?;
        }
        self.input(Input::Tick)
    }

    /// A control connection has ended.
    pub(super) fn hub_misses(&mut self, host: HostId, number: u32) -> Result<(), Violation> {
        let connection = self.connection_of(host, number);
        if let Some(node) = self.hub.owners.remove(&connection) {
            self.input(Input::Closed { node, connection, reason: "it is cut".to_owned() })?;
        }
        self.hub_judges()
    }

    /// The operator admits the machines once all are there.
    fn perhaps_admit(&mut self) -> Result<(), Violation> {
        let all = self.hub.owners.len() == self.schedule.nodes();
        if all && !self.schedule.gathers && self.admitted.is_empty() { self.admit() } else { Ok(()) }
    }

    /// The operator admits all machines that are there, but for one that is not invited. The others may come
    /// later.
    pub(super) fn admit(&mut self) -> Result<(), Violation> {
        if self.hub.session.book().is_admitted() || self.hub.session.ending().is_some() {
            return Ok(());
        }
        let uninvited = self.schedule.uninvited.map(mac_of);
        let invited: BTreeSet<Mac> =
            (1..self.hosts.len()).map(mac_of).filter(|mac| Some(*mac) != uninvited).collect();
        let there: BTreeSet<Mac> =
            self.hub.session.arrivals().into_iter().map(|arrival| arrival.mac).collect();
        let (named, others) = (invited.intersection(&there).copied().collect(), invited.difference(&there));
        let others = others.copied().collect();
        self.input(Input::Admit(Admission { named, others, ..Admission::default() }))?;
        self.hub_judges()
    }

    fn start_stream(&mut self, window: u64) -> Result<(), Violation> {
        self.begin_stream();
        let started = Started {
            start: StreamStart { key: self.stream.key.clone(), window },
            golden: address_of(0),
            links: LinkKeys::generate().expect("the system has randomness"),
        };
        self.input(Input::Started(Box::new(started)))
    }

    /// The controller's process is killed, and with it the golden node's relay.
    pub(super) fn kill_controller(&mut self) {
        self.note(|| "the controller is killed".to_owned());
        self.outcome.kills += 1;
        self.hub.is_dead = true;
        self.hub.killed_in = None;
        self.hub.effects.clear();
        self.hub.owners.clear();
        self.end_stream();
        self.hosts[0].power = Power::Down;
        for host in 1..self.hosts.len() {
            self.lose_control(host);
        }
    }

    /// Another process takes the session over from its events.
    pub(super) fn take_over(&mut self) -> Result<(), Violation> {
        self.hub.killed_in = None;
        if !self.hub.is_dead {
            // It had nothing to do since, and dies idle.
            self.kill_controller();
        }
        self.note(|| "another process takes the session over".to_owned());
        let lines: Vec<String> = self
            .hub
            .journal
            .iter()
            .map(|event| serde_json::to_string(event).expect("events are data"))
            .collect();
        let read: Vec<SessionEvent> =
            lines.iter().map(|line| serde_json::from_str(line).expect("an event that was written")).collect();
        let (session, effects) = Session::resume(self.hub.spec.clone(), &read, self.now);
        self.hub.session = session;
        self.hub.is_dead = false;
        self.hub.effects.extend(effects);
        self.hosts[0].power = Power::On;
        self.hub.is_busy = true;
        let done = self.carry_out();
        self.hub.is_busy = false;
        done?;
        self.hub_judges()
    }
}

/// The members that a step of the session has removed from the chain.
fn removals(effects: &[Effect]) -> Removals {
    let removed = effects.iter().filter_map(|effect| match effect {
        Effect::Record(event) => match &**event {
            SessionEvent::Failed { node, failure, by: by @ (Judge::Dead | Judge::Bypassed) } => {
                Some((*node, (failure.kind.to_string(), *by == Judge::Bypassed)))
            }
            _ => None,
        },
        _ => None,
    });
    removed.collect()
}

/// Whether a node was removed because it was slow: only these reasons have such figures.
fn is_slowness(reason: &str) -> bool {
    reason.contains("% of the time") || reason.contains("let nothing through for")
}

fn short(event: &SessionEvent) -> String {
    format!("{event:?}").chars().take(160).collect()
}

/// The hardware address of a host.
pub(super) fn mac_of(host: HostId) -> Mac {
    let [.., a, b, c, d] = (host as u64).to_be_bytes();
    Mac([0x52, 0x54, a, b, c, d])
}

/// A host's address. The order of the addresses is that of the hosts.
pub(super) fn address_of(host: HostId) -> std::net::SocketAddr {
    let [.., a, b, c] = (host as u64 + 1).to_be_bytes();
    (std::net::Ipv4Addr::new(10, a, b, c), 1).into()
}

/// The host with this address.
pub(super) fn host_at(address: std::net::SocketAddr) -> HostId {
    let std::net::IpAddr::V4(address) = address.ip() else { return 0 };
    let [_, a, b, c] = address.octets();
    u32::from_be_bytes([0, a, b, c]).saturating_sub(1) as HostId
}

/// The number of a host's first node.
pub(super) fn node_of(host: HostId) -> NodeId {
    NodeId(u32::try_from(host).unwrap_or(u32::MAX))
}
