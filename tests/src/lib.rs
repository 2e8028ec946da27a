//! Helpers for the tests across crates.
#![forbid(unsafe_code)]

pub mod chroot;
pub mod console;
pub mod fault;
pub mod fuzz;
pub mod golden_machine;
pub mod guest;
pub mod halting;
pub mod hostile;

pub mod kernel;
pub mod layouts;
pub mod loop_device;
pub mod night;
pub mod process;
pub mod proxy;
pub mod sim;
pub mod site;
pub mod sources;
pub mod stale;
pub mod swtpm;
pub mod tables;
pub mod terminal;
pub mod tool;
pub mod wire;

use std::path::PathBuf;
use std::process::Command;

/// The workspace's directory.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs a command and returns its output.
///
/// # Panics
/// If it cannot be run or fails, with its output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}{errors}", output.status);
    text
}

/// The static agent, as built by `make agent`.
///
/// # Panics
/// If it does not exist.
#[must_use]
pub fn static_agent() -> PathBuf {
    let path = root().join("target/x86_64-unknown-linux-musl/release/ka-agent");
    assert!(path.exists(), "{} is missing: run `make agent`", path.display());
    path
}
pub mod netns;
