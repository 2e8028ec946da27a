//! One session: nodes gather, prepare, receive one stream down one chain, and leave.
//!
//! Whoever missed a part for a passing cause, or came late, is served in a further round: the same again,
//! with another chain and another attempt at the stream. It knows no socket: the hub tells it what nodes
//! say and sends what it puts into its outbox. A lasting session, such as `getstage2`, begins again with
//! whoever has come meanwhile.

mod confirm;
#[cfg(test)]
mod confirm_tests;
mod join;
mod leave;
mod round;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
mod transfer;
mod trust;
mod writers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ka::chain::{Limit, Limiter, NodeId, SlowLimits};
use ka::inventory::identity::DiskIdentity;
use ka::keys::Key;
use ka::notes::Tally;
use ka::proof::Proof;
use ka::seal::{StreamId, Total};
use ka::wire::control::ToAgent;

use crate::hub::clock;
use crate::hub::logs::Logs;
use crate::hub::net::ConnectionId;
use crate::hub::node::Node;
use crate::hub::plans::Plans;
use crate::lists::order::Order;
use crate::status::{LimitStatus, LimitedBy, MemberName, NodeStatus, Phase, RunStatus, Transfer};
use crate::stream::slow::Limits;
use crate::stream::source::Source;
use crate::stream::{Bell, Stream};
pub use confirm::Question;
use ka::mac::Mac;
use ka_net::listen::DataPlace;
use trust::Trust;

/// What a session is to do.
pub struct SessionSpec {
    /// Its name, by which nodes ask for it.
    pub name: String,
    /// What it streams.
    pub source: Arc<dyn Source>,
    /// How many nodes it waits for.
    pub wanted: usize,
    /// Who lets nodes in, and when it begins.
    pub gate: Gate,
    /// The machines that it may take; all if none are named.
    pub only: Option<BTreeSet<Mac>>,
    /// What the nodes do before the stream.
    pub plans: Option<Plans>,
    /// After this time it begins with the nodes present.
    pub timeout: Option<Duration>,
    /// Where the nodes' logs go.
    pub log: Option<PathBuf>,
    /// The golden node's window in bytes.
    pub window: u64,
    /// What silence means.
    pub dead_after: Duration,
    /// How long a node may be at one step, or take nothing of what it has.
    pub step_limit: Duration,
    /// When a node is too slow to be waited for.
    pub slow: SlowLimits,
    /// How many rounds may be held in all; a lasting session holds as many as it likes.
    pub rounds: u32,
    /// Nodes that are done are let go one by one, so long apart; zero for all at once.
    pub delay: Duration,
    /// The chain's order.
    pub order: Order,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The first ones that come, as many as are wanted.
    First,
    /// Those that `Session::admit` names, when it does.
    Named,
    /// Everybody, for ever: a chain begins when all that are wanted wait, or nobody has come for this time.
    Lasting(Duration),
}

/// Whom a [`Gate::Named`] lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// The machines with which it begins.
    pub named: BTreeSet<Mac>,
    /// Those that may fill a place that is free later.
    pub others: BTreeSet<Mac>,
    /// The agents' keys of those that were seen when somebody said yes: another machine that claims to be one of them
    /// is not let in. Whoever comes again after a reboot has another key.
    pub keys: BTreeMap<Mac, Key>,
    /// Nobody else is let in later, either.
    pub only_keys: bool,
    /// Those that are sent away, with the reason.
    pub refused: BTreeMap<Mac, String>,
    /// The disks of the machines, as they were confirmed.
    pub confirmed: BTreeMap<Mac, Vec<DiskIdentity>>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everybody was served or has failed; the nodes tell which.
    Served,
    /// The source could not be read to its end.
    SourceFailed(String),
    /// Nobody came in time.
    Nobody,
}

enum State {
    Gathering,
    /// The chosen ones carry out the plan.
    Preparing,
    Streaming(Box<Stream>),
    /// Everybody has the stream; they finish and leave.
    Leaving,
    Over(Ending),
}

