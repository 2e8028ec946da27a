//! `kactl`: clones the golden node.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use kactl::cli::{self, Cli};
use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit};

fn main() -> ExitCode {
    // What is made without a mode of its own, by a script too, is never for everybody to change.
    rustix::process::umask(rustix::process::umask(Mode::all()) | Mode::WGRP | Mode::WOTH);
    let cli: Cli = ka_agent::terminal::arguments();
    cli::logging::start(cli.verbose);
    open_many_files();
    ka_agent::secrets::keep_from_core_dumps();
    cli::exit::finish(kactl::commands::run(&cli))
}

/// Each node has connections and a log. The usual limit of 1024 files stands for programs that use select(2).
fn open_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("no more files than usual can be open: {error}");
    }
}
