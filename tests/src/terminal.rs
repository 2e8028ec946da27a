//! A pseudo-terminal operated by a test.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use nix::pty::openpty;

/// The character of Ctrl-D: end of input, if typed at the beginning of a line.
pub const END: &str = "\x04";

/// A pseudo-terminal.
pub struct Terminal {
    keys: File,
    program: OwnedFd,
}

impl Terminal {
    /// Creates one.
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
    /// When no descriptor is available.
    #[must_use]
    pub fn input(&self) -> Stdio {
        self.program.try_clone().unwrap().into()
    }

    /// Types a text.
    ///
    /// # Panics
    /// When the terminal has been closed.
    pub fn types(&self, text: &str) {
        (&self.keys).write_all(text.as_bytes()).unwrap();
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}
