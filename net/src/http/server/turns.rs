//! The server loop: accepts connections, gives them turns, and closes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::connection::{Connection, TurnEnd};
use super::slots::{Holder, Verdict};
use super::{Limits, Queue, Serve};
use crate::event_loop::{EventLoop, Every};

/// How often connections are checked against their time limits.
const TICK: Duration = Duration::from_millis(250);
/// The minimum interval between log messages about a lack of slots.
const SAY_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Server {
    sockets: EventLoop,
    serve: Box<Serve>,
    queue: Queue,
    limits: Limits,
    connections: BTreeMap<usize, Connection>,
    /// The connections that could continue at once.
    busy: BTreeSet<usize>,
    next: usize,
    /// Connections may be waiting in the kernel's queue.
    waiting: bool,
    look: Every,
    refusals: Refusals,
}

/// Connections without a place since the last log message about it.
struct Refusals {
    refused: u64,
    replaced: u64,
    queued: bool,
    said: Option<Instant>,
}

impl Server {
    pub(super) fn new(
        listener: TcpListener,
        serve: Box<Serve>,
        queue: Queue,
        limits: Limits,
    ) -> io::Result<Self> {
        let mut sockets = EventLoop::new(1024)?;
        sockets.listen(listener)?;
        Ok(Self {
            sockets,
            serve,
            queue,
            limits,
            connections: BTreeMap::new(),
            busy: BTreeSet::new(),
            waiting: true,
            next: 0,
            look: Every::new(TICK),
            refusals: Refusals { refused: 0, replaced: 0, queued: false, said: None },
        })
    }

    /// Serves until the process ends.
    pub(super) fn run(&mut self) {
        loop {
            let timeout = if self.busy.is_empty() { TICK } else { Duration::ZERO };
            let turn = match self.sockets.wait(timeout) {
                Ok(turn) => turn,
                Err(error) => {
                    log::error!("HTTP is no longer served: cannot wait for connections: {error}");
                    return;
                }
            };
            self.waiting |= turn.accepting;
            self.busy.extend(turn.ready.iter().map(|(key, _)| *key));
            let now = Instant::now();
            for key in std::mem::take(&mut self.busy) {
                self.give_turn(key, now);
            }
            if self.look.is_due(now) {
                self.end_late_ones(now);
            }
            self.accept(now);
            self.refusals.say(now);
        }
    }

    fn give_turn(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match connection.go_on(&*self.serve, now) {
            Ok(TurnEnd::Waits) => {}
            Ok(TurnEnd::More) => drop(self.busy.insert(key)),
            Ok(TurnEnd::Over) => self.end(key),
            Err(error) => {
                log::info!("HTTP to {} failed: {error}", connection.peer());
                self.end(key);
            }
        }
    }

    fn end_late_ones(&mut self, now: Instant) {
        let queue = self.queue;
        self.connections.values_mut().for_each(|connection| connection.note_taken(queue, now));
        let late = |(&key, connection): (&usize, &Connection)| {
            connection.is_late(now, self.limits).map(|reason| (key, reason))
        };
        let late: Vec<_> = self.connections.iter().filter_map(late).collect();
        for (key, reason) in late {
            if let Some(connection) = self.connections.get(&key)
                && !connection.is_idle()
            {
                log::info!("HTTP to {} ended: {reason}", connection.peer());
            }
            self.cut_off(key);
        }
    }

    /// Closes a connection at once. Otherwise, data that its peer has not taken would stay in the kernel's
    /// memory; but the end of a complete answer may still be in transit from there.
    fn cut_off(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(&key)
            && !connection.is_idle()
            && let Err(error) = set_socket_linger(connection.stream(), Some(Duration::ZERO))
        {
            log::debug!("HTTP to {}: cannot drop its unsent bytes: {error}", connection.peer());
        }
        self.end(key);
    }

    fn end(&mut self, key: usize) {
        let Some(mut connection) = self.connections.remove(&key) else { return };
        if let Err(error) = self.sockets.remove(connection.stream()) {
            log::debug!("HTTP to {}: cannot deregister it: {error}", connection.peer());
        }
    }

    /// Accepts connections while there is room for them.
    fn accept(&mut self, now: Instant) {
        while self.waiting {
            if self.is_full() && !self.holders(now).iter().any(Holder::may_go) {
                // Retried at the next turn, when another connection may have finished.
                self.refusals.queued = true;
                return;
            }
            match self.sockets.accept() {
                Ok(Some((stream, peer))) => self.admit(stream, peer.ip(), now),
                Ok(None) => self.waiting = false,
                Err(e) => {
                    // Too many open files, or no memory: other connections finish first.
                    log::warn!("cannot accept an HTTP connection: {e}");
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: mio::net::TcpStream, peer: std::net::IpAddr, now: Instant) {
        match self.limits.slots.judge(peer, &self.holders(now)) {
            Verdict::Take => {}
            Verdict::InPlaceOf(key) => {
                self.refusals.replaced += 1;
                self.cut_off(key);
            }
            Verdict::Wait | Verdict::Refuse => {
                self.refusals.refused += 1;
                return;
            }
        }
        let key = self.next;
        self.next += 1;
        if let Err(error) = self.sockets.add(&mut stream, key) {
            log::warn!("cannot serve {peer} over HTTP: {error}");
            return;
        }
        self.connections.insert(key, Connection::new(stream, peer, now));
        self.busy.insert(key);
    }

    fn is_full(&self) -> bool {
        self.connections.len() >= self.limits.slots.total
    }

    fn holders(&self, now: Instant) -> Vec<Holder<usize>> {
        let holder = |(&key, connection): (&usize, &Connection)| Holder {
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
