//! Runs one night, second by second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ka::chain::{LinkKeys, NodeId, Offset, ProgressSample, Report, SlowLimits, Trouble, View};
use ka::failure::{Failure, FailureKind};
use ka::inventory::{Card, Firmware, Inventory};
use ka::mac::Mac;
use ka::plan::{BootPlan, FinalAction, FinishPlan, Loader, Storage};
use ka::proof::{Proof, Root};
use ka::seal::{Cipher, StreamId, StreamKey, Total};
use ka::session::plans::Plans;
use ka::session::status::{Phase, RunStatus};
use ka::session::{
    Admission, AdmissionPolicy, Arriving, ConnectionId, Effect, Event, Golden, Input, Session, SessionSpec,
    Started, StreamNotice, Target,
};
use ka::step::Step;
use ka::wire::control::{Hello, Progress, StreamStart, ToAgent, ToController};

use super::judge::judge;
use super::machine::{At, Disk, Life, Machine, RATE, TOTAL};
use super::plan::{Fault, Kill, Plan};
use super::{Tally, Violation};

const DEAD_AFTER: u64 = 6;
/// How often an agent says that it lives.
const BEAT: u64 = 2;
const STEP_LIMIT: u64 = 300;
/// When the run begins without those that are missing.
const TIMEOUT: u64 = 400;
/// How long machines wait for a vanished controller.
const PATIENCE: u64 = 600;
/// When the controller's system closes a silent connection.
const IDLE: u64 = 60;
const WINDOW: u64 = 64 << 20;
/// No night is longer.
const MORNING: u64 = 6 * 3600;
/// How often the permissions to boot are looked at.
const LOOK: u64 = 5;

const END: Total = Total { length: TOTAL, hash: [0; 32], sha256: None };

/// The golden node's end of the running stream.
struct Source {
    stream: StreamId,
    view: Option<View<std::net::SocketAddr>>,
    position: u64,
    tail: u64,
    is_produced: bool,
    tail_is_complete: bool,
}

struct World {
    spec: SessionSpec,
    machines: Vec<Machine>,
    kills: VecDeque<Kill>,
    now: u64,
    /// The controller's session, unless the controller is dead.
    session: Option<Session>,
    /// When its process began.
    since: u64,
    resumes_at: u64,
    killed_in: Option<u64>,
    deaths: u64,
    journal: Vec<Event>,
    queue: VecDeque<Effect>,
    is_busy: bool,
    source: Option<Source>,
    by_connection: BTreeMap<ConnectionId, usize>,
    by_node: BTreeMap<NodeId, usize>,
    next_connection: usize,
    next_node: u32,
    /// Machines that have joined, and those that boot from their disks.
    seen: BTreeSet<Mac>,
    over: BTreeSet<Mac>,
    closed: bool,
    violation: Option<Violation>,
}

/// Simulates a night.
///
/// # Errors
/// What must not happen.
pub fn run(plan: &Plan) -> Result<Tally, Violation> {
    let mut world = World::new(plan);
    let told = |violation: Violation| Violation(format!("seed {}: {violation}", plan.seed));
    while world.now < MORNING {
        world.second();
        if let Some(violation) = world.violation.take() {
            return Err(told(violation));
        }
        if let Some(report) = world.report() {
            let mut tally = judge(&world.machines, &report, &world.seen).map_err(told)?;
            (tally.kills, tally.longest) = (world.deaths, world.now);
            return Ok(tally);
        }
    }
    Err(told(Violation(format!(
        "no end after {MORNING} s: {:?}",
        world.session.map(|session| session.status().0)
    ))))
}

impl World {
    fn new(plan: &Plan) -> Self {
        let machines = (1u8..).zip(&plan.machines).map(|(number, plan)| Machine::new(number, *plan));
        let machines: Vec<Machine> = machines.collect();
        let target = ka::plan::Plan {
            run: "kainstall".into(),
            storage: Storage::default(),
            boot: BootPlan::new(Loader::None, Firmware::Bios),
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        };
        let spec = SessionSpec {
            admission: AdmissionPolicy::Named,
            only: Some(machines.iter().map(|machine| machine.mac).collect()),
            plans: Some(Plans::new(Target { plan: target, left_out: Vec::new(), other_firmware: None })),
            window: WINDOW,
            dead_after: Duration::from_secs(DEAD_AFTER),
            patience: Duration::from_secs(PATIENCE),
            step_limit: Duration::from_secs(STEP_LIMIT),
            // Slow nodes have a simulator of their own.
            slow: SlowLimits { min_share: 0.0, ..SlowLimits::default() },
            rounds: plan.rounds,
            ..SessionSpec::new("kainstall", machines.len())
        };
        let mut kills = plan.kills.clone();
        kills.sort_by_key(|kill| kill.at);
        Self {
            session: Some(Session::new(spec.clone(), Duration::ZERO)),
            spec,
            machines,
            kills: kills.into(),
            now: 0,
            since: 0,
            resumes_at: 0,
            killed_in: None,
            deaths: 0,
            journal: Vec::new(),
            queue: VecDeque::new(),
            is_busy: false,
            source: None,
            by_connection: BTreeMap::new(),
            by_node: BTreeMap::new(),
            next_connection: 0,
            next_node: 1,
            seen: BTreeSet::new(),
            over: BTreeSet::new(),
            closed: false,
            violation: None,
        }
    }