/// A session.
pub struct Session {
    spec: SessionSpec,
    state: State,
    nodes: BTreeMap<NodeId, Node>,
    /// The rounds that have begun.
    round: u32,
    /// The nodes of this round.
    chosen: Vec<NodeId>,
    /// The machines with which a [`Gate::Named`] begins, and all that it lets in later.
    named: BTreeSet<Mac>,
    allowed: BTreeSet<Mac>,
    /// The keys of those that were seen when they were let in, and whether nobody else may come.
    keys: BTreeMap<Mac, Key>,
    only_keys: bool,
    /// Nodes that were taken out of a chain alive, so far.
    bypassed: u32,
    /// Who said of whom that it forges.
    trust: Trust,
    /// Machines that were let in, and were gone when the session began.
    vanished: BTreeSet<Mac>,
    /// Machines that were sent away before it began, as they are shown.
    refused: Vec<NodeStatus>,
    /// When everybody had verified the whole stream of this round.
    released_at: Option<Instant>,
    /// The last stream that was released, with its last proof, for those who come back only then.
    proven: Option<(StreamId, Proof)>,
    /// The stream was given up, with this end.
    given_up: Option<Ending>,
    /// Somebody wants it to begin with those who are there.
    go: bool,
    began: Instant,
    started: SystemTime,
    last_join: Instant,
    /// When a node that is done was let go last.
    let_go_at: Option<Instant>,
    /// The figures of this round, and of those before it.
    transfer: Transfer,
    earlier: Transfer,
    /// What each stream was, as the golden node read it: what nodes say of theirs is compared with that, also long after
    /// the chain's end.
    totals: HashMap<StreamId, Total>,
    /// What the golden node noted while it read for the last stream.
    source_notes: Tally,
    /// What the chain of this round has waited for, and those of earlier rounds.
    limits: Limits,
    earlier_limits: Limits,
    logs: Option<Logs>,
    /// Each with its connection: the node may be forgotten before it is sent.
    outbox: Vec<(ConnectionId, ToAgent)>,
}

