//! The controller's control connections. Only peers that prove knowledge of the join secret are heard.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ka::keys::Key;
use ka::session::ConnectionId;
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::control::{ToAgent, ToController};
use ka::wire::hello::MAX_HELLO;
use ka::wire::preamble::{Preamble, PreambleError};
use mio::Waker;
use mio::net::TcpStream;

use super::connection_limits::{self, Proven};
use crate::config::keys::Keys;
use ka_net::event_loop::EventLoop;

/// The time limit for a connection to prove itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one connection is read before all others get their turn: a flooding peer must not starve the
/// others.
const READS: usize = 2;
/// The minimum interval between log messages about this.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// The longest message of an agent after its hello, in bytes: a piece of its log, or its notes.
const MAX_MESSAGE: usize = 1 << 20;
/// The maximum number of hosts that are logged, once each, for a message without proof.
const MAX_NAMED: usize = 256;
/// How often silent connections are looked for. Each heartbeat wakes the hub, which must not look at all of
/// them every time.
const LOOK: Duration = Duration::from_secs(1);
/// A proven connection that is silent for this long is dropped; agents send heartbeats far more often.
const IDLE: Duration = Duration::from_secs(60);

/// An event on a connection.
#[derive(Debug)]
pub(super) enum NetEvent {
    /// An agent sent a message.
    Message(Box<ToController>),
    /// The connection is closed.
    Closed(String),
}

impl NetEvent {
    /// Whether it only says that an agent lives, and how far it is.
    pub(super) fn is_heartbeat(&self) -> bool {
        matches!(self, Self::Message(message) if matches!(**message, ToController::Heartbeat(_)))
    }
}

struct Connection {
    stream: TcpStream,
    channel: Channel,
    /// The agent's address.
    peer: IpAddr,
    /// This machine's address, as the agent sees it.
    local: IpAddr,
    opened_at: Instant,
    heard_at: Instant,
    proven: bool,
    /// The agent showed the join secret of this run.
    of_run: bool,
    /// Close the connection once everything is written.
    closing: bool,
}

impl Connection {
    /// Allows long messages after the node's hello.
    fn lift_limit(&mut self, message: &ToController) {
        if matches!(message, ToController::Hello(_)) {
            self.channel.limit(MAX_MESSAGE);
        }
    }
}

/// All control connections.
pub(super) struct Net {
    sockets: EventLoop,
    keys: Keys,
    /// The maximum number of proven connections per address.
    per_address: usize,
    connections: BTreeMap<ConnectionId, Connection>,
    next: usize,
    /// Hosts with another protocol version that the log has already named.
    foreign: BTreeSet<IpAddr>,
    /// Connections closed before their pending output was sent.
    unread: BTreeSet<ConnectionId>,
    /// Connections with output to be written, and those to be closed once it is.
    unwritten: BTreeSet<ConnectionId>,
    /// When silent connections were last looked for.
    looked_at: Instant,
    /// When the log last reported too many connections.
    full: Option<Instant>,
}

impl Net {
    pub(super) fn new(keys: Keys, listener: TcpListener, per_address: usize) -> io::Result<Self> {
        let mut net = Self {
            sockets: EventLoop::new(256)?,
            keys,
            per_address,
            connections: BTreeMap::new(),
            next: 1,
            foreign: BTreeSet::new(),
            unread: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            looked_at: Instant::now(),
            full: None,
        };
        net.listen(listener)?;
        Ok(net)
    }

