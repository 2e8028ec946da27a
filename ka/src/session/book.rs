//! The recorded state of a session: the fold of its events.
//!
//! The state changes only through [`Book::apply`], both in a running session and in one that is read from a
//! journal. So a process that takes over a session knows all decisions of its predecessor.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::event::{Admission, Ending, Event, Judge, Refused};
use super::node::{Node, State};
use super::status::Transfer;
use super::trust::Findings;
use crate::chain::NodeId;
use crate::failure::{Failure, FailureKind};
use crate::inventory::identity::DiskIdentity;
use crate::keys::Key;
use crate::mac::Mac;
use crate::notes::Tally;
use crate::plan::NodeName;
use crate::proof::Proof;
use crate::seal::{StreamId, Total};
use crate::step::Step;

/// The phase of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nodes join.
    #[default]
    Gathering,
    /// The chosen nodes carry out the plan.
    Preparing,
    /// The nodes receive this stream.
    Streaming(StreamId),
    /// The stream is over; the nodes finish and leave.
    Leaving,
    /// The session has ended.
    Over(Ending),
}

/// The fold of a session's events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Book {
    pub(super) stage: Stage,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// The rounds begun so far, and how many more than requested are allowed: one for each takeover.
    pub(super) round: u32,
    pub(super) takeovers: u32,
    /// A round was restarted because most of its nodes were deceived: the first restart is free.
    pub(super) restarted: bool,
    /// The nodes of this round.
    pub(super) chosen: Vec<NodeId>,
    /// The machines with which a [`super::AdmissionPolicy::Named`] begins, and all that it admits later.
    pub(super) named: BTreeSet<Mac>,
    pub(super) allowed: BTreeSet<Mac>,
    /// The keys of the machines that were seen at admission, and whether no other machine may join.
    pub(super) keys: BTreeMap<Mac, Key>,
    pub(super) only_keys: bool,
    /// The operator wants the session to begin with the nodes present.
    pub(super) go: bool,
    /// The confirmed disks, by machine. They stay the same in every round.
    pub(super) confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
    /// The name of each machine; `None` if it keeps the golden node's name.
    pub(super) names: BTreeMap<Mac, Option<NodeName>>,
    /// The number of nodes removed from a chain alive so far.
    pub(super) bypassed: u32,
    /// The accusations of forgery: which node accused which.
    pub(super) findings: Findings,
    /// Machines that were admitted, but gone when the session began.
    pub(super) vanished: BTreeSet<Mac>,
    /// Machines that were refused.
    pub(super) refused: Vec<Refused>,
    /// The summary of each stream, as the golden node read it. The nodes' reports are compared with it, even
    /// long after the chain's end.
    pub(super) totals: Vec<(StreamId, Total)>,
    /// The last stream that was read to its end, with its final proof.
    pub(super) read: Option<(StreamId, Proof)>,
    /// The last stream that was released.
    pub(super) released: Option<StreamId>,
    /// The stream was given up, with this end.
    pub(super) given_up: Option<Ending>,
    /// The figures of this round and of those before it.
    pub(super) transfer: Transfer,
    pub(super) earlier: Transfer,
    /// The golden node's notes from reading for the last stream.
    pub(super) notes: Tally,
}

/// The session's own settings that the fold depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Nodes carry out a plan before the stream.
    pub planned: bool,
}

/// The text of a failure caused by a takeover.
const TAKEN_OVER: &str = "the controller stopped, and the stream with it; another one has taken over the run";

