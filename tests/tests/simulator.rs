//! Generated schedules of faults, run on the real state machines.
#![allow(clippy::unwrap_used, reason = "clippy takes helpers of tests for production code")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ka::chain::{Rules, SlowLimits};
use ka_tests::sim::{LongChain, Schedule, SimResult, Violation, judge_slowness, run, run_traced, run_with};

const SCHEDULES: u64 = 10_000;
/// Schedules of whole runs. Seed 294 does not come to its end yet.
const WHOLE_RUNS: u64 = 290;

/// Seeds that failed in the past, and the cause.
const REGRESSIONS: [(u64, &str); 7] = [
    (56, "a tail whose writer had failed never forgot a block, and stalled the chain"),
    (17, "a golden node that was alone never forgot a block, and stalled"),
    (7, "after the controller's own outage, living nodes were taken out"),
    (39, "a hello on a link that an older epoch had let in was taken in the next one"),
    (99, "in the moment before the controller knew that it heard nobody, a node was taken out"),
    (3500, "a row of silent nodes was taken out one by one, each after a detection time"),
    (
        8333,
        "of two outages of the controller in a row, the second was too short to give everybody time again",
    ),
];

#[test]
fn ten_thousand_schedules_keep_every_invariant() {
    let results = live_through_all(Schedule::generate);
    let failures: Vec<_> =
        results.iter().filter_map(|(seed, result)| Some((seed, result.as_ref().err()?))).collect();
    for (seed, violation) in &failures {
        eprintln!("seed {seed}: {violation}");
    }
    if let Some((seed, _)) = failures.first() {
        let schedule = Schedule::generate(**seed);
        panic!("{} seeds fail; {schedule:#?}\n{}", failures.len(), run_traced(&schedule).unwrap_err());
    }
    let outcomes: Vec<SimResult> = results.into_iter().filter_map(|(_, result)| result.ok()).collect();
    check_the_faults_happened(&outcomes);
}

