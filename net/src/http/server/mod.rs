//! A minimal HTTP/1.1 server for booting machines: files to load, and short messages to store.
//!
//! The caller of [`start`] decides the answers. This module decides how many connections are served, and for
//! how long: a connection that makes progress is never closed, and one that does not makes room for others.

mod connection;
mod request;
mod slots;
mod turns;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};

use slots::Slots;
use turns::Server;

/// The time limits of a connection.
#[derive(Clone, Copy, Debug)]
struct Limits {
    slots: Slots,
    /// The time limit for a request, head and body.
    request: Duration,
    /// How long a connection may stay open without another request.
    idle: Duration,
    /// How long a peer may take none of its answer.
    stall: Duration,
    /// How long a peer may take to close the connection after its last answer.
    closing: Duration,
}

const LIMITS: Limits = Limits {
    slots: Slots { total: 4096, per_address: 512, still_per_address: 64 },
    request: Duration::from_secs(10),
    idle: Duration::from_secs(15),
    stall: Duration::from_secs(30),
    closing: Duration::from_secs(2),
};

/// The backlog of connections in the kernel (listen(2)).
const MAX_QUEUED: i32 = 4096;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A file, with or without its contents.
    Get {
        /// The path in the request.
        path: String,
        /// False if only the length is wanted.
        contents: bool,
    },
    /// An upload.
    Post {
        /// The path.
        path: String,
        /// The body.
        body: Vec<u8>,
    },
}

/// The status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The file follows.
    Ok,
    /// The upload was accepted.
    NoContent,
    /// The request is not valid HTTP.
    BadRequest,
    /// The client may not have it.
    Forbidden,
    /// It does not exist.
    NotFound,
    /// The method is not supported.
    NotAllowed,
    /// The request is too large.
    TooLong,
}

impl Status {
    /// The status as in the status line (RFC 9110).
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

/// An answer: a status, possibly with a file.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// The file.
    pub file: Option<File>,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, file: None }
    }
}

/// Decides the answer to a request.
type Serve = dyn Fn(&Request) -> Answer + Send;

/// Returns how many of the bytes written to a connection its peer has not acknowledged yet. A falling number
/// counts as progress.
pub type Queue = fn(BorrowedFd<'_>) -> io::Result<u64>;

/// Where the server listens.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// The only interface from which connections are accepted; `None` for all.
    pub interface: Option<String>,
    /// Measures the bytes that peers have not acknowledged.
    pub queue: Queue,
}

/// Serves until the process ends; returns the local address.
///
/// # Errors
/// The address is not available, or the interface does not exist.
pub fn start(
    endpoint: &Endpoint,
    serve: impl Fn(&Request) -> Answer + Send + 'static,
) -> io::Result<SocketAddr> {
    serve_at(listen(endpoint)?, endpoint.queue, serve)
}

/// Serves on a socket from [`listen()`] until the process ends; returns the local address.
///
/// # Errors
/// No thread can be started.
pub fn serve_at(
    listener: TcpListener,
    queue: Queue,
    serve: impl Fn(&Request) -> Answer + Send + 'static,
) -> io::Result<SocketAddr> {
    let bound = listener.local_addr()?;
    let mut server = Server::new(listener, Box::new(serve), queue, LIMITS)?;
    thread::Builder::new().name("http".into()).spawn(move || server.run())?;
    Ok(bound)
}

