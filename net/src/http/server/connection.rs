//! One connection: reads a request, sends the response, and repeats.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustix::fs::sendfile;

use super::request::{self, Whole};
use super::{Answer, Limits, Queue, Request, Serve, Status};

/// How many bytes one connection moves before the others get a turn.
const TURN: u64 = 1 << 20;
/// How much of a request is read at once.
const PIECE: usize = 4 << 10;

/// Stands for an answer that was just given to the kernel, which may hold megabytes of it.
const UNSEEN: u64 = u64::MAX;

/// The state of a connection after its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TurnEnd {
    /// It is waiting for its peer.
    Waits,
    /// It could continue at once.
    More,
    /// It has ended normally.
    Over,
}

/// The current activity of a connection.
enum State {
    /// Receives a request, or waits for one.
    Reading,
    /// Sends the answer.
    Answering(Out),
    /// The last answer has been sent. The peer closes first: closing with unread bytes here would reset the
    /// connection, and the peer could lose the end of the answer.
    Closing,
}

/// An answer that is being sent.
struct Out {
    head: Vec<u8>,
    head_sent: usize,
    file: Option<File>,
    file_sent: u64,
    length: u64,
    keep_alive: bool,
    /// For the log.
    about: String,
}

pub(super) struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    state: State,
    input: Vec<u8>,
    /// When this state started. For a request: when its first byte arrived, or, if nothing has arrived since,
    /// when the peer had taken all of its last answer.
    since: Instant,
    /// When the last byte moved.
    moved: Instant,
    /// The bytes not yet acknowledged by the peer at the last check; [`UNSEEN`] between an answer's end and
    /// the next check.
    queued: u64,
    answers: u32,
    /// The peer has closed its sending side.
    ended: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: IpAddr, now: Instant) -> Self {
        Self {
            stream,
            peer,
            state: State::Reading,
            input: Vec::new(),
            since: now,
            moved: now,
            queued: 0,
            answers: 0,
            ended: false,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// How long no byte has moved.
    pub(super) fn still(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.moved)
    }

    /// Checks whether the peer has taken anything since the last time. The kernel buffers megabytes, and
    /// accepts more only when a third of them is gone: with a slow peer that takes longer than the stall
    /// limit.
    pub(super) fn note_taken(&mut self, queue: Queue, now: Instant) {
        let answering = matches!(self.state, State::Answering(_));
        if !answering && self.queued == 0 {
            return;
        }
        let queued = queue(self.stream.as_fd()).unwrap_or(0);
        if queued < self.queued {
            self.moved = now;
            if !answering && self.input.is_empty() {
                self.since = now;
            }
        }
        self.queued = queued;
    }

    /// It has received an answer, to its last byte, and has not started another request.
    pub(super) fn is_idle(&self) -> bool {
        match self.state {
            State::Reading => self.answers > 0 && self.input.is_empty() && self.queued == 0,
            State::Answering(_) => false,
            State::Closing => self.queued == 0,
        }
    }

    /// Why the connection must be closed, if it must. An answer may take as long as it makes progress, and
    /// the peer has its end only when the kernel no longer holds any of it: on a busy line, many seconds
    /// after it was written. A request has a time limit.
    pub(super) fn is_late(&self, now: Instant, limits: Limits) -> Option<&'static str> {
        let age = now.saturating_duration_since(self.since);
        let stalls = || (self.still(now) >= limits.stall).then_some("it accepts no more data");
        match self.state {
            State::Reading if self.is_idle() => (age >= limits.idle).then_some("no further request came"),
            State::Reading if self.input.is_empty() && self.queued > 0 => stalls(),
            State::Reading => (age >= limits.request).then_some("the request timed out"),
            State::Closing if self.queued == 0 => {
                (age >= limits.closing).then_some("it does not close the connection")
            }
            State::Answering(_) | State::Closing => stalls(),
        }
    }

    /// Reads and writes as much as the peer and this turn allow.
    pub(super) fn go_on(&mut self, serve: &Serve, now: Instant) -> io::Result<TurnEnd> {
        let mut left = TURN;
        loop {
            match &mut self.state {
                State::Reading => {
                    if let Some(whole) = request::take(&mut self.input) {
                        self.enter(State::Answering(answer(whole, serve)?), now);
                    } else if !self.read(now)? {
                        return Ok(TurnEnd::Waits);
                    } else if self.closed_by_peer() {
                        return if self.input.is_empty() { Ok(TurnEnd::Over) } else { Err(cut_off()) };
                    }
                }
                State::Answering(out) => {
                    if out.is_sent() {
                        log::info!("HTTP {} to {}", out.about, self.peer);
                        let keep_alive = out.keep_alive;
                        self.answers += 1;
                        self.queued = UNSEEN;
                        if keep_alive {
                            self.enter(State::Reading, now);
                        } else {
                            self.stream.shutdown(Shutdown::Write)?;
                            self.enter(State::Closing, now);
                        }
                    } else if left == 0 {
                        return Ok(TurnEnd::More);
                    } else if let Some(moved) = unless_blocked(|| out.send(&self.stream, left))? {
                        self.moved = now;
                        left = left.saturating_sub(moved);
                    } else {
                        return Ok(TurnEnd::Waits);
                    }
                }
                State::Closing => {
                    self.input.clear();
                    if !self.read(now)? {
                        return Ok(TurnEnd::Waits);
                    }
                    if self.closed_by_peer() {
                        return Ok(TurnEnd::Over);
                    }
                }
            }
        }
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        self.moved = now;
    }

    /// Whether anything arrived. The end counts too, and leaves [`Self::closed_by_peer`] true.
    fn read(&mut self, now: Instant) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        let Some(length) = unless_blocked(|| self.stream.read(&mut piece))? else { return Ok(false) };
        if self.input.is_empty() && matches!(self.state, State::Reading) {
            self.since = now;
        }
        self.input.extend_from_slice(piece.get(..length).unwrap_or_default());
        self.moved = now;
        self.ended = length == 0;
        Ok(true)
    }

    fn closed_by_peer(&self) -> bool {
        self.ended
    }
}

