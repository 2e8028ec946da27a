//! One connection of the relay: its socket, its channel, and what is known of the two.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ka::chain::LinkId;
use ka::chain::LinkMessage;
use ka::wire::channel::{Channel, ChannelError};
use mio::event::Event;
use mio::net::TcpStream;
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use crate::event_loop::EventLoop;

/// Bytes that may wait for the socket before the next block is taken from the window.
const QUEUED: usize = 512 * 1024;

pub(super) struct Connection {
    pub(super) link: LinkId,
    pub(super) channel: Channel,
    stream: TcpStream,
    /// The socket may have something to read, as far as is known.
    readable: bool,
    /// The other side writes no more: what can be read ends with that, and no event will say it again.
    ends: bool,
    writable: bool,
    /// Since when it waits to be greeted; none once it has been.
    pub(super) ungreeted: Option<Duration>,
    /// To be closed when everything queued is written.
    pub(super) parting: bool,
}

/// What became of an attempt to read.
pub(super) enum Read {
    /// Bytes came.
    Some,
    /// Nothing for now.
    Nothing,
    /// The other side has closed.
    Closed,
}

impl Connection {
    pub(super) fn dial(link: LinkId, to: SocketAddr, channel: Channel) -> io::Result<Self> {
        Ok(Self::new(link, TcpStream::connect(to)?, channel, None, false))
    }

    pub(super) fn accepted(link: LinkId, stream: TcpStream, now: Duration) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::new(link, stream, Channel::answer(), Some(now), true))
    }

    fn new(
        link: LinkId,
        stream: TcpStream,
        channel: Channel,
        ungreeted: Option<Duration>,
        writable: bool,
    ) -> Self {
        Self { link, channel, stream, readable: false, ends: false, writable, ungreeted, parting: false }
    }

    pub(super) fn register(&mut self, sockets: &EventLoop) -> io::Result<()> {
        let key = usize::try_from(self.link.0).map_err(io::Error::other)?;
        sockets.add(&mut self.stream, key)
    }

    /// The event queue says that the socket is ready.
    pub(super) fn ready(&mut self, event: &Event) -> io::Result<()> {
        self.ends |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ends;
        if event.is_writable() && !self.writable {
            if let Some(error) = self.stream.take_error()? {
                return Err(error);
            }
            self.stream.set_nodelay(true)?;
            self.writable = true;
        }
        Ok(())
    }

    /// Reads once, if there may be something.
    pub(super) fn read(&mut self) -> io::Result<Read> {
        if !self.readable {
            return Ok(Read::Nothing);
        }
        match self.channel.read_from(&mut self.stream) {
            Ok(0) => Ok(Read::Closed),
            Ok(_) => {
                // What comes from now on is an event of its own.
                self.readable = self.ends || !self.channel.drained();
                Ok(Read::Some)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Read::Nothing)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Read::Some),
            Err(e) => Err(e),
        }
    }

    /// Looks at the socket although no event came: they are rare enough.
    pub(super) fn doubt(&mut self) {
        self.readable = true;
    }

    /// Writes what the socket takes; whether it took anything.
    pub(super) fn write(&mut self) -> io::Result<bool> {
        if !self.writable || self.channel.queued() == 0 {
            return Ok(false);
        }
        let written = self.channel.write_to(&mut self.stream)?;
        self.writable = self.channel.queued() == 0;
        Ok(written > 0)
    }

    /// Whether another block may be queued.
    pub(super) fn wants_block(&self) -> bool {
        self.channel.is_open() && self.channel.queued() < QUEUED
    }

    /// The bytes of a full TCP segment, 0 if the system does not tell (tcp(7), TCP_MAXSEG).
    pub(super) fn segment(&self) -> u64 {
        getsockopt(&self.stream, TcpMaxSeg).map_or(0, u64::from)
    }

    /// Whether bytes wait that the socket does not take.
    pub(super) fn is_blocked(&self) -> bool {
        self.channel.is_open() && !self.writable && self.channel.queued() > 0
    }

    /// Queues a message. A ping is left out while other things wait: they show life as well.
    pub(super) fn send(&mut self, message: &LinkMessage) -> Result<(), ChannelError> {
        if *message == LinkMessage::Ping && self.channel.queued() > 0 {
            return Ok(());
        }
        self.channel.send(message)
    }
}
