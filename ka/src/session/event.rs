//! The events of a session: every decision, and every observation that a decision rests on.
//!
//! A session is the fold of its events ([`super::book::Book`]). Who keeps them in order can show, continue and judge it,
//! whatever became of the process that made them. `docs/events.md` describes them as they are written down.

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
use crate::wire::control::Ticket;

use super::status::Transfer;

/// The version of the events' schema. A reader refuses to continue what a later one has written.
pub const VERSION: u32 = 1;

/// What happened in a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node has joined, and waits.
    Joined(Box<Joined>),
    /// Another machine claims the hardware address of a node that waits.
    Claimed {
        /// The node that waits.
        node: NodeId,
        /// Where the other machine is.
        by: IpAddr,
    },
    /// A node that waited is gone.
    Left {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// It is known which disks of a node are erased.
    Settled {
        /// Which node.
        node: NodeId,
        /// Its disks.
        disks: OwnDisks,
    },
    /// The operator must be asked about a node's disks.
    Unsure {
        /// Which node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The operator has confirmed these disks of a machine.
    Confirmed {
        /// Which machine.
        mac: Mac,
        /// Its disks.
        disks: Vec<DiskIdentity>,
    },
    /// The operator wants the session to start with the nodes present.
    Go,
    /// The operator has said which machines take part.
    Admitted(Box<Admission>),
    /// A machine is refused for the rest of the session.
    Refused(Refused),
    /// Machines have got their names; none for one that keeps the golden node's.
    Named {
        /// Machine and name.
        names: Vec<(Mac, Option<NodeName>)>,
    },
    /// Machines that were admitted had gone, all of them, when the session was to begin.
    Vanished {
        /// Which.
        machines: BTreeSet<Mac>,
    },
    /// A round has begun.
    Round {
        /// Its number, from 1.
        round: u32,
        /// The nodes that take part.
        nodes: Vec<NodeId>,
        /// Nodes that are gone: the machine has come again, as the second one.
        replaced: Vec<(NodeId, NodeId)>,
        /// Machines that were admitted, and had gone when the session began.
        vanished: BTreeSet<Mac>,
    },
    /// A node has begun a step.
    Step {
        /// Which node.
        node: NodeId,
        /// The step, and what it is about.
        doing: Doing,
    },
    /// A node has prepared everything, and waits for the stream.
    Ready {
        /// Which node.
        node: NodeId,
    },
    /// A stream has begun.
    Streaming {
        /// Which.
        stream: StreamId,
        /// The nodes in the order of the chain, without the golden node.
        chain: Vec<NodeId>,
    },
    /// The golden node has read everything.
    Read {
        /// The stream.
        stream: StreamId,
        /// Its last proof.
        proof: Proof,
    },
    /// All members of the chain have the whole stream.
    Released {
        /// The stream.
        stream: StreamId,
    },
    /// The attempt at a stream is over, however it went.
    Ended {
        /// How it went.
        transfer: Transfer,
        /// What the golden node noted while it read.
        notes: Tally,
    },
    /// The session is given up, with this end once the nodes have left.
    GivenUp {
        /// The end.
        ending: Ending,
    },
    /// A node's copy of the stream is complete.
    Complete {
        /// Which node.
        node: NodeId,
        /// The stream.
        stream: StreamId,
        /// Bytes of the plain stream.
        length: u64,
    },
    /// A node has failed.
    Failed {
        /// Which node.
        node: NodeId,
        /// At what, and why.
        failure: Failure,
        /// Who says so.
        by: Judge,
    },
    /// Nothing is heard any more of a node that has failed.
    Lost {
        /// Which node.
        node: NodeId,
    },
    /// A node has nothing more to do.
    Done {
        /// Which node.
        node: NodeId,
    },
    /// A node was dismissed.
    Dismissed {
        /// Which node.
        node: NodeId,
    },
    /// What a node noted of its copy.
    Noted {
        /// Which node.
        node: NodeId,
        /// What.
        tally: Tally,
    },
    /// A node received forged data.
    Forged {
        /// The stream.
        stream: StreamId,
        /// The receiver.
        node: NodeId,
        /// What a person calls the sender.
        from: String,
        /// Where in the chain, and between whom, if the sender is known.
        finding: Option<Finding>,
    },
    /// A chain of a lasting session is over: it gathers nodes again.
    Gathering,
    /// The session has ended.
    Over {
        /// How.
        ending: Ending,
    },
    /// Another process has taken the session over; the one before ended without a word.
    Resumed,
}

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Its number, and what proves it.
    pub ticket: Ticket,
    /// Its agent's key of this boot.
    pub key: Key,
    /// Where its successor reaches it.
    pub data_port: u16,
    /// How many bytes it can keep for others.
    pub window: u64,
    /// Its kernel was started with `kamethod`.
    pub erasable: bool,
    /// Which of several copies on its machine it is.
    pub place: u64,
    /// Its address.
    pub peer: IpAddr,
    /// The controller's address, as the node sees it.
    pub local: IpAddr,
    /// Bytes that its hello takes, about.
    pub weight: usize,
    /// What the machine is. Shared with its viewers: it may be long.
    pub inventory: Arc<Inventory>,
}

/// Who says that a node has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The node itself.
    Node,
    /// The controller, which has not heard it, or has given up the stream.
    Controller,
    /// The controller: the node made no progress, and would make none in another round.
    Stuck,
    /// The controller: the chain goes on without the node, which is dead.
    Dead,
    /// The same, and the node is alive.
    Bypassed,
}

/// Whom a [`super::Gate::Named`] lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The machines with which it begins.
    pub named: BTreeSet<Mac>,
    /// Those that may fill a place that is free later.
    pub others: BTreeSet<Mac>,
    /// The agents' keys of those that were seen when the operator said yes: another machine that claims to be one of
    /// them is not let in. A machine that comes again after a reboot has another key.
    pub keys: BTreeMap<Mac, Key>,
    /// No other machine is let in later, either.
    pub only_keys: bool,
    /// Those that are sent away, with the reason.
    pub refused: BTreeMap<Mac, String>,
    /// The disks of the machines, as they were confirmed.
    pub confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
}

/// A machine that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub mac: Mac,
    /// The nodes as which it waited.
    pub nodes: Vec<NodeId>,
    /// Its address, if it was there.
    pub address: Option<IpAddr>,
    /// Its name, if it has one.
    pub hostname: String,
    /// Why.
    pub reason: String,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Every node was served or has failed; the nodes tell which.
    Served,
    /// The source could not be read to its end.
    SourceFailed(String),
    /// No node came in time.
    Nobody,
    /// The operator stopped it.
    Stopped,
}

impl Event {
    /// Whether the journal must be on the disk before anything follows from this: a resumed controller must not
    /// contradict what a node was told.
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
