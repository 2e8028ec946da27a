//! A stream that stops in its middle until the test lets it continue.
#![allow(clippy::unwrap_used)] // a test's helpers fail as tests do

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use crate::site::{Gate, MIB, Site};

/// The last chunk of the first half stays in the sender: its end waits for a block to be full.
const HELD_BACK: usize = 2 * MIB;

/// A command that writes two parts, with a pause between them until a gate is opened.
pub struct Halting {
    parts: [PathBuf; 2],
    gate: Gate,
    /// Once this file exists, the command does not pause.
    opened: PathBuf,
    command: String,
    half: usize,
}

impl Halting {
    /// The command for two parts of `half` bytes each.
    #[must_use]
    pub fn new(site: &Site, half: usize) -> Self {
        let parts = [site.noise("first", half, 1), site.noise("second", half, 2)];
        let (gate, opened) = (site.gate("gate"), site.path("opened"));
        let command = format!(
            "cat {}; test -e {} || cat {}; cat {}",
            parts[0].display(),
            opened.display(),
            gate.path().display(),
            parts[1].display()
        );
        Self { parts, gate, opened, command, half }
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Waits until the first `count` receivers have the first half.
    ///
    /// # Panics
    /// When they do not get it.
    pub fn wait_for_half(&self, site: &Site, count: usize) {
        for i in 0..count {
            site.wait_for_partial(&format!("out-{i}"), self.half - HELD_BACK);
        }
    }

    /// Lets the stream continue, in this round and in all later ones.
    ///
    /// # Panics
    /// When the command does not pause.
    pub fn open(&self) {
        self.open_later_rounds();
        self.gate.open();
    }

    /// Lets only later rounds continue.
    ///
    /// # Panics
    /// When the file system takes no file.
    pub fn open_later_rounds(&self) {
        fs::write(&self.opened, "").unwrap();
    }

    /// Ends the command of a killed process, which still pauses.
    ///
    /// # Panics
    /// When the gate is gone.
    pub fn end_orphans(&self) {
        OpenOptions::new().read(true).write(true).open(self.gate.path()).unwrap();
    }

    /// Whether this file of the site has both parts.
    #[must_use]
    pub fn is_in(&self, site: &Site, file: &str) -> bool {
        site.holds(file, &[&self.parts[0], &self.parts[1]])
    }
}