impl Session {
    /// A session that waits for nodes from now on.
    #[must_use]
    pub fn new(spec: SessionSpec) -> Self {
        let now = clock::now();
        Self {
            spec,
            state: State::Gathering,
            nodes: BTreeMap::new(),
            round: 0,
            chosen: Vec::new(),
            named: BTreeSet::new(),
            allowed: BTreeSet::new(),
            keys: BTreeMap::new(),
            only_keys: false,
            bypassed: 0,
            trust: Trust::default(),
            vanished: BTreeSet::new(),
            refused: Vec::new(),
            released_at: None,
            proven: None,
            given_up: None,
            go: false,
            began: now,
            started: SystemTime::now(),
            last_join: now,
            let_go_at: None,
            transfer: Transfer::default(),
            earlier: Transfer::default(),
            totals: HashMap::new(),
            source_notes: Tally::default(),
            limits: Limits::default(),
            earlier_limits: Limits::default(),
            logs: None,
            outbox: Vec::new(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        if let State::Over(ending) = &self.state { Some(ending) } else { None }
    }

    /// Whether it was told to begin with those who are there.
    #[must_use]
    pub fn was_told_to_go(&self) -> bool {
        self.go
    }

    /// Takes the messages that are to be sent, with the connections for them.
    pub(super) fn take_outbox(&mut self) -> Vec<(ConnectionId, ToAgent)> {
        std::mem::take(&mut self.outbox)
    }

    /// Takes what steps can be taken.
    pub(super) fn advance(&mut self, now: Duration, data: &DataPlace, bell: &Bell) {
        self.judge_absence();
        self.judge_questions();
        self.judge_writers();
        let again = self.has_rounds();
        match &mut self.state {
            State::Gathering => self.gather(),
            State::Preparing => self.prepare(now, data, bell),
            State::Streaming(stream) => {
                let decisions = stream.judge(again, now);
                self.decide(decisions);
            }
            State::Leaving | State::Over(_) => {}
        }
        self.dismiss();
        if matches!(self.state, State::Leaving) {
            self.go_on();
        }
    }

    /// Whether the stream with this id is the session's.
    pub(super) fn streams(&self, id: StreamId) -> bool {
        self.stream_id() == Some(id)
    }

    fn stream_id(&self) -> Option<StreamId> {
        if let State::Streaming(stream) = &self.state { Some(stream.id()) } else { None }
    }

    /// The members of the running chain.
    fn members(&self) -> BTreeSet<NodeId> {
        match &self.state {
            State::Streaming(stream) => stream.membership.chain().iter().copied().collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Queues a message for a node; one without a connection is told what it must know when it is back.
    fn tell(&mut self, id: NodeId, message: ToAgent) {
        if let Some(connection) = self.nodes.get(&id).and_then(|node| node.connection) {
            self.outbox.push((connection, message));
        }
    }

    /// What a node is called, or will be.
    fn name_of(&self, node: &Node) -> String {
        let given = self.spec.plans.as_ref().zip(node.mac()).and_then(|(plans, mac)| plans.names.of(mac));
        given.map_or(&node.inventory.hostname, |name| &name.hostname).clone()
    }

    /// Whether another round may follow.
    pub(super) fn has_rounds(&self) -> bool {
        let lasting = matches!(self.spec.gate, Gate::Lasting(_));
        let open = self.given_up.is_none() && !matches!(self.state, State::Over(_));
        !lasting && open && self.round < self.spec.rounds
    }

    /// What a person calls the member of a chain.
    fn label_of(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| id.to_string(), Node::label)
    }

    /// What is shown of it.
    #[must_use]
    pub fn status(&self) -> (RunStatus, Transfer) {
        let (mut transfer, mut notes, mut limit) = (self.transfer, self.source_notes.clone(), None);
        let mut limits = &self.limits;
        if let State::Streaming(stream) = &self.state {
            (transfer, notes) = (stream.figures(), stream.notes());
            limit = stream.limit().map(|limit| limit.reason().named(|id| self.label_of(id)));
            limits = stream.limits();
        }
        let limits = self.earlier_limits.and(limits).longest_first();
        let plain = |sealed: u64| match transfer.wire {
            0 => 0,
            wire => {
                let plain = u128::from(sealed) * u128::from(transfer.plain) / u128::from(wire);
                u64::try_from(plain).unwrap_or(u64::MAX)
            }
        };
        // A node that only came, and left or was not chosen, is none of the session's.
        let gathering = matches!(self.state, State::Gathering) && self.spec.plans.is_none();
        let shown = self
            .nodes
            .values()
            .filter(|node| node.phase != Phase::Joined || gathering && node.connection.is_some());
        let has_rounds = self.has_rounds();
        let back: BTreeSet<Mac> = self.nodes.values().filter(|n| n.chosen).filter_map(Node::mac).collect();
        let vanished = self.vanished.difference(&back).map(|mac| NodeStatus::vanished(*mac));
        let status = RunStatus {
            name: self.spec.name.clone(),
            session: self.spec.name.clone(),
            started: self.started,
            sent: transfer.plain,
            total: None,
            limit,
            limits: limits.into_iter().map(|(time, limit)| self.limit_status(time, limit)).collect(),
            notes,
            nodes: shown
                .map(|node| NodeStatus { hostname: self.name_of(node), ..node.status(plain, has_rounds) })
                .chain(vanished)
                .chain(self.refused.iter().cloned())
                .collect(),
        };
        (status, self.earlier.and(transfer))
    }
}

impl Session {
    fn limit_status(&self, time: Duration, limit: Limit) -> LimitStatus {
        let member = |id| self.member_name(id);
        let Limit { what, rate, best, busy, others } = limit;
        let what = match what {
            Limiter::Source => LimitedBy::Source,
            Limiter::Writer(node) => LimitedBy::Disk { node: member(node) },
            Limiter::Link { from, to } => LimitedBy::Link { from: member(from), to: member(to) },
        };
        LimitStatus { what, time, rate, best, busy, others }
    }

    /// A member of the chain, for a program.
    fn member_name(&self, id: NodeId) -> MemberName {
        let node = self.nodes.get(&id);
        MemberName {
            name: self.label_of(id),
            mac: node.and_then(Node::mac),
            address: node.map(|node| node.peer),
        }
    }
}

#[cfg(test)]
fn failure(
    step: ka::step::Step,
    reason: String,
    transient: bool,
    stream: Option<StreamId>,
) -> ka::failure::Failure {
    let kind = ka::failure::FailureKind::Stream { reason };
    ka::failure::Failure { step, kind, transient, stream }
}
