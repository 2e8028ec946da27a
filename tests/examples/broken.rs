//! scratch
use ka::chain::Rules;
use ka_tests::sim::{Schedule, run_with};
fn main() {
    let all = Rules::default();
    let cases = [
        ("frozen", Rules { frozen_tail: false, ..all }),
        ("hold", Rules { hold_until_released: false, ..all }),
        ("old", Rules { old_epochs_refused: false, ..all }),
        ("parked", Rules { hellos_parked: false, ..all }),
        ("verified", Rules { verified_positions: false, ..all }),
    ];
    for (name, rules) in cases {
        let mut found = std::collections::BTreeMap::new();
        for seed in 0..1000 {
            if let Err(v) = run_with(&Schedule::generate(seed), rules) {
                found.entry(v.invariant).or_insert_with(Vec::new).push(seed);
            }
        }
        for (inv, seeds) in found {
            println!("{name}: {inv}: {} {:?}", seeds.len(), &seeds[..seeds.len().min(4)]);
        }
    }
}
