//! Generated schedules of faults, lived through by the real state machines.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ka_tests::sim::{Outcome, Schedule, Violation, run, run_traced};

const SCHEDULES: u64 = 10_000;

#[test]
fn ten_thousand_schedules_keep_every_invariant() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SCHEDULES);
    let next = AtomicU64::new(0);
    let outcomes = Mutex::new(Vec::new());
    let failures: Mutex<Vec<(u64, Violation)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    match run(&Schedule::generate(seed)) {
                        Ok(outcome) => outcomes.lock().unwrap().push(outcome),
                        Err(violation) => failures.lock().unwrap().push((seed, violation)),
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|(seed, _)| *seed);
    for (seed, violation) in &failures {
        eprintln!("seed {seed}: {violation}");
    }
    if let Some((seed, _)) = failures.first() {
        let schedule = Schedule::generate(*seed);
        panic!("{} seeds fail; {schedule:#?}\n{}", failures.len(), run_traced(&schedule).unwrap_err());
    }
    let outcomes = outcomes.into_inner().unwrap();
    let share =
        |f: &dyn Fn(&Outcome) -> bool| outcomes.iter().filter(|o| f(o)).count() * 100 / outcomes.len();
    let deaths = share(&|o| o.deaths > 0);
    let close = share(&|o| o.close_deaths);
    let tail = share(&|o| o.tail_deaths);
    let events: u64 = outcomes.iter().map(|o| o.events).sum();
    eprintln!("deaths in {deaths} %, close {close} %, tail {tail} %; {events} events");
    assert!(deaths >= 80 && close >= 30 && tail >= 10);
}
