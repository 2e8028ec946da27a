//! A command or a shell of one viewer. It ends with its viewer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ka::wire::console::{End, MAX_PIECE, Size, ToViewer};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::shells;

/// How much typed input may be queued for a program that does not read.
const MAX_TYPED: usize = 64 << 10;
/// How long a command may take to end after its viewer has disconnected, before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often this is checked meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// A running command or shell.
pub(super) struct Running {
    child: Child,
    status: Option<ExitStatus>,
    /// Its output, as long as the other end is open.
    outputs: Vec<Output>,
    /// The terminal for typed input.
    terminal: Option<File>,
    typed: Vec<u8>,
}

struct Output {
    from: File,
    errors: bool,
}

impl Running {
    /// Starts a shell command.
    pub(super) fn exec(roots: &[PathBuf], command: &[u8]) -> Result<Self, String> {
        let failed = |e: io::Error| e.to_string();
        let ((out, to_out), (err, to_err)) = (io::pipe().map_err(failed)?, io::pipe().map_err(failed)?);
        let child = shells::start(roots, &[OsStr::new("-c"), OsStr::from_bytes(command)], |command| {
            command.stdin(Stdio::null()).stdout(to_out.try_clone()?).stderr(to_err.try_clone()?);
            command.process_group(0);
            Ok(())
        })?;
        drop((to_out, to_err));
        let output = |from: OwnedFd, errors| {
            set_nonblocking(&from)?;
            Ok(Output { from: from.into(), errors })
        };
        let outputs = [(out.into(), false), (err.into(), true)].map(|(from, errors)| output(from, errors));
        let outputs = outputs.into_iter().collect::<io::Result<_>>();
        Self::of(child, outputs, None)
    }

    /// Starts a shell on a new terminal.
    pub(super) fn shell(roots: &[PathBuf], term: &str, size: Size) -> Result<Self, String> {
        let (terminal, program) = pair(size).map_err(|e| format!("there is no terminal for it: {e}"))?;
        let child = shells::start(roots, &[], |command| {
            let shared = || program.try_clone().map(Stdio::from);
            command.stdin(shared()?).stdout(shared()?).stderr(shared()?);
            command.env("TERM", term).env("PS1", "ka# ");
            ka_host::sys::session::lead(command);
            Ok(())
        })?;
        drop(program);
        let outputs = set_nonblocking(&terminal)
            .and_then(|()| Ok(vec![Output { from: terminal.try_clone()?, errors: false }]));
        Self::of(child, outputs, Some(terminal))
    }

    fn of(child: Child, outputs: io::Result<Vec<Output>>, terminal: Option<File>) -> Result<Self, String> {
        let (outputs, failed) = match outputs {
            Ok(outputs) => (outputs, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let running = Self { child, status: None, outputs, terminal, typed: Vec::new() };
        // Dropping this ends everything that was started.
        failed.map_or(Ok(running), Err)
    }

    /// The descriptors that output may come from.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &File> {
        self.outputs.iter().map(|output| &output.from)
    }

    /// The terminal, if typed input is queued for it.
    pub(super) fn takes(&self) -> Option<&File> {
        self.terminal.as_ref().filter(|_| !self.typed.is_empty())
    }

    /// Whether more input is accepted now.
    pub(super) fn has_room(&self) -> bool {
        self.typed.len() < MAX_TYPED
    }

    /// Queues typed input. A command has no terminal, and gets no input.
    pub(super) fn types(&mut self, bytes: &[u8]) {
        if self.terminal.is_some() {
            self.typed.extend_from_slice(bytes);
        }
    }

    /// Passes on queued input, as far as the terminal accepts it.
    pub(super) fn pass_on(&mut self) {
        let Some(terminal) = &mut self.terminal else { return };
        while !self.typed.is_empty() {
            match terminal.write(&self.typed) {
                Ok(0) => return,
                Ok(length) => drop(self.typed.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                // The shell is gone.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// Resizes the terminal; its foreground program gets SIGWINCH.
    pub(super) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal
            && let Err(error) = tcsetwinsize(terminal, window(size))
        {
            log::debug!("a shell's terminal keeps its size: {error}");
        }
    }

    /// The next output, if there is any; the exit status, once all output is read.
    pub(super) fn next(&mut self) -> io::Result<Option<ToViewer>> {
        // Checked before reading: what it has written by its end is then available.
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        let mut bytes = vec![0; MAX_PIECE];
        let mut at = 0;
        while let Some(Output { from, errors }) = self.outputs.get_mut(at) {
            match from.read(&mut bytes) {
                Ok(length @ 1..) => {
                    bytes.truncate(length);
                    let message = if *errors { ToViewer::Errors(bytes) } else { ToViewer::Bytes(bytes) };
                    return Ok(Some(message));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => at += 1,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // All writers have closed; a terminal reports that as an error (EIO).
                Ok(_) | Err(_) => drop(self.outputs.remove(at)),
            }
        }
        // A daemon that keeps the output open is not waited for.
        Ok(self.status.map(|status| ToViewer::Ended(end(status))))
    }
}

impl Drop for Running {
    /// Ends the command with its whole process group. A shell's jobs get a hangup from their terminal.
    fn drop(&mut self) {
        self.outputs.clear();
        self.terminal = None;
        if self.status.is_some() {
            return;
        }
        let group = Pid::from_child(&self.child);
        // Fails if all processes are gone, which is the goal.
        let _ = kill_process_group(group, Signal::HUP);
        let deadline = Instant::now() + FAREWELL;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => End::Killed(signal.and_then(|s| u8::try_from(s).ok()).unwrap_or(u8::MAX)),
    }
}

/// Both ends of a new terminal: the person's, and the program's.
fn pair(size: Size) -> io::Result<(File, File)> {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&person)?;
    unlockpt(&person)?;
    let name = ptsname(&person, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let program = rustix::fs::open(&name, flags, Mode::empty())?;
    tcsetwinsize(&person, window(size))?;
    Ok((person.into(), program.into()))
}

fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn set_nonblocking(of: &impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(fcntl_setfl(of, fcntl_getfl(of)? | OFlags::NONBLOCK)?)
}
