//! Programs under test: their output is kept, and all of their processes are killed when they are dropped.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The time limit for any operation before it counts as hung. Far longer than necessary on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `come` returns true.
///
/// # Panics
/// When it does not return true in time; `what` says what is missing.
pub fn wait_until(what: &str, mut come: impl FnMut() -> bool) {
    let start = Instant::now();
    while !come() {
        assert!(start.elapsed() < PATIENCE, "still waiting for this after {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A program of this workspace, next to the test's own executable; or the agent that `KA_TEST_AGENT` names.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    if let Some(agent) = std::env::var_os("KA_TEST_AGENT").filter(|_| name == "ka-agent") {
        return agent.into();
    }
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace`", path.display());
    path
}

/// A running program.
pub struct Process {
    child: Child,
    group: Pid,
    name: String,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts `command` in its own process group; its output goes to `DIR/NAME.out` and `.err`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command, name: &str, directory: &Path) -> Self {
        Self::start_with(command, Stdio::null(), name, directory)
    }

    /// The same with an input.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(command: &mut Command, input: Stdio, name: &str, directory: &Path) -> Self {
        let (out, err) = (directory.join(format!("{name}.out")), directory.join(format!("{name}.err")));
        let child = command
            .stdin(input)
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let group = Pid::from_child(&child);
        Self { child, group, name: name.to_owned(), out, err }
    }

    /// Its standard error so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    /// Waits until its standard error contains `text` at least `times` times.
    ///
    /// # Panics
    /// When the text does not appear, or the program ends without it.
    pub fn wait_for(&mut self, text: &str, times: usize) {
        let found = |process: &Self| process.said().matches(text).count() >= times;
        let what = format!("{} says '{text}' ({times} times)", self.name);
        wait_until(&what, || {
            // Checked first: output just before the end counts.
            let ended = self.has_ended();
            let found = found(self);
            assert!(found || !ended, "{} has ended before this: {what}\n{}", self.name, self.said());
            found
        });
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system does not report it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Panics
    /// When the system does not report it.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end; returns its exit status.
    ///
    /// # Panics
    /// When it hangs, or was killed by a signal.
    pub fn end(&mut self) -> i32 {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => thread::sleep(Duration::from_millis(5)),
            }
            assert!(start.elapsed() < PATIENCE, "{} does not end:\n{}", self.name, self.said());
        };
        status.code().unwrap_or_else(|| panic!("{}: {status}\n{}", self.name, self.said()))
    }

    /// Sends a signal to the program, but not to its children.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.group, signal).unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Panics
    /// When it has ended before.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    /// Kills it and all its children.
    fn drop(&mut self) {
        // Fails if the group has no process left, which is fine.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
    }
}
