//! Detects whether anything moves. Time counts only while this thread runs: on a busy machine, a minute takes
//! longer.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;

/// No progress and no output for this long is a hang.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);
/// Output alone does not count as progress for ever.
const MAX_IN_ALL: Duration = Duration::from_secs(200);

const TICK: Duration = Duration::from_millis(10);

/// Measures how long nothing has moved.
pub(super) struct Watch {
    still: Duration,
    all: Duration,
    seen: u64,
    last: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { still: Duration::ZERO, all: Duration::ZERO, seen: 0, last: Instant::now() }
    }

    /// Sleeps briefly; returns true once it is a hang.
    pub(super) fn hangs<'a>(&mut self, processes: impl IntoIterator<Item = &'a Process>) -> bool {
        thread::sleep(TICK);
        // However long the sleep took, only a little of it counts for this process.
        let passed = self.last.elapsed().min(3 * TICK);
        self.last = Instant::now();
        let moved = processes.into_iter().map(moved).sum();
        self.still = if moved == self.seen { self.still + passed } else { Duration::ZERO };
        self.seen = moved;
        self.all += passed;
        self.still > MAX_WAIT || self.all > MAX_IN_ALL
    }
}

/// A number that changes when a process makes progress: it has read or written much other than sockets, or
/// printed something. A process that only wakes up changes it little.
fn moved(process: &Process) -> u64 {
    (written(process) >> 16) + (read(process) >> 16) + process.said().len() as u64
}

/// The bytes that it has written, except to sockets.
pub(super) fn written(process: &Process) -> u64 {
    io(process, "wchar: ")
}

/// The bytes that it has read, except from sockets.
pub(super) fn read(process: &Process) -> u64 {
    io(process, "rchar: ")
}

fn io(process: &Process, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", process.id())).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(field)?.parse().ok()).unwrap_or(0)
}