    /// Adds another listener.
    pub(super) fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        self.sockets.listen(listener)
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        self.sockets.waker()
    }

    /// Waits for at most `timeout`, and returns the events.
    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<Vec<(ConnectionId, NetEvent)>> {
        let timeout = if self.unread.is_empty() { timeout } else { Duration::ZERO };
        let turn = self.sockets.wait(timeout)?;
        if turn.accepting {
            self.accept();
        }
        let mut ready = std::mem::take(&mut self.unread);
        ready.extend(turn.ready.iter().map(|(key, _)| ConnectionId(*key)));
        let mut happened = Vec::new();
        for id in ready {
            self.receive(id, &mut happened);
            self.flush(id, &mut happened);
        }
        if self.looked_at.elapsed() >= LOOK {
            self.looked_at = Instant::now();
            self.drop_late(&mut happened);
        }
        Ok(happened)
    }

    /// Queues a message. [`Net::wait`] reports a connection that fails.
    pub(super) fn send(&mut self, id: ConnectionId, message: &ToAgent) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Err(error) = connection.channel.send(message) {
            log::warn!("cannot send to {}: {error}", connection.peer);
            connection.closing = true;
        }
        self.unwritten.insert(id);
    }

    /// Writes all queued output; returns the errors that occurred.
    pub(super) fn flush_all(&mut self) -> Vec<(ConnectionId, NetEvent)> {
        let mut happened = Vec::new();
        for id in std::mem::take(&mut self.unwritten) {
            self.flush(id, &mut happened);
        }
        happened
    }

    /// Closes a connection once everything queued is written.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.closing = true;
            self.unwritten.insert(id);
        }
    }

    /// The key that the agent has proved to own.
    pub(super) fn key(&self, id: ConnectionId) -> Option<Key> {
        self.connections.get(&id)?.channel.peer()
    }

    /// Whether the agent showed the join secret of this run.
    pub(super) fn is_of_run(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.of_run)
    }

    /// The agent's address, and this machine's address as the agent sees it.
    pub(super) fn addresses(&self, id: ConnectionId) -> Option<(IpAddr, IpAddr)> {
        let connection = self.connections.get(&id).filter(|connection| !connection.closing)?;
        Some((connection.peer, connection.local))
    }

    fn accept(&mut self) {
        loop {
            match self.sockets.accept() {
                Ok(Some((stream, peer))) => {
                    if let Err(error) = self.take(stream, peer) {
                        log::warn!("cannot accept the connection from {peer}: {error}");
                    }
                }
                Ok(None) => return,
                Err(e) => {
                    log::warn!("cannot accept a connection: {e}");
                    return;
                }
            }
        }
    }

    fn take(&mut self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        // An agent proves itself immediately, so idle strangers never keep one out.
        let unproven = self.connections.iter().filter(|(_, c)| !c.proven).map(|(id, c)| (*id, c.peer));
        if let Some(stranger) = connection_limits::makes_room(unproven.collect()) {
            self.connections.remove(&stranger);
        }
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?.ip().to_canonical();
        let id = ConnectionId(self.next);
        self.next += 1;
        self.sockets.add(&mut stream, id.0)?;
        let now = Instant::now();
        let mut channel = Channel::answer();
        channel.limit(MAX_HELLO);
        let connection = Connection {
            stream,
            channel,
            peer: peer.ip().to_canonical(),
            local,
            opened_at: now,
            heard_at: now,
            proven: false,
            of_run: false,
            closing: false,
        };
        self.connections.insert(id, connection);
        Ok(())
    }

    fn receive(&mut self, id: ConnectionId, happened: &mut Vec<(ConnectionId, NetEvent)>) {
        let mut reads = 0;
        loop {
            if self.keeps_too_much(id) {
                self.drop_connection(
                    id,
                    "its address is sending too many long messages at \
                    once"
                        .into(),
                    happened,
                );
                return;
            }
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let outcome = match connection.channel.receive::<ToController>() {
                Ok(Some(Received::Opening(Preamble::Control))) => {
                    let joins = self.keys.joins();
                    let accepted = connection.channel.accept_control_by_any(&self.keys.controller, &joins);
                    connection.of_run = matches!(accepted, Ok(1));
                    accepted.map(drop).map_err(|e| e.to_string())
                }
                Ok(Some(Received::Message(message))) if connection.proven => {
                    connection.lift_limit(&message);
                    happened.push((id, NetEvent::Message(Box::new(message))));
                    Ok(())
                }
                Ok(Some(Received::Message(message))) => {
                    connection.proven = true;
                    connection.lift_limit(&message);
                    let peer = connection.peer;
                    self.room_for(peer).map(|()| happened.push((id, NetEvent::Message(Box::new(message)))))
                }
                Ok(Some(_)) => Err("it is not a control connection".into()),
                Ok(None) if reads == READS => {
                    self.unread.insert(id);
                    return;
                }
                Ok(None) => match connection.channel.read_from(&mut connection.stream) {
                    Ok(0) => Err("it closed the connection".into()),
                    Ok(_) => {
                        reads += 1;
                        connection.heard_at = Instant::now();
                        Ok(())
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        // Little data is sent here, and a thousand large buffers would need much memory.
                        connection.channel.rest();
                        return;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
                    Err(e) => Err(e.to_string()),
                },
                Err(error) => {
                    let peer = connection.peer;
                    if let ChannelError::Preamble(PreambleError::Version(_)) = error {
                        // The agent must learn the reason, too. An answer that cannot be sent immediately is
                        // dropped.
                        let _ = connection.channel.write_to(&mut connection.stream);
                        if self.foreign.len() < MAX_NAMED && self.foreign.insert(peer) {
                            log::warn!("{peer} cannot join: {error}");
                        }
                    }
                    Err(error.to_string())
                }
            };
            if let Err(reason) = outcome {
                self.drop_connection(id, reason, happened);
                return;
            }
        }
    }

    /// Whether one more proven connection with this address, already counted, is within the limits.
    fn room_for(&mut self, peer: IpAddr) -> Result<(), String> {
        let Some(full) = connection_limits::refusal(peer, self.per_address, self.proven()) else {
            return Ok(());
        };
        if self.full.is_none_or(|since| since.elapsed() > TELL_AGAIN) {
            self.full = Some(Instant::now());
            log::warn!("{peer} cannot join: {full}, and no more are accepted");
        }
        Err(full)
    }

    /// Whether this connection has an incomplete message while its address exceeds the limit for incomplete
    /// messages.
    fn keeps_too_much(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(&id).filter(|c| c.proven && c.channel.unfinished() > 0);
        connection.is_some_and(|c| connection_limits::keeps_too_much(c.peer, self.proven()))
    }

    fn proven(&self) -> impl Iterator<Item = Proven> + Clone {
        let proven = self.connections.values().filter(|c| c.proven);
        proven.map(|c| Proven { peer: c.peer, unfinished: c.channel.unfinished() })
    }

    fn flush(&mut self, id: ConnectionId, happened: &mut Vec<(ConnectionId, NetEvent)>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match connection.channel.write_to(&mut connection.stream) {
            Ok(_) if connection.closing && connection.channel.queued() == 0 => {
                self.connections.remove(&id);
            }
            Ok(_) if connection.closing || connection.channel.queued() > 0 => {
                self.unwritten.insert(id);
            }
            Ok(_) => {}
            Err(error) => self.drop_connection(id, error.to_string(), happened),
        }
    }

    fn drop_late(&mut self, happened: &mut Vec<(ConnectionId, NetEvent)>) {
        let late: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(
                |(_, c)| {
                    if c.proven { c.heard_at.elapsed() > IDLE } else { c.opened_at.elapsed() > PATIENCE }
                },
            )
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.drop_connection(id, "it has gone silent".into(), happened);
        }
    }

    fn drop_connection(
        &mut self,
        id: ConnectionId,
        reason: String,
        happened: &mut Vec<(ConnectionId, NetEvent)>,
    ) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if connection.proven {
            happened.push((id, NetEvent::Closed(reason)));
        } else {
            log::debug!("a connection from {} did not authenticate: {reason}", connection.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::keys::{JoinKey, KeyPair};
    use ka::wire::control::Progress;
    use std::io::Write;

    /// An agent on the other end of an open connection.
    fn agent(net: &mut Net, keys: &Keys, address: SocketAddr) -> (std::net::TcpStream, Channel) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut channel = Channel::dial_control(&keys.join, &KeyPair::generate().unwrap()).unwrap();
        channel.write_to(&mut stream).unwrap();
        stream.set_nonblocking(true).unwrap();
        loop {
            net.wait(Duration::from_millis(10)).unwrap();
            match channel.read_from(&mut stream) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
            if let Some(Received::Open) = channel.receive::<ToAgent>().unwrap() {
                return (stream, channel);
            }
        }
    }

    fn messages(happened: &[(ConnectionId, NetEvent)]) -> usize {
        happened.iter().filter(|(_, event)| matches!(event, NetEvent::Message(_))).count()
    }

    /// Without the limit, an agent that sends faster than it is read would hold the hub at its connection for
    /// ever, and all its messages in memory.
    #[test]
    fn whoever_says_much_does_not_keep_others_from_being_heard() {
        let controller = KeyPair::generate().unwrap();
        let join = JoinKey::generate(&controller).unwrap();
        let keys = Keys { controller, join, run: None };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut net = Net::new(keys.clone(), listener, 64).unwrap();
        let (mut loud, mut channel) = agent(&mut net, &keys, address);
        let (mut quiet, mut other) = agent(&mut net, &keys, address);
        let beat = ToController::Heartbeat(Progress::default());
        // Writes as much as the kernel accepts.
        let mut said = 0;
        let mut wire = Vec::new();
        while wire.is_empty() {
            channel.send(&beat).unwrap();
            channel.write_to(&mut wire).unwrap();
            said += 1;
            match loud.write(&wire) {
                Ok(length) => drop(wire.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => panic!("{e}"),
            }
        }
        other.send(&beat).unwrap();
        other.write_to(&mut quiet).unwrap();
        let (mut heard, mut most, mut quiet_at) = (0, 0, None);
        let start = Instant::now();
        // The agent has received part of the last message.
        while heard < said {
            assert!(start.elapsed() < Duration::from_secs(60), "{heard} of {said} messages");
            let happened = net.wait(Duration::from_millis(10)).unwrap();
            let news = messages(&happened);
            let connections: BTreeSet<ConnectionId> = happened.iter().map(|(id, _)| *id).collect();
            if connections.len() > 1 {
                quiet_at.get_or_insert(heard);
            }
            (heard, most) = (heard + news, most.max(news));
        }
        assert!(most * 4 < said, "{most} of {said} messages in one turn");
        assert!(
            quiet_at.is_some_and(|before| before * 4 < said),
            "after {quiet_at:?} of {said} the other was heard"
        );
    }
}
