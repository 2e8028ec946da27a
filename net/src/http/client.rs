//! As much of HTTP/1.1 (RFC 9112) as it takes to hand something over: one request, one answer, no redirects.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a server may keep silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest status line that makes sense.
const MAX_LINE: u64 = 8 << 10;

/// Why something was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {error}")]
    Io {
        /// `HOST:PORT`.
        server: String,
        /// The system's reason.
        error: io::Error,
    },
    /// It did not take it.
    #[error("{server} answered: {status}")]
    Refused {
        /// `HOST:PORT`.
        server: String,
        /// Its status line.
        status: String,
    },
}

/// Sends `body` to `server` (`HOST:PORT`), which must answer with a status of 2xx.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub fn send(server: &str, method: &str, path: &str, body: &[u8]) -> Result<(), HttpError> {
    let failed = |source| HttpError::Io { server: server.to_owned(), error: source };
    let status = exchange(server, method, path, body).map_err(failed)?;
    let code = code(&status);
    if code.len() == 3 && code.starts_with('2') {
        Ok(())
    } else {
        Err(HttpError::Refused { server: server.to_owned(), status })
    }
}

impl HttpError {
    /// The code (RFC 9110) with which the server refused; none if it gave no answer that has one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Io { .. } => None,
            Self::Refused { status, .. } => code(status).parse().ok(),
        }
    }
}

fn code(status: &str) -> &str {
    status.split(' ').nth(1).unwrap_or_default()
}

fn exchange(server: &str, method: &str, path: &str, body: &[u8]) -> io::Result<String> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let length = body.len();
                write!(
                    stream,
                    "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n"
                )?;
                stream.write_all(body)?;
                let mut status = String::new();
                if BufReader::new(stream.take(MAX_LINE)).read_line(&mut status)? == 0 {
                    let reason = "it closed the connection without an answer";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                return Ok(status.trim_end().to_owned());
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}
