//! One session: nodes gather, prepare, receive one stream down one chain, and leave.
//!
//! It knows no socket. The hub tells it what nodes say and sends what it puts into its outbox. A
//! lasting session, such as `getstage2`, begins again with whoever has come meanwhile.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ka::chain::{Decision, MIN_WINDOW, NodeId, Report, SlowLimits};
use ka::inventory::Firmware;
use ka::plan::Plan;
use ka::wire::control::{Failure, Hello, Ticket, ToAgent, ToController};
use ka::wire::keys;

use super::net::{ConnectionId, DataPlace};
use super::node::Node;
use super::nodes::Mac;
use super::select::Arrival;
use super::source::Source;
use super::status::{Phase, RunStatus, Transfer};
use super::stream::{Bell, Setup, Stream, StreamNotice};

/// How long a node may be without a connection while no chain judges it.
const ABSENCE: Duration = Duration::from_secs(60);

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
    /// What the nodes do before the stream.
    pub plan: Option<Plan>,
    /// After this time it begins with whoever is there.
    pub timeout: Option<Duration>,
    /// Where the nodes' logs go.
    pub log: Option<PathBuf>,
    /// The golden node's window in bytes.
    pub window: u64,
    /// What silence means.
    pub dead_after: Duration,
    /// When a node is too slow to be waited for.
    pub slow: SlowLimits,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The first ones that come, as many as are wanted.
    First,
    /// Those that [`Session::admit`] names, when it does.
    Named,
    /// Everybody, for ever: a chain begins when all that are wanted wait, or nobody has come for this time.
    Lasting(Duration),
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
    /// The nodes of this round.
    chosen: Vec<NodeId>,
    began: Instant,
    started: SystemTime,
    last_join: Instant,
    transfer: Transfer,
    outbox: Vec<(NodeId, ToAgent)>,
}

impl Session {
    /// A session that waits for nodes from now on.
    #[must_use]
    pub fn new(spec: SessionSpec) -> Self {
        let now = Instant::now();
        Self {
            spec,
            state: State::Gathering,
            nodes: BTreeMap::new(),
            chosen: Vec::new(),
            began: now,
            started: SystemTime::now(),
            last_join: now,
            transfer: Transfer::default(),
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

    /// Takes the messages that are to be sent, with the connections for them.
    pub(super) fn take_outbox(&mut self) -> Vec<(ConnectionId, ToAgent)> {
        let outbox = std::mem::take(&mut self.outbox);
        outbox
            .into_iter()
            .filter_map(|(node, message)| Some((self.nodes.get(&node)?.connection?, message)))
            .collect()
    }

    // Nodes come, speak and go.

    /// A node wants to join, or comes back.
    pub(super) fn on_hello(
        &mut self,
        id: NodeId,
        hello: Hello,
        connection: ConnectionId,
        addresses: (IpAddr, IpAddr),
        now: Duration,
    ) -> Result<NodeId, String> {
        if let Some(ticket) = hello.resume {
            return self.on_return(ticket, connection, now);
        }
        let gathering = matches!(self.state, State::Gathering);
        match self.spec.gate {
            Gate::Lasting(_) => {}
            _ if !gathering => return Err("it has begun without this node".into()),
            Gate::Named if !hello.erasable => {
                return Err(
                    "the kernel was not started with 'kamethod': this machine may not be erased".into()
                );
            }
            Gate::Named if hello.inventory.firmware == Firmware::Uefi => {
                return Err(
                    "the machine was started by UEFI, and only BIOS machines can be cloned yet".into()
                );
            }
            Gate::Named | Gate::First => {}
        }
        if hello.window < MIN_WINDOW {
            return Err(format!("the node can keep {} bytes, and {MIN_WINDOW} are needed", hello.window));
        }
        let token = keys::random().map_err(|e| e.to_string())?;
        let node = Node::new(Ticket { node: id, token }, hello, connection, addresses);
        log::info!("{}: {} has joined", self.spec.name, node.label());
        self.welcome(node.ticket);
        self.nodes.insert(id, node);
        self.last_join = Instant::now();
        Ok(id)
    }

    /// A node whose connection was lost is back; it is told again what it may have missed.
    fn on_return(
        &mut self,
        ticket: Ticket,
        connection: ConnectionId,
        now: Duration,
    ) -> Result<NodeId, String> {
        let id = ticket.node;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.ticket == ticket) else {
            return Err("it does not know this node any more".into());
        };
        log::info!("{}: {} is back", self.spec.name, node.label());
        node.connection = Some(connection);
        node.lost_at = None;
        let failed = node.failure.as_ref().map(|failure| failure.reason.clone());
        self.welcome(ticket);
        if let Some(plan) = self.spec.plan.clone().filter(|_| self.chosen.contains(&id)) {
            self.outbox.push((id, ToAgent::Plan(Box::new(plan))));
        }
        if let State::Streaming(stream) = &mut self.state {
            stream.membership.on_heartbeat(id, now);
            if let Some(view) = stream.view(id) {
                self.outbox.push((id, ToAgent::Stream(Box::new(stream.start.clone()))));
                self.outbox.push((id, ToAgent::View { stream: stream.id(), view }));
            } else if let Some(reason) = failed {
                self.outbox.push((id, ToAgent::Abort { stream: stream.id(), reason }));
            }
        }
        Ok(id)
    }

    fn welcome(&mut self, ticket: Ticket) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        let welcome = ToAgent::Welcome { ticket, time, dead_after: self.spec.dead_after };
        self.outbox.push((ticket.node, welcome));
    }

