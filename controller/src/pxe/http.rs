//! The boot files over HTTP, for loaders that can: a kernel in a second where TFTP takes ten.
//!
//! No more than that takes: GET and HEAD of the files that TFTP serves, one request a connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// How many machines may load at the same time, as TFTP's `tftp-max`.
const MOST: usize = 500;
/// What a request may take: its head, in bytes.
const LONGEST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 64;
/// A machine that says and takes nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after a connection that could not be taken, when there are too many for this process.
const PAUSE: Duration = Duration::from_millis(100);

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve HTTP at {address}; another port can be set in the configuration's [ports] as http")]
pub struct HttpError {
    address: SocketAddrV4,
    #[source]
    source: io::Error,
}

/// Serves the directory's files until the process ends.
///
/// # Errors
/// [`HttpError`] if the port is taken.
pub fn start(address: SocketAddrV4, root: &Path) -> Result<SocketAddr, HttpError> {
    let failed = |source| HttpError { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let root: Arc<Path> = root.into();
    thread::Builder::new().name("http".into()).spawn(move || accept(&listener, &root)).map_err(failed)?;
    Ok(bound)
}

fn accept(listener: &TcpListener, root: &Arc<Path>) {
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
            log::warn!("{peer} is sent away: {MOST} machines load over HTTP already");
            continue;
        }
        let place = Place::take(&busy);
        let root = Arc::clone(root);
        let started = thread::Builder::new().spawn(move || {
            let _place = place;
            match answer(&stream, &root) {
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

/// What a machine wants.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// A file, with its contents or without.
    File { path: String, contents: bool },
    /// Something that is not done here; the status line says what.
    Refused(&'static str),
}

/// Answers one request; returns what was said, for the log.
fn answer(mut stream: &TcpStream, root: &Path) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (status, file, contents, path) = match read_request(&mut stream)? {
        Request::Refused(status) => (status, None, false, String::new()),
        Request::File { path, contents } => match open(root, &path) {
            Some(file) => ("200 OK", Some(file), contents, path),
            None => ("404 Not Found", None, false, path),
        },
    };
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

fn read_request(stream: &mut impl Read) -> io::Result<Request> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = stream.read(&mut piece)?;
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Err(_) => return Ok(Request::Refused("400 Bad Request")),
            Ok(httparse::Status::Complete(_)) => return Ok(understand(&request)),
            Ok(httparse::Status::Partial) if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(httparse::Status::Partial) if head.len() > LONGEST_HEAD => {
                return Ok(Request::Refused("431 Request Header Fields Too Large"));
            }
            Ok(httparse::Status::Partial) => {}
        }
    }
}

fn understand(request: &httparse::Request<'_, '_>) -> Request {
    let contents = match request.method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return Request::Refused("405 Method Not Allowed"),
    };
    Request::File { path: request.path.unwrap_or_default().to_owned(), contents }
}

/// A file of the directory, or of a directory in it. Names with anything odd in them lead nowhere.
fn open(root: &Path, path: &str) -> Option<File> {
    let plain = |name: &str| {
        !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let names: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    if names.len() > 2 || names.iter().any(|name| name.is_empty() || !plain(name)) {
        return None;
    }
    let whole: PathBuf = std::iter::once(root).chain(names.iter().map(Path::new)).collect();
    let file = File::open(whole).ok()?;
    file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        for byte in request.chunks(7) {
            stream.write_all(byte).unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn files_are_served_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("boot");
        std::fs::create_dir_all(root.join("ipxe/deeper")).unwrap();
        for file in ["vmlinuz", "ipxe/default", "ipxe/deeper/x", ".hidden", "../secret"] {
            std::fs::write(root.join(file), "the contents").unwrap();
        }
        let address = start(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), &root).unwrap();
        for (request, status, contents) in [
            ("GET /vmlinuz HTTP/1.1\r\nHost: a\r\n\r\n", "200 OK", "the contents"),
            ("GET /ipxe/default HTTP/1.0\r\n\r\n", "200 OK", "the contents"),
            ("HEAD /vmlinuz HTTP/1.1\r\n\r\n", "200 OK", ""),
            ("GET / HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /ipxe HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /none HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /.hidden HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /../secret HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /ipxe/../../secret HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET //vmlinuz HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("GET /ipxe/deeper/x HTTP/1.1\r\n\r\n", "404 Not Found", ""),
            ("POST /vmlinuz HTTP/1.1\r\n\r\n", "405 Method Not Allowed", ""),
            ("\0\r\n\r\n", "400 Bad Request", ""),
        ] {
            let answer = ask(address, request.as_bytes());
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
            assert_eq!(body, contents, "{request:?}");
            let length = if status == "200 OK" { 12 } else { 0 };
            assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{request:?}: {answer}");
        }
        assert!(start(SocketAddrV4::new(Ipv4Addr::LOCALHOST, address.port()), &root).is_err());
    }

    #[test]
    fn what_never_ends_is_refused() {
        let endless = [b"GET /vmlinuz HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 2 * LONGEST_HEAD]].concat();
        let refused = read_request(&mut endless.as_slice()).unwrap();
        assert_eq!(refused, Request::Refused("431 Request Header Fields Too Large"));
        assert!(read_request(&mut &b"GET /vmlinuz HT"[..]).is_err());
    }
}
