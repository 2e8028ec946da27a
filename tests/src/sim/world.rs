//! The simulated world: its clock, its event queue, and the main loop.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use ka::chain::{Member, Membership, Rules, Slowness};
use ka::proof::{Checker, Proof, Roots};

use super::control::{ToHub, ToNode};
use super::faults::{Path, Relief};
use super::host::{Fate, Host, Power};
use super::hub::node_of;
use super::invariants::{Violation, invariant_nothing_stalls, is_settled};
use super::network::{Connection, ConnectionId, HostId, time_of};
use super::random::Random;
use super::schedule::{Schedule, When};
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
    let mut world = World::new(schedule, rules, &stream, random, trace);
    world.begin();
    while !world.is_over() {
        let Some(next) = world.queue.pop() else { break };
        world.now = next.at;
        world.outcome.events += 1;
        world.live_through(next.event)?;
        world.release_when_done()?;
        invariant_nothing_stalls(&mut world)?;
    }
    world.outcome.ended = world.now;
    world.outcome.disturbed = world.disturbed;
    world.outcome.complete = world.hosts.iter().filter(|host| host.fate == Fate::Complete).count();
    world.outcome.expelled = world.gone.len();
    Ok(world.outcome)
}

/// A future event.
pub(super) enum Event {
    /// The golden node's producer has a block.
    Produce,
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
    ToNode {
        host: HostId,
        number: u32,
        message: ToNode,
    },
    ToHub {
        host: HostId,
        number: u32,
        message: ToHub,
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
    pub(super) stream: &'a Stream,
    pub(super) now: Duration,
    queue: BinaryHeap<Scheduled>,
    planned: u64,
    pub(super) random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: Vec<Connection>,
    pub(super) paths: BTreeMap<(HostId, HostId), Path>,
    pub(super) membership: Membership,
    pub(super) slowness: Slowness,
    /// The membership's chain, as hosts.
    pub(super) chain: Vec<HostId>,
    /// Each host's current or last place in it.
    pub(super) places: Vec<usize>,
    pub(super) gone: BTreeMap<HostId, String>,
    pub(super) released: bool,
    /// The golden node's roots, and the latest one that was sent.
    roots: Roots,
    pub(super) proof: Option<Proof>,
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
        stream: &'a Stream,
        random: Random,
        trace: Option<VecDeque<String>>,
    ) -> Self {
        let Schedule { window, dead_after, .. } = *schedule;
        let golden = Member::golden(&stream.key, window, dead_after).with_rules(rules);
        // Several proofs arrive while the stream runs, as in a long one.
        let segment = schedule.length / 5 + 1;
        let mut hosts = vec![Host::new(schedule.hosts[0], golden)];
        for (host, plan) in schedule.hosts.iter().enumerate().skip(1) {
            let member = Member::node(node_of(host), &stream.key, window, dead_after).with_rules(rules);
            let mut node = Host::new(*plan, member);
            node.checker = Checker::with_segments(segment);
            node.suspect = schedule.malice(host).lies();
            hosts.push(node);
        }
        let order: Vec<_> = (1..hosts.len()).map(node_of).collect();
        Self {
            schedule,
            stream,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            planned: 0,
            random,
            chain: (0..hosts.len()).collect(),
            places: (0..hosts.len()).collect(),
            hosts,
            connections: Vec::new(),
            paths: BTreeMap::new(),
            membership: Membership::new(&order, dead_after, Duration::ZERO),
            slowness: Slowness::new(schedule.slow),
            gone: BTreeMap::new(),
            released: false,
            roots: Roots::with_segments(segment),
            proof: None,
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
        for host in 0..self.hosts.len() {
            self.tell_place(host);
            self.start_timers(host);
        }
        self.after(Duration::ZERO, Event::Produce);
        self.after(Duration::ZERO, Event::Judge);
        self.arm(|when| matches!(when, When::Start | When::Produced(0)));
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
            Event::Produce => self.on_produce(),
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
            Event::Disconnected { host, number } => {
                if self.hosts[host].control.number == number && self.hosts[host].control.down {
                    self.membership.on_disconnect(node_of(host));
                    return self.hub_judges();
                }
                Ok(())
            }
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
        let last = self.produced == self.stream.blocks.len();
        let time = time_of(block.size(), golden.plan.writer);
        golden.member.push(block, if last { Some(self.stream.total) } else { None });
        if self.schedule.proves() {
            self.prove_block(number, last);
        }
        let percent = (self.produced * 100 / self.stream.blocks.len()) as u64;
        self.arm(|when| match when {
            When::Produced(at) => at <= percent,
            When::Draining => last,
            When::Start | When::Released => false,
        });
        if last {
            self.outcome.produced = self.now;
        } else {
            self.after(time, Event::Produce);
        }
        self.pump(0)
    }

    /// The controller sends the golden node's current roots to the nodes.
    fn prove_block(&mut self, number: usize, last: bool) {
        let mut roots = Vec::new();
        self.roots.update(self.stream.content(number), |root| roots.push(root));
        roots.into_iter().for_each(|root| self.tell_proof(Proof { root, last: None }));
        if last {
            self.tell_proof(Proof { root: self.roots.root(), last: Some(self.stream.total) });
        }
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
        if node.life == life && node.takes_part() && node.fate != Fate::Stranger {
            self.beat(host);
            self.perhaps_accuse(host);
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
        time_of(self.length, slowest / slowed) * 2
            + hop * hops * windows * 2
            + self.dead_after * (80 + 20 * liars)
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
