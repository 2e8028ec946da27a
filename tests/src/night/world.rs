//! Runs one night, second by second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use ka::chain::{NodeId, Offset, ProgressSample, SlowLimits, View};
use ka::inventory::Firmware;
use ka::mac::Mac;
use ka::plan::{BootPlan, FinalAction, FinishPlan, Loader, Storage};
use ka::seal::{StreamId, Total};
use ka::session::plans::Plans;
use ka::session::status::RunStatus;
use ka::session::{
    AdmissionPolicy, ConnectionId, Effect, Event, Golden, Input, Session, SessionSpec, Target,
};

use super::judge::judge;
use super::machine::{Machine, TOTAL};
use super::plan::{Kill, Plan};
use super::{Tally, Violation};

pub(super) const DEAD_AFTER: u64 = 6;
/// How often an agent says that it lives.
pub(super) const BEAT: u64 = 2;
pub(super) const STEP_LIMIT: u64 = 300;
/// When the run begins without those that are missing.
pub(super) const TIMEOUT: u64 = 400;
/// How long machines wait for a vanished controller.
pub(super) const PATIENCE: u64 = 600;
/// When the controller's system closes a silent connection.
pub(super) const IDLE: u64 = 60;
pub(super) const WINDOW: u64 = 64 << 20;
/// No night is longer.
const MORNING: u64 = 6 * 3600;
/// How often the permissions to boot are looked at.
pub(super) const LOOK: u64 = 5;

pub(super) const END: Total = Total { length: TOTAL, hash: [0; 32], sha256: None };

/// The golden node's end of the running stream.
pub(super) struct Source {
    pub(super) stream: StreamId,
    pub(super) view: Option<View<SocketAddr>>,
    pub(super) position: u64,
    pub(super) tail: u64,
    pub(super) is_produced: bool,
    pub(super) tail_is_complete: bool,
}

pub(super) struct World {
    pub(super) spec: SessionSpec,
    pub(super) machines: Vec<Machine>,
    pub(super) kills: VecDeque<Kill>,
    pub(super) now: u64,
    /// The controller's session, unless the controller is dead.
    pub(super) session: Option<Session>,
    /// When its process began.
    pub(super) since: u64,
    pub(super) resumes_at: u64,
    pub(super) killed_in: Option<u64>,
    pub(super) deaths: u64,
    pub(super) journal: Vec<Event>,
    pub(super) queue: VecDeque<Effect>,
    pub(super) is_busy: bool,
    pub(super) source: Option<Source>,
    pub(super) by_connection: BTreeMap<ConnectionId, usize>,
    pub(super) by_node: BTreeMap<NodeId, usize>,
    pub(super) next_connection: usize,
    pub(super) next_node: u32,
    /// Machines that have joined, and those that boot from their disks.
    pub(super) seen: BTreeSet<Mac>,
    pub(super) over: BTreeSet<Mac>,
    pub(super) closed: bool,
    pub(super) violation: Option<Violation>,
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
}
