//! The events of a session: every decision, and every observation that a decision rests on.
//!
//! A session is the fold of its events ([`super::book::Book`]). A program that keeps them in order can show,
//! continue and check the session, whatever happened to the process that produced them. `docs/events.md`
//! describes the file format.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plans::OwnDisks;
use super::trust::Finding;
use crate::chain::NodeId;
use crate::failure::Failure;
use crate::inventory::Inventory;
use crate::inventory::identity::DiskIdentity;
use crate::keys::Key;
use crate::mac::Mac;
use crate::notes::Tally;
use crate::plan::NodeName;
use crate::proof::Proof;
use crate::seal::StreamId;
use crate::step::Doing;
use crate::tpm::Fingerprint;
use crate::wire::control::Ticket;

use super::status::Transfer;

/// The version of the events' schema. A reader refuses to continue a journal of a later version.
pub const VERSION: u32 = 1;

/// An event in a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node has joined, and waits.
    Joined(Box<Joined>),
    /// Another machine claims the hardware address of a waiting node.
    Claimed {
        /// The waiting node.
        node: NodeId,
        /// The other machine's address.
        by: IpAddr,
    },
    /// A waiting node is gone.
    Left {
        /// The node.
        node: NodeId,
        /// The reason.
        reason: String,
    },
    /// The disks of a node to erase are known.
    Settled {
        /// The node.
        node: NodeId,
        /// Its disks.
        disks: OwnDisks,
    },
    /// The operator must be asked about a node's disks.
    Unsure {
        /// The node.
        node: NodeId,
        /// The reason.
        reason: String,
    },
    /// The operator has confirmed these disks of a machine.
    Confirmed {
        /// The machine.
        mac: Mac,
        /// Its disks.
        disks: Vec<DiskIdentity>,
    },
    /// The operator wants the session to start with the nodes present.
    Go,
    /// The operator has chosen the machines that take part.
    Admitted(Box<Admission>),
    /// A machine is refused for the rest of the session.
    Refused(Refused),
    /// Machines have received names; `None` for one that keeps the golden node's.
    Named {
        /// Machine and name.
        names: Vec<(Mac, Option<NodeName>)>,
    },
    /// The admitted machines were all gone when the session was to begin.
    Vanished {
        /// The machines.
        machines: BTreeSet<Mac>,
    },
    /// A round has begun.
    Round {
        /// Its number, from 1.
        round: u32,
        /// The nodes that take part.
        nodes: Vec<NodeId>,
        /// Nodes that are gone because their machine has returned, each with its new node.
        replaced: Vec<(NodeId, NodeId)>,
        /// Machines that were admitted, but gone when the session began.
        vanished: BTreeSet<Mac>,
    },
    /// A node has begun a step.
    Step {
        /// The node.
        node: NodeId,
        /// The step and its object.
        doing: Doing,
    },
    /// A node has finished its preparation, and waits for the stream.
    Ready {
        /// The node.
        node: NodeId,
    },
    /// A stream has begun.
    Streaming {
        /// The stream.
        stream: StreamId,
        /// The nodes in chain order, without the golden node.
        chain: Vec<NodeId>,
    },
    /// The golden node has read everything.
    Read {
        /// The stream.
        stream: StreamId,
        /// Its final proof.
        proof: Proof,
    },
    /// All members of the chain have the whole stream.
    Released {
        /// The stream.
        stream: StreamId,
    },
    /// The attempt at a stream is over, successful or not.
    Ended {
        /// The result.
        transfer: Transfer,
        /// The golden node's notes from reading.
        notes: Tally,
    },
    /// A round is restarted because most of its nodes have received forged data.
    Restarted {
        /// The stream that they received.
        stream: StreamId,
    },
    /// The session is given up, and ends like this once the nodes have left.
    GivenUp {
        /// How it ends.
        ending: Ending,
    },
    /// A node's copy of the stream is complete.
    Complete {
        /// The node.
        node: NodeId,
        /// The stream.
        stream: StreamId,
        /// Bytes of the uncompressed stream.
        length: u64,
    },
    /// A node has failed.
    Failed {
        /// The node.
        node: NodeId,
        /// The failed step, and the reason.
        failure: Failure,
        /// The source of the report.
        by: Judge,
    },
    /// A failed node is no longer heard.
    Lost {
        /// The node.
        node: NodeId,
    },
    /// A node has no work left.
    Done {
        /// The node.
        node: NodeId,
    },
    /// A node was dismissed.
    Dismissed {
        /// The node.
        node: NodeId,
    },
    /// A node's notes about its copy.
    Noted {
        /// The node.
        node: NodeId,
        /// The notes.
        tally: Tally,
    },
    /// A node received forged data.
    Forged {
        /// The stream.
        stream: StreamId,
        /// The receiver.
        node: NodeId,
        /// The sender's name.
        from: String,
        /// The place in the chain, and the two ends, if the sender is known.
        finding: Option<Finding>,
    },
    /// A chain of a lasting session is over: the session gathers nodes again.
    Gathering,
    /// The session has ended.
    Over {
        /// How it ended.
        ending: Ending,
    },
    /// Another process has taken over the session; the previous one ended without notice.
    Resumed,
}

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its number, and the secret that proves it.
    pub ticket: Ticket,
    /// Its agent's key for this boot.
    pub key: Key,
    /// The port for its successor.
    pub data_port: u16,
    /// The bytes that it can keep for others.
    pub window: u64,
    /// Its kernel was started with `kamethod`.
    pub erasable: bool,
    /// The number of this copy if its machine runs several.
    pub place: u64,
    /// Its address.
    pub peer: IpAddr,
    /// The controller's address, as the node sees it.
    pub local: IpAddr,
    /// The approximate number of bytes of its hello.
    pub weight: usize,
    /// The endorsement key that its TPM has proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Fingerprint>,
    /// The machine's inventory. Shared with its viewers, because it may be long.
    pub inventory: Arc<Inventory>,
}

