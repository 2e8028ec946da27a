//! The messages between agents and controller.

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
use crate::tpm::{FromNode, ToNode};

/// A message from an agent to the controller. After a lost connection an agent repeats what the controller
/// must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToController {
    /// The node, and the session that it joins: once, before everything else but the proof of its TPM.
    Hello(Box<Hello>),
    /// A heartbeat, with the position if a stream runs.
    Heartbeat(Progress),
    /// A neighbour is lost or misbehaves. Repeated until a new epoch arrives.
    Complaint {
        /// The stream that the report is about.
        stream: StreamId,
        /// The report.
        report: Report,
    },
    /// The node's current activity, for display.
    Step(Doing),
    /// The plan's preparation is done; the stream can start.
    Ready,
    /// The whole stream is verified, unpacked and synced.
    Complete {
        /// The stream.
        stream: StreamId,
        /// What was received, by the node's own count.
        total: Total,
    },
    /// All notes about this copy so far, replacing earlier ones. Notes are not failures, but the operator
    /// must know them. Sent before `Complete`, and again before `Done` if the finish added notes.
    Notes {
        /// The stream from which the copy was made.
        stream: StreamId,
        /// The notes.
        tally: Tally,
    },
    /// The data from this node's predecessor differs from what the golden node sent. `Failed` follows.
    Forged {
        /// The stream.
        stream: StreamId,
        /// Where it differs.
        forged: Forged,
    },
    /// The node gives up its own copy; it may continue to relay.
    Failed(Failure),
    /// A piece of the node's log.
    Log {
        /// The offset of these bytes in the log, so that repeated pieces are stored once.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// All work is done; the node leaves in good order. After a transient failure: nothing is left of that
    /// attempt, and another plan or stream may follow.
    Done,
    /// The proof of the node's TPM, before its `Hello`.
    Tpm(FromNode),
}

/// A node that joins, and the session that it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The session's name.
    pub session: String,
    /// The agent's version, for the log.
    pub version: String,
    /// The agent's static public key, generated at this boot.
    pub key: Key,
    /// The port at which the node's successor reaches it; the address is the one that the controller sees.
    pub data_port: u16,
    /// The bytes that the node can keep for its successors.
    pub window: u64,
    /// The machine's inventory.
    pub inventory: Inventory,
    /// The kernel was started with `kamethod`: a run may erase this machine if it is allowed to.
    pub erasable: bool,
    /// The number of this copy if one machine runs several, so that a restarted copy takes the place of its
    /// predecessor and of no other; 0 for a machine that becomes a copy itself.
    pub place: u64,
    /// A returning node whose connection was lost.
    pub resume: Option<Ticket>,
}

/// The credentials of a node that lost its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its number.
    pub node: NodeId,
    /// A secret that only the controller and the node know.
    pub token: [u8; 16],
}

/// A node's position in the running stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The verified position.
    pub verified: Offset,
    /// The position up to which the writer has taken bytes.
    pub written: Offset,
    /// How the member spent its time, which separates slow members from those that wait for them.
    pub spent: Spent,
}

/// A message from the controller to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The node is accepted.
    Welcome {
        /// The node's number, and the secret that proves it later.
        ticket: Ticket,
        /// The golden node's clock: nanoseconds since 1970 (UTC).
        time: u64,
        /// How long silence may last in this session; heartbeats come three times as often.
        dead_after: Duration,
        /// How long to wait for the controller if it vanishes: another process may take over the session.
        /// Zero means no longer than an ordinary outage lasts.
        patience: Duration,
    },
    /// The node is rejected.
    Refused {
        /// The reason.
        reason: String,
    },
    /// Another process on the same host serves the session.
    Redirect {
        /// Its control port.
        port: u16,
    },
    /// The preparation before the stream, and the disks for it.
    Plan(VersionedPlan),
    /// A stream is about to start, and the node is in its chain.
    Stream(Box<StreamStart>),
    /// The node's place in the chain.
    View {
        /// The stream.
        stream: StreamId,
        /// The place.
        view: View<SocketAddr>,
    },
    /// Proof of what the golden node has sent so far: different content was forged on the way.
    Proof {
        /// The stream.
        stream: StreamId,
        /// The proof.
        proof: Proof,
    },
    /// All members behind the node have everything: it may forget the stream's blocks.
    Release {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is given up; the received data is worthless.
    Abort {
        /// The stream.
        stream: StreamId,
        /// The reason.
        reason: String,
    },
    /// Answer with a heartbeat at once.
    Probe,
    /// A heartbeat.
    Heartbeat,
    /// The node's log is stored; the node may leave.
    Bye,
    /// The controller's part of the proof of the node's TPM.
    Tpm(ToNode),
}

/// What a member must know about a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStart {
    /// The key that opens its blocks.
    pub key: StreamKey,
    /// The bytes that every member keeps.
    pub window: u64,
}
