//! The recorded state of a node: a fold of the events about it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::arrival::Arrival;
use super::event::{Joined, Judge};
use super::plans::OwnDisks;
use super::status::Phase;
use crate::chain::NodeId;
use crate::failure::{Failure, FailureKind};
use crate::inventory::Inventory;
use crate::mac::Mac;
use crate::notes::Tally;
use crate::seal::StreamId;
use crate::step::{Doing, Step};

/// A node of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub(super) joined: Joined,
    /// Other machines that claimed its hardware address while it waited.
    pub(super) claimed_by: BTreeSet<IpAddr>,
    pub(super) state: State,
    /// The last round in which it took part.
    pub(super) part: Option<Part>,
    /// Its last reported activity; `None` if it has reported nothing since its state began.
    pub(super) doing: Option<Doing>,
    /// Its notes about its copy, which are not failures.
    pub(super) notes: Tally,
    /// Which of its disks are erased, once that is certain.
    pub(super) own: Option<OwnDisks>,
    /// Its number among the nodes removed from a chain alive, ascending; 0 means never removed.
    pub(super) bypassed: u32,
    /// The sender and stream of a forgery, by this node's own report.
    pub(super) deceived: Option<(StreamId, String)>,
}

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has joined, and waits to be chosen. If its disks are in doubt, the operator is asked about it, with
    /// the reason.
    Waiting {
        /// Why the operator is asked.
        unsure: Option<String>,
    },
    /// It carries out its plan.
    Preparing {
        /// Whether it has begun a step.
        begun: bool,
    },
    /// It is prepared.
    Ready,
    /// It receives, relays and unpacks.
    Receiving,
    /// It has the whole stream, and makes itself bootable.
    Finishing {
        /// Bytes of the uncompressed stream.
        length: u64,
        /// Whether it has no work left.
        done: bool,
    },
    /// It was dismissed with a complete copy.
    Complete {
        /// Bytes of the uncompressed stream.
        length: u64,
    },
    /// It has failed.
    Failed(Failed),
}

/// A failure, and what became of the node since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The first reason; its consequences are not reported again.
    pub(super) failure: Failure,
    /// The node itself reports it.
    pub(super) confessed: bool,
    /// It was given up because it made no progress: it would make none in another round.
    pub(super) stuck: bool,
    /// It is considered dead.
    pub(super) dead: bool,
    /// The length of its copy in bytes, if it is complete nevertheless.
    pub(super) length: Option<u64>,
    /// Its progress in leaving.
    pub(super) leaving: Leaving,
}

/// The progress of a failed node in leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// It is still cleaning up, or handing over its log.
    Busy,
    /// It has no work left, and waits.
    Done,
    /// It was dismissed.
    Dismissed,
}

/// A node's part in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The round, from 1.
    pub(super) round: u32,
    /// Its stream, once that has begun, and the node's place in the chain, from 1.
    pub(super) stream: Option<(StreamId, usize)>,
}