/// Listens. The standard library's listener has a backlog of 128, and cannot be bound to an interface.
///
/// # Errors
/// The address is not available, or the interface does not exist.
pub fn listen(endpoint: &Endpoint) -> io::Result<TcpListener> {
    let family = if endpoint.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket =
        socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if let Some(interface) = &endpoint.interface {
        socket::setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    }
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(endpoint.address))?;
    // Not nix's: it refuses values above musl's SOMAXCONN of 128, while the kernel's has long been larger.
    rustix::net::listen(&socket, MAX_QUEUED)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;

    /// Without a measurement, a peer's progress is only visible when more can be written.
    fn unknown(_: BorrowedFd<'_>) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// A server for one file.
    fn server(limits: Limits, file: &Path) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, file) = (listener.local_addr().unwrap(), file.to_owned());
        let serve = move |_: &Request| Answer { status: Status::Ok, file: Some(File::open(&file).unwrap()) };
        let mut server = Server::new(listener, Box::new(serve), unknown, limits).unwrap();
        thread::spawn(move || server.run());
        address
    }

    fn slots(total: usize, per_address: usize) -> Limits {
        Limits { slots: Slots { total, per_address, still_per_address: per_address }, ..LIMITS }
    }

    fn file_of(length: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        file
    }

    /// Everything that arrives until the peer closes, normally or not.
    fn rest(mut stream: &TcpStream) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(length @ 1..) = stream.read(&mut piece) {
            all.extend_from_slice(&piece[..length]);
        }
        all
    }

    fn ask(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn several_requests_come_on_one_connection() {
        let file = file_of(5);
        let mut stream = TcpStream::connect(server(LIMITS, file.path())).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\n\r\nHEAD /a HTTP/1.1\r\n\r\n").unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let all = String::from_utf8(rest(&stream)).unwrap();
        assert_eq!(all.matches("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n").count(), 3, "{all}");
        assert_eq!(all.matches("Connection: keep-alive\r\n").count(), 2, "{all}");
        assert_eq!(all.bytes().filter(|&byte| byte == 0).count(), 10, "{all}");
    }

    #[test]
    fn who_holds_every_place_keeps_nobody_out() {
        let file = file_of(5);
        let address = server(slots(4, 4), file.path());
        // Four silent connections: each is closed once it has stalled, in favour of one that sends a request.
        let idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        for _ in &idle {
            assert!(rest(&ask(address)).starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    }

    #[test]
    fn a_download_outlives_those_that_never_read() {
        let file = file_of(64 << 20);
        let address = server(slots(8, 8), file.path());
        let download = ask(address);
        let reader = thread::spawn(move || rest(&download).len());
        // Their answers fill the sockets' buffers, and then stall.
        let silent: Vec<TcpStream> = (0..200).map(|_| ask(address)).collect();
        let length = reader.join().unwrap();
        assert!(length > 64 << 20, "{length} bytes");
        drop(silent);
    }

    #[test]
    fn more_than_there_are_places_are_served_in_turn() {
        let file = file_of(1 << 20);
        let address = server(slots(16, 16), file.path());
        let one = |_| {
            thread::spawn(move || {
                // Refused while its address has its share: a boot loader retries too.
                while rest(&ask(address)).len() < 1 << 20 {}
            })
        };
        let all: Vec<_> = (0..100).map(one).collect();
        all.into_iter().for_each(|one| one.join().unwrap());
    }

    #[test]
    fn who_speaks_for_ever_is_not_listened_to() {
        let file = file_of(5);
        let address = server(Limits { request: SHORT, ..LIMITS }, file.path());
        for begin in ["GET /", "POST /a HTTP/1.1\r\nContent-Length: 1024\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            // 1024 bytes would complete the body and get an answer.
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
        let file = file_of(1 << 30);
        let address = server(Limits { stall: SHORT, ..LIMITS }, file.path());
        let silent = ask(address);
        // It is closed before most of the file is sent.
        let mut poll = [rustix::event::PollFd::new(&silent, rustix::event::PollFlags::HUP)];
        rustix::event::poll(&mut poll, None).unwrap();
        assert!(rest(&silent).len() < 1 << 30);
    }

    #[test]
    fn connections_come_from_the_interface_alone() {
        let endpoint = |interface: &str| Endpoint {
            address: "127.0.0.1:0".parse().unwrap(),
            interface: Some(interface.into()),
            queue: unknown,
        };
        let address = start(&endpoint("lo"), |_| Status::NotFound.into()).unwrap();
        assert!(rest(&ask(address)).starts_with(b"HTTP/1.1 404 "));
        assert!(start(&endpoint("none-such"), |_| Status::NotFound.into()).is_err());
    }
}
