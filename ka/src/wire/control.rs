//! What agents and controller say to each other.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::{NodeId, Offset, Report, Spent, View};
use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::keys::Key;
use crate::notes::Tally;
use crate::plan::VersionedPlan;
use crate::proof::{Forged, Proof};
use crate::seal::{StreamId, StreamKey, Total};
use crate::step::Doing;

/// From an agent to the controller. After a lost connection an agent says again what must be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToController {
    /// The first message, and only then: who joins what.
    Hello(Box<Hello>),
    /// I am here; how far I am, if a stream runs.
    Heartbeat(Progress),
    /// A neighbour is lost or does harm. Repeated until a new epoch comes.
    Complaint {
        /// The stream that it is about.
        stream: StreamId,
        /// What was seen.
        report: Report,
    },
    /// What the node does now, for the person who watches.
    Step(Doing),
    /// The plan's preparation is done; the stream may come.
    Ready,
    /// The whole stream is verified, unpacked and synced.
    Complete {
        /// The stream.
        stream: StreamId,
        /// What was received, as the node itself counted it.
        total: Total,
    },
    /// All that was noted of this copy so far, in place of what was said before: what is no failure, and what a
    /// person must know. Comes before `Complete`, and again before `Done` if the finish noted more.
    Notes {
        /// The stream from which the copy was made.
        stream: StreamId,
        /// What was noted.
        tally: Tally,
    },
    /// What came from this node's predecessor is not what the golden node sent. `Failed` follows.
    Forged {
        /// The stream.
        stream: StreamId,
        /// Where.
        forged: Forged,
    },
    /// The node gives up its own copy; it may go on relaying.
    Failed(Failure),
    /// Some of the node's log.
    Log {
        /// Where in the log the bytes stand, so that what is said twice is stored once.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All that was to do is done; the node leaves in peace. After a transient failure: nothing is
    /// left of that attempt, and another plan or stream may come.
    Done,
}

/// Who joins what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session's name.
    pub session: String,
    /// The agent's version, for the log.
    pub version: String,
    /// The agent's static public key, made at this boot.
    pub key: Key,
    /// Where the node's successor reaches it; the address is the one the controller sees.
    pub data_port: u16,
    /// How many bytes the node can keep for its successors.
    pub window: u64,
    /// What the machine is.
    pub inventory: Inventory,
    /// The kernel was started with `kamethod`: this machine may be erased by a run that allows it.
    pub erasable: bool,
    /// Which of several copies on one machine this is, so that one that is started again takes the place of its former
    /// self and of no other; 0 for a machine that becomes a copy itself.
    pub place: u64,
    /// A node whose connection was lost comes back.
    pub resume: Option<Ticket>,
}

/// What a node shows to be recognised after it lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its number.
    pub node: NodeId,
    /// What only the controller and it know.
    pub token: [u8; 16],
}

/// How far a node is with the running stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Verified up to here.
    pub verified: Offset,
    /// Taken by the writer up to here.
    pub written: Offset,
    /// Where the member's time went, by which the slow are told from those that wait for them.
    pub spent: Spent,
}

/// From the controller to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// You are in.
    Welcome {
        /// Who you are, and how to prove it later.
        ticket: Ticket,
        /// The golden node's clock: nanoseconds since 1970 (UTC).
        time: u64,
        /// What silence means here; heartbeats come three times as often.
        dead_after: Duration,
        /// How long to wait for the controller if it vanishes: another process may take the session over. Zero for no
        /// longer than any outage lasts.
        patience: Duration,
    },
    /// You are not wanted.
    Refused {
        /// Why.
        reason: String,
    },
    /// The session is served by another process on the same host.
    Redirect {
        /// Its control port.
        port: u16,
    },
    /// What is to be done before the stream, and with which disks.
    Plan(VersionedPlan),
    /// A stream is about to start, and you are in its chain.
    Stream(Box<StreamStart>),
    /// Your place in the chain.
    View {
        /// The stream.
        stream: StreamId,
        /// The place.
        view: View<SocketAddr>,
    },
    /// What the golden node has sent so far: content that is something else was forged on the way.
    Proof {
        /// The stream.
        stream: StreamId,
        /// The proof.
        proof: Proof,
    },
    /// Everybody behind you has everything: you may forget the stream's blocks.
    Release {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is given up; what has come of it is worth nothing.
    Abort {
        /// The stream.
        stream: StreamId,
        /// Why.
        reason: String,
    },
    /// Answer with a heartbeat at once.
    Probe,
    /// I am here.
    Heartbeat,
    /// Your log is stored, you may go.
    Bye,
}

/// All that a member must know of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStart {
    /// How its blocks are opened.
    pub key: StreamKey,
    /// How many bytes every member keeps.
    pub window: u64,
}
