//! The inputs and effects of a session.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::event::{Admission, Event};
use crate::chain::{LinkKeys, NodeId, Offset, ProgressSample, Report, View};
use crate::inventory::identity::DiskIdentity;
use crate::mac::Mac;
use crate::notes::Tally;
use crate::proof::{Proof, Root};
use crate::tpm::Fingerprint;
use crate::wire::control::{Hello, StreamStart, ToAgent, ToController};

/// A control connection, by the number that the shell around the session gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub usize);

/// An input to a session.
#[derive(Debug)]
pub enum Input {
    /// A node wants to join, or returns.
    Hello(Box<Arriving>),
    /// A node sends a message.
    Message {
        /// The node.
        node: NodeId,
        /// The message.
        message: ToController,
    },
    /// A node's connection has ended.
    Closed {
        /// The node.
        node: NodeId,
        /// The connection: the node may already have another one.
        connection: ConnectionId,
        /// The reason.
        reason: String,
    },
    /// The stream requested by [`Effect::StartStream`] is running.
    Started(Box<Started>),
    /// The stream could not be started.
    StartFailed(String),
    /// The golden node's position.
    Golden(Golden),
    /// A report from the stream's source or the golden node's relay.
    Stream(StreamNotice),
    /// The operator admits machines. With none named, the session ends.
    Admit(Admission),
    /// The operator has answered a question: these disks of the node are confirmed, or none.
    Answer {
        /// The node.
        node: NodeId,
        /// The disks.
        confirmed: Option<Vec<DiskIdentity>>,
    },
    /// The operator wants the session to start with the nodes present.
    Go,
    /// The operator stops the session.
    Stop {
        /// The reason, for the nodes.
        reason: String,
    },
    /// Time has passed.
    Tick,
}

/// A node's first message on a connection.
#[derive(Debug)]
pub struct Arriving {
    /// The number for a new node.
    pub id: NodeId,
    /// The message.
    pub hello: Hello,
    /// The connection.
    pub connection: ConnectionId,
    /// Its address.
    pub peer: IpAddr,
    /// The controller's address, as the node sees it.
    pub local: IpAddr,
    /// A fresh random secret, by which the node is recognised later.
    pub token: [u8; 16],
    /// The controller's clock: nanoseconds since 1970 (UTC).
    pub time: u64,
    /// The endorsement key that its TPM has proven, if it has one.
    pub tpm: Option<Fingerprint>,
}

/// A running stream.
pub struct Started {
    /// What its members must know.
    pub start: StreamStart,
    /// Where the first node reaches the golden node.
    pub golden: SocketAddr,
    /// The secrets for its links.
    pub links: LinkKeys,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("stream", &self.start.key.stream).finish_non_exhaustive()
    }
}

/// The golden node's position in the running stream.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// The state of its own member.
    pub sample: ProgressSample,
    /// The lowest position of all members behind it.
    pub tail: Offset,
    /// Bytes of the uncompressed stream read so far.
    pub uncompressed: u64,
    /// Its notes from reading.
    pub notes: Tally,
}

/// A report from the running stream's source or relay.
#[derive(Clone, Debug)]
pub enum StreamNotice {
    /// The golden node complains about its successor.
    Complaint(Report),
    /// The last member of the chain has verified everything.
    TailComplete,
    /// The golden node's relay has failed.
    RelayFailed(String),
    /// The golden node's root at the end of a segment.
    Root(Root),
    /// The source has ended; the final proof.
    Produced(Proof),
    /// The source has failed.
    SourceFailed(String),
}

/// An action for the shell. Actions are carried out in this order.
#[derive(Debug)]
pub enum Effect {
    /// Record this before anything else: what follows rests on it.
    Record(Box<Event>),
    /// Log this line. It says that an event has happened, so it must not appear before the event is durable.
    Report(String),
    /// The connection belongs to this node from now on.
    Joined {
        /// The connection.
        connection: ConnectionId,
        /// The node.
        node: NodeId,
    },
    /// Reject the host on this connection.
    Refused {
        /// The connection.
        connection: ConnectionId,
        /// The reason.
        reason: String,
    },
    /// Send this message. The connection ends after a `Bye` or a `Refused`.
    Send {
        /// The connection: the node may be forgotten before the message is sent.
        connection: ConnectionId,
        /// The message.
        message: Box<ToAgent>,
    },
    /// Start an attempt at the stream, and report [`Input::Started`] or [`Input::StartFailed`].
    StartStream {
        /// This machine's address for the first node.
        golden: IpAddr,
        /// Every member's window in bytes.
        window: u64,
    },
    /// The golden node's own place in the chain.
    PlaceGolden(Box<View<SocketAddr>>),
    /// All members have everything: the golden node may forget the stream.
    ReleaseStream,
    /// No node needs the stream any more.
    GiveUpStream,
    /// Store a piece of a node's log.
    StoreLog(Piece),
    /// This machine will report its first boot with this secret.
    AwaitBoot {
        /// The machine.
        mac: Mac,
        /// The secret.
        token: String,
    },
    /// The answer to [`Input::Go`], for the operator.
    Went(Result<(), String>),
}

/// A piece of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The node.
    pub node: NodeId,
    /// The node's name, for messages.
    pub label: String,
    /// The file's name, without its extension.
    pub name: String,
    /// The offset of these bytes in the log.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}
