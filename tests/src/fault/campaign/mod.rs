//! Seeded injections: the data, the number of receivers, the fault and its time all derive from a seed.
//! Afterwards everything that arrived is compared with what was sent and with what both sides reported.
//!
//! A **false success** is a node reported as complete whose copy differs from what was sent. A **hang** is a
//! minute without any progress and without a report of the reason. An **untrue reason** is one that does not
//! name the injected fault, or a failure of a node that was not struck.

mod apply;
mod fault;
mod judge;
mod material;
mod scene;
mod strike;
mod watch;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Instant;

use serde::Serialize;

pub use fault::{Fault, Sent};

use crate::sim::random::Random;

/// One injection, derived from its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The seed, from which everything derives.
    pub seed: u64,
    /// The data to send.
    pub sent: Sent,
    /// The number of receivers.
    pub nodes: usize,
    /// The receiver that is struck, if it is one.
    pub victim: usize,
    /// The fault.
    pub fault: Fault,
    /// The share of the stream, in percent, after which it happens.
    pub moment: u64,
    /// The maximum number of rounds.
    pub rounds: usize,
}

impl Injection {
    /// The injection of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let fault = Fault::of(seed);
        let sent = fault.draw_sent(&mut random);
        let nodes = usize::try_from(random.between(fault.fewest_nodes(), 3)).unwrap_or(1);
        let victim = random.index(nodes);
        let moment = random.between(5, 90);
        let rounds = 1 + random.index(2);
        Self { seed, sent, nodes, victim, fault, moment, rounds }
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, sent, nodes, victim, fault, moment, rounds } = self;
        write!(
            f,
            "seed {seed}: {fault:?}, {sent:?} to {nodes}, strikes {victim} at {moment} %, rounds {rounds}"
        )
    }
}

/// The verdict against an injection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A node was reported as complete, and is not.
    FalseSuccess(String),
    /// Nothing moved for too long, without a report.
    Hang(String),
    /// A reason that does not match the fault.
    Untrue(String),
    /// The test itself could not continue.
    Broken(String),
}

/// The result of an injection.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its seed, with which it can be replayed.
    pub seed: u64,
    /// The kind of fault.
    pub fault: String,
    /// The whole injection.
    pub injection: String,
    /// The failure; `None` if there is none.
    pub findings: Vec<Finding>,
    /// For a medium that silently loses data: a node was reported as complete, and the loss could not be seen
    /// while its file system was mounted, or is smaller than a sample finds with certainty.
    pub unproven: bool,
    /// The number of receivers.
    pub nodes: usize,
    /// The number of receivers reported as complete.
    pub complete: usize,
    /// Its duration.
    pub seconds: f64,
}

impl Verdict {
    /// Whether there is no failure.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A tool that examines all disks waits for one that hangs, which is not what is judged here. So injections
/// that prepare a disk, and examine all, do not run together with those whose disk hangs.
static DISKS: RwLock<()> = RwLock::new(());

/// Performs one injection and judges it.
#[must_use]
pub fn inject(injection: Injection) -> Verdict {
    let (_one, _many) = match injection.fault {
        Fault::HungDisk => (None, DISKS.read().map_err(|_| ()).ok()),
        _ if injection.sent == Sent::Nothing => (DISKS.write().map_err(|_| ()).ok(), None),
        _ => (None, None),
    };
    let start = Instant::now();
    let performed = catch_unwind(AssertUnwindSafe(|| match injection.sent {
        Sent::Nothing => apply::perform(&injection),
        _ => judge::judge(scene::Scene::perform(&injection)),
    }));
    let judged = performed.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        judge::Judged {
            findings: vec![Finding::Broken(said.unwrap_or_default())],
            ..judge::Judged::default()
        }
    });
    Verdict {
        seed: injection.seed,
        fault: format!("{:?}", injection.fault),
        injection: injection.to_string(),
        findings: judged.findings,
        unproven: judged.unproven,
        nodes: injection.nodes,
        complete: judged.complete,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Performs many, `workers` at a time: most of them are idle most of the time. Each result is passed to
/// `each` as soon as it is available.
pub fn campaign(seeds: &[u64], workers: usize, each: impl Fn(&Verdict) + Sync) -> Vec<Verdict> {
    let mut injections: Vec<Injection> = seeds.iter().map(|seed| Injection::of(*seed)).collect();
    // Those that wait long start first, so that the others run in the meantime.
    injections.sort_by_key(|injection| (injection.sent == Sent::Nothing, !injection.fault.is_long()));
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(injection) = injections.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = inject(*injection);
                    each(&verdict);
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push(verdict);
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap_or_default();
    verdicts.sort_by_key(|verdict| verdict.seed);
    verdicts
}