impl Node {
    pub(super) fn new(joined: Joined) -> Self {
        Self {
            joined,
            claimed_by: BTreeSet::new(),
            state: State::Waiting { unsure: None },
            part: None,
            doing: None,
            notes: Tally::default(),
            own: None,
            bypassed: 0,
            deceived: None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.joined.ticket.node
    }

    /// The address for its successor.
    pub(super) fn data_address(&self) -> SocketAddr {
        SocketAddr::new(self.joined.peer, self.joined.data_port)
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        self.joined.inventory.cards.first().and_then(|card| card.mac.parse().ok())
    }

    /// Its form for an admission question; `None` without a card that could identify it.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        Some(Arrival {
            mac: self.mac()?,
            address: self.joined.peer,
            key: self.joined.key,
            inventory: Arc::clone(&self.joined.inventory),
            claimed_by: self.claimed_by.clone(),
        })
    }

    /// Drops everything but its name, which is still needed.
    pub(super) fn forget_details(&mut self) {
        let Inventory { hostname, cards, .. } = &*self.joined.inventory;
        let cards = cards.first().cloned().into_iter().collect();
        let brief = Inventory { hostname: hostname.clone(), cards, ..Inventory::default() };
        self.joined.inventory = Arc::new(brief);
        self.notes = Tally::default();
    }

    /// Its name for display.
    pub(super) fn label(&self) -> String {
        let peer = self.joined.peer;
        match (self.joined.inventory.hostname.as_str(), self.mac()) {
            ("", Some(mac)) => format!("{mac} ({peer})"),
            ("", None) => peer.to_string(),
            (name, _) => format!("{name} ({peer})"),
        }
    }

    /// The name of its log file: no other text from the node becomes a path.
    pub(super) fn log_name(&self) -> String {
        self.mac().map_or_else(|| self.joined.peer.to_string(), |mac| mac.to_string()).replace(':', "-")
    }

    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Waiting { .. } => Phase::Joined,
            State::Preparing { begun: false } => Phase::Planned,
            State::Preparing { begun: true } => Phase::Preparing,
            State::Ready => Phase::Ready,
            State::Receiving => Phase::Receiving,
            State::Finishing { .. } => Phase::Finishing,
            State::Complete { .. } => Phase::Complete,
            State::Failed(_) => Phase::Failed,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Why the operator is asked about it, if that is the case.
    pub(super) fn unsure(&self) -> Option<&String> {
        if let State::Waiting { unsure } = &self.state { unsure.as_ref() } else { None }
    }

    /// Whether it takes part in a round, or has done so.
    pub(super) fn is_chosen(&self) -> bool {
        self.part.is_some()
    }

    /// The last round in which it took part, or 0.
    pub(super) fn round(&self) -> u32 {
        self.part.map_or(0, |part| part.round)
    }

    pub(super) fn stream(&self) -> Option<StreamId> {
        self.part.and_then(|part| part.stream).map(|(stream, _)| stream)
    }

    pub(super) fn position(&self) -> Option<usize> {
        self.part.and_then(|part| part.stream).map(|(_, position)| position)
    }

    pub(super) fn failed(&self) -> Option<&Failed> {
        if let State::Failed(failed) = &self.state { Some(failed) } else { None }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed().is_some()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.failed().is_some_and(|failed| failed.dead)
    }

    /// The bytes of the uncompressed stream, once it has all.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.state {
            State::Finishing { length, .. } | State::Complete { length } => Some(*length),
            State::Failed(failed) => failed.length,
            _ => None,
        }
    }

    /// Whether it has no work left.
    pub(super) fn is_done(&self) -> bool {
        match &self.state {
            State::Finishing { done, .. } => *done,
            State::Complete { .. } => true,
            State::Failed(failed) => failed.leaving != Leaving::Busy,
            _ => false,
        }
    }

    pub(super) fn is_dismissed(&self) -> bool {
        match &self.state {
            State::Complete { .. } => true,
            State::Failed(failed) => failed.leaving == Leaving::Dismissed,
            _ => false,
        }
    }

    /// Whether it has its copy, complete or still finishing.
    pub(super) fn has_copy(&self) -> bool {
        matches!(self.state, State::Finishing { .. } | State::Complete { .. })
    }

    /// Whether it waits for another attempt, or would if its connection were not lost at this moment.
    pub(super) fn may_wait_again(&self) -> bool {
        self.failed().is_some_and(|failed| failed.failure.transient && failed.leaving == Leaving::Done)
    }

    /// Its current step, or one that matches its state if it has reported none.
    pub(super) fn step(&self) -> Step {
        match (&self.doing, &self.state) {
            (Some(doing), _) => doing.step,
            (None, State::Finishing { .. }) => Step::Finish,
            (None, _) => Step::Begin,
        }
    }

    /// Whether both are the same machine, as far as is known: by their cards, or without cards by address and
    /// name.
    pub(super) fn is_same_machine(&self, other: &Self) -> bool {
        match (self.mac(), other.mac()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, None) => {
                let name = |node: &Self| node.joined.inventory.hostname.clone();
                self.joined.peer == other.joined.peer && name(self) == name(other)
            }
            _ => false,
        }
    }

    /// A deceived node gets another attempt. But no other node is between the first one and the golden node:
    /// if the first one receives bad data, the fault is its own.
    pub(super) fn judge_deceit(&self, failure: Failure) -> Failure {
        let Some((_, from)) = self.deceived.as_ref().filter(|_| failure.transient) else { return failure };
        let from_golden = self.position() == Some(1);
        let by = (!from_golden).then(|| from.clone());
        let kind = FailureKind::Deceived { reason: failure.kind.to_string(), by };
        Failure { kind, transient: !from_golden, ..failure }
    }
}

