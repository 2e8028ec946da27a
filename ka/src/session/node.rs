//! What a session has written down of one node: a fold of the events about it.

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
    /// Who else has claimed its hardware address while it waited.
    pub(super) claimed_by: BTreeSet<IpAddr>,
    pub(super) state: State,
    /// The last round that it took part in.
    pub(super) part: Option<Part>,
    /// What it does, by its last word; none if it has reported nothing since its state began.
    pub(super) doing: Option<Doing>,
    /// What it noted of its copy, which is no failure.
    pub(super) notes: Tally,
    /// Which of its disks are erased, once that is sure.
    pub(super) own: Option<OwnDisks>,
    /// When it was taken out of a chain alive: the last one has the largest number, and 0 is never.
    pub(super) bypassed: u32,
    /// From whom it had a forged stream, by its own word, and which.
    pub(super) deceived: Option<(StreamId, String)>,
}

/// What a node is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has joined, and waits to be chosen. If its disks are in doubt, the operator is asked about it, and why.
    Waiting {
        /// Why the operator is asked.
        unsure: Option<String>,
    },
    /// It carries out its plan, of which it has begun a step or not yet.
    Preparing {
        /// It has.
        begun: bool,
    },
    /// It is prepared.
    Ready,
    /// It receives, relays and unpacks.
    Receiving,
    /// It has everything, and makes itself bootable.
    Finishing {
        /// Bytes of the plain stream.
        length: u64,
        /// It has nothing more to do.
        done: bool,
    },
    /// It was dismissed with a complete copy.
    Complete {
        /// Bytes of the plain stream.
        length: u64,
    },
    /// It has failed.
    Failed(Failed),
}

/// A failure, and what became of the node since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The first reason; what follows from it is not told again.
    pub(super) failure: Failure,
    /// The node itself says so.
    pub(super) confessed: bool,
    /// It was given up because it made no progress: it would make none in another round.
    pub(super) stuck: bool,
    /// It is held for dead.
    pub(super) dead: bool,
    /// Its copy is complete all the same, with so many bytes.
    pub(super) length: Option<u64>,
    /// How far it is with leaving.
    pub(super) leaving: Leaving,
}

/// How far a node that has failed is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// It still clears up, or hands over its log.
    Busy,
    /// It has nothing more to do, and waits.
    Done,
    /// It was dismissed.
    Dismissed,
}

/// A node's part in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The round, from 1.
    pub(super) round: u32,
    /// Its stream, once it has begun, and the node's place in the chain, from 1.
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

    /// Where its successor reaches it.
    pub(super) fn data_address(&self) -> SocketAddr {
        SocketAddr::new(self.joined.peer, self.joined.data_port)
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        self.joined.inventory.cards.first().and_then(|card| card.mac.parse().ok())
    }

    /// It as a person sees it who is asked; none without a card by which it could be named.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        Some(Arrival {
            mac: self.mac()?,
            address: self.joined.peer,
            key: self.joined.key,
            inventory: Arc::clone(&self.joined.inventory),
            claimed_by: self.claimed_by.clone(),
        })
    }

    /// Only what it is called is asked for any more.
    pub(super) fn forget_details(&mut self) {
        let Inventory { hostname, cards, .. } = &*self.joined.inventory;
        let cards = cards.first().cloned().into_iter().collect();
        let brief = Inventory { hostname: hostname.clone(), cards, ..Inventory::default() };
        self.joined.inventory = Arc::new(brief);
        self.notes = Tally::default();
    }

    /// What a person calls it.
    pub(super) fn label(&self) -> String {
        let peer = self.joined.peer;
        match (self.joined.inventory.hostname.as_str(), self.mac()) {
            ("", Some(mac)) => format!("{mac} ({peer})"),
            ("", None) => peer.to_string(),
            (name, _) => format!("{name} ({peer})"),
        }
    }

    /// What its log's file is called: nothing else that it says becomes a path.
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

    /// Why the operator is asked about it, if so.
    pub(super) fn unsure(&self) -> Option<&String> {
        if let State::Waiting { unsure } = &self.state { unsure.as_ref() } else { None }
    }

    /// It takes part, or took part, in a round.
    pub(super) fn is_chosen(&self) -> bool {
        self.part.is_some()
    }

    /// The last round that it took part in, or 0.
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

    /// Bytes of the plain stream, once it has all.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.state {
            State::Finishing { length, .. } | State::Complete { length } => Some(*length),
            State::Failed(failed) => failed.length,
            _ => None,
        }
    }

    /// It has nothing more to do.
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

    /// It has its copy, or more.
    pub(super) fn has_copy(&self) -> bool {
        matches!(self.state, State::Finishing { .. } | State::Complete { .. })
    }

    /// It waits for another attempt, or would if its connection were not lost at this moment.
    pub(super) fn may_wait_again(&self) -> bool {
        self.failed().is_some_and(|failed| failed.failure.transient && failed.leaving == Leaving::Done)
    }

    /// The step that it is at, or what it does if it has told of none.
    pub(super) fn step(&self) -> Step {
        match (&self.doing, &self.state) {
            (Some(doing), _) => doing.step,
            (None, State::Finishing { .. }) => Step::Finish,
            (None, _) => Step::Begin,
        }
    }

    /// Whether both are the same machine, as far as can be told: by their cards, or where none is told by
    /// address and name.
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

    /// A deceived node gets another attempt. But no node stands between the first one and the golden node: what is wrong
    /// there is wrong in the node itself.
    pub(super) fn judge_deceit(&self, failure: Failure) -> Failure {
        let Some((_, from)) = self.deceived.as_ref().filter(|_| failure.transient) else { return failure };
        let from_golden = self.position() == Some(1);
        let by = (!from_golden).then(|| from.clone());
        let kind = FailureKind::Deceived { reason: failure.kind.to_string(), by };
        Failure { kind, transient: !from_golden, ..failure }
    }
}

/// What events make of a node.
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

    /// It begins with a step.
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

    /// Its copy is complete. That is stronger than what others thought of it.
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

    /// It has nothing more to do: its copy is whole, or nothing is left of it. What is said of an earlier round, and
    /// said again after an outage, is neither.
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

    /// It has failed, as the judge says.
    pub(super) fn fail(&mut self, failure: &Failure, by: Judge) {
        if matches!(by, Judge::Dead | Judge::Bypassed) && self.has_copy() {
            // A copy that is complete stays so: only its memory was lost to the chain.
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
                // A node that says so is not dead. Its own word tells best whether another attempt makes sense; but that
                // it was given up while it hung is no transient cause.
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
