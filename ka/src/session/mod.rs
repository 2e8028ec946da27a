//! One session: nodes gather, prepare, receive one stream down one chain, and leave.
//!
//! A [`Session`] has no socket, clock, thread or file. [`Input`]s go in, with the time since it began.
//! [`Effect`]s come out, in the order in which they must be carried out. Its decisions and observations leave
//! as [`Effect::Record`]: the session is the fold of these [`Event`]s ([`Book`]), so that another process can
//! take it over after its own has ended ([`Session::resume`]).
//!
//! Nodes that missed a part for a transient cause, or came late, are served in a further round, with another
//! chain and another attempt at the stream. A lasting session, such as `getstage2`, begins again with the
//! nodes that have joined in the meantime.
//!
//! ```
//! use std::time::Duration;
//!
//! use ka::session::{Effect, AdmissionPolicy, Input, Session, SessionSpec};
//!
//! let timeout = Some(Duration::from_secs(60));
//! let spec = SessionSpec { admission: AdmissionPolicy::First, timeout, ..SessionSpec::new("files", 2) };
//! let mut session = Session::new(spec, Duration::ZERO);
//! assert!(session.on(Input::Tick, Duration::from_secs(59)).is_empty());
//! let effects = session.on(Input::Tick, Duration::from_secs(60));
//! assert!(matches!(effects[..], [Effect::Record(_)]), "nobody came");
//! assert!(session.ending().is_some());
//! ```

pub mod arrival;
pub mod book;
pub mod cards;
mod confirm;
pub mod event;
mod input;
mod join;
mod leave;
mod live;
pub mod names;
pub mod node;
pub mod order;
mod over;
pub mod plans;
mod report;
mod restart;
mod round;
#[cfg(test)]
mod simulator;
mod slow;
mod spec;
pub mod status;
mod stream;
mod takeover;
pub mod target;
#[cfg(test)]
mod tests;
mod transfer;
mod trust;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

pub use arrival::Arrival;
pub use book::Book;
pub use confirm::Question;
pub use event::{Admission, Ending, Event};
pub use input::{Arriving, ConnectionId, Effect, Golden, Input, Piece, Started, StreamNotice};
pub use spec::{AdmissionPolicy, SessionSpec};
pub use target::Target;

use book::{Stage, Terms};
use live::{Known, Live};
use node::Node;
use slow::Limits;
use stream::Stream;
use trust::Links;

use crate::chain::NodeId;
use crate::seal::StreamId;
use crate::step::Step;
use crate::wire::control::ToAgent;

/// A session.
pub struct Session {
    spec: SessionSpec,
    /// The recorded state.
    book: Book,
    /// The live state of each node in the book.
    live: BTreeMap<NodeId, Live>,
    /// The running stream, or the chain for the stream that is being started.
    stream: Option<Box<Stream>>,
    starting: Vec<(NodeId, SocketAddr)>,
    /// All predecessor and successor pairs so far.
    links: Links,
    /// The limits of this round's chain, and those of earlier rounds.
    limits: Limits,
    earlier_limits: Limits,
    /// The current time.
    now: Duration,
    began: Duration,
    last_join: Duration,
    /// When a node first returned, or came back.
    returned_at: Option<Duration>,
    /// When all nodes had verified the whole stream of this round.
    released_at: Option<Duration>,
    /// When a finished node was last dismissed.
    let_go_at: Option<Duration>,
    effects: Vec<Effect>,
}

impl Session {
    /// Creates a session that waits for nodes.
    #[must_use]
    pub fn new(spec: SessionSpec, now: Duration) -> Self {
        Self {
            spec,
            book: Book::default(),
            live: BTreeMap::new(),
            stream: None,
            starting: Vec::new(),
            links: Links::default(),
            limits: Limits::default(),
            earlier_limits: Limits::default(),
            now,
            began: now,
            last_join: now,
            returned_at: None,
            released_at: None,
            let_go_at: None,
            effects: Vec::new(),
        }
    }