/// State changes by events.
impl Node {
    pub(super) fn begin_round(&mut self, round: u32, planned: bool) {
        self.part = Some(Part { round, stream: None });
        self.state = if planned { State::Preparing { begun: false } } else { State::Ready };
        self.doing = None;
        self.notes = Tally::default();
    }

    pub(super) fn begin_stream(&mut self, stream: StreamId, position: usize) {
        if let Some(part) = &mut self.part {
            part.stream = Some((stream, position));
        }
        self.state = State::Receiving;
    }

    /// Begins a step.
    pub(super) fn begin_step(&mut self, doing: &Doing) {
        if matches!(self.state, State::Preparing { .. }) {
            self.state = State::Preparing { begun: true };
        }
        self.doing = Some(doing.clone());
    }

    pub(super) fn become_ready(&mut self) {
        if matches!(self.state, State::Preparing { .. }) {
            self.state = State::Ready;
        }
    }

    /// Records that its copy is complete. That outweighs what other nodes reported about it.
    pub(super) fn complete(&mut self, length: u64) {
        match &mut self.state {
            State::Receiving => self.finish(length, false),
            State::Failed(failed) if failed.failure.transient || failed.dead => {
                let done = failed.leaving != Leaving::Busy;
                self.finish(length, done);
            }
            State::Failed(failed) => failed.length = Some(length),
            _ => {}
        }
    }

    fn finish(&mut self, length: u64, done: bool) {
        self.state = State::Finishing { length, done };
        self.doing = None;
    }

    /// Records that it has no work left: its copy is complete, or nothing is left of it. A report about an
    /// earlier round that is repeated after an outage is neither.
    pub(super) fn be_done(&mut self) {
        match &mut self.state {
            State::Finishing { done, .. } => *done = true,
            // It was only silent for too long.
            State::Failed(Failed { confessed: false, length: Some(length), .. }) => {
                let length = *length;
                self.finish(length, true);
            }
            State::Failed(failed) if failed.leaving == Leaving::Busy && failed.confessed => {
                failed.leaving = Leaving::Done;
            }
            _ => {}
        }
    }

    /// Records its failure, on the judge's verdict.
    pub(super) fn fail(&mut self, failure: &Failure, by: Judge) {
        if matches!(by, Judge::Dead | Judge::Bypassed) && self.has_copy() {
            // A complete copy stays complete: the chain lost only its window.
            return;
        }
        let (length, done, dismissed) = (self.length(), self.is_done(), self.is_dismissed());
        if !self.is_failed() {
            let leaving = match (dismissed, done) {
                (true, _) => Leaving::Dismissed,
                (false, true) => Leaving::Done,
                (false, false) => Leaving::Busy,
            };
            let failure = failure.clone();
            let failed = Failed { failure, confessed: false, stuck: false, dead: false, length, leaving };
            self.state = State::Failed(failed);
        }
        let State::Failed(failed) = &mut self.state else { return };
        match by {
            Judge::Node => {
                failed.confessed = true;
                // A node that reports its failure is not dead. Its own report is the best evidence of whether
                // another attempt makes sense. But if it was given up while it hung, the cause is not
                // transient.
                failed.failure.transient = failure.transient && !failed.stuck;
                failed.dead = false;
            }
            Judge::Controller => {}
            Judge::Stuck => failed.stuck = true,
            Judge::Dead => failed.dead = true,
            Judge::Bypassed => failed.dead = false,
        }
    }

    pub(super) fn be_lost(&mut self) {
        if let State::Failed(failed) = &mut self.state {
            failed.dead = true;
        }
    }

    pub(super) fn be_dismissed(&mut self) {
        match &mut self.state {
            State::Finishing { length, .. } => self.state = State::Complete { length: *length },
            State::Failed(failed) => failed.leaving = Leaving::Dismissed,
            _ => {}
        }
    }
}
