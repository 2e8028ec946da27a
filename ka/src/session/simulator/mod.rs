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

mod agent;
mod history;
mod judge;
mod shell;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use self::agent::{Agent, At};
use self::shell::short;
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
    pub(super) fn new(seed: u64) -> Self {
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

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.passed += time;
    }
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
