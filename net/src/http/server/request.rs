//! Parses an incoming request: bytes are appended, and a complete request is removed.

use super::{Request, Status};

/// The longest head in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The most header lines in a head.
const MAX_HEADERS: usize = 64;
/// The longest body in bytes.
const MAX_BODY: usize = 1 << 10;

/// A complete request, and whether the connection stays open after its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// The request, or the error status if it is invalid.
    pub(super) request: Result<Request, Status>,
    /// False after an invalid request: the start of the next one is unknown.
    pub(super) keep_alive: bool,
}

/// Removes the first request from `input`; `None` while it is incomplete. Any following bytes stay in
/// `input`.
pub(super) fn take(input: &mut Vec<u8>) -> Option<Whole> {
    let nonsense = |status| Some(Whole { request: Err(status), keep_alive: false });
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(input) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if input.len() > MAX_HEAD => return nonsense(Status::TooLong),
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return nonsense(Status::BadRequest),
    };
    let keep_alive = keeps_alive(&parsed);
    let path = parsed.path.unwrap_or_default().to_owned();
    let (request, body) = match parsed.method {
        Some("GET") => (Request::Get { path, contents: true }, 0),
        Some("HEAD") => (Request::Get { path, contents: false }, 0),
        Some("POST") => match body_length(&parsed) {
            None => return nonsense(Status::BadRequest),
            Some(length) if length > MAX_BODY => return nonsense(Status::TooLong),
            Some(length) => {
                let body = input.get(head..head + length)?.to_vec();
                (Request::Post { path, body }, length)
            }
        },
        _ => return nonsense(Status::NotAllowed),
    };
    input.drain(..head + body);
    Some(Whole { request: Ok(request), keep_alive })
}

/// RFC 9112, 9.3: HTTP/1.1 stays open unless it says `close`, HTTP/1.0 closes unless it says `keep-alive`.
fn keeps_alive(request: &httparse::Request<'_, '_>) -> bool {
    let says = |word: &str| {
        header(request, "Connection")
            .is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    };
    if request.version == Some(1) { !says("close") } else { says("keep-alive") }
}

/// `Content-Length`; a body without it is not read.
fn body_length(request: &httparse::Request<'_, '_>) -> Option<usize> {
    header(request, "Content-Length")?.trim().parse().ok()
}

fn header<'a>(request: &'a httparse::Request<'_, '_>, name: &str) -> Option<&'a str> {
    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(header.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_whole() {
        let get = |path: &str, contents| Ok(Request::Get { path: path.into(), contents });
        for (text, request, keep_alive, rest) in [
            ("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b", get("/a", true), true, "GET /b"),
            ("GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", get("/a", true), false, ""),
            ("HEAD /a HTTP/1.0\r\n\r\n", get("/a", false), false, ""),
            ("GET /a HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", get("/a", true), true, ""),
            (
                "POST /b HTTP/1.1\r\ncontent-length: 9\r\n\r\n012345678and more",
                Ok(Request::Post { path: "/b".into(), body: b"012345678".to_vec() }),
                true,
                "and more",
            ),
        ] {
            // Byte by byte: no request is complete before its last byte.
            let mut input = Vec::new();
            let mut bytes = text.bytes();
            let whole = loop {
                if let Some(whole) = take(&mut input) {
                    break whole;
                }
                input.push(bytes.next().expect(text));
            };
            assert_eq!(whole, Whole { request, keep_alive }, "{text:?}");
            let left: Vec<u8> = input.into_iter().chain(bytes).collect();
            assert_eq!(String::from_utf8_lossy(&left), rest, "{text:?}");
        }
    }

    #[test]
    fn nonsense_is_answered_and_the_connection_closed() {
        let endless = format!("GET /vmlinuz HTTP/1.1\r\nX: {}", "a".repeat(2 * MAX_HEAD));
        for (text, status) in [
            ("POST /b HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("POST /b HTTP/1.1\r\nContent-Length: x\r\n\r\n", Status::BadRequest),
            ("POST /b HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", Status::TooLong),
            ("PUT /b HTTP/1.1\r\n\r\n", Status::NotAllowed),
            ("\0\r\n\r\n", Status::BadRequest),
            (&endless, Status::TooLong),
        ] {
            let whole = take(&mut text.as_bytes().to_vec());
            assert_eq!(whole, Some(Whole { request: Err(status), keep_alive: false }), "{text:?}");
        }
        for part in ["GET /vmlinuz HT", "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"] {
            assert_eq!(take(&mut part.as_bytes().to_vec()), None, "{part:?}");
        }
    }
}
