//! The simulator by hand:
//!
//! ```text
//! simulate seed SEED                                  what happens under one seed
//! simulate liars SEED                                 the same, with members that lie
//! simulate scan|scan-liars FIRST COUNT                which seeds fail
//! simulate slow FIRST COUNT FULL                      how slowness is judged when FULL is a full link
//! simulate chain NODES DEATHS kill|cut WINDOW STREAM  a long chain; window and stream in MiB
//! ```

use std::time::Instant;

use ka_tests::sim::{LongChain, Schedule, judge_slowness, run, run_traced};

const MIB: u64 = 1024 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["seed", seed] => {
            let schedule = Schedule::generate(seed.parse()?);
            println!("{schedule:#?}");
            println!("{:?}", run_traced(&schedule)?);
        }
        ["liars", seed] => {
            let schedule = Schedule::with_liars(seed.parse()?);
            println!("{schedule:#?}");
            println!("{:?}", run_traced(&schedule)?);
        }
        ["rounds", seed] => {
            let schedule = Schedule::with_rounds(seed.parse()?);
            println!("{schedule:#?}");
            println!("{:?}", run_traced(&schedule)?);
        }
        [kind @ ("scan" | "scan-liars" | "scan-rounds"), first, count] => {
            let first: u64 = first.parse()?;
            let schedule = match kind {
                "scan" => Schedule::generate,
                "scan-liars" => Schedule::with_liars,
                _ => Schedule::with_rounds,
            };
            for seed in first..first + count.parse::<u64>()? {
                if let Err(violation) = run(&schedule(seed)) {
                    println!("seed {seed}: {violation}");
                }
            }
        }
        ["slow", first, count, full] => {
            let first: u64 = first.parse()?;
            let (tally, odd) = judge_slowness(first..first + count.parse::<u64>()?, full.parse()?);
            for (seed, judgement) in odd {
                println!("seed {seed}: {judgement:?}");
            }
            println!("{tally}");
        }
        ["chain", nodes, deaths, how, window, stream] => chain(&LongChain {
            nodes: nodes.parse()?,
            deaths: deaths.parse()?,
            silent: how == "cut",
            window: window.parse::<u64>()? * MIB,
            stream: stream.parse::<u64>()? * MIB,
        })?,
        _ => {
            return Err(
                "simulate seed|liars|rounds SEED | scan|scan-liars|scan-rounds FIRST COUNT | slow FIRST COUNT FULL | chain NODES DEATHS kill|cut WINDOW STREAM".into()
            );
        }
    }
    Ok(())
}

fn chain(long: &LongChain) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let outcome = run(&long.schedule(1))?;
    #[allow(clippy::cast_precision_loss)]
    let rate = long.stream as f64 / outcome.drained.as_secs_f64() / 1e6;
    println!(
        "{} nodes, {} died ({}), window {} MiB, {} MiB: {:.2} s, {rate:.1} MB/s; the golden node was done \
         after {:.2} s, drained in {:.2} s; {} complete, {} taken out ({} events in {:.0} s)",
        long.nodes,
        outcome.deaths,
        if long.silent { "silently" } else { "killed" },
        long.window / MIB,
        long.stream / MIB,
        outcome.drained.as_secs_f64(),
        outcome.produced.as_secs_f64(),
        (outcome.drained - outcome.produced).as_secs_f64(),
        outcome.complete,
        outcome.expelled,
        outcome.events,
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}