impl Out {
    fn is_sent(&self) -> bool {
        self.head_sent == self.head.len() && (self.file.is_none() || self.file_sent == self.length)
    }

    /// Sends a part of the answer; returns its size.
    fn send(&mut self, mut stream: &TcpStream, most: u64) -> io::Result<u64> {
        if let Some(rest) = self.head.get(self.head_sent..).filter(|rest| !rest.is_empty()) {
            let sent = stream.write(rest)?;
            self.head_sent += sent;
            return Ok(sent as u64);
        }
        let Some(file) = &self.file else { return Ok(0) };
        let piece = usize::try_from(most.min(self.length - self.file_sent)).unwrap_or(usize::MAX);
        let sent = sendfile(stream, file, Some(&mut self.file_sent), piece)? as u64;
        // The file was truncated while it was sent: the peer sees from the length that the end is missing.
        if sent == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(sent) }
    }
}

/// The answer to a request, ready to be sent.
fn answer(Whole { request, keep_alive }: Whole, serve: &Serve) -> io::Result<Out> {
    let (Answer { status, file }, contents, path) = match request {
        Err(status) => (status.into(), false, String::new()),
        Ok(request) => {
            let answer = serve(&request);
            match request {
                Request::Get { path, contents } => (answer, contents, path),
                Request::Post { path, .. } => (answer, false, path),
            }
        }
    };
    let length = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
    let (status, connection) = (status.line(), if keep_alive { "keep-alive" } else { "close" });
    // RFC 9110, 8.6: a 204 response has no Content-Length.
    let body = if status == Status::NoContent.line() {
        String::new()
    } else {
        format!("Content-Length: {length}\r\nContent-Type: application/octet-stream\r\n")
    };
    let head = format!("HTTP/1.1 {status}\r\n{body}Connection: {connection}\r\n\r\n");
    Ok(Out {
        head: head.into_bytes(),
        head_sent: 0,
        file: file.filter(|_| contents),
        file_sent: 0,
        length,
        keep_alive,
        about: format!("{status} {}", path.escape_default()),
    })
}

