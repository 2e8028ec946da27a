//! What goes into a session, and what comes out of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::event::{Admission, Event};
use crate::chain::{LinkKeys, NodeId, Offset, Report, Standing, View};
use crate::inventory::identity::DiskIdentity;
use crate::mac::Mac;
use crate::notes::Tally;
use crate::proof::{Proof, Root};
use crate::wire::control::{Hello, StreamStart, ToAgent, ToController};

/// A control connection, as the shell around the session numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub usize);

/// What a session is told.
#[derive(Debug)]
pub enum Input {
    /// A node wants to join, or comes back.
    Hello(Box<Arriving>),
    /// A node says something.
    Message {
        /// Which node.
        node: NodeId,
        /// What it says.
        message: ToController,
    },
    /// A node's connection has ended.
    Closed {
        /// Which node.
        node: NodeId,
        /// Which connection: the node may have another one by now.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// The stream that [`Effect::StartStream`] asked for runs.
    Started(Box<Started>),
    /// It could not be started.
    StartFailed(String),
    /// How far the golden node is.
    Golden(Golden),
    /// The stream's source or the golden node's relay has something to say.
    Stream(StreamNotice),
    /// The operator admits machines; with nobody named, the session ends.
    Admit(Admission),
    /// The operator has answered a question: these disks of the node are confirmed, or none.
    Answer {
        /// Which node.
        node: NodeId,
        /// The disks.
        confirmed: Option<Vec<DiskIdentity>>,
    },
    /// The operator wants the session to start with the nodes present.
    Go,
    /// The operator stops the session.
    Stop {
        /// Why, for the nodes.
        reason: String,
    },
    /// Time has passed.
    Tick,
}

/// A node's first words on a connection.
#[derive(Debug)]
pub struct Arriving {
    /// The number that it has if it is new.
    pub id: NodeId,
    /// What it says.
    pub hello: Hello,
    /// Where it says so.
    pub connection: ConnectionId,
    /// Its address.
    pub peer: IpAddr,
    /// The controller's address, as the node sees it.
    pub local: IpAddr,
    /// A fresh random secret, by which it is recognised later.
    pub token: [u8; 16],
    /// The controller's clock: nanoseconds since 1970 (UTC).
    pub time: u64,
}

/// A stream that runs.
pub struct Started {
    /// What its members must know.
    pub start: StreamStart,
    /// Where the first node reaches the golden node.
    pub golden: SocketAddr,
    /// What proves the ends of its links to each other.
    pub links: LinkKeys,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("stream", &self.start.key.stream).finish_non_exhaustive()
    }
}

/// How far the golden node is with the running stream.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    /// How its own member stands.
    pub standing: Standing,
    /// The lowest position of all members behind it.
    pub tail: Offset,
    /// Bytes of the plain stream that it has read.
    pub plain: u64,
    /// What it noted while it read.
    pub notes: Tally,
}

/// What the running stream's source and relay say.
#[derive(Clone, Debug)]
pub enum StreamNotice {
    /// The golden node complains of its successor.
    Complaint(Report),
    /// The last member of the chain has verified everything.
    TailComplete,
    /// The golden node's relay has failed.
    RelayFailed(String),
    /// The golden node's root at the end of a segment.
    Root(Root),
    /// The source has come to its end, with the last proof.
    Produced(Proof),
    /// The source has failed.
    SourceFailed(String),
}

/// What the shell is to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Write this down before anything else: what follows rests on it.
    Record(Box<Event>),
    /// The connection belongs to this node from now on.
    Joined {
        /// The connection.
        connection: ConnectionId,
        /// The node.
        node: NodeId,
    },
    /// The host on this connection is not wanted.
    Refused {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: String,
    },
    /// Send this. The connection ends after a `Bye` or a `Refused`.
    Send {
        /// On which connection: the node may be forgotten before it is sent.
        connection: ConnectionId,
        /// What.
        message: Box<ToAgent>,
    },
    /// Start an attempt at the stream, and report [`Input::Started`] or [`Input::StartFailed`].
    StartStream {
        /// This machine's address, as the first node reaches it.
        golden: IpAddr,
        /// Every member's window in bytes.
        window: u64,
    },
    /// The golden node's own place in the chain.
    PlaceGolden(Box<View<SocketAddr>>),
    /// All members have everything: the golden node may forget the stream.
    ReleaseStream,
    /// Nobody wants the stream any more.
    GiveUpStream,
    /// Store a piece of a node's log.
    StoreLog(Piece),
    /// This machine will report its first boot with this secret.
    AwaitBoot {
        /// Which machine.
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
    /// Whose it is.
    pub node: NodeId,
    /// What a person calls the node, for messages.
    pub label: String,
    /// What the file is called, without its ending.
    pub name: String,
    /// Where in the log the bytes stand.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}
