//! Serves the boot files over HTTP: a kernel takes a second where TFTP takes ten.

use std::fs::{File, Metadata};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ka_host::ports::{self, Transport};
use ka_net::http::server::{self, Answer, Endpoint, Request, Status};

/// The port cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve HTTP at {address}{}; another port can be set in the configuration's [ports] as http",
    held(*address)
)]
pub struct HttpError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

fn held(address: SocketAddr) -> String {
    let holder = ports::holder(Transport::Tcp, address.port());
    holder.map_or_else(String::new, |holder| format!(": the port is held by {holder}"))
}

/// The bound port, not served yet.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    listener: TcpListener,
    queue: server::Queue,
}

/// Binds the port. Finding its current owner takes rights that the server gives up before it answers anyone.
///
/// # Errors
/// [`HttpError`] if the port is in use.
pub fn listen(endpoint: &Endpoint) -> Result<Listening, HttpError> {
    let address = endpoint.address;
    let listener = server::listen(endpoint).map_err(|source| HttpError { address, source })?;
    Ok(Listening { address, listener, queue: endpoint.queue })
}

/// Serves the directory's files until the process ends.
///
/// # Errors
/// [`HttpError`] if no thread can be started.
pub fn serve(listening: Listening, root: &Path) -> Result<SocketAddr, HttpError> {
    let Listening { address, listener, queue } = listening;
    let root = root.to_owned();
    let serve = move |request: &Request| match request {
        Request::Get { path, .. } => match open(&root, path) {
            Some(file) => Answer { status: Status::Ok, file: Some(file) },
            None => Status::NotFound.into(),
        },
        Request::Post { .. } => Status::NotAllowed.into(),
    };
    server::serve_at(listener, queue, serve).map_err(|source| HttpError { address, source })
}

/// A file in the directory or one of its subdirectories. Names with unusual characters match nothing.
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
    // Only what TFTP serves too.
    let served = |metadata: Metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0;
    file.metadata().is_ok_and(served).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    fn at(port: u16) -> Endpoint {
        Endpoint {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            interface: None,
            queue: ka_host::sys::queue::unacknowledged,
        }
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        for byte in request.chunks(7) {
            stream.write_all(byte).unwrap();
        }
        // No further request follows.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
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
        let address = serve(listen(&at(0)).unwrap(), &root).unwrap();
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
            ("POST /vmlinuz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405 Method Not Allowed", ""),
            ("\0\r\n\r\n", "400 Bad Request", ""),
        ] {
            let answer = ask(address, request.as_bytes());
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer}");
            assert_eq!(body, contents, "{request:?}");
            let length = if status == "200 OK" { 12 } else { 0 };
            assert!(head.contains(&format!("Content-Length: {length}\r\n")), "{request:?}: {answer}");
        }
        assert!(listen(&at(address.port())).is_err());
    }
}
