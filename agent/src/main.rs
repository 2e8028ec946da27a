//! `ka-agent`: PID 1 of a node that boots over the network, and a receiver of files on a running host.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
