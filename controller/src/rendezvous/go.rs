//! Starts a waiting session immediately, from another process on this machine.
//!
//! Each session has a socket next to its registration. Connecting is the whole request, and the answer is one
//! line. The socket's permissions let only root and the session's own user connect (unix(7)).

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ka::wire::session_names;

use super::registry;

/// The time limit for an answer; the hub polls several times per second.
const PATIENCE: Duration = Duration::from_secs(10);
/// The answer when the session starts.
const BEGINS: &str = "ok";

/// Why a session does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoError {
    /// No process serves the session.
    #[error("no session '{0}' is waiting on this machine")]
    None(String),
    /// No session was named, and none waits.
    #[error("no session waits on this machine: 'kactl run' and 'kactl send' start one")]
    NoSession,
    /// No session was named, and several wait.
    #[error("several sessions wait on this machine; choose one of them: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The sessions cannot be listed.
    #[error("cannot read {}: {error}", directory.display())]
    List {
        /// Their directory.
        directory: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Its process refuses.
    #[error("{0}")]
    Refused(String),
    /// The exchange failed.
    #[error("cannot ask for the session '{session}' at {}: {}", path.display(), ka_host::words::of_io(error))]
    Io {
        /// The session.
        session: String,
        /// Its socket.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// No session name begins with a dot, so this name is never one.
fn socket(directory: &Path, session: &str) -> PathBuf {
    directory.join(format!(".{session}.go"))
}

/// The only session that waits in `directory`. The tools of a run are sent by a session of their own, which
/// starts by itself and does not count.
///
/// # Errors
/// [`GoError`].
pub fn only(directory: &Path) -> Result<String, GoError> {
    let failed = |error| GoError::List { directory: directory.to_owned(), error };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(GoError::NoSession),
        Err(error) => return Err(failed(error)),
    };
    let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
    // A killed session's file is not locked any more.
    let alive: Vec<String> = names.filter(|name| registry::lookup(directory, name).is_some()).collect();
    let mut waiting: Vec<String> = alive
        .iter()
        .filter(|name| !alive.iter().any(|other| session_names::stage2_of(other) == **name))
        .cloned()
        .collect();
    waiting.sort();
    match waiting.len() {
        0 => Err(GoError::NoSession),
        1 => Ok(waiting.remove(0)),
        _ => Err(GoError::Several(waiting)),
    }
}

/// Starts the session with the nodes present; `directory` is that of this host's sessions.
///
/// # Errors
/// [`GoError`].
pub fn go(directory: &Path, session: &str) -> Result<(), GoError> {
    let path = socket(directory, session);
    let failed = |error: io::Error| match error.kind() {
        // A killed session leaves its socket behind.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => GoError::None(session.to_owned()),
        _ => GoError::Io { session: session.to_owned(), path: path.clone(), error },
    };
    let mut stream = UnixStream::connect(&path).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    match answer.trim_end() {
        BEGINS => Ok(()),
        "" => Err(GoError::Refused(format!("the session '{session}' has ended"))),
        reason => Err(GoError::Refused(reason.to_owned())),
    }
}

/// The sockets of a process's sessions; dropping this removes them.
pub(crate) struct GoSockets(Vec<(String, PathBuf, UnixListener)>);

impl GoSockets {
    /// Creates the sockets. The sessions' names must be registered: an existing socket is then a leftover.
    pub(crate) fn bind(directory: &Path, sessions: &[String]) -> io::Result<Self> {
        let mut sockets = Self(Vec::new());
        for session in sessions {
            let path = socket(directory, session);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            sockets.0.push((session.clone(), path, listener));
        }
        Ok(sockets)
    }

    /// Answers all pending requests; `go` starts a session, or returns why it cannot.
    pub(crate) fn serve(&self, mut go: impl FnMut(&str) -> Result<(), String>) {
        for (session, path, listener) in &self.0 {
            loop {
                let mut stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        log::warn!("{}: {e}", path.display());
                        break;
                    }
                };
                let answer = go(session).map_or_else(|reason| reason, |()| BEGINS.to_owned());
                // One line always fits into a new socket's buffer, so this does not block.
                if let Err(error) = writeln!(stream, "{answer}") {
                    log::warn!("{}: {error}", path.display());
                }
            }
        }
    }
}

impl Drop for GoSockets {
    fn drop(&mut self) {
        for (_, path, _) in &self.0 {
            if let Err(error) = fs::remove_file(path) {
                log::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn the_only_session_needs_no_name() {
        use registry::Registration;
        let directory = tempfile::tempdir().unwrap();
        let sessions = directory.path().join("sessions");
        let only = || only(&sessions).map_err(|e| e.to_string());
        let none = Err("no session waits on this machine: 'kactl run' and 'kactl send' start one".to_owned());
        assert_eq!(only(), none);
        let run = ["kainstall".to_owned(), session_names::stage2_of("kainstall")];
        let held = run.each_ref().map(|name| Registration::take(&sessions, name, 1).unwrap());
        assert_eq!(only(), Ok("kainstall".into()));
        let other = Registration::take(&sessions, "files", 2).unwrap();
        assert_eq!(
            only(),
            Err("several sessions wait on this machine; choose one of them: files, kainstall".into())
        );
        drop(held);
        // A killed process leaves its file behind.
        fs::write(sessions.join("dead"), "3\n").unwrap();
        assert_eq!(only(), Ok("files".into()));
        drop(other);
        assert_eq!(only(), none);
    }

    #[test]
    fn a_session_is_told_to_go() {
        let directory = tempfile::tempdir().unwrap();
        let ask = |session: &str| go(directory.path(), session).map_err(|e| e.to_string());
        assert_eq!(ask("a"), Err("no session 'a' is waiting on this machine".into()));
        // A killed session has left its socket behind.
        drop(UnixListener::bind(socket(directory.path(), "a")).unwrap());
        assert_eq!(ask("a"), Err("no session 'a' is waiting on this machine".into()));
        let sockets = GoSockets::bind(directory.path(), &["a".into(), "b".into()]).unwrap();
        for (session, answer) in [("a", Ok(())), ("b", Err("not b".to_owned()))] {
            let answered = thread::scope(|scope| {
                let asking = scope.spawn(|| ask(session));
                while !asking.is_finished() {
                    sockets.serve(|name| if name == "a" { Ok(()) } else { Err(format!("not {name}")) });
                    thread::yield_now();
                }
                asking.join().unwrap()
            });
            assert_eq!(answered, answer);
        }
        drop(sockets);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
