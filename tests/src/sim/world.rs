//! The simulated world: its clock, its event queue, and the main loop.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use ka::chain::{Member, NodeId, Rules};
use ka::mac::Mac;
use ka::proof::{Checker, Proof, Roots};
use ka::session::{Input, StreamNotice};
use ka::wire::control::{ToAgent, ToController};

use super::faults::{Path, Relief};
use super::host::{Fate, Host, Power};
use super::hub::{Process, node_of};
use super::invariants::{
    Judged, Violation, invariant_everybody_has_everything_at_release, invariant_nothing_stalls, is_settled,
};
use super::network::{Connection, ConnectionId, HostId, time_of};
use super::outcome::invariant_everybody_has_one_outcome;
use super::random::Random;
use super::schedule::{Fault, Schedule, When};
use super::stream::Stream;

/// The number of events in a trace.
const TRACE: usize = 120;

/// The outcome of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimResult {
    /// The number of nodes that died before the release.
    pub deaths: usize,
    /// Two of them died within the detection time.
    pub close_deaths: bool,
    /// One of them was the last of the chain.
    pub tail_deaths: bool,
    /// The number of nodes that have the whole stream.
    pub complete: usize,
    /// The number of nodes that the controller removed.
    pub expelled: usize,
    /// The number of those that were too slow.
    pub slow: usize,
    /// The number of rounds, of streams begun, and of controllers killed.
    pub rounds: u32,
    /// Streams begun.
    pub streams: u32,
    /// Controllers killed.
    pub kills: u32,
    /// The golden node was made slow.
    pub slowed_golden: bool,
    /// The number of nodes that found that they were deceived.
    pub found: usize,
    /// The number of those that could name the culprit.
    pub named: usize,
    /// The number of healthy nodes that lost their place because of liars.
    pub slandered: usize,
    /// The number of simulated events.
    pub events: u64,
    /// When the golden node had produced the whole stream.
    pub produced: Duration,
    /// When the controller knew that all members had everything.
    pub drained: Duration,
    /// The time of the last disturbance.
    pub disturbed: Duration,
    /// The time of the end.
    pub ended: Duration,
}

/// Simulates a schedule.
///
/// # Errors
/// [`Violation`] if an invariant is violated.
pub fn run(schedule: &Schedule) -> Result<SimResult, Violation> {
    live(schedule, Rules::default(), None)
}

/// Simulates a schedule with members that break rules.
///
/// # Errors
/// [`Violation`] if an invariant is violated.
pub fn run_with(schedule: &Schedule, rules: Rules) -> Result<SimResult, Violation> {
    live(schedule, rules, None)
}

/// Simulates a schedule and keeps a trace for violations.
///
/// # Errors
/// [`Violation`] if an invariant is violated.
pub fn run_traced(schedule: &Schedule) -> Result<SimResult, Violation> {
    live(schedule, Rules::default(), Some(VecDeque::new()))
}

fn live(schedule: &Schedule, rules: Rules, trace: Option<VecDeque<String>>) -> Result<SimResult, Violation> {
    let mut random = Random::new(!schedule.seed);
    let stream = Stream::generate(&mut random, schedule.length, schedule.largest);
    let mut world = World::new(schedule, rules, stream, random, trace);
    world.begin();
    while !world.is_over() {
        let Some(next) = world.queue.pop() else { break };
        world.now = next.at;
        world.outcome.events += 1;
        world.live_through(next.event)?;
        world.perhaps_through()?;
        invariant_nothing_stalls(&mut world)?;
    }
    invariant_everybody_has_one_outcome(&mut world)?;
    world.outcome.ended = world.now;
    world.outcome.disturbed = world.disturbed;
    world.outcome.complete = world.hosts.iter().filter(|host| host.fate == Fate::Complete).count();
    world.outcome.expelled = world.gone.len();
    Ok(world.outcome)
}

/// A future event.
pub(super) enum Event {
    /// The golden node's producer has a block of the stream with this number.
    Produce(u32),
    /// Data that one end of a connection sent arrive.
    Arrive {
        id: ConnectionId,
        end: usize,
    },
    /// One end has room to send again.
    Room {
        id: ConnectionId,
        end: usize,
    },
    Tick {
        host: HostId,
        life: u32,
    },
    Heartbeat {
        host: HostId,
        life: u32,
    },
    Written {
        host: HostId,
        life: u32,
    },
    Judge,
    /// A node sends a hello for the first time.
    Join(HostId),
    /// The operator admits the machines that are there.
    Admit,
    ToNode {
        host: HostId,
        number: u32,
        message: ToAgent,
    },
    ToHub {
        host: HostId,
        number: u32,
        message: ToController,
    },
    /// The hub notices that a control connection is lost.
    Disconnected {
        host: HostId,
        number: u32,
    },
    Fault(usize),
    Relief(Relief),
}