impl Book {
    /// Rebuilds the book from these events.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>, terms: Terms) -> Self {
        let mut book = Self::default();
        events.into_iter().for_each(|event| book.apply(event, terms));
        book
    }

    /// How the session ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        if let Stage::Over(ending) = &self.stage { Some(ending) } else { None }
    }

    /// The summary of a stream, as the golden node read it.
    pub(super) fn total(&self, stream: StreamId) -> Option<Total> {
        self.totals.iter().find(|(known, _)| *known == stream).map(|(_, total)| *total)
    }

    /// Whether machines have been admitted.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        !self.named.is_empty() || self.round > 0
    }

    /// The machines that may take part, and those that are done: the operator is asked about neither again.
    #[must_use]
    pub fn allowed(&self) -> BTreeSet<Mac> {
        self.allowed.clone()
    }

    /// Records an event.
    pub fn apply(&mut self, event: &Event, terms: Terms) {
        if let Some(id) = event.node() {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            apply_to_node(node, event);
        }
        match event {
            Event::Joined(joined) => {
                self.nodes.insert(joined.ticket.node, Node::new((**joined).clone()));
            }
            Event::Left { node, .. } => drop(self.nodes.remove(node)),
            Event::Confirmed { mac, disks } => drop(self.confirmed.insert(*mac, disks.clone())),
            Event::Go => self.go = true,
            Event::Admitted(admission) => self.admit(admission),
            Event::Refused(refused) => self.refuse(refused),
            Event::Named { names } => self.names.extend(names.iter().cloned()),
            Event::Vanished { machines } => self.vanished.extend(machines),
            Event::Round { round, nodes, replaced, vanished } => {
                self.begin_round(*round, nodes, replaced, vanished, terms);
            }
            Event::Streaming { stream, chain } => {
                for (place, id) in chain.iter().enumerate() {
                    if let Some(node) = self.nodes.get_mut(id) {
                        node.begin_stream(*stream, place + 1);
                    }
                }
                self.stage = Stage::Streaming(*stream);
            }
            Event::Read { stream, proof } => {
                self.read = Some((*stream, *proof));
                self.totals.extend(proof.last.map(|total| (*stream, total)));
            }
            Event::Released { stream } => {
                self.released = Some(*stream);
                self.stage = Stage::Leaving;
            }
            Event::Ended { transfer, notes } => {
                (self.transfer, self.notes) = (*transfer, notes.clone());
                self.stage = Stage::Leaving;
            }
            Event::Restarted { .. } => self.restarted = true,
            Event::GivenUp { ending } => {
                self.given_up = Some(ending.clone());
                self.stage = Stage::Leaving;
            }
            Event::Failed { node, by: Judge::Bypassed, .. } => {
                if let Some(node) = self.nodes.get_mut(node).filter(|node| !node.has_copy()) {
                    self.bypassed += 1;
                    node.bypassed = self.bypassed;
                }
            }
            Event::Forged { stream, finding: Some(finding), .. } => self.findings.add(*stream, *finding),
            Event::Gathering => {
                self.chosen.clear();
                // A lasting session stays open as long as its run, and other nodes come and go all that time.
                let left = |node: &&mut Node| node.is_dismissed() || node.is_failed();
                self.nodes.values_mut().filter(left).for_each(Node::forget_details);
                self.stage = Stage::Gathering;
            }
            Event::Over { ending } => {
                self.chosen.clear();
                self.given_up = None;
                self.stage = Stage::Over(ending.clone());
            }
            Event::Resumed => self.take_over(),
            Event::Claimed { .. }
            | Event::Settled { .. }
            | Event::Unsure { .. }
            | Event::Step { .. }
            | Event::Ready { .. }
            | Event::Complete { .. }
            | Event::Failed { .. }
            | Event::Lost { .. }
            | Event::Done { .. }
            | Event::Dismissed { .. }
            | Event::Noted { .. }
            | Event::Forged { finding: None, .. } => {}
        }
    }

    fn admit(&mut self, admission: &Admission) {
        let Admission { named, others, keys, only_keys, confirmed, .. } = admission;
        self.confirmed.extend(confirmed.iter().map(|(mac, disks)| (*mac, disks.clone())));
        self.allowed = named.union(others).copied().collect();
        self.named.clone_from(named);
        self.keys.clone_from(keys);
        self.only_keys = *only_keys;
    }

    fn refuse(&mut self, refused: &Refused) {
        self.allowed.remove(&refused.mac);
        self.named.remove(&refused.mac);
        refused.nodes.iter().for_each(|id| drop(self.nodes.remove(id)));
        self.refused.push(refused.clone());
    }

    fn begin_round(
        &mut self,
        round: u32,
        nodes: &[NodeId],
        replaced: &[(NodeId, NodeId)],
        vanished: &BTreeSet<Mac>,
        terms: Terms,
    ) {
        self.round = round;
        self.earlier = self.earlier.and(std::mem::take(&mut self.transfer));
        self.vanished.extend(vanished);
        for (former, node) in replaced {
            self.nodes.remove(former);
            self.findings.on_return(*former, *node);
        }
        for id in nodes {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            node.begin_round(round, terms.planned);
            let pinned = node.mac().zip(node.own.as_ref().map(|own| own.identities().to_vec()));
            if let Some((mac, identities)) = pinned {
                self.pin(mac, &identities);
            }
        }
        self.chosen = nodes.to_vec();
        self.stage = Stage::Preparing;
    }

    /// Keeps the confirmed disks of a machine, unless some were confirmed before.
    fn pin(&mut self, mac: Mac, disks: &[DiskIdentity]) {
        self.confirmed.entry(mac).or_insert_with(|| disks.to_vec());
    }

    /// Applies a takeover: the previous process is gone, and so is the stream that it sent.
    fn take_over(&mut self) {
        self.takeovers += 1;
        let given_up = self.given_up.is_some();
        let released = self.released;
        for node in self.nodes.values_mut() {
            let stream = node.stream();
            let is_hit = match node.state {
                // The nodes have all of a released stream in memory.
                State::Receiving => stream != released,
                State::Preparing { .. } | State::Ready => given_up,
                _ => false,
            };
            if is_hit {
                let kind = FailureKind::Aborted { reason: TAKEN_OVER.to_owned() };
                let failure = Failure::transient(Step::Connection, kind).with(stream);
                node.fail(&failure, Judge::Controller);
            }
        }
        if matches!(self.stage, Stage::Streaming(_)) {
            self.stage = Stage::Leaving;
        }
    }
}

