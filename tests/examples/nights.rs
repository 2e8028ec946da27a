//! Unattended nights by hand: `nights FIRST COUNT [MACHINES]` simulates that many, with 100 machines each.

use std::process::ExitCode;
use std::time::Instant;

use ka_tests::night::{Plan, Tally, run};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| arguments.get(i).map_or(Ok(default), |text| text.parse());
    let (first, count, machines) = (number(0, 0)?, number(1, 1000)?, usize::try_from(number(2, 100)?)?);
    let (start, mut tally, mut violations) = (Instant::now(), Tally::default(), 0);
    for seed in first..first + count {
        match run(&Plan::generate(seed, machines)) {
            Ok(night) => {
                if night.cloned < night.healthy {
                    println!("seed {seed}: {night}: {:?}", night.undeserved);
                }
                tally += night;
            }
            Err(violation) => {
                violations += 1;
                println!("{violation}");
            }
        }
    }
    println!("{tally}");
    println!("{violations} violations; simulated in {:.1} s", start.elapsed().as_secs_f64());
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