/// `None` if the peer has to act first.
fn unless_blocked<T>(mut action: impl FnMut() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match action() {
            Ok(value) => return Ok(Some(value)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection in the middle of a request")
}

#[cfg(test)]
mod tests {
    use super::super::LIMITS;
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicU64, Ordering};

    static QUEUED: AtomicU64 = AtomicU64::new(0);

    fn queue(_: BorrowedFd<'_>) -> io::Result<u64> {
        Ok(QUEUED.load(Ordering::Relaxed))
    }

    /// A peer that takes little at a time is active, although nothing can be written meanwhile; one that
    /// takes nothing is not.
    #[test]
    fn a_peer_that_takes_a_little_is_not_late() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let serve = move |_: &Request| Answer { status: Status::Ok, file: Some(file.reopen().unwrap()) };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        let (stream, from) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut connection = Connection::new(TcpStream::from_std(stream), from.ip(), start);
        // Until its answer is being sent.
        while !matches!(connection.state, State::Answering(_)) {
            connection.go_on(&serve, start).unwrap();
        }
        let (mut now, late) = (start, Some("it accepts no more data"));
        for (queued, expected) in [(4_000_000, None), (3_999_000, None), (3_998_999, None), (3_998_999, late)]
        {
            QUEUED.store(queued, Ordering::Relaxed);
            // The first check only shows how much is buffered.
            let wait =
                if queued == 4_000_000 { Duration::ZERO } else { LIMITS.stall - Duration::from_secs(1) };
            now += wait;
            assert_eq!(connection.is_late(now, LIMITS), None, "before it is looked at, {queued}");
            connection.note_taken(queue, now);
            let taken = expected.is_none() && queued < 4_000_000;
            assert_eq!(connection.still(now) == Duration::ZERO, taken || wait.is_zero(), "{queued}");
            assert_eq!(connection.is_late(now + Duration::from_secs(1), LIMITS), expected, "{queued}");
        }
    }

    /// 500 machines on one line: each receives the end of its kernel many seconds after it was written. The
    /// connection is idle, and may be closed, only once the peer has everything.
    #[test]
    fn an_answer_that_is_written_is_not_one_that_has_arrived() {
        static QUEUED: AtomicU64 = AtomicU64::new(0);
        fn queue(_: BorrowedFd<'_>) -> io::Result<u64> {
            Ok(QUEUED.load(Ordering::Relaxed))
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(5).unwrap();
        let serve = move |_: &Request| Answer { status: Status::Ok, file: Some(file.reopen().unwrap()) };
        for kept in ["keep-alive", "close"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            write!(peer, "GET /a HTTP/1.1\r\nConnection: {kept}\r\n\r\n").unwrap();
            let (stream, from) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let start = Instant::now();
            let mut connection = Connection::new(TcpStream::from_std(stream), from.ip(), start);
            while connection.answers == 0 {
                connection.go_on(&serve, start).unwrap();
            }
            assert!(!connection.is_idle(), "{kept}: not before it was looked at");
            let mut now = start;
            for queued in [3_000_000, 2_000_000, 1_000_000, 0] {
                now += LIMITS.stall - Duration::from_secs(1);
                assert_eq!(connection.is_late(now, LIMITS), None, "{kept}, {queued}");
                QUEUED.store(queued, Ordering::Relaxed);
                connection.note_taken(queue, now);
                assert_eq!(connection.is_idle(), queued == 0, "{kept}, {queued}");
            }
            // Now the peer has everything, and its time starts.
            let most = if kept == "close" { LIMITS.closing } else { LIMITS.idle };
            assert_eq!(connection.is_late(now + most - Duration::from_millis(1), LIMITS), None, "{kept}");
            assert!(connection.is_late(now + most, LIMITS).is_some(), "{kept}");
        }
    }

    /// The server does not wait for a peer that does not take the end of its answer.
    #[test]
    fn the_end_of_an_answer_can_stall_too() {
        let serve = |_: &Request| Answer::from(Status::NotFound);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        let (stream, from) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let mut connection = Connection::new(TcpStream::from_std(stream), from.ip(), start);
        while connection.answers == 0 {
            connection.go_on(&serve, start).unwrap();
        }
        connection.note_taken(|_| Ok(9), start);
        connection.note_taken(|_| Ok(9), start + LIMITS.idle);
        assert_eq!(connection.is_late(start + LIMITS.idle, LIMITS), None);
        assert_eq!(connection.is_late(start + LIMITS.stall, LIMITS), Some("it accepts no more data"));
    }
}
