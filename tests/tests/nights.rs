//! Unattended nights with generated faults: no false success, every healthy machine cloned, every failure
//! named. `cargo run --release -p ka-tests --example nights` simulates a thousand with 100 machines.

use ka_tests::night::{Plan, Tally, run};

#[test]
fn nights_end_with_true_reports() {
    let mut tally = Tally::default();
    for seed in 0..25 {
        tally += run(&Plan::generate(seed, 30)).unwrap_or_else(|violation| panic!("{violation}"));
    }
    println!("{tally}");
    // Otherwise nothing was tried.
    assert!(tally.kills > 10 && tally.faulty > 20 && tally.failed > 5 && tally.missing > 0, "{tally}");
    assert!(tally.share() >= 0.999, "{tally}");
}
