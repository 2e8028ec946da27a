//! Lives through one seed and shows what happened: `cargo run -p ka-tests --example simulate -- SEED`.

use ka_tests::sim::{Schedule, run_traced};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).ok_or("which seed?")?.parse()?;
    let schedule = Schedule::generate(seed);
    println!("{schedule:?}");
    match run_traced(&schedule) {
        Ok(outcome) => println!("{outcome:?}"),
        Err(violation) => println!("{violation}"),
    }
    Ok(())
}