    /// A node's connection has ended.
    pub(super) fn on_closed(&mut self, id: NodeId, connection: ConnectionId, reason: &str) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.connection == Some(connection)) else {
            return;
        };
        if node.dismissed {
            return;
        }
        log::debug!("{}: the connection of {} is lost: {reason}", self.spec.name, node.label());
        node.connection = None;
        node.lost_at = Some(Instant::now());
        if let State::Streaming(stream) = &mut self.state {
            stream.membership.on_disconnect(id);
        }
    }

    /// A node says something.
    pub(super) fn on_message(&mut self, id: NodeId, message: ToController, now: Duration) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let running = if let State::Streaming(stream) = &mut self.state { Some(stream) } else { None };
        match message {
            ToController::Hello(_) => log::warn!("{} says hello twice", node.label()),
            ToController::Heartbeat(progress) => {
                node.on_progress(progress);
                if let Some(stream) = running {
                    stream.on_heartbeat(id, progress, now);
                }
            }
            ToController::Complaint { stream, report } => {
                if let Some(running) = running.filter(|running| running.id() == stream) {
                    let decisions = running.membership.on_complaint(id, report, now);
                    self.decide(decisions);
                }
            }
            ToController::Step { name } => {
                if node.phase == Phase::Planned {
                    node.phase = Phase::Preparing;
                }
                node.step = name;
            }
            ToController::Ready => {
                if matches!(node.phase, Phase::Planned | Phase::Preparing) {
                    node.phase = Phase::Ready;
                }
            }
            ToController::Complete { total, .. } => {
                node.total = Some(total.length);
                if node.phase == Phase::Receiving {
                    node.phase = Phase::Finishing;
                }
            }
            ToController::Failed(failure) => node.fail(failure),
            ToController::Log { offset, bytes } => {
                if let Some(directory) = &self.spec.log
                    && let Err(error) = node.store_log(directory, offset, &bytes)
                {
                    log::error!("the log of {} cannot be stored: {error}", node.label());
                }
            }
            // A node that was taken for dead, and is not, may go at once.
            ToController::Done if node.dismissed => self.outbox.push((id, ToAgent::Bye)),
            ToController::Done => node.done = true,
        }
    }

    /// Lets these machines in: the session goes on with them and no others.
    pub fn admit(&mut self, macs: &[Mac]) {
        let chosen = self.waiting().filter(|node| node.mac().is_some_and(|mac| macs.contains(&mac)));
        self.chosen = chosen.map(Node::id).collect();
    }

    /// The machines that wait to be let in, in the order in which they came.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.waiting()
            .filter_map(|node| {
                let inventory = node.hello.inventory.clone();
                Some(Arrival { mac: node.mac()?, address: node.peer, inventory })
            })
            .collect()
    }

    fn waiting(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.phase == Phase::Joined && node.connection.is_some())
    }

    // Time passes.

    /// Takes what steps can be taken.
    pub(super) fn advance(&mut self, now: Duration, data: DataPlace, bell: &Bell) {
        self.judge_absence();
        match &mut self.state {
            State::Gathering => self.gather(),
            State::Preparing => self.prepare(now, data, bell),
            State::Streaming(stream) => {
                let decisions = stream.judge(now);
                self.decide(decisions);
            }
            State::Leaving | State::Over(_) => {}
        }
        self.dismiss();
        if matches!(self.state, State::Leaving) && self.chosen.iter().all(|id| self.has_left(*id)) {
            self.end_round(Ending::Served);
        }
    }

    fn judge_absence(&mut self) {
        let streaming = matches!(self.state, State::Streaming(_));
        let absent = |node: &Node| node.lost_at.is_some_and(|since| since.elapsed() > ABSENCE);
        self.nodes.retain(|_, node| node.phase != Phase::Joined || !absent(node));
        for node in self.nodes.values_mut() {
            let judged_by_chain = streaming && node.phase == Phase::Receiving;
            if absent(node) && !judged_by_chain && !node.is_failed() && node.phase != Phase::Complete {
                let reason = format!("the connection was lost {} s ago", ABSENCE.as_secs());
                node.fail(failure("connection", reason, true));
            }
        }
    }

    fn gather(&mut self) {
        if let Gate::Lasting(_) = self.spec.gate {
            // By now the last round's goodbyes are on their way.
            self.nodes.retain(|_, node| !node.dismissed && !node.is_failed());
        }
        let waiting: Vec<NodeId> = self.waiting().map(Node::id).collect();
        let late = self.spec.timeout.is_some_and(|timeout| self.began.elapsed() >= timeout);
        let enough = waiting.len() >= self.spec.wanted;
        match self.spec.gate {
            Gate::First if enough || late && !waiting.is_empty() => {
                self.chosen = waiting.into_iter().take(self.spec.wanted).collect();
            }
            Gate::Lasting(linger)
                if !waiting.is_empty() && (enough || self.last_join.elapsed() >= linger) =>
            {
                self.chosen = waiting;
            }
            Gate::First if late => {
                self.state = State::Over(Ending::Nobody);
                return;
            }
            Gate::First | Gate::Lasting(_) | Gate::Named => {}
        }
        if self.chosen.is_empty() {
            return;
        }
        for id in self.chosen.clone() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            match &self.spec.plan {
                Some(plan) => {
                    node.phase = Phase::Planned;
                    self.outbox.push((id, ToAgent::Plan(Box::new(plan.clone()))));
                }
                None => node.phase = Phase::Ready,
            }
        }
        self.state = State::Preparing;
    }

    /// Starts the stream when everybody is ready or has failed.
    fn prepare(&mut self, now: Duration, data: DataPlace, bell: &Bell) {
        let nodes = || self.chosen.iter().filter_map(|id| self.nodes.get(id));
        if !nodes().all(|node| node.phase == Phase::Ready || node.is_failed()) {
            return;
        }
        let mut ready: Vec<&Node> = nodes().filter(|node| !node.is_failed()).collect();
        ready.sort_by_key(|node| node.data_address());
        let order: Vec<(NodeId, SocketAddr)> = ready.iter().map(|n| (n.id(), n.data_address())).collect();
        let Some(first) = ready.first() else {
            self.state = State::Leaving;
            return;
        };
        let window = ready.iter().map(|node| node.hello.window).fold(self.spec.window, u64::min);
        let setup = Setup {
            source: Arc::clone(&self.spec.source),
            order: &order,
            golden: first.local,
            data,
            window,
            dead_after: self.spec.dead_after,
            slow: self.spec.slow,
            now,
        };
        match Stream::start(&setup, bell) {
            Ok(stream) => {
                for (id, _) in &order {
                    if let Some(node) = self.nodes.get_mut(id) {
                        node.phase = Phase::Receiving;
                        node.streamed = true;
                    }
                    self.outbox.push((*id, ToAgent::Stream(Box::new(stream.start.clone()))));
                }
                self.state = State::Streaming(Box::new(stream));
                self.send_views();
            }
            Err(error) => self.abort("start", &error.to_string(), Ending::SourceFailed(error.to_string())),
        }
    }

    /// What the stream's threads say.
    pub(super) fn on_notice(&mut self, notice: StreamNotice, now: Duration) {
        let State::Streaming(stream) = &mut self.state else { return };
        match notice {
            StreamNotice::Complaint(report) => self.on_golden_complaint(report, now),
            StreamNotice::Produced(Ok(())) => stream.on_produced(),
            StreamNotice::Produced(Err(error)) => {
                let reason = error.to_string();
                self.abort("source", &reason, Ending::SourceFailed(reason.clone()));
            }
            StreamNotice::TailComplete => {
                stream.release();
                let id = stream.id();
                let members = stream.membership.chain().to_vec();
                self.account();
                self.outbox.extend(members.into_iter().map(|node| (node, ToAgent::Release { stream: id })));
                self.state = State::Leaving;
            }
        }
    }

    /// Whether the stream with this id is the session's.
    pub(super) fn streams(&self, id: ka::seal::StreamId) -> bool {
        matches!(&self.state, State::Streaming(stream) if stream.id() == id)
    }

    fn on_golden_complaint(&mut self, report: Report, now: Duration) {
        if let State::Streaming(stream) = &mut self.state {
            let decisions = stream.membership.on_complaint(NodeId::GOLDEN, report, now);
            self.decide(decisions);
        }
    }

    fn decide(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Probe(node) => self.outbox.push((node, ToAgent::Probe)),
                Decision::Expelled { node, reason, alive } => self.expel(node, reason, alive),
                Decision::NewEpoch(epoch) => {
                    log::debug!("{}: epoch {}", self.spec.name, epoch.0);
                    self.send_views();
                }
            }
        }
        if matches!(&self.state, State::Streaming(stream) if !stream.has_nodes()) {
            if let State::Streaming(stream) = &mut self.state {
                stream.give_up();
            }
            self.account();
            self.state = State::Leaving;
        }
    }

    fn expel(&mut self, id: NodeId, reason: String, alive: bool) {
        let State::Streaming(stream) = &self.state else { return };
        let stream = stream.id();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        // A copy that is complete stays so: only its memory was lost to the chain.
        if node.phase != Phase::Finishing && node.phase != Phase::Complete {
            node.fail(failure("chain", reason.clone(), alive));
            // Nobody waits for what a dead machine may still say.
            node.dismissed = !alive;
        }
        self.outbox.push((id, ToAgent::Abort { stream, reason }));
    }

    fn send_views(&mut self) {
        let State::Streaming(stream) = &self.state else { return };
        stream.place_golden();
        for node in stream.membership.chain().iter().filter(|id| **id != NodeId::GOLDEN) {
            if let Some(view) = stream.view(*node) {
                self.outbox.push((*node, ToAgent::View { stream: stream.id(), view }));
            }
        }
    }

    /// Gives the stream up for everybody.
    fn abort(&mut self, step: &str, reason: &str, ending: Ending) {
        log::error!("{}: {reason}", self.spec.name);
        if let State::Streaming(stream) = &mut self.state {
            stream.give_up();
            let id = stream.id();
            for node in &self.chosen {
                let reason = reason.to_owned();
                self.outbox.push((*node, ToAgent::Abort { stream: id, reason }));
            }
        }
        self.account();
        for id in &self.chosen {
            if let Some(node) = self.nodes.get_mut(id) {
                node.fail(failure(step, reason.to_owned(), true));
            }
        }
        self.end_round(ending);
    }

    /// Keeps the stream's figures.
    fn account(&mut self) {
        if let State::Streaming(stream) = &self.state {
            let (sending, draining) = stream.times();
            let plain = stream.plain.load(Ordering::Relaxed);
            self.transfer = Transfer { plain, wire: stream.wire(), sending, draining };
        }
    }

    /// Says goodbye to those who have nothing left to do here.
    fn dismiss(&mut self) {
        let streaming = matches!(self.state, State::Streaming(_));
        for node in self.nodes.values_mut() {
            let id = node.id();
            // The window of a member of the chain is needed until everybody is released.
            if node.done && !node.dismissed && !(streaming && node.streamed) {
                node.dismissed = true;
                if !node.is_failed() {
                    node.phase = Phase::Complete;
                }
                self.outbox.push((id, ToAgent::Bye));
            }
        }
    }

    fn has_left(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_none_or(|node| {
            node.dismissed || node.is_failed() && node.connection.is_none() || node.phase == Phase::Complete
        })
    }

    fn end_round(&mut self, ending: Ending) {
        self.chosen.clear();
        if let Gate::Lasting(_) = self.spec.gate {
            self.state = State::Gathering;
            return;
        }
        let waiting: Vec<NodeId> = self.waiting().map(Node::id).collect();
        for id in waiting {
            let reason = "it has ended without this node".to_owned();
            self.outbox.push((id, ToAgent::Refused { reason }));
        }
        self.state = State::Over(ending);
    }

    /// What is shown of it.
    #[must_use]
    pub fn status(&self) -> (RunStatus, Transfer) {
        let mut transfer = self.transfer;
        if let State::Streaming(stream) = &self.state {
            let (sending, draining) = stream.times();
            let plain = stream.plain.load(Ordering::Relaxed);
            transfer = Transfer { plain, wire: stream.wire(), sending, draining };
        }
        let plain = |sealed: u64| match transfer.wire {
            0 => 0,
            wire => {
                let plain = u128::from(sealed) * u128::from(transfer.plain) / u128::from(wire);
                u64::try_from(plain).unwrap_or(u64::MAX)
            }
        };
        // A node that only came, and left or was not chosen, is none of the session's.
        let gathering = matches!(self.state, State::Gathering) && self.spec.plan.is_none();
        let shown = self
            .nodes
            .values()
            .filter(|node| node.phase != Phase::Joined || gathering && node.connection.is_some());
        let status = RunStatus {
            name: self.spec.name.clone(),
            session: self.spec.name.clone(),
            started: self.started,
            sent: transfer.plain,
            total: None,
            nodes: shown.map(|node| node.status(plain)).collect(),
        };
        (status, transfer)
    }
}

fn failure(step: &str, reason: String, passing: bool) -> Failure {
    Failure { step: step.to_owned(), reason, passing }
}
