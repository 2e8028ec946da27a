//! Connections between simulated hosts: frames in order, with rate, delay, a bounded number of bytes
//! between the two ends, and all the ways in which a connection ends.

use std::collections::VecDeque;
use std::time::Duration;

use ka::chain::LinkId;
use ka::seal::Block;
use ka::wire::link::LinkMessage;
use ka::wire::preamble::LinkName;

/// A connection's place in the world's list.
pub(super) type ConnectionId = usize;
/// A host's place in the world's list; the golden node is host 0.
pub(super) type HostId = usize;

/// The end of a connection that dialled: the successor's.
pub(super) const DIALLER: usize = 0;
/// The end that was dialled: the predecessor's.
pub(super) const ACCEPTOR: usize = 1;

/// What travels on a connection.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    /// The dialler's first words.
    Knock(LinkName),
    /// The answer that completes the handshake.
    Accepted,
    /// A sealed message.
    Message(LinkMessage),
    /// A block of the stream.
    Block(Block),
    /// A message that does not authenticate.
    Damaged,
    /// The other end has closed.
    Closed,
}

impl Frame {
    /// Bytes on the wire, roughly.
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

/// What a link can carry.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes a second.
    pub rate: u64,
    /// From one end to the other.
    pub delay: Duration,
    /// Bytes that a sender can be ahead of the reader, in the buffers of both and on the wire.
    pub buffer: u64,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// Sent, with the time of arrival.
    wire: VecDeque<(Duration, Frame)>,
    /// Arrived, not read yet.
    inbox: VecDeque<Frame>,
    bytes: u64,
    free_at: Duration,
    /// The sender waits for room.
    pub(super) blocked: bool,
}

impl Pipe {
    /// Takes a frame; returns when it arrives.
    pub(super) fn send(&mut self, frame: Frame, shape: Shape, now: Duration) -> Duration {
        let sent = now.max(self.free_at) + time_of(frame.size(), shape.rate);
        self.free_at = sent;
        let arrival = sent + shape.delay;
        self.bytes += frame.size();
        self.wire.push_back((arrival, frame));
        arrival
    }

    /// Whether another block is taken.
    #[must_use]
    pub(super) fn has_room(&self, shape: Shape) -> bool {
        self.bytes < shape.buffer
    }

    /// Moves what has arrived into the reader's inbox. `abrupt`: a closing overtakes what is unread.
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
    /// What the members at the ends call it.
    pub(super) links: [Option<LinkId>; 2],
    /// Whether each end still holds it.
    pub(super) open: [bool; 2],
    /// Whether the dialler knows that it was accepted.
    pub(super) accepted: bool,
    /// What each end has sent.
    pub(super) pipes: [Pipe; 2],
}

impl Connection {
    /// A connection that `dialler` makes to `acceptor`.
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

/// How long `bytes` take at `rate` bytes a second.
#[must_use]
pub(super) fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1))
}
