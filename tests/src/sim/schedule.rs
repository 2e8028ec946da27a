//! The meaning of a seed: the hosts, their links and writers, and the faults with their times.

use std::time::Duration;

use ka::chain::SlowLimits;

use super::malice::Malice;
use super::network::{Shape, time_of};
use super::random::Random;

/// Everything about one simulated session that ka itself does not decide.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its seed.
    pub seed: u64,
    /// The hosts, the golden node first.
    pub hosts: Vec<HostPlan>,
    /// Every member's window, in bytes.
    pub window: u64,
    /// The largest sealed block.
    pub largest: u64,
    /// The minimum number of sealed bytes in the stream.
    pub length: u64,
    /// The length of silence that counts as death.
    pub dead_after: Duration,
    /// When a member is too slow.
    pub slow: SlowLimits,
    /// The unread bytes of a closed connection are lost.
    pub abrupt: bool,
    /// A stopped process that continues checks its clock before its sockets.
    pub clock_first: bool,
    /// The faults.
    pub faults: Vec<Planned>,
    /// What each host does in addition to its duties; empty if all are honest.
    pub malice: Vec<Malice>,
    /// The number of rounds.
    pub rounds: u32,
    /// Nodes join one after the other, and faults may hit them before the stream begins. Otherwise all are
    /// there at once.
    pub gathers: bool,
    /// A machine that joins and is not admitted.
    pub uninvited: Option<usize>,
}

/// One host.
#[derive(Clone, Copy, Debug)]
pub struct HostPlan {
    /// Its network card.
    pub shape: Shape,
    /// The rate of its writer, or of the golden node's producer, in bytes per second.
    pub writer: u64,
    /// The delay from the controller to it.
    pub control: Duration,
}

/// A fault with its time and its victim.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// The trigger.
    pub when: When,
    /// The delay after the trigger.
    pub after: Duration,
    /// The victim.
    pub victim: Victim,
    /// The kind.
    pub fault: Fault,
}

/// The trigger of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The session's start: the nodes are about to learn their places.
    Start,
    /// The golden node has produced that many hundredths of the stream.
    Produced(u64),
    /// The golden node has produced everything; the chain drains.
    Draining,
    /// The controller has released the nodes.
    Released,
}

/// The victim of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Victim {
    /// The node at this place of the current chain, modulo its length.
    Position(usize),
    /// The last living member.
    Tail,
    /// The member behind the previous victim.
    Behind,
    /// All members, if that makes sense: the controller is away.
    All,
}

/// The kinds of faults. A duration says when the fault ends; `None` means never.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The process dies, its connections are reset.
    Crash,
    /// The process dies, and the machine returns after a while, as another node.
    Restart(Duration),
    /// The process is stopped: its kernel still accepts data.
    Hang(Option<Duration>),
    /// The machine disappears silently, or is isolated for a while.
    Silence(Option<Duration>),
    /// The connection to the successor is reset; both ends live.
    Reset,
    /// Nothing passes between a member and its successor; both ends live.
    Cut(Option<Duration>),
    /// This many frames to the successor are damaged.
    Damage(u32),
    /// This many frames to the predecessor are damaged.
    DamageBack(u32),
    /// Network card and writer become slower by that factor; for the golden node, the producer.
    Slow(u64),
    /// Only the network card.
    SlowLink(u64),
    /// Only the writer.
    SlowWriter(u64),
    /// The disk is full.
    WriterFails,
    /// Control messages wait until the controller is back, or are lost.
    Outage {
        /// How long it is away.
        lasts: Duration,
        /// The connection is lost, with everything in flight.
        lost: bool,
    },
    /// The controller's process is killed, and with it the stream. Another one takes the session over.
    Kill {
        /// How long after the fault.
        lasts: Duration,
        /// After this many more of the session's effects.
        effects: usize,
    },
}

impl Fault {
    /// Whether it removes the node for good.
    #[must_use]
    pub fn is_death(self) -> bool {
        matches!(self, Self::Crash | Self::Restart(_) | Self::Hang(None) | Self::Silence(None))
    }

    /// The factor by which it slows a host down.
    #[must_use]
    pub fn slows(self) -> u64 {
        match self {
            Self::Slow(times) | Self::SlowLink(times) | Self::SlowWriter(times) => times,
            _ => 1,
        }
    }
}

