//! `kactl`: clones the golden node.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use kactl::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::logging::start(cli.verbose);
    cli::exit::finish(kactl::commands::run(&cli))
}
