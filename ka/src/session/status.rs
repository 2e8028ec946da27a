//! The status of a run at a moment, as plain data: the hub fills it, the views show it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};
use crate::mac::Mac;
use crate::notes::{Counted, NoteKind, Tally};
use crate::step::{Doing, Step};
use crate::tpm::Fingerprint;

/// The status of a run at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStatus {
    /// The run's name.
    pub name: String,
    /// The current session.
    pub session: String,
    /// When the run began.
    pub started: SystemTime,
    /// Bytes of the uncompressed stream that the golden node has sent in this session.
    pub sent: u64,
    /// The total that it will have sent at the end, if known in advance. For files in file systems it is an
    /// estimate: the space that they occupy.
    pub total: Option<u64>,
    /// The golden node's notes from reading: not failures, but the operator must know them.
    pub notes: Tally,
    /// What currently limits the chain, with its rate: a link, a node's disk, or the golden node.
    pub limit: Option<String>,
    /// Everything that has limited its chains, longest first. Only limits that lasted longer than the time
    /// after which a node counts as slow are known.
    pub limits: Vec<LimitStatus>,
    /// Its nodes, in the order in which they joined.
    pub nodes: Vec<NodeStatus>,
}

/// A limit of a chain, compared with the other parts of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitStatus {
    /// The part of the chain.
    pub what: LimitedBy,
    /// How long it limited the chain.
    pub time: Duration,
    /// Its last rate in bytes per second.
    pub rate: f64,
    /// The stream's best rate until then, in bytes per second.
    pub best: f64,
    /// The share of the time for which it was busy while others waited for it.
    pub busy: f64,
    /// The largest such share of any other part.
    pub others: f64,
}

/// A part of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// The golden node reads and compresses no faster.
    Source,
    /// A node's disk, or whatever else takes its stream.
    Disk {
        /// The node.
        node: MemberName,
    },
    /// The link from a member to its successor.
    Link {
        /// The sender.
        from: MemberName,
        /// The receiver.
        to: MemberName,
    },
}

/// A member of a chain: a node, or the golden node, for which neither address is given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    /// Its name for display.
    pub name: String,
    /// The card from which it booted, if it reported one.
    pub mac: Option<Mac>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// The status of a node at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The card from which it booted, if it reported one.
    pub mac: Option<Mac>,
    /// Its address.
    pub address: IpAddr,
    /// Its name, empty if it has none.
    pub hostname: String,
    /// Its current phase.
    pub phase: Phase,
    /// Bytes of the uncompressed stream that it has received in this session.
    pub received: u64,
    /// Bytes per second, over the last seconds.
    pub rate: u64,
    /// The last round in which it took part, from 1; 0 if none.
    pub round: u32,
    /// Its place in that round's chain at the start, from 1; `None` if there was none.
    pub position: Option<usize>,
    /// It has failed, and another round may serve it.
    pub may_come_again: bool,
    /// Its last reported activity.
    pub doing: Option<Doing>,
    /// Its notes about its copy: not failures, but the operator must know them.
    pub notes: Tally,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The endorsement key that its TPM has proven, if it has one.
    pub tpm: Option<Fingerprint>,
}

impl RunStatus {
    /// A run without nodes that has sent nothing yet.
    #[must_use]
    pub fn new(name: &str, session: &str, started: SystemTime) -> Self {
        Self {
            name: name.to_owned(),
            session: session.to_owned(),
            started,
            sent: 0,
            total: None,
            notes: Tally::default(),
            limit: None,
            limits: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// Whether every node is complete, and has every entry that was to be sent.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // An empty run is not complete.
        !self.nodes.is_empty()
            && self.notes.count(NoteKind::EntryLost) == 0
            && self.nodes.iter().all(NodeStatus::is_whole)
    }
}

impl NodeStatus {
    /// A machine that was admitted, but gone when the session began.
    #[must_use]
    pub fn vanished(mac: Mac) -> Self {
        Self {
            mac: Some(mac),
            address: IpAddr::from([0, 0, 0, 0]),
            hostname: String::new(),
            phase: Phase::Failed,
            received: 0,
            rate: 0,
            round: 0,
            position: None,
            may_come_again: false,
            doing: None,
            notes: Tally::default(),
            failure: Some(Failure::own(Step::Connection, FailureKind::Vanished)),
            tpm: None,
        }
    }

    /// The name of this node for display: its name, its card or its address, the first one that it has.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.hostname.as_str(), self.mac) {
            ("", Some(mac)) => mac.to_string(),
            ("", None) => self.address.to_string(),
            (name, _) => name.to_owned(),
        }
    }

    /// Whether it is complete and could store every entry.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_complete() && self.notes.count(NoteKind::EntryLost) == 0
    }

    /// What it lacks although all of its steps are done; `None` if it is complete, or has failed.
    #[must_use]
    pub fn lacks(&self) -> Option<Failure> {
        let (_, Counted { count, example }) = self
            .notes
            .iter()
            .find(|(kind, _)| *kind == NoteKind::EntryLost)
            .filter(|_| self.is_complete())?;
        let kind = FailureKind::EntriesLost { count: *count, example: example.clone() };
        Some(Failure::own(Step::Receive, kind))
    }

    /// Whether it has all of its data, and all of its steps are done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete | Phase::Booted) && self.failure.is_none()
    }
}

/// A node's phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It has joined and reported its inventory.
    Joined,
    /// It has been chosen and has its plan.
    Planned,
    /// It partitions, formats and mounts.
    Preparing,
    /// It waits for the stream.
    Ready,
    /// It receives, relays and unpacks.
    Receiving,
    /// It has the whole stream and makes itself bootable.
    Finishing,
    /// It is done.
    Complete,
    /// It has reported that it runs from its own disk.
    Booted,
    /// It has failed.
    Failed,
}

impl Phase {
    /// The phase's name in every output. Scripts may rely on it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Planned => "planned",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Receiving => "receiving",
            Self::Finishing => "finishing",
            Self::Complete => "complete",
            Self::Booted => "booted",
            Self::Failed => "failed",
        }
    }
}

/// The figures of a session's whole transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes of the uncompressed stream.
    pub uncompressed: u64,
    /// Bytes that left the golden node, compressed and sealed.
    pub wire: u64,
    /// From the first byte sent to the last.
    pub sending: Duration,
    /// From the last byte sent until the last node had it.
    pub draining: Duration,
    /// The number of rounds.
    pub rounds: u32,
}

/// The approximate bytes of the uncompressed stream in this many sealed bytes.
#[must_use]
pub(super) fn uncompressed_of(transfer: &Transfer, sealed: u64) -> u64 {
    let uncompressed = u128::from(sealed) * u128::from(transfer.uncompressed);
    uncompressed.checked_div(transfer.wire.into()).map_or(0, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
}

impl Transfer {
    /// Both together: the same uncompressed stream, sent once more.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            uncompressed: if next.rounds == 0 { self.uncompressed } else { next.uncompressed },
            wire: self.wire + next.wire,
            sending: self.sending + next.sending,
            draining: self.draining + next.draining,
            rounds: self.rounds + next.rounds,
        }
    }
}
