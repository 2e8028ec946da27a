//! The accuracy of the judgement of slowness: over many seeds, the hosts that were removed although they were
//! not slow, and the slow hosts that were not found.

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::invariants::Violation;
use super::schedule::Schedule;
use super::world::{SimResult, run};

/// The range around the minimum share of the chain's rate, relative to it, in which either judgement is
/// correct. The best rate is that of a tenth of a second, in which windows that fill up may take a third more
/// than the chain can sustain.
const NEAR: std::ops::RangeInclusive<f64> = 0.9..=1.35;

/// With windows of fewer blocks, the links' buffers hold most of the data that may be sent, and nothing
/// reveals the bottleneck. ka's smallest window has 128 blocks or more.
const MIN_SLOW_WINDOW: u64 = 24;

/// The judgement of one schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// The slow host was found, or, for a slow card, its neighbour and it.
    Found,
    /// No host was removed, and none was too slow.
    Peace,
    /// Its share is so close to the minimum that either judgement is correct.
    Near,
    /// A host is too slow and none was removed, in a chain whose windows do not reveal it.
    Unseen,
    /// A host was removed that is neither slow nor the neighbour of a slow one, or although none is too slow.
    False(String),
    /// A host is too slow, and none was removed.
    Missed(String),
}

/// The number of each judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`Judgement::Found`].
    pub found: usize,
    /// [`Judgement::Peace`].
    pub peace: usize,
    /// [`Judgement::Near`].
    pub near: usize,
    /// [`Judgement::Unseen`].
    pub unseen: usize,
    /// [`Judgement::False`].
    pub false_removals: usize,
    /// [`Judgement::Missed`].
    pub missed: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, peace, near, unseen, false_removals, missed } = self;
        write!(
            f,
            "{false_removals} false removals, {missed} slow hosts missed; {found} found, {peace} rightly left alone, \
             {near} near the least share, {unseen} not to be seen in small windows"
        )
    }
}

/// Simulates three schedules of each seed: one with a host that is far too slow, one with a host of some
/// degree of slowness, and one with arbitrary faults, in which only false removals count. A link counts as
/// full from the share `full` of the time. Returns the number of each judgement, and the seeds of the wrong
/// ones.
#[must_use]
pub fn judge_slowness(seeds: Range<u64>, full: f64) -> (Tally, Vec<(u64, Judgement)>) {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new((Tally::default(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    for judgement in judgements(seed, full) {
                        let (tally, odd) = &mut *found.lock().expect("no thread panics with it");
                        tally.count(&judgement);
                        if matches!(judgement, Judgement::False(_) | Judgement::Missed(_)) {
                            odd.push((seed, judgement));
                        }
                    }
                }
            });
        }
    });
    let (tally, mut odd) = found.into_inner().expect("no thread panics with it");
    odd.sort_by_key(|(seed, _)| *seed);
    (tally, odd)
}

fn judgements(seed: u64, full: f64) -> impl Iterator<Item = Judgement> {
    let with = move |mut schedule: Schedule| {
        schedule.slow.full = full;
        let result = run(&schedule);
        (schedule, result)
    };
    let slowed = [Schedule::with_a_slow_host(seed), Schedule::with_a_slower_host(seed)];
    let any = move || match with(Schedule::generate(seed)).1 {
        Err(violation) => Judgement::False(violation.to_string()),
        Ok(_) => Judgement::Peace,
    };
    slowed
        .into_iter()
        .map(move |schedule| {
            let (schedule, result) = with(schedule);
            judge(&schedule, result)
        })
        .chain(std::iter::once_with(any))
}

fn judge(schedule: &Schedule, result: Result<SimResult, Violation>) -> Judgement {
    let outcome = match result {
        Ok(outcome) => outcome,
        Err(violation) => return Judgement::False(violation.to_string()),
    };
    let (victim, share) = schedule.share().expect("these have a slow host");
    let least = schedule.slow.min_share;
    let near = NEAR.contains(&(share / least));
    match outcome.slow {
        0 if victim == 0 || share >= least => Judgement::Peace,
        0 if near => Judgement::Near,
        0 if schedule.window / schedule.largest < MIN_SLOW_WINDOW => Judgement::Unseen,
        0 => Judgement::Missed(said(schedule, victim, share)),
        // No node is to blame for a slow source.
        _ if victim == 0 => Judgement::False("the golden node was slow".to_owned()),
        // Either of the two links of a slow card may appear slow first.
        1 | 2 if share < least => Judgement::Found,
        _ if near => Judgement::Near,
        taken => Judgement::False(format!("{taken} taken out: {}", said(schedule, victim, share))),
    }
}

fn said(schedule: &Schedule, victim: usize, share: f64) -> String {
    let (window, nodes) = (schedule.window / schedule.largest, schedule.nodes());
    let fault = schedule.faults.first().map(|planned| planned.fault);
    format!("host {victim} of {nodes} had the share {share:.2} ({fault:?}), windows of {window} blocks")
}

impl Tally {
    fn count(&mut self, judgement: &Judgement) {
        *match judgement {
            Judgement::Found => &mut self.found,
            Judgement::Peace => &mut self.peace,
            Judgement::Near => &mut self.near,
            Judgement::Unseen => &mut self.unseen,
            Judgement::False(_) => &mut self.false_removals,
            Judgement::Missed(_) => &mut self.missed,
        } += 1;
    }
}
