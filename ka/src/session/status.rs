//! What is known of a run at a moment, as plain data: the hub fills it, the views show it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};
use crate::mac::Mac;
use crate::notes::{Counted, NoteKind, Tally};
use crate::step::{Doing, Step};

/// A run at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStatus {
    /// The run's name.
    pub name: String,
    /// The session that is going on.
    pub session: String,
    /// When the run began.
    pub started: SystemTime,
    /// Bytes of the plain stream that the golden node has sent in this session.
    pub sent: u64,
    /// Bytes that it will have sent in the end, if that is known.
    pub total: Option<u64>,
    /// What the golden node noted while it read: no failure, but a person must know it.
    pub notes: Tally,
    /// What the chain waits for while it runs, with its rate: a link, a node's disk, or the golden node.
    pub limit: Option<String>,
    /// All that its chains have waited for, the longest first. Known for what lasted longer than
    /// the time after which a node counts as slow.
    pub limits: Vec<LimitStatus>,
    /// Its nodes, in the order in which they joined.
    pub nodes: Vec<NodeStatus>,
}

/// What a chain has waited for, and how that stands beside the other parts of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitStatus {
    /// Which part of the chain.
    pub what: LimitedBy,
    /// How long the chain waited for it.
    pub time: Duration,
    /// Bytes per second that it took at the last.
    pub rate: f64,
    /// The best rate that the stream had reached, in bytes per second.
    pub best: f64,
    /// The share of the time for which it was busy while others waited for it.
    pub busy: f64,
    /// The largest such share of any other part.
    pub others: f64,
}

/// A part of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitedBy {
    /// The golden node reads and packs no faster.
    Source,
    /// A node's disk, or what else takes its stream.
    Disk {
        /// Whose.
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

/// A member of a chain: a node, or the golden node, which has neither of the addresses here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    /// What a person calls it.
    pub name: String,
    /// The card that it booted from, if it told one.
    pub mac: Option<Mac>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// A node at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeStatus {
    /// The card that it booted from, if it told one.
    pub mac: Option<Mac>,
    /// Its address.
    pub address: IpAddr,
    /// Its name, empty if it has none.
    pub hostname: String,
    /// What it does.
    pub phase: Phase,
    /// Bytes of the plain stream that it has received in this session.
    pub received: u64,
    /// Bytes a second, over the last seconds.
    pub rate: u64,
    /// The last round that it took part in, from 1; 0 if in none.
    pub round: u32,
    /// Its place in that round's chain as it began, from 1; none if there was none.
    pub position: Option<usize>,
    /// It has failed, and another round may serve it.
    pub may_come_again: bool,
    /// What it does, by its last word.
    pub doing: Option<Doing>,
    /// What it noted of its copy: no failure, but a person must know it.
    pub notes: Tally,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl RunStatus {
    /// Every node is complete, and has every entry that was to be sent.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // Nobody is not everybody.
        !self.nodes.is_empty()
            && self.notes.count(NoteKind::EntryLost) == 0
            && self.nodes.iter().all(NodeStatus::is_whole)
    }
}

impl NodeStatus {
    /// A machine that was let in, and was gone when the session began.
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
        }
    }

    /// What a person calls this node: its name, its card or its address, whichever it has first.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.hostname.as_str(), self.mac) {
            ("", Some(mac)) => mac.to_string(),
            ("", None) => self.address.to_string(),
            (name, _) => name.to_owned(),
        }
    }

    /// It is complete, and could hold every entry.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_complete() && self.notes.count(NoteKind::EntryLost) == 0
    }

    /// What it lacks although it has done all of its steps; nothing if it is whole, or has failed.
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

    /// It has all of its data and has done all of its steps.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete | Phase::Booted) && self.failure.is_none()
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It has joined and told what it is.
    Joined,
    /// It has been chosen and knows its plan.
    Planned,
    /// It partitions, formats and mounts.
    Preparing,
    /// It waits for the stream.
    Ready,
    /// It receives, relays and unpacks.
    Receiving,
    /// It has everything and makes itself bootable.
    Finishing,
    /// It is done.
    Complete,
    /// It has told that it runs from its own disk.
    Booted,
    /// It has failed.
    Failed,
}

impl Phase {
    /// The phase's name in every output, which scripts may rely on.
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

/// How a session's transfer went as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Bytes of the plain stream.
    pub plain: u64,
    /// Bytes that left the golden node, compressed and sealed.
    pub wire: u64,
    /// From the first byte sent until the last.
    pub sending: Duration,
    /// From the last byte sent until the last node had it.
    pub draining: Duration,
    /// The rounds that it took.
    pub rounds: u32,
}

/// Bytes of the plain stream in so many sealed ones, about.
#[must_use]
pub(super) fn plain_of(transfer: &Transfer, sealed: u64) -> u64 {
    let plain = u128::from(sealed) * u128::from(transfer.plain);
    plain.checked_div(transfer.wire.into()).map_or(0, |plain| u64::try_from(plain).unwrap_or(u64::MAX))
}

impl Transfer {
    /// Both together: the same plain stream, sent once more.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            plain: if next.rounds == 0 { self.plain } else { next.plain },
            wire: self.wire + next.wire,
            sending: self.sending + next.sending,
            draining: self.draining + next.draining,
            rounds: self.rounds + next.rounds,
        }
    }
}