    /// Takes over a session whose process has ended, from its events. Its nodes have no connection yet, and
    /// will return. The first effect records the takeover.
    #[must_use]
    pub fn resume<'a>(
        spec: SessionSpec,
        events: impl IntoIterator<Item = &'a Event>,
        now: Duration,
    ) -> (Self, Vec<Effect>) {
        let mut session = Self::new(spec, now);
        session.book = Book::fold(events, session.terms());
        session.live = session.book.nodes.keys().map(|id| (*id, Live::new(None, now))).collect();
        session.record(Event::Resumed);
        session.released_at = matches!(session.book.stage, Stage::Leaving).then_some(now);
        for live in session.live.values_mut() {
            (live.lost_at, live.failed_at) = (Some(now), Some(now));
        }
        let boots = session.spec.plans.as_ref().and_then(|plans| plans.first_boots.clone());
        let chosen = session.book.nodes.values().filter(|node| node.is_chosen()).filter_map(Node::mac);
        let awaited = chosen.filter_map(|mac| Some((mac, boots.as_ref()?.token(mac))));
        session.effects.extend(awaited.map(|(mac, token)| Effect::AwaitBoot { mac, token }));
        let effects = std::mem::take(&mut session.effects);
        (session, effects)
    }

    /// Handles an input, at this time since the session's shell began.
    pub fn on(&mut self, input: Input, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        if self.ending().is_some() {
            self.after_the_end(input);
        } else {
            self.handle(input);
        }
        std::mem::take(&mut self.effects)
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Hello(arriving) => self.on_hello(*arriving),
            Input::Message { node, message } => self.on_message(node, message),
            Input::Closed { node, connection, reason } => self.on_closed(node, connection, &reason),
            Input::Started(started) => self.on_started(*started),
            Input::StartFailed(reason) => {
                self.abort(Step::Start, &reason, Ending::SourceFailed(reason.clone()))
            }
            Input::Golden(golden) => {
                if let Some(stream) = &mut self.stream {
                    stream.on_golden(golden);
                }
            }
            Input::Stream(notice) => self.on_notice(notice),
            Input::Admit(admission) => self.admit(admission),
            Input::Answer { node, confirmed } => self.answer(node, confirmed),
            Input::Go => {
                let answer = self.go();
                self.effects.push(Effect::Went(answer));
            }
            Input::Stop { reason } => self.stop(&reason),
            Input::Tick => self.advance(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its recorded state.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        self.book.ending()
    }

    /// Whether the operator has asked it to begin with the nodes present.
    #[must_use]
    pub fn was_told_to_go(&self) -> bool {
        self.book.go
    }

    /// Whether a node belongs to this session.
    #[must_use]
    pub fn knows(&self, id: NodeId) -> bool {
        self.book.nodes.contains_key(&id)
    }

    /// Whether another round may follow.
    #[must_use]
    pub fn has_rounds(&self) -> bool {
        let lasting = matches!(self.spec.admission, AdmissionPolicy::Lasting(_));
        let open = self.book.given_up.is_none() && !matches!(self.book.stage, Stage::Over(_));
        // A round lost to a process that ended is not the nodes' fault.
        let more = self.book.takeovers + u32::from(self.book.restarted);
        !lasting && open && self.book.round < self.spec.rounds.saturating_add(more)
    }

    /// The running stream.
    #[must_use]
    pub fn stream_id(&self) -> Option<StreamId> {
        self.stream.as_ref().map(|stream| stream.id())
    }

    /// The running stream's chain, from the golden node; empty if no stream runs.
    #[must_use]
    pub fn chain(&self) -> &[NodeId] {
        self.stream.as_ref().map_or(&[], |stream| stream.membership.chain())
    }

    /// Takes all possible steps.
    fn advance(&mut self) {
        self.judge_absence();
        self.judge_questions();
        self.judge_writers();
        let again = self.has_rounds();
        match self.book.stage {
            Stage::Gathering => self.gather(),
            Stage::Preparing => self.prepare(),
            Stage::Streaming(_) => {
                let now = self.now;
                let decisions = self.stream.as_mut().map(|stream| stream.judge(again, now));
                self.decide(decisions.unwrap_or_default());
            }
            Stage::Leaving | Stage::Over(_) => {}
        }
        self.dismiss();
        if matches!(self.book.stage, Stage::Leaving) {
            self.go_on();
        }
    }

    fn terms(&self) -> Terms {
        Terms { planned: self.spec.plans.is_some() }
    }

    /// Records an event, here and in the journal, unless it changes nothing.
    fn record(&mut self, event: Event) {
        let terms = self.terms();
        if let Some(id) = event.node() {
            let Some(before) = self.book.nodes.get(&id).cloned() else { return };
            self.book.apply(&event, terms);
            let (Some(after), Some(live)) = (self.book.nodes.get(&id), self.live.get_mut(&id)) else {
                return;
            };
            if *after == before {
                return;
            }
            live.on_change(&before, after, self.now);
        } else {
            self.book.apply(&event, terms);
            self.follow(&event);
        }
        self.effects.push(Effect::Record(Box::new(event)));
    }

    /// Updates the live state after events that concern more than one node.
    fn follow(&mut self, event: &Event) {
        let nodes = &self.book.nodes;
        self.live.retain(|id, _| nodes.contains_key(id));
        if let Event::Round { nodes, .. } = event {
            for id in nodes {
                if let Some(live) = self.live.get_mut(id) {
                    live.begin_round(self.now);
                }
            }
        }
    }

    /// All nodes, with their live state.
    fn nodes(&self) -> impl Iterator<Item = Known<'_>> {
        // Both maps have the same nodes in the same order.
        self.book.nodes.values().zip(self.live.values()).map(|(node, live)| Known { node, live })
    }

    fn node(&self, id: NodeId) -> Option<Known<'_>> {
        Some(Known { node: self.book.nodes.get(&id)?, live: self.live.get(&id)? })
    }

    /// The nodes that wait to be admitted.
    fn waiting(&self) -> impl Iterator<Item = &Node> {
        self.nodes()
            .filter(|known| known.node.is_waiting() && known.live.connection.is_some())
            .map(|known| known.node)
    }

    /// Those of them that still answer: a host that only sends a hello takes no place in a round.
    fn answering(&self) -> impl Iterator<Item = Known<'_>> {
        let within = self.spec.dead_after * leave::SILENCE_HELD;
        self.nodes().filter(move |known| {
            let answers = known.live.spoke && self.now.saturating_sub(known.live.heard_at) <= within;
            known.node.is_waiting() && known.live.connection.is_some() && answers
        })
    }

    /// The members of the running chain.
    fn members(&self) -> BTreeSet<NodeId> {
        self.chain().iter().copied().collect()
    }

    /// Sends a message to a node. A node without a connection receives what it must know when it is back.
    fn tell(&mut self, id: NodeId, message: ToAgent) {
        if let Some(connection) = self.live.get(&id).and_then(|live| live.connection) {
            self.effects.push(Effect::Send { connection, message: Box::new(message) });
        }
    }

    /// The name of a chain member.
    fn label_of(&self, id: NodeId) -> String {
        self.book.nodes.get(&id).map_or_else(|| id.to_string(), Node::label)
    }
}

#[cfg(test)]
fn failure(step: Step, reason: String, transient: bool, stream: Option<StreamId>) -> crate::failure::Failure {
    let kind = crate::failure::FailureKind::Stream { reason };
    crate::failure::Failure { step, kind, transient, stream }
}