struct Scheduled {
    at: Duration,
    /// Events at the same time happen in the order in which they were scheduled.
    order: u64,
    event: Event,
}

/// The state of the simulated world.
pub(super) struct World<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) stream: Rc<Stream>,
    pub(super) rules: Rules,
    pub(super) now: Duration,
    queue: BinaryHeap<Scheduled>,
    planned: u64,
    pub(super) random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: Vec<Connection>,
    pub(super) paths: BTreeMap<(HostId, HostId), Path>,
    /// The controller's process, and the machines that the operator has admitted.
    pub(super) hub: Process,
    pub(super) admitted: BTreeSet<Mac>,
    /// The host of each node, whatever has become of the node.
    pub(super) owners: BTreeMap<NodeId, HostId>,
    /// Whether another round could follow before the session's last step.
    pub(super) had_rounds: bool,
    /// The current chain, as hosts.
    pub(super) chain: Vec<HostId>,
    /// Each host's current or last place in it.
    pub(super) places: Vec<usize>,
    pub(super) gone: BTreeMap<HostId, String>,
    /// The first stream has begun; one runs now; its end has passed the whole chain; all have been released.
    pub(super) has_begun: bool,
    pub(super) streams_now: bool,
    is_through: bool,
    pub(super) released: bool,
    /// When the last stream was released, or given up.
    pub(super) stream_ended: Duration,
    /// The golden node's roots.
    roots: Roots,
    pub(super) producer_waits: bool,
    produced: usize,
    pub(super) armed: Vec<bool>,
    pub(super) last_victim: HostId,
    pub(super) deaths: Vec<Duration>,
    /// The time of the last disturbance.
    pub(super) disturbed: Duration,
    /// The time after that within which everything must end.
    pub(super) patience: Duration,
    /// Nothing has changed since the last check found that some event is left to happen.
    pub(super) settled: bool,
    pub(super) outcome: SimResult,
    pub(super) trace: Option<VecDeque<String>>,
}

impl<'a> World<'a> {
    fn new(
        schedule: &'a Schedule,
        rules: Rules,
        stream: Stream,
        random: Random,
        trace: Option<VecDeque<String>>,
    ) -> Self {
        let Schedule { window, dead_after, .. } = *schedule;
        let golden = Member::golden(&stream.key, window, dead_after).with_rules(rules);
        let segment = schedule.segment();
        let stream = Rc::new(stream);
        let mut hosts = vec![Host::new(NodeId::GOLDEN, schedule.hosts[0], golden, Rc::clone(&stream))];
        for (host, plan) in schedule.hosts.iter().enumerate().skip(1) {
            let member = Member::node(node_of(host), &stream.key, window, dead_after).with_rules(rules);
            let mut node = Host::new(node_of(host), *plan, member, Rc::clone(&stream));
            node.checker = Checker::with_segments(segment);
            node.suspect = schedule.malice(host).lies();
            hosts.push(node);
        }
        Self {
            schedule,
            stream,
            rules,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            planned: 0,
            random,
            chain: (0..hosts.len()).collect(),
            places: (0..hosts.len()).collect(),
            hosts,
            connections: Vec::new(),
            paths: BTreeMap::new(),
            hub: Process::new(schedule),
            admitted: BTreeSet::new(),
            owners: BTreeMap::new(),
            had_rounds: true,
            gone: BTreeMap::new(),
            has_begun: false,
            streams_now: false,
            is_through: false,
            released: false,
            stream_ended: Duration::ZERO,
            roots: Roots::with_segments(segment),
            producer_waits: false,
            produced: 0,
            armed: vec![false; schedule.faults.len()],
            last_victim: 0,
            deaths: Vec::new(),
            disturbed: Duration::ZERO,
            patience: schedule.patience(),
            settled: false,
            outcome: SimResult::default(),
            trace,
        }
    }

    fn begin(&mut self) {
        self.prepare_forgeries();
        for host in 1..self.hosts.len() {
            let gathers = self.schedule.gathers;
            let at = if gathers { self.random.time(self.schedule.dead_after) } else { Duration::ZERO };
            self.after(at, Event::Join(host));
        }
        for host in 0..self.hosts.len() {
            self.start_timers(host);
        }
        if self.schedule.gathers {
            self.after(self.schedule.dead_after * 3, Event::Admit);
            self.arm(|when| when == When::Start);
        }
        self.after(Duration::ZERO, Event::Judge);
    }

