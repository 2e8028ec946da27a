//! The event loop: waits for listeners, connections and a waker in one place.
//!
//! The users of the loop handle ready sockets: the relay, the HTTP server, and both ends of the control
//! connections. Shared by all of them, and implemented here, are the registration of sockets, the handling of
//! interrupted calls, and which errors of `accept(2)` are temporary.
//!
//! Events are edge-triggered (see mio): a socket that was not read or written until it would block produces
//! no further event, so the user must return to it unprompted.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::{Event, Source};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

const WAKER: Token = Token(0);
/// Listeners have the tokens below the first connection's.
const FIRST_LISTENER: usize = 1;
const FIRST_CONNECTION: usize = 8;
const MAX_LISTENERS: usize = FIRST_CONNECTION - FIRST_LISTENER;

/// Listeners, connections and a waker.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    listeners: Vec<mio::net::TcpListener>,
}

/// The result of one wait.
#[derive(Debug, Default)]
pub struct Turn {
    /// Nothing happened before the timeout.
    pub quiet: bool,
    /// Another thread has ended the wait.
    pub woken: bool,
    /// Connections may be ready to be accepted.
    pub accepting: bool,
    /// The connections with events, by key.
    pub ready: Vec<(usize, Event)>,
}

impl EventLoop {
    /// A loop that handles about this many events at once.
    ///
    /// # Errors
    /// The system has no more event queues.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let events = Events::with_capacity(capacity);
        Ok(Self { poll, events, waker, listeners: Vec::new() })
    }

    /// Ends a wait from another thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Accepts connections on an additional listener. Some may already be pending, so the caller must accept
    /// before it waits.
    ///
    /// # Errors
    /// The listener cannot be watched, or there are too many of them.
    pub fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        if self.listeners.len() >= MAX_LISTENERS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let token = Token(FIRST_LISTENER + self.listeners.len());
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Watches a connection in both directions. Its events have this key, which must be unique among the
    /// connections.
    ///
    /// # Errors
    /// The system's error.
    pub fn add(&self, stream: &mut TcpStream, key: usize) -> io::Result<()> {
        let token = Token(FIRST_CONNECTION + key);
        self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches a socket for readability.
    ///
    /// # Errors
    /// The system's error.
    pub fn add_reader(&self, source: &mut impl Source, key: usize) -> io::Result<()> {
        self.poll.registry().register(source, Token(FIRST_CONNECTION + key), Interest::READABLE)
    }

    /// Stops watching the connection. Dropping it has the same effect.
    ///
    /// # Errors
    /// The system's error.
    pub fn remove(&self, stream: &mut TcpStream) -> io::Result<()> {
        self.poll.registry().deregister(stream)
    }

    /// Waits for at most `timeout`. A signal ends it early.
    ///
    /// # Errors
    /// The system's error; the loop cannot continue.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Turn> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Turn::default()),
            outcome => outcome?,
        }
        let mut turn = Turn { quiet: self.events.is_empty(), ..Turn::default() };
        for event in &self.events {
            match event.token() {
                WAKER => turn.woken = true,
                Token(token) => match token.checked_sub(FIRST_CONNECTION) {
                    Some(key) => turn.ready.push((key, event.clone())),
                    None => turn.accepting = true,
                },
            }
        }
        Ok(turn)
    }

    /// The next pending connection of any listener.
    ///
    /// # Errors
    /// Too many open files, or no memory: connections stay in the kernel's queue, and the caller may retry
    /// later.
    pub fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        for listener in &self.listeners {
            loop {
                match listener.accept() {
                    Ok(accepted) => return Ok(Some(accepted)),
                    Err(e) => match e.kind() {
                        io::ErrorKind::WouldBlock => break,
                        // The peer has already closed it.
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        _ => return Err(e),
                    },
                }
            }
        }
        Ok(None)
    }
}

/// A periodic event.
#[derive(Clone, Copy, Debug)]
pub struct Every {
    period: Duration,
    last: Instant,
}

impl Every {
    /// First due after one period.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, last: Instant::now() }
    }

    /// Whether the event is due. If so, it is next due one period after `now`.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.last) >= self.period;
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::thread;

    /// Longer than any test may take, so that an event must end the wait.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn connections_come_are_ready_and_go() {
        let mut event_loop = EventLoop::new(8).unwrap();
        let addresses: Vec<_> = (0..2)
            .map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                event_loop.listen(listener).unwrap();
                address
            })
            .collect();
        for (key, address) in addresses.into_iter().enumerate() {
            let mut client = std::net::TcpStream::connect(address).unwrap();
            while !event_loop.wait(LONG).unwrap().accepting {}
            let (mut stream, peer) = event_loop.accept().unwrap().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(event_loop.accept().unwrap().is_none());
            event_loop.add(&mut stream, key).unwrap();
            client.write_all(b"x").unwrap();
            loop {
                let turn = event_loop.wait(LONG).unwrap();
                if turn.ready.iter().any(|(ready, event)| *ready == key && event.is_readable()) {
                    break;
                }
            }
            event_loop.remove(&mut stream).unwrap();
        }
    }

    #[test]
    fn another_thread_ends_a_wait() {
        let mut event_loop = EventLoop::new(8).unwrap();
        let waker = event_loop.waker();
        let waking = thread::spawn(move || waker.wake().unwrap());
        let start = Instant::now();
        assert!(event_loop.wait(LONG).unwrap().woken);
        assert!(start.elapsed() < LONG);
        waking.join().unwrap();
    }

    #[test]
    fn what_is_due_is_due_once_per_period() {
        let period = Duration::from_secs(10);
        let mut every = Every::new(period);
        let start = every.last;
        assert!(!every.is_due(start));
        assert!(every.is_due(start + period));
        assert!(!every.is_due(start + period));
        assert!(every.is_due(start + period * 5));
    }
}
