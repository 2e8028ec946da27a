//! The campaign of `make bench CASES=faults`, and how a seed is replayed:
//!
//!     faults FIRST COUNT WORKERS
//!
//! Prints a verdict a line, in JSON, and findings to standard error. The agent is `KA_TEST_AGENT`, if that is
//! given.

use std::process::ExitCode;

use ka_tests::fault::campaign::{Finding, Verdict, campaign};

fn main() -> ExitCode {
    let arguments: Option<Vec<u64>> =
        std::env::args().skip(1).map(|argument| argument.parse().ok()).collect();
    let Some([first, count, workers]) = arguments.as_deref() else {
        eprintln!("usage: faults FIRST COUNT WORKERS");
        return ExitCode::from(2);
    };
    let seeds: Vec<u64> = (*first..first + count).collect();
    let verdicts = campaign(&seeds, usize::try_from(*workers).unwrap_or(1), report);
    if verdicts.iter().all(Verdict::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(verdict: &Verdict) {
    match serde_json::to_string(verdict) {
        Ok(line) => println!("{line}"),
        Err(error) => eprintln!("{error}"),
    }
    for finding in &verdict.findings {
        let (what, how) = match finding {
            Finding::FalseSuccess(how) => ("FALSE SUCCESS", how),
            Finding::Hang(how) => ("HANG", how),
            Finding::Untrue(how) => ("UNTRUE", how),
            Finding::Broken(how) => ("BROKEN", how),
        };
        eprintln!("{what}: {}: {how}", verdict.injection);
    }
}
