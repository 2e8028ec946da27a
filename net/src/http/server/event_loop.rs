//! The loop: connections come, have their turns, and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::net::sockopt::set_socket_linger;

use super::connection::{Connection, Progress};
use super::places::{Holder, Verdict};
use super::{Limits, Serve};

const LISTENER: Token = Token(0);
/// How often late connections are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often at most the log says that places are short.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Server {
    poll: Poll,
    listener: mio::net::TcpListener,
    serve: Box<Serve>,
    limits: Limits,
    connections: BTreeMap<Token, Connection>,
    /// Those that could go on at once.
    busy: BTreeSet<Token>,
    next: usize,
    /// Connections may wait in the kernel's queue.
    waiting: bool,
    looked: Instant,
    refusals: Refusals,
}

/// Connections that found no place, since the log last said so.
struct Refusals {
    refused: u64,
    replaced: u64,
    queued: bool,
    said: Option<Instant>,
}

impl Server {
    pub(super) fn new(listener: TcpListener, serve: Box<Serve>, limits: Limits) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            serve,
            limits,
            connections: BTreeMap::new(),
            busy: BTreeSet::new(),
            next: 1,
            waiting: true,
            looked: Instant::now(),
            refusals: Refusals { refused: 0, replaced: 0, queued: false, said: None },
        })
    }

    /// Serves until the process ends.
    pub(super) fn run(&mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = if self.busy.is_empty() { TICK } else { Duration::ZERO };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != io::ErrorKind::Interrupted
            {
                log::error!("HTTP is no longer served: cannot wait for connections: {error}");
                return;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.waiting = true,
                    token => drop(self.busy.insert(token)),
                }
            }
            let now = Instant::now();
            for token in std::mem::take(&mut self.busy) {
                self.give_turn(token, now);
            }
            if now.saturating_duration_since(self.looked) >= TICK {
                self.looked = now;
                self.end_late_ones(now);
            }
            self.accept(now);
            self.refusals.say(now);
        }
    }

    fn give_turn(&mut self, token: Token, now: Instant) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        match connection.go_on(&*self.serve, now) {
            Ok(Progress::Waits) => {}
            Ok(Progress::More) => drop(self.busy.insert(token)),
            Ok(Progress::Over) => self.end(token),
            Err(error) => {
                log::info!("HTTP to {} broke off: {error}", connection.peer());
                self.end(token);
            }
        }
    }

    fn end_late_ones(&mut self, now: Instant) {
        let late = |(&token, connection): (&Token, &Connection)| {
            connection.is_late(now, self.limits).map(|reason| (token, reason))
        };
        let late: Vec<_> = self.connections.iter().filter_map(late).collect();
        for (token, reason) in late {
            if let Some(connection) = self.connections.get(&token)
                && !connection.is_idle()
            {
                log::info!("HTTP to {} ended: {reason}", connection.peer());
            }
            self.cut_off(token);
        }
    }

    /// Ends a connection at once. What its peer has not taken yet would stay in the kernel's memory otherwise; but the
    /// end of a whole answer may still be on its way from there.
    fn cut_off(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token)
            && !connection.is_idle()
            && let Err(error) = set_socket_linger(connection.stream(), Some(Duration::ZERO))
        {
            log::debug!("HTTP to {}: cannot drop its unsent bytes: {error}", connection.peer());
        }
        self.end(token);
    }

    fn end(&mut self, token: Token) {
        let Some(mut connection) = self.connections.remove(&token) else { return };
        if let Err(error) = self.poll.registry().deregister(connection.stream()) {
            log::debug!("HTTP to {}: cannot deregister it: {error}", connection.peer());
        }
    }

    /// Takes connections while there is room for them.
    fn accept(&mut self, now: Instant) {
        while self.waiting {
            if self.is_full() && !self.holders(now).iter().any(Holder::may_go) {
                // It is tried again at the next turn, when somebody may have finished.
                self.refusals.queued = true;
                return;
            }
            match self.listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer.ip(), now),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.waiting = false,
                Err(e)
                    if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
                Err(e) => {
                    // Too many open files, or no memory: others finish first.
                    log::warn!("cannot take a connection for HTTP: {e}");
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: mio::net::TcpStream, peer: std::net::IpAddr, now: Instant) {
        match self.limits.places.judge(peer, &self.holders(now)) {
            Verdict::Take => {}
            Verdict::InPlaceOf(token) => {
                self.refusals.replaced += 1;
                self.cut_off(token);
            }
            Verdict::Wait | Verdict::Refuse => {
                self.refusals.refused += 1;
                return;
            }
        }
        let token = Token(self.next);
        self.next += 1;
        let interests = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, token, interests) {
            log::warn!("cannot serve {peer} over HTTP: {error}");
            return;
        }
        self.connections.insert(token, Connection::new(stream, peer, now));
        self.busy.insert(token);
    }

    fn is_full(&self) -> bool {
        self.connections.len() >= self.limits.places.total
    }

    fn holders(&self, now: Instant) -> Vec<Holder<Token>> {
        let holder = |(&key, connection): (&Token, &Connection)| Holder {
            key,
            address: connection.peer(),
            still: connection.still(now),
            idle: connection.is_idle(),
        };
        self.connections.iter().map(holder).collect()
    }
}

impl Refusals {
    fn say(&mut self, now: Instant) {
        let lately = self.said.is_some_and(|said| now.saturating_duration_since(said) < SAY_EVERY);
        if lately || (self.refused == 0 && self.replaced == 0 && !self.queued) {
            return;
        }
        log::warn!(
            "HTTP: too many connections: {} refused, {} stalled ones closed to make room{}",
            self.refused,
            self.replaced,
            if self.queued { ", others wait" } else { "" }
        );
        *self = Self { refused: 0, replaced: 0, queued: false, said: Some(now) };
    }
}