    fn second(&mut self) {
        self.now += 1;
        if self.session.is_none() && self.now >= self.resumes_at {
            self.resume();
        }
        if self.session.is_some() && self.kills.front().is_some_and(|kill| kill.at <= self.now) {
            self.killed_in = self.killed_in.or(self.kills.front().map(|kill| kill.effects));
        }
        if let Some(Source { position, tail, .. }) = self.source {
            let sample = ProgressSample {
                verified: Offset(position),
                written: Offset(position),
                ..ProgressSample::default()
            };
            self.input(Input::Golden(Golden {
                sample,
                tail: Offset(tail),
                uncompressed: position,
                ..Golden::default()
            }));
        }
        self.input(Input::Tick);
        for i in 0..self.machines.len() {
            self.fault(i);
            self.work(i);
            self.give_up_silence(i);
        }
        self.flow();
        self.complain();
        self.operate();
    }

    /// The report, once the run has ended.
    fn report(&self) -> Option<RunStatus> {
        let session = self.session.as_ref()?;
        session.ending().map(|_| session.status().0)
    }

    // -- the controller -------------------------------------------------------------------------------------

    fn input(&mut self, input: Input) {
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

    fn die(&mut self) {
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

    fn resume(&mut self) {
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

    fn carry_out(&mut self, effect: Effect) {
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
    fn operate(&mut self) {
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

    // -- machines -------------------------------------------------------------------------------------------

    fn fault(&mut self, i: usize) {
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
    fn power_cut(&mut self, i: usize) {
        self.dangle(i);
        self.machines[i].life = None;
        self.machines[i].boots_at = None;
    }

    /// From now on nothing comes over the machine's connection.
    fn dangle(&mut self, i: usize) {
        let (now, machine) = (self.now, &mut self.machines[i]);
        machine.quiet_since = now;
        let ends = machine.life.as_ref().and_then(|life| Some((life.ticket?.node, life.connection?)));
        if let Some((node, connection)) = ends {
            self.by_connection.remove(&connection);
            machine.dangling = Some((node, connection, now + IDLE));
        }
    }

    fn give_up_silence(&mut self, i: usize) {
        if let Some((node, connection, at)) = self.machines[i].dangling
            && at <= self.now
        {
            self.machines[i].dangling = None;
            self.input(Input::Closed { node, connection, reason: "it has gone silent".into() });
        }
    }

    /// Its connection is reset, and it cannot dial for a while.
    fn cut(&mut self, i: usize, lasts: u64) {
        let now = self.now;
        let Some(life) = &mut self.machines[i].life else { return };
        if let (Some(connection), Some(ticket)) = (life.connection.take(), life.ticket) {
            life.lost_at = now + lasts;
            self.by_connection.remove(&connection);
            self.input(Input::Closed { node: ticket.node, connection, reason: "reset".into() });
        }
    }

    fn disk_fails(&mut self, i: usize) {
        let Some(life) = &self.machines[i].life else { return };
        let step = match life.at {
            At::Preparing { .. } => Step::MakeFileSystem,
            At::Receiving(_) => Step::ReceiveSystem,
            At::Finishing { .. } if !life.done => Step::BootLoader,
            _ => return,
        };
        self.fail(i, step, false);
    }

    fn fail(&mut self, i: usize, step: Step, transient: bool) {
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
    fn leave(&mut self, i: usize) {
        self.machines[i].life = None;
        self.machines[i].quiet_since = self.now;
    }

    fn say(&mut self, i: usize, message: ToController) {
        let Some(life) = self.machines[i].life.as_ref().filter(|life| !life.is_hung) else { return };
        if let (Some(ticket), Some(_)) = (life.ticket, life.connection)
            && self.session.as_ref().is_some_and(|session| session.knows(ticket.node))
        {
            self.input(Input::Message { node: ticket.node, message });
        }
    }

    fn beat(&mut self, i: usize) {
        let Some(life) = &self.machines[i].life else { return };
        let written = if life.is_stalled { 0 } else { life.verified };
        let (verified, written) = (Offset(life.verified), Offset(written));
        self.say(i, ToController::Heartbeat(Progress { verified, written, ..Progress::default() }));
    }

    /// What an agent does in a second.
    fn work(&mut self, i: usize) {
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
    fn join(&mut self, i: usize) {
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
        self.input(Input::Hello(Box::new(Arriving { id, hello, connection, peer, local, token, time: 0 })));
        self.beat(i);
        self.repeat(i);
    }

    fn repeat(&mut self, i: usize) {
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

    fn deliver(&mut self, connection: ConnectionId, message: ToAgent) {
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
            ToAgent::View { stream, view } => {
                if life.at == At::Receiving(stream) || life.stream() == Some(stream) {
                    life.view = Some((stream, view));
                }
            }
            ToAgent::Proof { stream, proof } if life.at == At::Receiving(stream) => {
                life.is_proven |= proof.last.is_some();
            }
            ToAgent::Release { stream } if life.stream() == Some(stream) => life.is_released = true,
            ToAgent::Abort { stream, .. } if life.at == At::Receiving(stream) => {
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

    // -- the chain ------------------------------------------------------------------------------------------

    /// A second's worth of the stream, from member to member as far as the links of this epoch are up.
    fn flow(&mut self) {
        let Some(source) = &mut self.source else { return };
        let (stream, Some(view)) = (source.stream, source.view.clone()) else { return };
        source.position =
            TOTAL.min(source.position + RATE).min(source.tail + WINDOW + RATE).max(source.position);
        let (mut before, mut next, mut reached) = ((NodeId::GOLDEN, source.position), view.successor, false);
        let mut tail = source.position;
        while let Some(id) = next {
            let life = self.by_node.get(&id).and_then(|i| self.machines[*i].life.as_mut());
            let member =
                life.filter(|life| !life.is_hung && life.ticket.is_some_and(|ticket| ticket.node == id));
            let Some((life, own)) = member.and_then(|life| {
                let own = life.view.clone().filter(|(of, own)| *of == stream && own.epoch == view.epoch)?.1;
                (own.predecessor_id() == Some(before.0)).then_some((life, own))
            }) else {
                break;
            };
            life.verified = life.verified.max(before.1.min(life.verified + 2 * RATE));
            tail = tail.min(life.verified);
            (before, next) = ((id, life.verified), own.successor);
            reached = next.is_none();
        }
        source.tail = if reached { tail } else { source.tail };
        let (is_read, is_through) = (source.position == TOTAL, reached && tail == TOTAL);
        let produced = is_read && !std::mem::replace(&mut source.is_produced, is_read);
        let complete = is_through && !std::mem::replace(&mut source.tail_is_complete, is_through);
        if produced {
            let proof = Proof { root: Root { length: TOTAL, hash: [0; 32] }, last: Some(END) };
            self.input(Input::Stream(StreamNotice::Produced(proof)));
        }
        if complete {
            self.input(Input::Stream(StreamNotice::TailComplete));
        }
    }

    /// Members complain about a neighbour that they no longer hear.
    fn complain(&mut self) {
        if !self.now.is_multiple_of(BEAT) {
            return;
        }
        let quiet = |world: &Self, id: NodeId| {
            let machine = world.by_node.get(&id).map(|i| &world.machines[*i]);
            machine.is_some_and(|machine| {
                let same =
                    machine.life.as_ref().is_some_and(|life| life.ticket.is_some_and(|t| t.node == id));
                (!same || !machine.speaks()) && world.now - machine.quiet_since >= DEAD_AFTER
            })
        };
        if let Some(view) = self.source.as_ref().and_then(|source| source.view.clone())
            && let Some(about) = view.successor.filter(|id| quiet(self, *id))
        {
            let report = Report { epoch: view.epoch, about, trouble: Trouble::Silent };
            self.input(Input::Stream(StreamNotice::Complaint(report)));
        }
        for i in 0..self.machines.len() {
            let Some(life) = self.machines[i].life.as_ref().filter(|life| !life.is_hung && !life.is_released)
            else {
                continue;
            };
            let Some((stream, view)) = life.view.clone() else { continue };
            for about in view.predecessor_id().into_iter().chain(view.successor) {
                if about != NodeId::GOLDEN && quiet(self, about) {
                    let report = Report { epoch: view.epoch, about, trouble: Trouble::Silent };
                    self.say(i, ToController::Complaint { stream, report });
                }
            }
        }
    }
}

fn begin(life: &mut Life, stream: StreamId) {
    life.at = At::Receiving(stream);
    (life.view, life.verified, life.is_proven, life.is_released) = (None, 0, false, false);
}

fn started(golden: IpAddr, window: u64) -> Result<Started, String> {
    let key = StreamKey::generate(Cipher::ChaCha20Poly1305).map_err(|e| e.to_string())?;
    let links = LinkKeys::generate().map_err(|e| e.to_string())?;
    Ok(Started { start: StreamStart { key, window }, golden: (golden, 1).into(), links })
}
