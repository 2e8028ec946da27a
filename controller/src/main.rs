//! `kactl`: clones the golden node.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use kactl::cli::Cli;
use kactl::{exit, logging};
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::start(cli.verbose);
    open_many_files();
    ka_host::secrets::keep_from_core_dumps();
    exit::finish(cli.run())
}

/// Each node has connections and a log. The usual limit of 1024 files stands for programs that use select(2).
fn open_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("no more files than usual can be open: {error}");
    }
}
