//! A shell on a node, at this terminal.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use ka::wire::console::{End, MAX_PIECE, Request, Size, ToNode, ToViewer};
use ka_host::terminal;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::dial::{ConsoleError, Dialler};
use crate::machines::find::Found;

/// How often the terminal's size is checked.
const LOOK: Duration = Duration::from_millis(250);
/// The maximum number of typed bytes that may wait for the node.
const MAX_TYPED: usize = 64 << 10;

/// How a shell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The shell itself has ended.
    Ended(End),
    /// By the escape key.
    Escaped,
    /// By a signal to this process.
    Stopped(Signal),
}

/// Why a shell cannot start, or was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShellError {
    /// Standard input is not a terminal.
    #[error("the input is not a terminal: run a command with 'kactl exec'")]
    NoTerminal,
    /// The terminal or the signal handling failed.
    #[error("the terminal cannot be used: {0}")]
    Terminal(io::Error),
    /// The node.
    #[error(transparent)]
    Console(#[from] ConsoleError),
}

impl From<rustix::io::Errno> for ShellError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Terminal(errno.into())
    }
}

/// Runs a shell on `machine` until it ends, or `escape` is typed. The terminal is restored afterwards in
/// every case.
///
/// # Errors
/// [`ShellError`].
pub fn hold(dialler: &Dialler, machine: &Found, escape: Option<u8>) -> Result<Left, ShellError> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(ShellError::NoTerminal);
    }
    let mut size = size_of(&input)?;
    let term = std::env::var("TERM").ok().filter(|term| term.len() <= ka::wire::console::MAX_TEXT);
    let term = term.unwrap_or_else(|| "vt102".into());
    let mut viewer = dialler.open(machine, &Request::Shell { term, size })?;
    if let Some(escape) = escape {
        terminal::complain(
            "kactl",
            format_args!("{}: {} leaves the shell", machine.label(), key_name(escape)),
        );
    }
    let signals = ending_signals()?;
    let raw = Raw::set(&input)?;
    let mut out = terminal::raw_out();
    let mut typed = vec![0; MAX_PIECE];
    let left = loop {
        let takes = viewer.queued() < MAX_TYPED;
        let waits = [signals.as_fd(), input.as_fd()];
        let waits = if takes { &waits[..] } else { &waits[..1] };
        match viewer.next(LOOK, waits)? {
            Some(ToViewer::Bytes(bytes) | ToViewer::Errors(bytes)) => {
                out.write_all(&bytes).and_then(|()| out.flush()).map_err(ShellError::Terminal)?;
            }
            Some(ToViewer::Ended(end)) => break Left::Ended(end),
            Some(ToViewer::Refused { reason }) => return Err(ConsoleError::Refused(reason).into()),
            Some(ToViewer::State(_) | ToViewer::Alive) | None => {}
        }
        if let Some(signal) = taken(&signals)? {
            break Left::Stopped(signal);
        }
        if takes && is_ready(&input)? {
            match rustix::io::read(&input, &mut typed) {
                Ok(0) => break Left::Escaped,
                Ok(length) => {
                    let bytes = typed.get(..length).unwrap_or_default();
                    let end = escape.and_then(|escape| bytes.iter().position(|byte| *byte == escape));
                    let bytes = bytes.get(..end.unwrap_or(length)).unwrap_or_default();
                    if !bytes.is_empty() {
                        viewer.say(&ToNode::Input(bytes.to_vec()))?;
                    }
                    if end.is_some() {
                        break Left::Escaped;
                    }
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let now = size_of(&input)?;
        if now != size {
            size = now;
            viewer.say(&ToNode::Resize(size))?;
        }
    };
    drop(raw);
    Ok(left)
}

fn is_ready(input: &impl AsFd) -> Result<bool, ShellError> {
    let now = Timespec::default();
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&now)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn size_of(terminal: &impl AsFd) -> Result<Size, ShellError> {
    let size = tcgetwinsize(terminal)?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// The signals that would end this process and leave the terminal in raw mode.
fn ending_signals() -> Result<SignalFd, ShellError> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]);
    signals
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|e| ShellError::Terminal(e.into()))
}

fn taken(signals: &SignalFd) -> Result<Option<Signal>, ShellError> {
    let info = signals.read_signal().map_err(|e| ShellError::Terminal(e.into()))?;
    Ok(info
        .and_then(|info| i32::try_from(info.ssi_signo).ok())
        .and_then(|number| Signal::try_from(number).ok()))
}

/// A terminal in raw mode, until this is dropped.
struct Raw<'a, T: AsFd> {
    terminal: &'a T,
    before: Termios,
}

impl<'a, T: AsFd> Raw<'a, T> {
    fn set(terminal: &'a T) -> Result<Self, ShellError> {
        let before = tcgetattr(terminal)?;
        let mut modes = before.clone();
        modes.make_raw();
        tcsetattr(terminal, OptionalActions::Now, &modes)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Raw<'_, T> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            log::warn!("the terminal cannot be restored: {error}; 'stty sane' does it");
        }
    }
}

/// The value of `--escape`: `^]` or `none`.
///
/// # Errors
/// The problem.
pub fn escape(text: &str) -> Result<Option<u8>, String> {
    if text == "none" {
        return Ok(None);
    }
    match text.as_bytes() {
        [b'^', key @ b'@'..=b'_'] => Ok(Some(key - b'@')),
        [b'^', key @ b'a'..=b'z'] => Ok(Some(key - b'a' + 1)),
        _ => Err("expected a control key such as ^] or ^x, or none".into()),
    }
}

fn key_name(key: u8) -> String {
    format!("Ctrl-{}", char::from(key.saturating_add(b'@')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_keys() {
        for (text, key) in [("^]", Some(0x1d)), ("^x", Some(0x18)), ("^X", Some(0x18)), ("none", None)] {
            assert_eq!(escape(text), Ok(key), "{text}");
        }
        for bad in ["", "x", "^", "^]]", "^1", "^é"] {
            assert!(escape(bad).is_err(), "{bad}");
        }
        assert_eq!(key_name(0x1d), "Ctrl-]");
    }
}