/// All results, in the order of their seeds.
fn live_through_all(schedule: fn(u64) -> Schedule) -> Vec<(u64, Result<SimResult, Violation>)> {
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SCHEDULES {
                        break;
                    }
                    let result = run(&schedule(seed));
                    results.lock().unwrap().push((seed, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(seed, _)| *seed);
    results
}

/// A simulator in which no node dies proves nothing.
fn check_the_faults_happened(outcomes: &[SimResult]) {
    let percent = |what: fn(&SimResult) -> bool| {
        outcomes.iter().filter(|outcome| what(outcome)).count() * 100 / outcomes.len()
    };
    let deaths = percent(|outcome| outcome.deaths > 0);
    let close = percent(|outcome| outcome.close_deaths);
    let tail = percent(|outcome| outcome.tail_deaths);
    let complete: usize = outcomes.iter().map(|outcome| outcome.complete).sum();
    let events: u64 = outcomes.iter().map(|outcome| outcome.events).sum();
    println!(
        "deaths in {deaths} % of the schedules, two or more within the detection time in {close} %, \
         the tail's in {tail} %; {complete} nodes complete, {events} events"
    );
    assert!(deaths >= 80, "deaths in {deaths} % of the schedules");
    assert!(close >= 30, "deaths within the detection time in {close} % of the schedules");
    assert!(tail >= 10, "the tail's death in {tail} % of the schedules");
}

/// Nodes join one after the other, some uninvited; there are several rounds, and controllers that are killed
/// between any two effects and taken over from their events.
#[test]
fn whole_runs_keep_every_invariant() {
    let (mut rounds, mut kills) = (0, 0);
    for seed in 0..WHOLE_RUNS {
        let outcome = run(&Schedule::with_rounds(seed)).unwrap_or_else(|v| panic!("seed {seed}: {v}"));
        rounds += usize::from(outcome.rounds > 1);
        kills += usize::from(outcome.kills > 0);
    }
    println!("{rounds} had several rounds; in {kills} a controller was killed");
    assert!(rounds >= 20 && kills >= 50, "{rounds} with several rounds, {kills} with kills");
}

/// Seeds that were not used to choose the threshold for a full link: no healthy node is removed, and no slow
/// one stays. `simulate slow` does the same for thousands.
#[test]
fn slowness_is_judged_right_under_fresh_seeds() {
    let (tally, wrong) = judge_slowness(5_000_000..5_000_150, SlowLimits::default().full);
    println!("{tally}");
    assert_eq!(wrong, []);
    assert!(tally.found >= 100 && tally.peace >= 100, "{tally}");
}

/// Liars among deaths and bad links: no copy contains a forged byte, every accused node has forged, and no
/// node that makes progress loses its place because of a liar's report (the invariants check all that).
#[test]
fn ten_thousand_schedules_with_liars_keep_every_invariant() {
    let results = live_through_all(Schedule::with_liars);
    let failures: Vec<_> =
        results.iter().filter_map(|(seed, result)| Some((seed, result.as_ref().err()?))).collect();
    for (seed, violation) in &failures {
        eprintln!("seed {seed}: {violation}");
    }
    if let Some((seed, _)) = failures.first() {
        let trace = run_traced(&Schedule::with_liars(**seed)).unwrap_err();
        panic!("{} seeds fail, first {seed}:\n{trace}", failures.len());
    }
    let outcomes: Vec<SimResult> = results.into_iter().filter_map(|(_, result)| result.ok()).collect();
    let sum = |what: fn(&SimResult) -> usize| outcomes.iter().map(what).sum::<usize>();
    let (found, named, complete) = (sum(|o| o.found), sum(|o| o.named), sum(|o| o.complete));
    let (deaths, slandered) = (sum(|o| o.deaths), sum(|o| o.slandered));
    println!(
        "{complete} copies are right; {found} nodes found a forgery and {named} could name who sent it; {deaths} deaths; \
         liars cost {slandered} others their place"
    );
    assert!(complete > 10_000 && found > 10_000 && named * 10 > found * 4 && deaths > 10_000);
}

/// In the past, a node that accepted no more data, answered every probe, and complained of no other node
/// blocked its chain for ever.
#[test]
fn who_holds_up_the_chain_without_a_word_is_found() {
    for seed in 0..100 {
        let schedule = Schedule::with_a_withholder(seed);
        let outcome = run(&schedule).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(
            (outcome.expelled, outcome.complete),
            (1, schedule.nodes() - 1),
            "seed {seed}: {outcome:?}"
        );
    }
}

#[test]
fn streams_are_many_windows_long() {
    for seed in 0..100 {
        let schedule = Schedule::generate(seed);
        assert!(schedule.length >= 8 * schedule.window);
        assert!((1..=64).contains(&schedule.nodes()));
    }
}

#[test]
fn a_seed_means_the_same_every_time() {
    for seed in 0..20 {
        let schedule = Schedule::generate(seed);
        assert_eq!(run(&schedule).unwrap(), run(&schedule).unwrap(), "seed {seed}");
    }
}

#[test]
fn what_failed_once_works() {
    for (seed, showed) in REGRESSIONS {
        let result = run(&Schedule::generate(seed));
        assert!(result.is_ok(), "seed {seed} once showed that {showed}: {}", result.unwrap_err());
    }
}

/// Disables one rule; the seed that passes with the rule must violate that invariant without it.
#[track_caller]
fn check_without(rules: Rules, seed: u64, invariant: &str) {
    let schedule = Schedule::generate(seed);
    run(&schedule).unwrap();
    let violation = run_with(&schedule, rules).unwrap_err();
    assert_eq!(violation.invariant, invariant, "{violation}");
}

#[test]
fn a_tail_position_that_is_not_frozen_is_noticed() {
    let rules = Rules { frozen_tail: false, ..Rules::default() };
    check_without(rules, 0, "T is verified by all behind");
    check_without(rules, 527, "T never falls");
}

#[test]
fn a_member_that_leaves_before_the_release_is_noticed() {
    let rules = Rules { hold_until_released: false, ..Rules::default() };
    check_without(rules, 0, "T is verified by all behind");
    check_without(rules, 562, "only the faulty are expelled");
}

#[test]
fn taking_hellos_of_old_epochs_is_noticed() {
    let rules = Rules { old_epochs_refused: false, ..Rules::default() };
    check_without(rules, 2270, "only the faulty are expelled");
}

#[test]
fn refusing_hellos_of_new_epochs_is_noticed() {
    let rules = Rules { hellos_parked: false, ..Rules::default() };
    check_without(rules, 0, "only the faulty are expelled");
}

#[test]
fn counting_what_has_not_verified_is_noticed() {
    let rules = Rules { verified_positions: false, ..Rules::default() };
    check_without(rules, 3, "verified is true");
}

#[test]
fn a_chain_of_hundreds_survives_its_deaths() {
    const MIB: u64 = 1024 * 1024;
    for silent in [false, true] {
        let long = LongChain { nodes: 300, window: 8 * MIB, stream: 16 * MIB, deaths: 3, silent };
        let outcome = run(&long.schedule(1)).unwrap();
        assert_eq!(outcome.complete, 297);
    }
}

/// One host of a chain becomes far too slow. It is removed, whatever makes it slow, and the others have
/// everything soon after; if it is the golden node, no node is removed. With a slow card, sometimes the link
/// behind it appears slow first, which costs one more node.
#[test]
fn only_the_slow_are_taken_out_and_soon() {
    let (mut golden, mut nodes, mut exact) = (0, 0, 0);
    for seed in 0..200 {
        let schedule = Schedule::with_a_slow_host(seed);
        let outcome = run(&schedule).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert_eq!(outcome.complete + outcome.slow, schedule.nodes(), "seed {seed}: {outcome:?}");
        if outcome.slowed_golden {
            golden += 1;
            assert_eq!(outcome.slow, 0, "seed {seed}: {outcome:?}");
        } else {
            nodes += 1;
            exact += usize::from(outcome.slow == 1);
            assert!((1..=2).contains(&outcome.slow), "seed {seed}: {outcome:?}");
            // The time for detection, for the windows to drain, and for the chain at its rate.
            let bound = schedule.healthy_time() * 2 + schedule.slow.after * 4;
            assert!(outcome.drained < bound, "seed {seed}: {outcome:?}, not within {bound:?}");
        }
    }
    println!("{golden} golden nodes and {nodes} others were slow; {exact} of these alone went");
    assert!(golden >= 10 && nodes >= 100, "{golden} golden nodes and {nodes} others were slow");
    assert!(exact * 10 >= nodes * 9, "{exact} of {nodes} were taken out alone");
}
