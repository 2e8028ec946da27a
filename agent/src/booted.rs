//! `ka-agent booted`: reports to the controller that this machine runs from its own disk, and removes itself.
//!
//! The finish wrote the unit that starts it. It sends a secret of one node and one run, once. The secret is
//! useless for anything else, so it is sent unencrypted.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ka::first_boot::{DIRECTORY, MESSAGE, PATH, UNIT};
use ka_net::http::client;

/// How long to try to reach the controller, for a network that comes up late, and the pause between two
/// tries.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(5);

/// Why nothing was reported. The machine itself is not affected.
#[derive(Debug, thiserror::Error)]
pub enum BootedError {
    /// The report's data cannot be read.
    #[error("{DIRECTORY}/{MESSAGE}: {0}")]
    Message(io::Error),
    /// The controller was not reached.
    #[error("nothing was reported to the controller: {0}")]
    Unreached(client::HttpError),
    /// Some files could not be removed.
    #[error("cannot remove {0}: {1}")]
    Left(String, io::Error),
}

/// Reports to the controller, and removes unit, program and token from the system below `root`, whether the
/// report succeeded or not: after ten minutes the run no longer waits.
///
/// # Errors
/// The controller was not reached, or a file could not be removed.
pub fn tell(root: &Path) -> Result<(), BootedError> {
    tell_within(root, PATIENCE, PAUSE)
}

fn tell_within(root: &Path, patience: Duration, pause: Duration) -> Result<(), BootedError> {
    let directory = root.join(DIRECTORY.trim_start_matches('/'));
    let message = fs::read_to_string(directory.join(MESSAGE)).map_err(BootedError::Message)?;
    let mut lines = message.lines();
    let (server, token) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let start = Instant::now();
    let told = loop {
        match client::send(server, "POST", PATH, token.as_bytes()) {
            // The controller knows this token and rejects it: it belongs to another run or another server.
            Err(error) if matches!(error.code(), Some(403 | 404)) => break Err(error),
            Err(error) if start.elapsed() < patience => {
                log::info!("reporting to the controller again: {error}");
                thread::sleep(pause);
            }
            told => break told,
        }
    };
    let units = root.join("etc/systemd/system");
    for unit in [units.join("multi-user.target.wants").join(UNIT), units.join(UNIT)] {
        gone(&unit, fs::remove_file(&unit))?;
    }
    gone(&directory, fs::remove_dir_all(&directory))?;
    told.map_err(BootedError::Unreached)
}

fn gone(path: &Path, outcome: io::Result<()>) -> Result<(), BootedError> {
    match outcome {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(BootedError::Left(path.display().to_string(), e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A system with the unit, whose controller is at `address`.
    fn system(address: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in [
            format!("etc/systemd/system/{UNIT}"),
            format!("etc/systemd/system/multi-user.target.wants/{UNIT}"),
            format!("var/lib/ka-first-boot/{MESSAGE}"),
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{address}\nsecret\n")).unwrap();
        }
        root
    }

    #[test]
    fn the_token_is_told_once_and_nothing_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let root = system(&listener.local_addr().unwrap().to_string());
        let controller = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            let mut buffer = [0; 1024];
            while !heard.ends_with(b"secret") {
                let length = stream.read(&mut buffer).unwrap();
                assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
                heard.extend_from_slice(&buffer[..length]);
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            String::from_utf8(heard).unwrap()
        });
        tell_within(root.path(), Duration::ZERO, PAUSE).unwrap();
        let heard = controller.join().unwrap();
        assert!(
            heard.starts_with("POST /booted HTTP/1.1\r\n") && heard.contains("Content-Length: 6\r\n"),
            "{heard}"
        );
        assert!(!root.path().join("var/lib/ka-first-boot").exists());
        assert_eq!(
            fs::read_dir(root.path().join("etc/systemd/system/multi-user.target.wants")).unwrap().count(),
            0
        );
    }

    #[test]
    fn only_a_refusal_ends_it_at_once() {
        for (answers, told) in [
            (&["", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"][..], true),
            (&["HTTP/1.1 403 Forbidden\r\n\r\n"], false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let root = system(&listener.local_addr().unwrap().to_string());
            thread::scope(|scope| {
                scope.spawn(|| {
                    for answer in answers {
                        let (mut stream, _) = listener.accept().unwrap();
                        let mut heard = Vec::new();
                        while !heard.ends_with(b"secret") {
                            let mut buffer = [0; 1024];
                            let length = stream.read(&mut buffer).unwrap();
                            assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
                            heard.extend_from_slice(&buffer[..length]);
                        }
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                });
                let outcome = tell_within(root.path(), PATIENCE, Duration::from_millis(1));
                assert_eq!(outcome.is_ok(), told, "{outcome:?}");
            });
            assert!(!root.path().join("var/lib/ka-first-boot").exists());
        }
    }

    #[test]
    fn a_controller_that_is_gone_is_given_up() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let root = system(&address);
        let error =
            tell_within(root.path(), Duration::from_millis(50), Duration::from_millis(1)).unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        assert!(!root.path().join("var/lib/ka-first-boot").exists());
    }
}
