//! A peer with the join key that sends arbitrary messages to a controller.
#![allow(clippy::missing_errors_doc, reason = "a helper of tests fails as sockets do")]

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ka::inventory::{Card, Inventory};
use ka::keys::{JoinKey, KeyPair};
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::control::{Hello, ToAgent, ToController};

/// The time limit for any operation before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a socket is polled.
const LOOK: Duration = Duration::from_millis(2);

/// A control connection.
pub struct Agent {
    stream: TcpStream,
    channel: Channel,
    /// The key of this boot.
    pub own: KeyPair,
    /// The bytes received on the connection.
    pub heard_bytes: u64,
}

impl Agent {
    /// Opens a connection, with a key of this boot.
    pub fn dial(address: SocketAddr, join: &JoinKey) -> io::Result<Self> {
        let own = KeyPair::generate().map_err(io::Error::other)?;
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let channel = Channel::dial_control(join, &own).map_err(io::Error::other)?;
        let mut agent = Self { stream, channel, own, heard_bytes: 0 };
        agent.flush()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(Received::Open) = agent.receive()? {
                return Ok(agent);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Joins a session, as a host named `name` that claims this card.
    pub fn join(&mut self, session: &str, name: &str, card: &str, data_port: u16) -> io::Result<()> {
        let card = Card { name: "eth0".into(), mac: card.into(), ..Card::default() };
        let inventory = Inventory { hostname: name.into(), cards: vec![card], ..Inventory::default() };
        let hello = self.hello(session, inventory, data_port);
        self.say(&ToController::Hello(Box::new(hello)))
    }

    /// A hello as an honest agent sends it.
    #[must_use]
    pub fn hello(&self, session: &str, inventory: Inventory, data_port: u16) -> Hello {
        Hello {
            session: session.into(),
            version: "hostile".into(),
            key: self.own.public,
            data_port,
            window: 64 << 20,
            inventory,
            erasable: true,
            place: 0,
            resume: None,
        }
    }

    /// Sends a message completely.
    pub fn say(&mut self, message: &ToController) -> io::Result<()> {
        self.channel.send(message).map_err(io::Error::other)?;
        self.flush()
    }

    /// The controller's message, if one arrives within this time.
    pub fn hear(&mut self, wait: Duration) -> io::Result<Option<ToAgent>> {
        let start = Instant::now();
        loop {
            if let Some(Received::Message(message)) = self.receive()? {
                return Ok(Some(message));
            }
            if start.elapsed() >= wait {
                return Ok(None);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Option<Received<ToAgent>>> {
        receive(&mut self.stream, &mut self.channel, &mut self.heard_bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        flush(&mut self.stream, &mut self.channel)
    }
}

/// The complete messages received on a non-blocking connection; returns after a short pause if there are
/// none.
pub(super) fn receive<M: serde::de::DeserializeOwned>(
    stream: &mut TcpStream,
    channel: &mut Channel,
    bytes: &mut u64,
) -> io::Result<Option<Received<M>>> {
    let broken = |error: ChannelError| io::Error::other(error.to_string());
    if let Some(received) = channel.receive().map_err(broken)? {
        return Ok(Some(received));
    }
    match channel.read_from(stream) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => *bytes += count as u64,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
        Err(e) => return Err(e),
    }
    channel.receive().map_err(broken)
}

/// Writes everything queued.
pub(super) fn flush(stream: &mut TcpStream, channel: &mut Channel) -> io::Result<()> {
    let start = Instant::now();
    while channel.queued() > 0 {
        match channel.write_to(stream) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                std::thread::sleep(LOOK);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
