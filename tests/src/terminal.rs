//! A terminal at which the test sits.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::pty::openpty;

/// What Ctrl-D sends: the end of the input, if it is typed at the beginning of a line.
pub const END: &str = "\x04";

/// A pseudo-terminal.
pub struct Terminal {
    keys: File,
    program: OwnedFd,
}

impl Terminal {
    /// A new one.
    ///
    /// # Panics
    /// Without `/dev/ptmx`.
    #[must_use]
    pub fn new() -> Self {
        let ends = openpty(None, None).unwrap();
        Self { keys: ends.master.into(), program: ends.slave }
    }

    /// The side that a program reads from.
    ///
    /// # Panics
    /// When the system has no descriptor left.
    #[must_use]
    pub fn input(&self) -> Stdio {
        self.program.try_clone().unwrap().into()
    }

    /// Types something.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn types(&self, text: &str) {
        (&self.keys).write_all(text.as_bytes()).unwrap();
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}
