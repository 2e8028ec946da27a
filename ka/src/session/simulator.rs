//! Sessions under generated histories. Machines join, are reset, die, lose their connections, fail, lie and
//! wait, in any order that a seed gives, and strangers join and never send another message. Agents, wire and
//! time are simulated, and the session's process is sometimes killed. The session is the real one.
//!
//! Invariants, checked after every step and at the end:
//! - no machine is sent a plan to erase itself while it has a copy, or is working on one;
//! - a node shown as complete has reported so itself, and a node that reported so and was dismissed is shown
//!   as complete;
//! - nothing is sent on a connection after its final message;
//! - once the machines behave, the session ends, and every machine in it has exactly one result;
//! - no machine is sent a plan to erase itself without admission;
//! - no session ends while a machine waits that it can still serve;
//! - the session is the fold of its recorded events, and a process that takes it over from these, after a
//!   kill between any two effects, keeps all of this.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::event::VERSION;
use super::plans::Plans;
use super::status::Phase;
use super::*;
use crate::chain::{Epoch, LinkKeys, Offset, Report, Trouble};
use crate::inventory::{Card, Firmware, Inventory};
use crate::mac::Mac;
use crate::plan::{BootPlan, FinalAction, FinishPlan, Loader, Plan};
use crate::proof::{Proof, Root};
use crate::seal::{Cipher, StreamKey, Total};
use crate::step::Step;
use crate::wire::control::{Hello, Progress, StreamStart, Ticket, ToController};

const TOTAL: Total = Total { length: 7, hash: [0; 32], sha256: None };

/// The golden node has read everything.
fn proof() -> Proof {
    Proof { root: Root { length: 7, hash: [0; 32] }, last: Some(TOTAL) }
}

const MACHINES: u8 = 6;
/// Strangers are numbered from here.
const STRANGERS: u8 = 100;
const SCHEDULES: u64 = 10_000;
/// Steps of a history in which anything may happen.
const STEPS: u64 = 120;
/// One-second turns in which all machines behave. After them every session must be over.
const PATIENCE: u32 = 600;

/// When the simulated hub closes idle connections.
const IDLE: u32 = 60;

/// SplitMix64, so that a seed always produces the same history.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The state of an agent.
#[derive(Clone, Debug, PartialEq)]
enum At {
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
struct Agent {
    machine: u8,
    alive: bool,
    connection: Option<ConnectionId>,
    ticket: Option<Ticket>,
    at: At,
    epoch: Option<(StreamId, Epoch)>,
    done: bool,
    /// A message may have been lost with a connection: it is repeated.
    again: bool,
}

impl Agent {
    /// Whether it sends only a hello, and never anything else.
    fn is_stranger(&self) -> bool {
        self.machine >= STRANGERS
    }

    fn speaks(&self) -> bool {
        self.alive && !self.is_stranger()
    }
}

struct World {
    session: Session,
    random: Random,
    agents: Vec<Agent>,
    /// Machines with a complete copy, which must not be erased.
    copies: BTreeSet<u8>,
    next: u32,
    connections: usize,
    /// Connections on which the final message was sent.
    closed: BTreeSet<ConnectionId>,
    passed: Duration,
    planned: bool,
    history: Vec<String>,
    spec: SessionSpec,
    /// The session's recorded events, and their fold.
    journal: Vec<Event>,
    book: Book,
    /// Machines that the operator has admitted.
    admitted: BTreeSet<Mac>,
    /// The process is killed after this many more effects.
    killed_in: Option<u64>,
    kills: u32,
    /// The pending effects, and whether they are being carried out.
    queue: VecDeque<Effect>,
    is_busy: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        // As for `kactl run`, or for `kactl send`.
        let planned = random.chance(70);
        let plan = Plan {
            run: "kainstall".into(),
            storage: crate::plan::Storage::default(),
            boot: BootPlan::new(Loader::None, Firmware::Bios),
            finish: FinishPlan::default(),
            after: FinalAction::Reboot,
        };
        let spec = SessionSpec {
            admission: if planned { AdmissionPolicy::Named } else { AdmissionPolicy::First },
            plans: planned.then(|| Plans::new(Target { plan, left_out: Vec::new(), other_firmware: None })),
            timeout: Some(Duration::from_secs(30)),
            window: 1 << 23,
            rounds: u32::try_from(1 + random.below(3)).unwrap(),
            delay: if seed.is_multiple_of(3) { Duration::from_secs(2) } else { Duration::ZERO },
            ..SessionSpec::new("kainstall", usize::try_from(1 + random.below(4)).unwrap())
        };
        Self {
            session: Session::new(spec.clone(), Duration::ZERO),
            random,
            agents: Vec::new(),
            copies: BTreeSet::new(),
            next: 1,
            connections: 0,
            closed: BTreeSet::new(),
            passed: Duration::ZERO,
            planned,
            history: Vec::new(),
            spec,
            journal: Vec::new(),
            book: Book::default(),
            admitted: BTreeSet::new(),
            killed_in: None,
            kills: 0,
            queue: VecDeque::new(),
            is_busy: false,
        }
    }

