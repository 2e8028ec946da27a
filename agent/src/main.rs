//! `ka-agent`: PID 1 of a node that boots over the network, and a receiver of files on a running host.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::process::ExitCode;

/// Musl's allocator maps fresh memory for every block and returns it at once: page faults were half of a
/// relay's cost.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    ka_host::secrets::keep_from_core_dumps();
    // In a container a receiver may be PID 1 too, but only the kernel calls it `init`.
    let name = std::env::args_os().next().unwrap_or_default();
    if std::process::id() == 1 && Path::new(&name).file_name().is_some_and(|name| name == "init") {
        ka_agent::init::run(log::LevelFilter::Info, &["work"]);
    }
    ka_agent::cli::run()
}