    fn is_over(&mut self) -> bool {
        if self.settled {
            return false;
        }
        self.settled = true;
        is_settled(self)
    }

    fn live_through(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Produce(stream) if stream == self.outcome.streams => self.on_produce(),
            Event::Produce(_) => Ok(()),
            Event::Join(host) => {
                let node = &self.hosts[host];
                if node.life > 0 || node.control.number > 0 {
                    // It sends a hello when it is back.
                } else if node.power == Power::Hung {
                    self.after(self.schedule.dead_after, Event::Join(host));
                } else if node.speaks() {
                    self.greet(host);
                }
                Ok(())
            }
            Event::Admit => self.on_admit(),
            Event::Arrive { id, end } => self.on_arrive(id, end),
            Event::Room { id, end } => self.pump(self.connections[id].hosts[end]),
            Event::Tick { host, life } => self.on_tick(host, life),
            Event::Heartbeat { host, life } => {
                self.on_heartbeat(host, life);
                Ok(())
            }
            Event::Written { host, life } => {
                // A stopped process that continues finds its writer's answer.
                if self.hosts[host].life != life || self.hosts[host].power != Power::On {
                    return Ok(());
                }
                self.on_written(host)
            }
            Event::Judge => {
                self.after(self.schedule.dead_after / 6, Event::Judge);
                self.hub_judges()
            }
            Event::ToNode { host, number, message } => self.on_to_node(host, number, message),
            Event::ToHub { host, number, message } => self.on_to_hub(host, number, message),
            Event::Disconnected { host, number } => self.hub_misses(host, number),
            Event::Fault(index) => self.on_fault(self.schedule.faults[index]),
            Event::Relief(relief) => self.on_relief(relief),
        }
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.queue.push(Scheduled { at, order: self.planned, event });
    }

    pub(super) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Appends to the trace, if there is one.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() == TRACE {
                trace.pop_front();
            }
            trace.push_back(format!("{:?}: {}", self.now, line()));
        }
    }

    pub(super) fn start_timers(&mut self, host: HostId) {
        let life = self.hosts[host].life;
        let phase = self.random.time(self.schedule.dead_after / 8);
        self.after(phase, Event::Tick { host, life });
        if host > 0 {
            self.after(phase, Event::Heartbeat { host, life });
        }
    }

    fn on_produce(&mut self) -> Result<(), Violation> {
        let Some(block) = self.stream.blocks.get(self.produced).cloned() else { return Ok(()) };
        let golden = &mut self.hosts[0];
        if !golden.member.wants_block() {
            self.producer_waits = true;
            return Ok(());
        }
        let number = self.produced;
        self.produced += 1;
        let generation = self.outcome.streams;
        let last = self.produced == self.stream.blocks.len();
        let time = time_of(block.size(), golden.plan.writer);
        golden.member.push(block, if last { Some(self.stream.total) } else { None });
        let percent = (self.produced * 100 / self.stream.blocks.len()) as u64;
        self.prove_block(number, last)?;
        self.arm(|when| match when {
            When::Produced(at) => at <= percent,
            When::Draining => last,
            When::Start | When::Released => false,
        });
        if last {
            self.outcome.produced = self.now;
        } else {
            self.after(time, Event::Produce(generation));
        }
        self.pump(0)
    }

    /// The controller sends the golden node's current roots to the nodes. Without liars they change nothing,
    /// and only the last one counts.
    fn prove_block(&mut self, number: usize, last: bool) -> Result<(), Violation> {
        let mut proofs = Vec::new();
        if self.schedule.proves() {
            self.roots.update(self.stream.content(number), |root| proofs.push(StreamNotice::Root(root)));
        }
        if last {
            let proof = Proof { root: self.roots.root(), last: Some(self.stream.total) };
            proofs.push(StreamNotice::Produced(proof));
        }
        proofs.into_iter().try_for_each(|proof| self.input(Input::Stream(proof)))
    }

    /// The session has asked for a stream: the golden node begins to read it, under another key each time.
    pub(super) fn begin_stream(&mut self) {
        let Schedule { seed, length, largest, window, dead_after, .. } = *self.schedule;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if !is_first {
            let random = &mut Random::new(seed ^ u64::from(self.outcome.streams));
            self.stream = Rc::new(Stream::generate(random, length, largest));
            self.prepare_forgeries();
        }
        self.outcome.streams += 1;
        self.roots = Roots::with_segments(self.schedule.segment());
        (self.streams_now, self.is_through, self.released) = (true, false, false);
        (self.produced, self.producer_waits) = (0, false);
        self.close_all(0);
        let golden = &mut self.hosts[0];
        golden.member = Member::golden(&self.stream.key, window, dead_after).with_rules(self.rules);
        golden.judged = Judged::default();
        golden.released = false;
        golden.data = Rc::clone(&self.stream);
        self.after(Duration::ZERO, Event::Produce(self.outcome.streams));
        if is_first {
            self.arm(|when| matches!(when, When::Start | When::Produced(0)));
        }
    }

    /// The golden node's relay tells the session that the whole stream has passed the chain.
    fn perhaps_through(&mut self) -> Result<(), Violation> {
        let golden = &self.hosts[0].member;
        let is_through = golden.total().is_some() && golden.tail_position() == golden.verified();
        if !self.streams_now || !is_through || std::mem::replace(&mut self.is_through, true) {
            return Ok(());
        }
        self.input(Input::Stream(StreamNotice::TailComplete))?;
        self.hub_judges()
    }

    /// All members may forget the stream.
    pub(super) fn on_released(&mut self) -> Result<(), Violation> {
        self.note(|| "all have all: the session releases".to_owned());
        (self.released, self.stream_ended) = (true, self.now);
        self.settled = false;
        if self.outcome.drained.is_zero() {
            self.outcome.drained = self.now;
        }
        self.arm(|when| when == When::Released);
        invariant_everybody_has_everything_at_release(self)?;
        let stream = self.stream.key.stream;
        self.tell_node(0, ToAgent::Release { stream });
        Ok(())
    }

    /// The golden node's relay ends.
    pub(super) fn end_stream(&mut self) {
        if std::mem::take(&mut self.streams_now) {
            self.stream_ended = self.now;
            self.produced = usize::MAX;
            self.settled = false;
            self.close_all(0);
        }
    }

    /// The operator looks again as long as the session has not begun: the controller may have been killed
    /// meanwhile.
    fn on_admit(&mut self) -> Result<(), Violation> {
        if self.hub.session.ending().is_none() && !self.hub.session.book().is_admitted() {
            self.after(self.schedule.dead_after, Event::Admit);
        }
        if self.hub.is_dead { Ok(()) } else { self.admit() }
    }

    fn on_tick(&mut self, host: HostId, life: u32) -> Result<(), Violation> {
        let node = &mut self.hosts[host];
        if node.life != life || node.power != Power::On || node.fate == Fate::Stranger {
            return Ok(());
        }
        node.member.on_tick(self.now);
        self.after(self.schedule.dead_after / 8, Event::Tick { host, life });
        self.pump(host)
    }

    fn on_heartbeat(&mut self, host: HostId, life: u32) {
        let node = &self.hosts[host];
        if node.life == life && node.speaks() {
            self.beat(host);
            if self.hosts[host].takes_part() && self.hosts[host].fate != Fate::Stranger {
                self.perhaps_accuse(host);
            }
            self.after(self.schedule.dead_after / 3, Event::Heartbeat { host, life });
        }
    }

    /// Whether a stopped process will continue.
    pub(super) fn will_resume(&self, host: HostId) -> bool {
        self.queue
            .iter()
            .any(|next| matches!(next.event, Event::Relief(Relief::Resume(other)) if other == host))
    }
}

