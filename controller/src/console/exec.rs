//! Runs a command on many nodes in parallel.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ka::shown;
use ka::wire::console::{End, Request, ToViewer};

use super::dial::{ConsoleError, Dialler};
use crate::machines::find::Found;

/// No polling is necessary between two messages.
const LOOK: Duration = Duration::from_secs(5);
/// A longer line from a node is shown in parts.
const MAX_LINE: usize = 16 << 10;

/// The destination of output, one line of one node at a time.
pub struct Outputs<'a> {
    /// Standard output.
    pub out: Mutex<Box<dyn Write + Send + 'a>>,
    /// Standard error.
    pub err: Mutex<Box<dyn Write + Send + 'a>>,
    /// Whether each line is prefixed with its node's name.
    pub prefix: bool,
}

/// How a command ended on one node.
#[derive(Debug)]
pub struct ExecResult {
    /// The node.
    pub label: String,
    /// How the command ended there, or why that is unknown.
    pub end: Result<End, ConsoleError>,
}

impl ExecResult {
    /// The exit status by the shell's convention; 255 for a node that did not run the command to its end.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.end.as_ref().map_or(255, |end| end.status())
    }
}

/// Runs `command` on all `machines`, on at most `at_once` at the same time; the outcomes are in the same
/// order.
#[must_use]
pub fn run(
    dialler: &Dialler,
    machines: &[Found],
    command: &[u8],
    at_once: usize,
    outputs: &Outputs<'_>,
) -> Vec<ExecResult> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, ExecResult)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(machine) = machines.get(at) else { return };
            let label = machine.label();
            let end = run_on(dialler, machine, &label, command, outputs);
            let outcome = ExecResult { label, end };
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, machines.len().max(1)) {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(at, _)| *at);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run_on(
    dialler: &Dialler,
    machine: &Found,
    label: &str,
    command: &[u8],
    outputs: &Outputs<'_>,
) -> Result<End, ConsoleError> {
    let mut viewer = dialler.open(machine, &Request::Exec { command: command.to_vec() })?;
    let prefix = if outputs.prefix { format!("{}: ", shown::field(label)) } else { String::new() };
    let mut out = Lines { prefix: &prefix, to: &outputs.out, begun: Vec::new() };
    let mut err = Lines { prefix: &prefix, to: &outputs.err, begun: Vec::new() };
    let end = loop {
        match viewer.next(LOOK, &[]) {
            Ok(Some(ToViewer::Bytes(bytes))) => out.add(&bytes),
            Ok(Some(ToViewer::Errors(bytes))) => err.add(&bytes),
            Ok(Some(ToViewer::Ended(end))) => break Ok(end),
            Ok(Some(ToViewer::Refused { reason })) => break Err(ConsoleError::Refused(reason)),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    out.end();
    err.end();
    end
}

/// A node's output in whole lines, so that the lines of several nodes do not mix.
struct Lines<'a, 'o> {
    prefix: &'a str,
    to: &'a Mutex<Box<dyn Write + Send + 'o>>,
    begun: Vec<u8>,
}

impl Lines<'_, '_> {
    fn add(&mut self, bytes: &[u8]) {
        if self.prefix.is_empty() {
            self.write(bytes);
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.put();
            } else if self.begun.len() >= MAX_LINE {
                self.begun.push(b'\n');
                self.put();
            }
        }
    }

    /// The last line may lack its newline.
    fn end(&mut self) {
        if !self.begun.is_empty() {
            self.begun.push(b'\n');
            self.put();
        }
    }

    fn put(&mut self) {
        let line = [self.prefix.as_bytes(), &self.begun].concat();
        self.begun.clear();
        self.write(&line);
    }

    fn write(&self, bytes: &[u8]) {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // If the reader is gone, the output is lost; the exit status still shows how the command ended.
        let _ = to.write_all(bytes).and_then(|()| to.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_and_name_their_node() {
        for (prefix, pieces, expected) in [
            ("n1: ", &["a\nb", "c\n", "d"][..], "n1: a\nn1: bc\nn1: d\n".to_owned()),
            ("", &["a\nb", "c"][..], "a\nbc".to_owned()),
            ("n1: ", &["\n\n"][..], "n1: \nn1: \n".to_owned()),
            ("n1: ", &[&*"x".repeat(MAX_LINE), "y\n"][..], format!("n1: {}\nn1: y\n", "x".repeat(MAX_LINE))),
        ] {
            let mut shown = Vec::new();
            let to: Mutex<Box<dyn Write + Send>> = Mutex::new(Box::new(&mut shown));
            let mut lines = Lines { prefix, to: &to, begun: Vec::new() };
            pieces.iter().for_each(|piece| lines.add(piece.as_bytes()));
            lines.end();
            drop(to);
            assert_eq!(String::from_utf8(shown).unwrap(), expected);
        }
    }
}
