//! Whether anything moves. A minute is a minute in which this thread ran: a busy machine makes it longer.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::Process;

/// Without any progress, and without a word, for this long: a hang.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);
/// Words are no progress for ever.
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

    /// Lets a moment pass; true once it is a hang.
    pub(super) fn hangs<'a>(&mut self, processes: impl IntoIterator<Item = &'a Process>) -> bool {
        thread::sleep(TICK);
        // However long it was, no more than a little was this process's.
        let passed = self.last.elapsed().min(3 * TICK);
        self.last = Instant::now();
        let moved = processes.into_iter().map(moved).sum();
        self.still = if moved == self.seen { self.still + passed } else { Duration::ZERO };
        self.seen = moved;
        self.all += passed;
        self.still > MAX_WAIT || self.all > MAX_IN_ALL
    }
}

/// A number that changes when a process does something for somebody: it has read or written much of what is no socket,
/// or said something. Who only wakes itself up does little.
fn moved(process: &Process) -> u64 {
    (written(process) >> 16) + (read(process) >> 16) + process.said().len() as u64
}

/// Bytes that it has written, to whatever is no socket.
pub(super) fn written(process: &Process) -> u64 {
    io(process, "wchar: ")
}

/// Bytes that it has read, from whatever is no socket.
pub(super) fn read(process: &Process) -> u64 {
    io(process, "rchar: ")
}

fn io(process: &Process, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", process.id())).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(field)?.parse().ok()).unwrap_or(0)
}
