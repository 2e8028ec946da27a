//! Seeded injections: what is sent, to how many, what fails and when all come from a seed. Afterwards everything that
//! arrived is compared with what was sent and with what both sides said of it.
//!
//! A **false success** is a node that somebody called complete whose copy is not what was sent. A **hang** is a minute in
//! which nothing moves and nobody says why. An **untrue reason** is one that does not name what was injected, or a
//! failure of a node that was not struck.

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

/// One injection, as its seed has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// From which all follows.
    pub seed: u64,
    /// What is sent.
    pub sent: Sent,
    /// How many receive it.
    pub nodes: usize,
    /// Which of them is struck, if it is one.
    pub victim: usize,
    /// What fails.
    pub fault: Fault,
    /// After which share of the stream, of 100.
    pub moment: u64,
    /// How many rounds are held at most.
    pub rounds: usize,
}

impl Injection {
    /// The seed's.
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

/// What is wrong with how an injection went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Somebody said complete, and it is not.
    FalseSuccess(String),
    /// Nothing moved for too long, and nobody said why.
    Hang(String),
    /// A reason that is not what happened.
    Untrue(String),
    /// The test itself could not go on.
    Broken(String),
}

/// How an injection went.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Its seed, with which it is replayed.
    pub seed: u64,
    /// The kind of fault.
    pub fault: String,
    /// All of it.
    pub injection: String,
    /// Nothing, if all is well.
    pub findings: Vec<Finding>,
    /// Of a medium that loses what it has taken, without a word: a node was called complete, and what is missing could
    /// not be seen as long as its file system was mounted, or is less than a sample finds for sure.
    pub unproven: bool,
    /// How many nodes received.
    pub nodes: usize,
    /// Of how many of them it was said that they are complete.
    pub complete: usize,
    /// How long it took.
    pub seconds: f64,
}

impl Verdict {
    /// Whether all is well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// A tool that looks at all disks waits for one that hangs, which is nothing that is judged here: those that prepare a
/// disk, and look at all, are not at work together with those that have one that hangs.
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

/// Performs many, `workers` at a time: most of them wait for something most of the time. Each verdict is given to `each`
/// as it comes.
pub fn campaign(seeds: &[u64], workers: usize, each: impl Fn(&Verdict) + Sync) -> Vec<Verdict> {
    let mut injections: Vec<Injection> = seeds.iter().map(|seed| Injection::of(*seed)).collect();
    // Those that wait long begin first, so that the others run meanwhile.
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
