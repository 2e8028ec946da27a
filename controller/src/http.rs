//! As much of HTTP as machines need that boot: a file to load, or a word to leave; one request a connection.
//!
//! Who serves says what is answered; here is how much is listened to, from how many, and for how long.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much of anybody's time is taken here.
#[derive(Clone, Copy)]
struct Limits {
    /// How many machines may be served at the same time, as TFTP's `tftp-max`. The oldest makes room for one more.
    most: usize,
    /// Within what a request must be here, head and body.
    request: Duration,
    /// How long an answer may take to be taken, besides the time that its length takes at the slowest rate.
    answer: Duration,
    /// That rate, in bytes a second.
    slowest: u64,
}

const LIMITS: Limits =
    Limits { most: 500, request: Duration::from_secs(10), answer: Duration::from_secs(60), slowest: 50_000 };
/// What a request may take: its head, in bytes.
const LONGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// And what it may leave here, in bytes.
const LONGEST_BODY: usize = 1 << 10;
/// A machine that takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a connection that could not be taken, when there are too many for this process.
const PAUSE: Duration = Duration::from_millis(100);
/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

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
    thread::Builder::new().name("http".into()).spawn(move || accept(&listener, &serve, LIMITS))?;
    Ok(bound)
}

type Serve = dyn Fn(&Request) -> Answer + Send + Sync;

fn accept(listener: &TcpListener, serve: &Arc<Serve>, limits: Limits) {
    let open = Arc::new(Open::default());
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(e) => {
                log::warn!("cannot take a connection for HTTP: {e}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let place = Place::take(&open, stream, limits.most);
        let serve = Arc::clone(serve);
        let started = thread::Builder::new().spawn(move || match answer(&place.stream, &*serve, limits) {
            Ok(said) => log::info!("HTTP {said} to {}", peer.ip()),
            Err(e) => log::info!("HTTP to {} broke off: {e}", peer.ip()),
        });
        if let Err(e) = started {
            log::warn!("cannot serve {peer} over HTTP: {e}");
        }
    }
}

/// The connections that are served, the oldest first.
#[derive(Default)]
struct Open(Mutex<VecDeque<Arc<TcpStream>>>);

impl Open {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among them.
struct Place {
    open: Arc<Open>,
    stream: Arc<TcpStream>,
}

impl Place {
    /// If all places are taken, the oldest connection is closed: whoever holds them all keeps nobody out.
    fn take(open: &Arc<Open>, stream: TcpStream, most: usize) -> Self {
        let stream = Arc::new(stream);
        let mut all = open.lock();
        if all.len() >= most
            && let Some(oldest) = all.pop_front()
        {
            log::warn!("{most} machines are served over HTTP already: the oldest makes room for another");
            // It may have closed it itself at this moment.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        all.push_back(Arc::clone(&stream));
        drop(all);
        Self { open: Arc::clone(open), stream }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().retain(|stream| !Arc::ptr_eq(stream, &self.stream));
    }
}

/// A connection up to a moment, whatever comes on it by then.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long")),
            left => Ok(Some(left.min(PATIENCE))),
        }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Answers one request; returns what was said, for the log.
fn answer(stream: &TcpStream, serve: &Serve, limits: Limits) -> io::Result<String> {
    let mut request = Until { stream, end: Instant::now() + limits.request };
    let (Answer { status, file }, contents, path) = match read_request(&mut request)? {
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
    let time = limits.answer + Duration::from_secs(length / limits.slowest);
    let mut out = Until { stream, end: Instant::now() + time };
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nContent-Type: application/octet-stream\r\n\
         Connection: close\r\n\r\n"
    )?;
    if let Some(file) = file.filter(|_| contents) {
        io::copy(&mut BufReader::with_capacity(PIECE, file.take(length)), &mut out)?;
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

    /// A server, and what it serves is this file.
    fn server(limits: Limits, file: &std::path::Path) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, file) = (listener.local_addr().unwrap(), file.to_owned());
        let serve: Arc<Serve> =
            Arc::new(move |_| Answer { status: Status::Ok, file: Some(File::open(&file).unwrap()) });
        thread::spawn(move || accept(&listener, &serve, limits));
        address
    }

    /// All that comes until the other side closes, in good order or not.
    fn rest(mut stream: &TcpStream) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            all.extend_from_slice(&piece[..length]);
        }
        all
    }

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn who_holds_every_place_keeps_nobody_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let address = server(Limits { most: 2, ..LIMITS }, file.path());
        let idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut one = TcpStream::connect(address).unwrap();
        one.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        assert!(rest(&one).starts_with(b"HTTP/1.1 200 OK\r\n"));
        for closed in &idle[..3] {
            assert_eq!(rest(closed), b"");
        }
    }

    #[test]
    fn who_speaks_for_ever_is_not_listened_to() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let address = server(Limits { request: SHORT, ..LIMITS }, file.path());
        for begin in ["GET /", "POST /a HTTP/1.1\r\nContent-Length: 1024\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            // 1024 bytes would be a whole body, and an answer.
            for _ in 0..1000 {
                thread::sleep(Duration::from_millis(10));
                if stream.write_all(b"a").is_err() {
                    break;
                }
            }
            assert_eq!(rest(&stream), b"", "{begin}");
        }
    }

    #[test]
    fn who_takes_nothing_is_not_waited_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut taker = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        taker.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        let path = file.path().to_owned();
        let serve = move |_: &Request| Answer { status: Status::Ok, file: Some(File::open(&path).unwrap()) };
        let (stream, _) = listener.accept().unwrap();
        let limits = Limits { answer: SHORT, slowest: u64::MAX, ..LIMITS };
        assert!(answer(&stream, &serve, limits).is_err());
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
