//! Runs dnsmasq as a child: its output goes to our log, and it ends with us.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::confine::Confined;
use ka_host::sys::spawn::end_with_parent;
use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How many of its last lines an error shows.
const LINES_KEPT: usize = 20;
/// How long it may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// dnsmasq cannot be started or watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsmasqError {
    /// It is not installed.
    #[error("dnsmasq is missing: install it with `apt-get install dnsmasq-base`")]
    NotInstalled,
    /// A system call failed.
    #[error("cannot {action} dnsmasq")]
    System {
        /// The operation.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// A running dnsmasq, ended when the value is dropped or this process dies.
#[derive(Debug)]
pub struct Dnsmasq {
    child: Child,
    pidfd: OwnedFd,
    started: Instant,
    output: Output,
}

/// How dnsmasq ended by itself.
#[derive(Debug)]
pub struct Death {
    /// Its exit status.
    pub status: ExitStatus,
    /// How long it ran.
    pub lived: Duration,
    /// The last lines of its output.
    pub output: Vec<String>,
}

impl Dnsmasq {
    /// Starts it with a configuration file, as a user of its own if there is one. Must be called from the
    /// main thread (see [`end_with_parent`]).
    ///
    /// # Errors
    /// [`DnsmasqError`].
    pub fn start(config: &Path, user: Option<Confined>) -> Result<Self, DnsmasqError> {
        let mut command = user.map_or_else(|| Command::new("dnsmasq"), |user| user.command("dnsmasq"));
        command
            .arg(format!("--conf-file={}", config.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // So that a Ctrl-C meant for us does not reach it before the menu is restored.
            .process_group(0);
        let mut child = end_with_parent(&mut command).spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => DnsmasqError::NotInstalled,
            _ => failed("start")(e),
        })?;
        let output = Output::follow(child.stderr.take());
        let pidfd = match pidfd_open(pid(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                end_now(&mut child);
                return Err(failed("watch")(e.into()));
            }
        };
        Ok(Self { child, pidfd, started: Instant::now(), output })
    }

    /// Becomes readable when dnsmasq has ended.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// [`DnsmasqError::System`].
    pub fn death(&mut self) -> Result<Option<Death>, DnsmasqError> {
        let Some(status) = self.child.try_wait().map_err(failed("watch"))? else { return Ok(None) };
        let lived = self.started.elapsed();
        Ok(Some(Death { status, lived, output: self.output.rest() }))
    }

    /// Asks it to end, and waits.
    fn ends_by_itself(&self) -> bool {
        let asked = kill_process(pid(&self.child), Signal::TERM);
        let patience = Timespec::try_from(PATIENCE).ok();
        let mut events = [PollFd::new(&self.pidfd, PollFlags::IN)];
        asked.is_ok() && matches!(poll(&mut events, patience.as_ref()), Ok(1..))
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if self.ends_by_itself() {
            if let Err(e) = self.child.wait() {
                log::warn!("cannot wait for dnsmasq: {e}");
            }
        } else {
            log::warn!("dnsmasq does not end when asked; killing it");
            end_now(&mut self.child);
        }
    }
}

fn end_now(child: &mut Child) {
    if let Err(e) = child.kill().and_then(|()| child.wait()) {
        log::warn!("cannot end dnsmasq: {e}");
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> DnsmasqError {
    move |source| DnsmasqError::System { action, source }
}

/// Logs its output line by line, and keeps the last lines for an error.
#[derive(Debug)]
struct Output {
    last: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Output {
    fn follow(source: Option<impl Read + Send + 'static>) -> Self {
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last);
        let reader = source.map(|source| {
            std::thread::spawn(move || {
                // Reads to the end, even past invalid text from a client: closing the pipe would kill
                // dnsmasq.
                for line in BufReader::new(source).split(b'\n') {
                    let line = match line {
                        Ok(line) => String::from_utf8_lossy(&line).trim_end().to_owned(),
                        Err(e) => {
                            log::warn!("cannot read dnsmasq's output: {e}");
                            break;
                        }
                    };
                    log::log!(level(&line), "{line}");
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if kept.len() == LINES_KEPT {
                        kept.pop_front();
                    }
                    kept.push_back(line);
                }
            })
        });
        Self { last, reader }
    }

    /// The last lines, once dnsmasq has ended.
    fn rest(&mut self) -> Vec<String> {
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            log::warn!("the reader of dnsmasq's output failed");
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

/// pxelinux asks for nine names before `default`, which is normal. The hundreds of ranges are ours.
fn level(line: &str) -> Level {
    if line.contains(" not found for ") || line.contains(" DHCP, IP range ") {
        Level::Debug
    } else {
        Level::Info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_followed_to_its_end() {
        let said = b"first\nDHCPREQUEST(eth1) \xff\xfe\r\n\nlast";
        let mut output = Output::follow(Some(&said[..]));
        assert_eq!(output.rest(), ["first", "DHCPREQUEST(eth1) \u{fffd}\u{fffd}", "", "last"]);
    }
}