    /// Passes an input to the session, and carries out its effects in order.
    fn input(&mut self, input: Input) {
        let effects = self.session.on(input, self.passed);
        self.queue.extend(effects);
        if std::mem::replace(&mut self.is_busy, true) {
            // An agent's answer is delivered after all pending effects.
            return;
        }
        self.carry_out();
        self.is_busy = false;
    }

    fn carry_out(&mut self) {
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
    fn take_over(&mut self) {
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

    fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    fn connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// The machine boots, whatever its state.
    fn boot(&mut self, machine: u8) {
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
    fn stranger(&mut self) {
        let count = self.agents.iter().filter(|agent| agent.is_stranger()).count();
        if let Some(machine) = u8::try_from(count).ok().and_then(|count| STRANGERS.checked_add(count)) {
            self.boot(machine);
        }
    }

    fn hello(&mut self, i: usize, connection: ConnectionId) {
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
        let arriving = Arriving { id, hello, connection, peer, local, token, time: 0 };
        self.input(Input::Hello(Box::new(arriving)));
    }

    /// The agent ends, and the controller may or may not notice.
    fn end(&mut self, i: usize, closes: bool) {
        self.agents[i].alive = false;
        if closes {
            self.cut(i);
        }
    }

    fn cut(&mut self, i: usize) {
        if let (Some(connection), Some(ticket)) = (self.agents[i].connection.take(), self.agents[i].ticket) {
            let reason = "cut".to_owned();
            self.input(Input::Closed { node: ticket.node, connection, reason });
        }
    }

    fn say(&mut self, i: usize, message: ToController) {
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

    /// Lets the session work, and delivers its messages to the agents.
    fn turn(&mut self) {
        self.input(Input::Tick);
        self.check();
    }

    fn deliver(&mut self, connection: ConnectionId, message: ToAgent) {
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

    fn hear(&mut self, i: usize, message: ToAgent) {
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
                if matches!(agent.at, At::Has(_)) {
                    self.copies.insert(agent.machine);
                }
                (agent.at, agent.connection) = (At::Gone, None);
            }
            ToAgent::Probe => self.beat(i),
            _ => {}
        }
    }

    fn fail(&mut self, i: usize, stream: Option<StreamId>, transient: bool) {
        self.agents[i].at = At::Failed { transient };
        self.say(i, ToController::Failed(failure(Step::Receive, "it went wrong".into(), transient, stream)));
    }

    fn beat(&mut self, i: usize) {
        let verified = Offset(self.passed.as_secs());
        self.say(i, ToController::Heartbeat(Progress { verified, written: verified, ..Progress::default() }));
    }

    /// Whether the stream was read to its end. An agent is complete only after the final proof, which may
    /// have come long ago. A stream whose process was killed earlier has no end.
    fn is_read(&mut self, stream: StreamId) -> bool {
        if self.session.stream_id() == Some(stream) {
            self.input(Input::Stream(StreamNotice::Produced(proof())));
        }
        self.session.book.total(stream).is_some()
    }

    /// The agent makes progress, or fails.
    fn work(&mut self, i: usize, well: bool) {
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

    /// Its data differs from what the golden node sent, or it claims so.
    fn finds_a_forgery(&mut self, i: usize) {
        let At::Receiving(stream) = self.agents[i].at else { return };
        let forged = crate::proof::Forged { from: 0, to: 1, sender: None };
        self.say(i, ToController::Forged { stream, forged });
        self.fail(i, Some(stream), true);
    }

    /// After an outage an agent repeats what the controller must know.
    fn repeat(&mut self, i: usize) {
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

    fn come_back(&mut self, i: usize) {
        if self.agents[i].speaks() && self.agents[i].at != At::Gone && self.agents[i].connection.is_none() {
            let connection = self.connection();
            self.agents[i].connection = Some(connection);
            self.hello(i, connection);
            self.turn();
            self.repeat(i);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.passed += time;
    }

    /// The golden node knows that the last chain member is complete, if every living member is.
    fn drain(&mut self) {
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
    fn complain(&mut self) {
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

    fn epoch(&self) -> Option<Epoch> {
        self.session.stream.as_ref().map(|stream| stream.membership.epoch())
    }

    /// Anything may happen.
    fn step(&mut self) {
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

    /// From now on every living machine behaves, and no new one joins.
    fn settle(&mut self) {
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
    fn is_admitted(&self) -> bool {
        !self.planned || !self.book.named.is_empty() || self.session.ending().is_some()
    }

    /// Whether a living agent does not know its result yet. An agent that missed a whole stream waits for it
    /// until the hub closes its connection.
    fn hears_more(&self) -> bool {
        // An agent that returned after the end and died has no result until it is missed.
        if self.book.nodes.values().any(|node| matches!(node.phase(), Phase::Receiving | Phase::Finishing)) {
            return true;
        }
        self.agents.iter().filter(|agent| agent.speaks() && agent.at != At::Gone).any(|agent| {
            let node = agent.ticket.and_then(|ticket| self.book.nodes.get(&ticket.node));
            !node.is_some_and(Node::is_failed)
        })
    }

    fn check(&mut self) {
        assert!(self.book == self.session.book, "the session is not the fold of its events");
        // A round whose stream was forged for most nodes is held once more.
        assert!(self.book.round <= self.spec.rounds + self.book.takeovers + 1);
        for agent in self.agents.iter().filter(|agent| agent.alive && agent.at == At::Preparing) {
            let whole = self.copies.contains(&agent.machine);
            assert!(!whole, "machine {} has a copy and is erased", agent.machine);
        }
        let (status, _) = self.session.status();
        for node in status.nodes.iter().filter(|node| node.is_complete()) {
            let said = |a: &Agent| {
                node.mac.is_some_and(|mac| mac.0[5] == a.machine) && matches!(a.at, At::Has(_) | At::Gone)
            };
            assert!(self.agents.iter().any(said), "{node:?} is complete and does not know");
        }
    }

    /// At the end every machine has one result, and the right one.
    fn judge(&self) {
        let (status, _) = self.session.status();
        let mut fates = BTreeMap::new();
        for node in status.nodes {
            let fate = (node.phase, node.failure.is_some());
            assert!(matches!(fate, (Phase::Complete, false) | (Phase::Failed, true)), "{node:?}");
            // With `kactl send`, a machine may take several copies.
            if let Some(mac) = node.mac.filter(|_| self.planned) {
                assert_eq!(fates.insert(mac.0[5], node.phase), None, "{mac} has two fates");
            }
        }
        for machine in self.copies.iter().filter(|_| self.planned) {
            assert_eq!(fates.get(machine), Some(&Phase::Complete), "machine {machine} has a copy");
        }
    }
}

/// The start of a message identifies it.
fn short(message: &impl std::fmt::Debug) -> String {
    format!("{message:?}").chars().take(70).collect()
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
    }));
    if outcome.is_err() {
        panic!("seed {seed}:\n{}", world.history.join("\n"));
    }
}

#[test]
fn every_session_ends_and_every_machine_has_one_fate() {
    let only = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    match only {
        Some(seed) => run(seed),
        None => (0..SCHEDULES).for_each(run),
    }
}
