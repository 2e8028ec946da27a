//! Stores the node's log on a server of the site, for sites that keep all logs in one place.
//!
//! HTTP is implemented here; FTP is done by busybox, which stage2 has.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ka::log_server::{LogServer, Protocol};
use ka_host::tool;
use ka_net::http::client::{self, HttpError};

/// The time limit for an FTP server.
const LIMIT: Duration = Duration::from_secs(60);

/// Why the log was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log cannot be read.
    #[error("cannot read the log: {0}")]
    Log(io::Error),
    /// The HTTP server did not accept it.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// busybox could not upload it to the FTP server.
    #[error("ftpput {server}: {reason}")]
    Ftp {
        /// `HOST:PORT`.
        server: String,
        /// Its output.
        reason: String,
    },
}

/// Uploads the file `log` to the server under `name`.
///
/// # Errors
/// The log cannot be read, or the server cannot be reached or refuses it.
pub fn store(server: &LogServer, name: &str, log: &Path) -> Result<(), StoreError> {
    let path = format!("{}/{name}", server.directory);
    match &server.protocol {
        Protocol::Http => {
            let text = fs::read(log).map_err(StoreError::Log)?;
            Ok(client::send(&server.server(), "PUT", &path, &text)?)
        }
        Protocol::Ftp { user, password } => by_ftp(server, user, password, &path, log),
    }
}

fn by_ftp(server: &LogServer, user: &str, password: &str, path: &str, log: &Path) -> Result<(), StoreError> {
    let failed = |reason: String| StoreError::Ftp { server: server.server(), reason };
    let mut ftpput = Command::new("busybox");
    ftpput
        .args(["ftpput", "-u", user, "-p", password, "-P", &server.port.to_string(), &server.host, path])
        .arg(log)
        .stdin(Stdio::null());
    let output = tool::output(&mut ftpput, LIMIT).map_err(|e| failed(e.to_string()))?;
    if output.end.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{}: {said}", output.end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_log_is_put_on_an_http_server() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        fs::write(&log, "line 1\nline 2\n").unwrap();
        for (answer, taken) in [("201 Created", true), ("403 Forbidden", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/logs/", listener.local_addr().unwrap());
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut head).unwrap() > 0);
                }
                let mut body = vec![0; 14];
                reader.read_exact(&mut body).unwrap();
                write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
                (head, body)
            });
            let stored = store(&url.parse().unwrap(), "52-54.log", &log);
            let (head, body) = server.join().unwrap();
            assert!(head.starts_with("PUT /logs/52-54.log HTTP/1.1\r\n"), "{head}");
            assert_eq!(body, b"line 1\nline 2\n");
            match stored {
                Ok(()) => assert!(taken),
                Err(e) => {
                    assert!(!taken && e.to_string().ends_with("answered: HTTP/1.1 403 Forbidden"), "{e}")
                }
            }
        }
    }
}
