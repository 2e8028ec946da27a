//! Connections between simulated hosts: ordered frames, with a rate, a delay, a bounded number of bytes in
//! flight, and all the ways in which a connection can end.

use std::collections::VecDeque;
use std::time::Duration;

use ka::chain::LinkId;
use ka::chain::LinkMessage;
use ka::chain::LinkName;
use ka::seal::Block;

use super::host::Power;
use super::invariants::Violation;
use super::world::{Event, World};

/// A connection's index in the world's list.
pub(super) type ConnectionId = usize;
/// A host's index in the world's list; the golden node is host 0.
pub(super) type HostId = usize;

/// The dialling end of a connection: the successor's.
pub(super) const DIALLER: usize = 0;
/// The accepting end: the predecessor's.
pub(super) const ACCEPTOR: usize = 1;

/// A frame on a connection.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// The dialler's first message.
    Knock(LinkName),
    /// The answer that completes the handshake.
    Accepted,
    /// A sealed message.
    Message(LinkMessage),
    /// A block of the stream.
    Block(Block),
    /// A message whose authentication fails.
    Damaged,
    /// The other end has closed.
    Closed,
}

impl Frame {
    /// The approximate size on the wire, in bytes.
    #[must_use]
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Block(block) => block.size() + 4,
            Self::Knock(_) | Self::Accepted => 64,
            Self::Message(_) | Self::Damaged => 40,
            Self::Closed => 0,
        }
    }
}

/// The capacity of a link.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The rate in bytes per second.
    pub rate: u64,
    /// The delay from one end to the other.
    pub delay: Duration,
    /// The number of bytes by which a sender can be ahead of the reader, in the buffers of both and on the
    /// wire.
    pub buffer: u64,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// Sent, with the time of arrival.
    wire: VecDeque<(Duration, Frame)>,
    /// Arrived, and not read yet.
    inbox: VecDeque<Frame>,
    bytes: u64,
    free_at: Duration,
    /// The sender waits for room.
    pub(super) blocked: bool,
}

impl Pipe {
    /// Accepts a frame; returns when it arrives.
    pub(super) fn send(&mut self, frame: Frame, shape: Shape, now: Duration) -> Duration {
        let sent = now.max(self.free_at) + time_of(frame.size(), shape.rate);
        self.free_at = sent;
        let arrival = sent + shape.delay;
        self.bytes += frame.size();
        self.wire.push_back((arrival, frame));
        arrival
    }

    /// Whether another block is accepted.
    #[must_use]
    pub(super) fn has_room(&self, shape: Shape) -> bool {
        self.bytes < shape.buffer
    }

    /// Moves arrived frames into the reader's inbox. `abrupt`: a closing overtakes unread frames.
    pub(super) fn arrive(&mut self, now: Duration, abrupt: bool) {
        while self.wire.front().is_some_and(|(arrival, _)| *arrival <= now) {
            let Some((_, frame)) = self.wire.pop_front() else { return };
            if abrupt && matches!(frame, Frame::Closed) {
                while self.read().is_some() {}
            }
            self.inbox.push_back(frame);
        }
    }

    /// Reads a frame.
    pub(super) fn read(&mut self) -> Option<Frame> {
        let frame = self.inbox.pop_front()?;
        self.bytes -= frame.size();
        Some(frame)
    }
}

/// A connection between two hosts.
pub(super) struct Connection {
    /// The hosts at the ends.
    pub(super) hosts: [HostId; 2],
    /// The members' names for it, at each end.
    pub(super) links: [Option<LinkId>; 2],
    /// Whether each end still holds it.
    pub(super) open: [bool; 2],
    /// Whether the dialler knows that it was accepted.
    pub(super) accepted: bool,
    /// The frames that each end has sent.
    pub(super) pipes: [Pipe; 2],
}

impl Connection {
    /// A connection from `dialler` to `acceptor`.
    #[must_use]
    pub(super) fn new(dialler: HostId, link: LinkId, acceptor: HostId) -> Self {
        Self {
            hosts: [dialler, acceptor],
            links: [Some(link), None],
            open: [true, true],
            accepted: false,
            pipes: [Pipe::default(), Pipe::default()],
        }
    }
}

impl World<'_> {
    /// The capacity of the link between a connection's hosts: the slower card decides.
    pub(super) fn shape(&self, id: ConnectionId) -> Shape {
        let [a, b] = self.connections[id].hosts.map(|host| self.hosts[host].plan.shape);
        Shape { rate: a.rate.min(b.rate), delay: a.delay.max(b.delay), buffer: a.buffer.min(b.buffer) }
    }

    /// Sends a frame from one end of a connection.
    pub(super) fn transmit(&mut self, id: ConnectionId, end: usize, frame: Frame) {
        let hosts = self.connections[id].hosts;
        if !self.connections[id].open[end] {
            return;
        }
        let frame = self.perhaps_damage(hosts[end], hosts[1 - end], frame);
        let shape = self.shape(id);
        let arrival = self.connections[id].pipes[end].send(frame, shape, self.now);
        self.at(arrival, Event::Arrive { id, end });
    }

    fn perhaps_damage(&mut self, from: HostId, to: HostId, frame: Frame) -> Frame {
        let Some(path) = self.paths.get_mut(&(from, to)).filter(|path| path.damage > 0) else {
            return frame;
        };
        let damaged = match &frame {
            Frame::Message(LinkMessage::Hello { .. } | LinkMessage::Ack { .. } | LinkMessage::Ping) => {
                Frame::Damaged
            }
            Frame::Block(block) => {
                let mut bytes = block.bytes().to_vec();
                let at = self.random.index(bytes.len());
                bytes[at] ^= 1 << self.random.index(8);
                Block::from_wire(&bytes).map_or(Frame::Damaged, Frame::Block)
            }
            _ => return frame,
        };
        path.damage = path.damage.saturating_sub(1);
        damaged
    }

    pub(super) fn on_arrive(&mut self, id: ConnectionId, end: usize) -> Result<(), Violation> {
        let hosts = self.connections[id].hosts;
        let (from, to) = (hosts[end], hosts[1 - end]);
        let cut = self.paths.get(&(from, to)).is_some_and(|path| path.cut);
        if cut || self.hosts[from].isolated || self.hosts[to].isolated {
            return Ok(());
        }
        self.connections[id].pipes[end].arrive(self.now, self.schedule.abrupt);
        let node = &self.hosts[to];
        let nobody = node.power == Power::Down || node.left || node.cut;
        if nobody && end == DIALLER && self.connections[id].open[1] {
            // The kernel refuses connections that have no listener.
            self.close(id, 1);
        }
        self.pump(to)
    }
}

/// How long `bytes` take at `rate` bytes per second.
#[must_use]
pub(super) fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1))
}
