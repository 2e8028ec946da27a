//! `kactl`: clones the golden node.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use ka_host::terminal;
use kactl::cli::{self, LineError};
use kactl::{exit, logging};
use rustix::fs::Mode;
use rustix::process::{Resource, getrlimit, setrlimit, umask};

fn main() -> ExitCode {
    // Files created without an explicit mode, including those of scripts, must not be writable by others.
    umask(umask(Mode::all()) | Mode::WGRP | Mode::WOTH);
    let cli = match cli::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(LineError::Words(error)) => {
            terminal::usage(&error.render().to_string(), error.use_stderr(), error.exit_code())
        }
        Err(LineError::Profile(error)) => return exit::finish(Err(error.into())),
    };
    logging::start(cli.verbose, cli.quiet);
    open_many_files();
    ka_host::secrets::keep_from_core_dumps();
    exit::finish(cli.run())
}

/// Each node needs connections and a log file. The usual limit of 1024 files exists for programs that use
/// select(2).
fn open_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("no more files than usual can be open: {error}");
    }
}