fn apply_to_node(node: &mut Node, event: &Event) {
    match event {
        Event::Claimed { by, .. } => drop(node.claimed_by.insert(*by)),
        Event::Settled { disks, .. } => {
            node.own = Some(disks.clone());
            if let State::Waiting { unsure } = &mut node.state {
                *unsure = None;
            }
        }
        Event::Unsure { reason, .. } => {
            if let State::Waiting { unsure } = &mut node.state {
                *unsure = Some(reason.clone());
            }
        }
        Event::Step { doing, .. } => node.begin_step(doing),
        Event::Ready { .. } => node.become_ready(),
        Event::Complete { stream, length, .. } if node.stream() == Some(*stream) => node.complete(*length),
        Event::Failed { failure, by, .. } => node.fail(failure, *by),
        Event::Lost { .. } => node.be_lost(),
        Event::Done { .. } => node.be_done(),
        Event::Dismissed { .. } => node.be_dismissed(),
        Event::Noted { tally, .. } => node.notes = tally.clone(),
        Event::Forged { stream, from, .. } => node.deceived = Some((*stream, from.clone())),
        _ => {}
    }
}

impl Event {
    /// The node that the event is about, if the book has it.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Claimed { node, .. }
            | Self::Settled { node, .. }
            | Self::Unsure { node, .. }
            | Self::Step { node, .. }
            | Self::Ready { node }
            | Self::Complete { node, .. }
            | Self::Failed { node, .. }
            | Self::Lost { node }
            | Self::Done { node }
            | Self::Dismissed { node }
            | Self::Noted { node, .. }
            | Self::Forged { node, .. } => Some(*node),
            _ => None,
        }
    }
}
