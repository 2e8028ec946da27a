//! The cost of each fault in a session of 8 nodes at 1 Gbit/s with windows of 8 MiB, in simulated time: the
//! figures in `docs/recovery.md`.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use std::time::Duration;

use ka_tests::sim::{Fault, LongChain, Planned, Schedule, Victim, When, run};

const MIB: u64 = 1024 * 1024;
const NODES: usize = 8;
/// The timers have a different phase under each seed.
const SEEDS: std::ops::Range<u64> = 0..5;

/// A session without faults.
fn session(seed: u64) -> Schedule {
    LongChain { nodes: NODES, window: 8 * MIB, stream: 128 * MIB, deaths: 0, silent: false }.schedule(seed)
}

/// Injects `fault` in mid-transfer at `count` nodes, the first of them at every place; checks the maximum
/// cost, and the number of nodes that are removed.
#[track_caller]
fn check(fault: Fault, count: usize, most: Duration, expelled: usize) {
    check_at(0..=NODES - count, fault, count, most, expelled);
}

#[track_caller]
fn check_all_but_the_last(fault: Fault, most: Duration) {
    check_at(0..=NODES - 2, fault, 1, most, 1);
}

#[track_caller]
fn check_at(
    places: std::ops::RangeInclusive<usize>,
    fault: Fault,
    count: usize,
    most: Duration,
    expelled: usize,
) {
    let clean = run(&session(0)).unwrap().drained;
    let mut worst = Duration::ZERO;
    for place in places {
        for seed in SEEDS {
            let mut schedule = session(seed);
            let victim = Victim::Position(place);
            let planned = Planned { when: When::Produced(50), after: Duration::ZERO, victim, fault };
            schedule.faults = vec![planned; count];
            let outcome = run(&schedule).unwrap();
            assert_eq!(outcome.expelled, expelled, "place {place}, seed {seed}");
            worst = worst.max(outcome.drained.saturating_sub(clean));
        }
    }
    println!("{count} x {fault:?}: {worst:?}");
    assert!(worst <= most, "{worst:?}");
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_killed_process_costs_nothing_or_a_moment_at_the_chains_end() {
    check_all_but_the_last(Fault::Crash, ms(20));
    // The last one has one witness, and the controller itself sees that nothing gets through.
    check(Fault::Crash, 1, ms(600), 1);
    check(Fault::Crash, 2, ms(2300), 2);
}

#[test]
fn silence_costs_its_detection() {
    check(Fault::Silence(None), 1, ms(1700), 1);
    check(Fault::Hang(None), 1, ms(1700), 1);
}

#[test]
fn neighbours_that_fall_silent_together_cost_two_detections() {
    check(Fault::Silence(None), 2, ms(3400), 2);
    check(Fault::Silence(None), 5, ms(3400), 5);
    check(Fault::Hang(None), 2, ms(3400), 2);
}

#[test]
fn a_nodes_own_trouble_costs_the_others_nothing() {
    check(Fault::WriterFails, 1, ms(20), 0);
}

#[test]
fn a_link_that_is_made_anew_costs_nothing() {
    check(Fault::Reset, 1, ms(20), 0);
    check(Fault::Damage(1), 1, ms(20), 0);
    check(Fault::DamageBack(1), 1, ms(20), 0);
    // It has several attempts, and time to show its rate.
    check(Fault::Damage(u32::MAX), 1, ms(1700), 1);
}

#[test]
fn a_link_that_is_cut_between_living_nodes_is_bypassed() {
    check(Fault::Cut(None), 1, ms(3500), 1);
}

#[test]
fn a_controller_that_is_away_costs_nothing() {
    let clean = run(&session(0)).unwrap().drained;
    let mut schedule = session(0);
    let fault = Fault::Outage { lasts: ms(10_000), lost: true };
    schedule.faults =
        vec![Planned { when: When::Produced(10), after: Duration::ZERO, victim: Victim::All, fault }];
    let outcome = run(&schedule).unwrap();
    assert_eq!((outcome.complete, outcome.drained), (NODES, clean));
}