/// Which side reports that a node has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The node itself.
    Node,
    /// The controller, which no longer hears the node, or has given up the stream.
    Controller,
    /// The controller: the node made no progress, and would make none in another round.
    Stuck,
    /// The controller: the chain continues without the node, which is dead.
    Dead,
    /// Like `Dead`, but the node is alive.
    Bypassed,
}

/// The machines that a [`super::AdmissionPolicy::Named`] admits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The machines with which it begins.
    pub named: BTreeSet<Mac>,
    /// Those that may take a place that becomes free later.
    pub others: BTreeSet<Mac>,
    /// The agents' keys of the machines that were seen at confirmation: another machine that claims to be one
    /// of them is not admitted. A machine that returns after a reboot has another key.
    pub keys: BTreeMap<Mac, Key>,
    /// No other machine may join later, either.
    pub only_keys: bool,
    /// The rejected machines, with the reason.
    pub refused: BTreeMap<Mac, String>,
    /// The confirmed disks, by machine.
    pub confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
}

/// A machine that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The machine.
    pub mac: Mac,
    /// The nodes under which it waited.
    pub nodes: Vec<NodeId>,
    /// Its address, if it was present.
    pub address: Option<IpAddr>,
    /// Its name, if it has one.
    pub hostname: String,
    /// The reason.
    pub reason: String,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every node was served or has failed; the result is recorded per node.
    Served,
    /// The source could not be read to its end.
    SourceFailed(String),
    /// No node came in time.
    Nobody,
    /// The operator stopped it.
    Stopped,
}

impl Event {
    /// Whether the journal must be on disk before the next action: a resumed controller must not contradict
    /// what a node was sent.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        match self {
            Self::Joined(_)
            | Self::Confirmed { .. }
            | Self::Admitted(_)
            | Self::Refused(_)
            | Self::Named { .. }
            | Self::Vanished { .. }
            | Self::Round { .. }
            | Self::Streaming { .. }
            | Self::Read { .. }
            | Self::Released { .. }
            | Self::Restarted { .. }
            | Self::GivenUp { .. }
            | Self::Complete { .. }
            | Self::Failed { .. }
            | Self::Dismissed { .. }
            | Self::Over { .. }
            | Self::Resumed => true,
            Self::Claimed { .. }
            | Self::Left { .. }
            | Self::Settled { .. }
            | Self::Unsure { .. }
            | Self::Go
            | Self::Step { .. }
            | Self::Ready { .. }
            | Self::Ended { .. }
            | Self::Lost { .. }
            | Self::Done { .. }
            | Self::Noted { .. }
            | Self::Forged { .. }
            | Self::Gathering => false,
        }
    }
}
