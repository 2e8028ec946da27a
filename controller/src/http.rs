//! As much of HTTP as machines need that boot: a file to load, or a word to leave; one request a connection.
//!
//! Who serves says what is answered; here is how much is listened to, from how many, and for how long.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How many machines may be served at the same time, as TFTP's `tftp-max`.
const MOST: usize = 500;
/// What a request may take: its head, in bytes.
const LONGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// And what it may leave here, in bytes.
const LONGEST_BODY: usize = 1 << 10;
/// A machine that says and takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a connection that could not be taken, when there are too many for this process.
const PAUSE: Duration = Duration::from_millis(100);

/// What a machine wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A file, with its contents or without.
    Get {
        /// The path as it was asked for.
        path: String,
        /// False for its length only.
        contents: bool,
    },
    /// To leave something here.
    Post {
        /// Where.
        path: String,
        /// What.
        body: Vec<u8>,
    },
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Here it is.
    Ok,
    /// It was taken.
    NoContent,
    /// That is no HTTP.
    BadRequest,
    /// Not for you.
    Forbidden,
    /// There is none.
    NotFound,
    /// That is not done here.
    NotAllowed,
    /// What comes is too long.
    TooLong,
}

impl Status {
    /// As the status line has it (RFC 9110).
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::NotFound => "404 Not Found",
            Self::NotAllowed => "405 Method Not Allowed",
            Self::TooLong => "413 Content Too Large",
        }
    }
}

/// An answer: its status, and a file that goes with it.
#[derive(Debug)]
pub struct Answer {
    /// How it went.
    pub status: Status,
    /// What was asked for.
    pub file: Option<File>,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, file: None }
    }
}

/// Serves until the process ends, and gives the address that it has.
///
/// # Errors
/// The address cannot be had.
pub fn start(
    address: SocketAddr,
    serve: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    let serve: Arc<Serve> = Arc::new(serve);
    thread::Builder::new().name("http".into()).spawn(move || accept(&listener, &serve))?;
    Ok(bound)
}

type Serve = dyn Fn(&Request) -> Answer + Send + Sync;

fn accept(listener: &TcpListener, serve: &Arc<Serve>) {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) => {
                log::warn!("cannot take a connection for HTTP: {e}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        if busy.load(Ordering::Relaxed) >= MOST {
            log::warn!("{peer} is sent away: {MOST} machines are served over HTTP already");
            continue;
        }
        let place = Place::take(&busy);
        let serve = Arc::clone(serve);
        let started = thread::Builder::new().spawn(move || {
            let _place = place;
            match answer(&stream, &*serve) {
                Ok(said) => log::info!("HTTP {said} to {}", peer.ip()),
                Err(e) => log::info!("HTTP to {} broke off: {e}", peer.ip()),
            }
        });
        if let Err(e) = started {
            log::warn!("cannot serve {peer} over HTTP: {e}");
        }
    }
}

/// One of the [`MOST`].
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one request; returns what was said, for the log.
fn answer(mut stream: &TcpStream, serve: &Serve) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (Answer { status, file }, contents, path) = match read_request(&mut stream)? {
        Err(status) => (status.into(), false, String::new()),
        Ok(request) => {
            let answer = serve(&request);
            match request {
                Request::Get { path, contents } => (answer, contents, path),
                Request::Post { path, .. } => (answer, false, path),
            }
        }
    };
    let status = status.line();
    let length = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|m| m.len()))?;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nContent-Type: application/octet-stream\r\n\
         Connection: close\r\n\r\n"
    )?;
    if let Some(file) = file.filter(|_| contents) {
        io::copy(&mut file.take(length), &mut stream)?;
    }
    Ok(format!("{status} {path}"))
}

/// Reads one request; the inner error is what to answer when it makes no sense.
fn read_request(stream: &mut impl Read) -> io::Result<Result<Request, Status>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = stream.read(&mut piece)?;
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Err(_) => return Ok(Err(Status::BadRequest)),
            Ok(httparse::Status::Complete(length)) => {
                let begun = head.get(length..).unwrap_or_default();
                return understand(&request, begun, stream);
            }
            Ok(httparse::Status::Partial) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(httparse::Status::Partial) if head.len() > LONGEST_HEAD => return Ok(Err(Status::TooLong)),
            Ok(httparse::Status::Partial) => {}
        }
    }
}

/// What a head asks for; `begun` is what has come of the body, and `stream` has the rest.
fn understand(
    request: &httparse::Request<'_, '_>,
    begun: &[u8],
    stream: &mut impl Read,
) -> io::Result<Result<Request, Status>> {
    let path = request.path.unwrap_or_default().to_owned();
    Ok(match request.method {
        Some("GET") => Ok(Request::Get { path, contents: true }),
        Some("HEAD") => Ok(Request::Get { path, contents: false }),
        Some("POST") => match body_length(request) {
            Some(length) if length > LONGEST_BODY => Err(Status::TooLong),
            Some(length) => {
                let mut body = begun.to_vec();
                body.resize(length, 0);
                stream.read_exact(body.get_mut(begun.len()..).unwrap_or_default())?;
                Ok(Request::Post { path, body })
            }
            None => Err(Status::BadRequest),
        },
        _ => Err(Status::NotAllowed),
    })
}

/// `Content-Length`, without which no body is read here.
fn body_length(request: &httparse::Request<'_, '_>) -> Option<usize> {
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"))?;
    std::str::from_utf8(header.value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &str) -> io::Result<Result<Request, Status>> {
        /// Some bytes at a time, as a wire gives them.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.0.len().min(7).min(buffer.len());
                self.0.read(&mut buffer[..length])
            }
        }
        read_request(&mut Slow(request.as_bytes()))
    }

    #[test]
    fn requests_are_read() {
        let get = |path: &str, contents| Ok(Request::Get { path: path.into(), contents });
        for (text, request) in [
            ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", get("/a", true)),
            ("HEAD /a HTTP/1.0\r\n\r\n", get("/a", false)),
            (
                "POST /b HTTP/1.1\r\ncontent-length: 9\r\n\r\n012345678and more",
                Ok(Request::Post { path: "/b".into(), body: b"012345678".to_vec() }),
            ),
            ("POST /b HTTP/1.1\r\n\r\n", Err(Status::BadRequest)),
            ("POST /b HTTP/1.1\r\nContent-Length: x\r\n\r\n", Err(Status::BadRequest)),
            ("POST /b HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", Err(Status::TooLong)),
            ("PUT /b HTTP/1.1\r\n\r\n", Err(Status::NotAllowed)),
            ("\0\r\n\r\n", Err(Status::BadRequest)),
        ] {
            assert_eq!(read(text).unwrap(), request, "{text:?}");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let endless = format!("GET /vmlinuz HTTP/1.1\r\nX: {}", "a".repeat(2 * LONGEST_HEAD));
        assert_eq!(read(&endless).unwrap(), Err(Status::TooLong));
        for cut in ["GET /vmlinuz HT", "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"] {
            assert!(read(cut).is_err(), "{cut}");
        }
    }
}