impl Schedule {
    /// The schedule of `seed`, with up to 64 nodes.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let most = if random.chance(50) { 64 } else { 16 };
        let nodes = 1 + random.index(most);
        let largest = random.between(96, 400);
        let window = largest * random.between(4, 12);
        let dead_after = Duration::from_millis(random.between(5, 30) * 100);
        let block_time = Duration::from_micros(random.between(300, 8000));
        let rate = largest * 1_000_000 / u64::try_from(block_time.as_micros()).unwrap_or(1);
        let slow_control = random.chance(20);
        let hosts = (0..=nodes).map(|_| host(random, rate, largest, slow_control)).collect();
        let mut schedule = Self {
            seed,
            hosts,
            window,
            largest,
            length: window * random.between(8, 9),
            dead_after,
            slow: SlowLimits { after: dead_after * 2, ..SlowLimits::default() },
            abrupt: random.chance(50),
            clock_first: random.chance(50),
            faults: Vec::new(),
            malice: Vec::new(),
            rounds: 1,
            gathers: false,
            uninvited: None,
        };
        if random.chance(96) {
            schedule.add_deaths(random);
        }
        for _ in 0..random.index(4) {
            schedule.add_disturbance(random);
        }
        schedule
    }

    /// The schedule of `seed` as a whole run: its nodes join one after the other, one of them perhaps without
    /// an invitation; there are several rounds, and the controller may be killed, more than once.
    #[must_use]
    pub fn with_rounds(seed: u64) -> Self {
        let mut schedule = Self::generate(seed);
        let random = &mut Random::new(seed ^ 0x726f_756e_6473);
        schedule.rounds = u32::try_from(random.between(1, 3)).unwrap_or(1);
        schedule.gathers = true;
        if random.chance(15) && schedule.nodes() > 1 {
            schedule.uninvited = Some(1 + random.index(schedule.nodes()));
        }
        for _ in 0..[0, 0, 1, 1, 2][random.index(5)] {
            let fault = Fault::Kill {
                lasts: random.time(schedule.dead_after * 4),
                effects: random.index(2 * schedule.nodes() + 4),
            };
            let after = random.time(schedule.dead_after * 2);
            schedule.faults.push(Planned { when: moment(random), after, victim: Victim::All, fault });
        }
        schedule
    }

    /// Several proofs arrive while the stream runs, as in a long one.
    pub(super) fn segment(&self) -> u64 {
        self.length / 5 + 1
    }

    /// The schedule of `seed` in which no node dies, and a host becomes far too slow: the seed decides which
    /// one, and how. The stream is long enough for that to be noticed, there are at least three nodes (with
    /// two, nothing distinguishes a slow sender from a slow receiver), and windows are larger than the links'
    /// buffers.
    #[must_use]
    pub fn with_a_slow_host(seed: u64) -> Self {
        Self::slowed(seed, 24, (25, 60), 4)
    }

    /// As [`with_a_slow_host`](Self::with_a_slow_host), but with any degree of slowness, from half of the
    /// host's rate to a twelfth, and also in chains with small windows: [`share`](Self::share) shows whether
    /// it is too slow.
    #[must_use]
    pub fn with_a_slower_host(seed: u64) -> Self {
        Self::slowed(seed, 4, (2, 12), 1)
    }

    /// One host becomes slower by a factor between `times`; its writer, if only that is slow, by `writer`
    /// times as much. Windows have at least `window` blocks.
    fn slowed(seed: u64, window: u64, times: (u64, u64), writer: u64) -> Self {
        let random = &mut Random::new(seed);
        let largest = random.between(96, 400);
        let rate = largest * 1000 / random.between(2, 4);
        let hosts = (0..=random.between(3, 16)).map(|_| host(random, rate, largest, false)).collect();
        let dead_after = Duration::from_millis(500);
        let times = random.between(times.0, times.1);
        let fault = match random.index(3) {
            0 => Fault::SlowWriter(times * writer),
            1 => Fault::SlowLink(times),
            _ => Fault::Slow(times),
        };
        let when = When::Produced(random.between(20, 60));
        let victim = Victim::Position(random.index(64));
        Self {
            seed,
            hosts,
            window: largest * random.between(window, 64),
            largest,
            length: largest * 2000,
            dead_after,
            slow: SlowLimits { after: dead_after * 2, ..SlowLimits::default() },
            abrupt: random.chance(50),
            clock_first: random.chance(50),
            faults: vec![Planned { when, after: Duration::ZERO, victim, fault }],
            malice: Vec::new(),
            rounds: 1,
            gathers: false,
            uninvited: None,
        }
    }

    /// The duration of the stream at the slowest host's rate, without faults.
    #[must_use]
    pub fn healthy_time(&self) -> Duration {
        let slowest = self.hosts.iter().map(|host| host.shape.rate.min(host.writer)).min().unwrap_or(1);
        time_of(self.length, slowest)
    }

    /// For a schedule with one slow host: that host, and the share of the chain's former rate that it can
    /// still carry.
    #[must_use]
    pub fn share(&self) -> Option<(usize, f64)> {
        let planned = self.faults.first()?;
        let Victim::Position(place) = planned.victim else { return None };
        let victim = place % self.hosts.len();
        let HostPlan { shape, writer, .. } = self.hosts[victim];
        let times = planned.fault.slows();
        let left = match planned.fault {
            Fault::SlowWriter(_) => writer / times,
            Fault::SlowLink(_) => shape.rate / times,
            _ => shape.rate.min(writer) / times,
        };
        let before = self.hosts.iter().map(|host| host.shape.rate.min(host.writer)).min()?;
        Some((victim, left as f64 / before as f64))
    }

    /// The number of nodes, without the golden node.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.hosts.len() - 1
    }

    fn add_deaths(&mut self, random: &mut Random) {
        let most = if random.chance(10) { self.nodes() } else { self.nodes().min(6) };
        let deaths = if random.chance(35) { 1 } else { 1 + random.index(most) };
        // A death after the release would have little effect.
        let mut when = if random.chance(90) { early(random) } else { moment(random) };
        // Bursts: together, adjacent, or spread.
        let burst = random.chance(75);
        for number in 0..deaths {
            if !burst {
                when = moment(random);
            }
            let victim = match random.index(5) {
                0 => Victim::Tail,
                1 | 2 if number > 0 => Victim::Behind,
                _ => Victim::Position(random.index(64)),
            };
            let fault = match random.index(5) {
                0 | 1 => Fault::Crash,
                2 => Fault::Restart(random.time(self.dead_after * 3)),
                3 => Fault::Hang(None),
                _ => Fault::Silence(None),
            };
            let soon = if random.chance(50) { self.dead_after / 50 } else { self.dead_after };
            let after = if random.chance(60) { Duration::ZERO } else { random.time(soon) };
            self.faults.push(Planned { when, after, victim, fault });
        }
        if random.chance(15) {
            // The controller is away when it is needed.
            let fault = Fault::Outage { lasts: random.time(self.dead_after * 4), lost: random.chance(60) };
            self.faults.push(Planned { when, after: Duration::ZERO, victim: Victim::All, fault });
        }
    }

    fn add_disturbance(&mut self, random: &mut Random) {
        let while_ = random.time(self.dead_after * 3);
        let lasting = if random.chance(70) { Some(while_) } else { None };
        let victim =
            if random.chance(15) { Victim::Tail } else { Victim::Position(random.index(self.hosts.len())) };
        let frames = if random.chance(70) { 1 } else { u32::MAX };
        let (fault, victim) = match random.index(12) {
            0 | 1 => (Fault::Hang(Some(while_)), victim),
            2 => (Fault::Silence(Some(while_)), victim),
            3 => (Fault::Reset, victim),
            4 => (Fault::Cut(lasting), victim),
            5 | 6 => (Fault::Damage(frames), victim),
            7 => (Fault::DamageBack(frames), victim),
            8 => (slowness(random.between(2, 8)), victim),
            9 => (Fault::WriterFails, victim),
            10 => (Fault::Outage { lasts: while_, lost: random.chance(60) }, victim),
            _ => (Fault::Outage { lasts: while_, lost: random.chance(60) }, Victim::All),
        };
        let when = moment(random);
        let after = random.time(self.dead_after / 2);
        self.faults.push(Planned { when, after, victim, fault });
    }
}

fn host(random: &mut Random, rate: u64, largest: u64, slow_control: bool) -> HostPlan {
    let rate = rate * random.between(100, 130) / 100;
    let delay = Duration::from_micros(random.between(20, 1500));
    let buffer = largest * random.between(1, 6);
    let writer = rate * random.between(70, 400) / 100;
    let control = if slow_control { 200 } else { 20 };
    let control = Duration::from_micros(random.between(50, control * 1000));
    HostPlan { shape: Shape { rate, delay, buffer }, writer, control }
}

/// Slower, or far too slow, according to a number between 2 and 8.
fn slowness(times: u64) -> Fault {
    match times {
        6 => Fault::SlowWriter(40),
        7 => Fault::SlowLink(40),
        8 => Fault::Slow(60),
        _ => Fault::Slow(times),
    }
}

fn moment(random: &mut Random) -> When {
    if random.chance(10) { When::Released } else { early(random) }
}

fn early(random: &mut Random) -> When {
    match random.index(10) {
        0 => When::Start,
        1 | 2 => When::Draining,
        _ => When::Produced(random.between(0, 100)),
    }
}