impl Schedule {
    /// Far more than a session can take after the last disturbance, and yet bounded: the stream at the
    /// slowest rate, every window waiting for the whole chain, and many detections.
    fn patience(&self) -> Duration {
        let slowed: u64 = self.faults.iter().map(|planned| planned.fault.slows()).product();
        let slowest = self.hosts.iter().map(|host| host.shape.rate.min(host.writer)).min().unwrap_or(1);
        let delay = self.hosts.iter().map(|host| host.shape.delay).max().unwrap_or_default();
        let hop = time_of(self.largest, slowest / slowed) + delay * 2;
        let hops = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let windows = u32::try_from(self.length / self.window + 2).unwrap_or(u32::MAX);
        // Each liar that blocks the chain is found after some time of its own.
        let liars = u32::try_from(self.malice.iter().filter(|malice| malice.lies()).count()).unwrap_or(0);
        let once = time_of(self.length, slowest / slowed) * 2
            + hop * hops * windows * 2
            + self.dead_after * (80 + 20 * liars);
        let kills = self.faults.iter().filter(|planned| matches!(planned.fault, Fault::Kill { .. })).count();
        let streams = self.rounds + u32::try_from(kills).unwrap_or(0);
        // Nodes that are away are waited for at the end, if no other is heard, and after each takeover.
        once * streams + Duration::from_secs(130) * streams
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's greatest element is the earliest event.
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
