//! `kactl pxe` as a child of a run, which serves for as long as the run lasts.

use std::env;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use ka_host::sys::spawn::end_with_parent;
use rustix::process::{Pid, Signal, kill_process};

use super::serving;

/// How often the child is checked until it serves.
const LOOK: Duration = Duration::from_millis(100);

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BesideError {
    /// Another `kactl pxe` serves another interface.
    #[error("--pxe {wanted}: a 'kactl pxe' serves {served} already; stop it, or leave --pxe out")]
    Other {
        /// The requested interface.
        wanted: String,
        /// The interface that is served.
        served: String,
    },
    /// The child has ended.
    #[error("--pxe {interface}: 'kactl pxe' ended ({status}); the reason is above")]
    Ended {
        /// The requested interface.
        interface: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The child could not be started.
    #[error("--pxe: cannot start 'kactl pxe': {0}")]
    Start(io::Error),
}

/// The child; dropping this ends it.
#[derive(Debug)]
pub struct Beside(Option<Child>);

impl Beside {
    /// Starts to serve on `interface`, and waits until machines can boot. A `kactl pxe` that serves it
    /// already is left alone.
    ///
    /// # Errors
    /// [`BesideError`].
    pub fn start(interface: &str, config: &Path, run: &Path) -> Result<Self, BesideError> {
        if let Some(served) = serving::now(run) {
            if served.interface == interface {
                return Ok(Self(None));
            }
            return Err(BesideError::Other { wanted: interface.to_owned(), served: served.interface });
        }
        let program = env::current_exe().map_err(BesideError::Start)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(["pxe", "--interface", interface]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = end_with_parent(&mut command).spawn().map_err(BesideError::Start)?;
        if let Some(errors) = child.stderr.take() {
            let reader = thread::Builder::new().name("pxe".into());
            reader.spawn(move || log_lines(errors)).map_err(BesideError::Start)?;
        }
        let mut beside = Self(Some(child));
        while serving::now(run).is_none() {
            if let Some(status) = beside.ended().map_err(BesideError::Start)? {
                return Err(BesideError::Ended { interface: interface.to_owned(), status });
            }
            thread::sleep(LOOK);
        }
        Ok(beside)
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.as_mut().map_or(Ok(None), Child::try_wait)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && matches!(child.try_wait(), Ok(None))
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            log::warn!("cannot stop 'kactl pxe': {error}");
        }
        if let Err(error) = child.wait() {
            log::warn!("cannot wait for 'kactl pxe': {error}");
        }
    }
}

/// The child's log in this one's: a line begins with the time and the level there, too.
fn log_lines(errors: impl Read) {
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        let (level, text) = level_of(&line);
        log::log!(level, "pxe: {text}");
    }
}

fn level_of(line: &str) -> (log::Level, &str) {
    for (word, level) in
        [("[ERROR] ", log::Level::Error), ("[WARN] ", log::Level::Warn), ("[INFO] ", log::Level::Info)]
    {
        if let Some((_, text)) = line.split_once(word) {
            return (level, text);
        }
    }
    // What ends it, and what dnsmasq prints.
    let level = if line.starts_with("kactl: ") { log::Level::Error } else { log::Level::Debug };
    (level, line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_level() {
        for (line, told) in [
            ("12:00:00 [WARN] a port", (log::Level::Warn, "a port")),
            ("kactl: no interface", (log::Level::Error, "kactl: no interface")),
            ("dnsmasq-tftp: sent", (log::Level::Debug, "dnsmasq-tftp: sent")),
        ] {
            assert_eq!(level_of(line), told);
        }
    }

    #[test]
    fn what_another_serves_is_left_alone() {
        let run = tempfile::tempdir().unwrap();
        let served = serving::Served { interface: "eth1".into(), run_keys: true, leases: None };
        let _serving = serving::Serving::tell(&served, run.path()).unwrap();
        let start = |interface| Beside::start(interface, Path::new("/nonexistent"), run.path());
        assert!(start("eth1").is_ok());
        let error = start("eth2").unwrap_err().to_string();
        assert_eq!(error, "--pxe eth2: a 'kactl pxe' serves eth1 already; stop it, or leave --pxe out");
    }
}
