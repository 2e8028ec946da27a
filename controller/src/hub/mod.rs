//! The hub: one thread that owns all control connections and all sessions of this process.
//!
//! Other threads use the [`Hub`] handle; they read the state from a [`Snapshot`] that the hub renews. The hub
//! never waits for a person, a node or a disk.

mod connection_limits;
pub mod entry;
mod held;
mod logs;
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ka::chain::NodeId;
use ka::inventory::identity::DiskIdentity;
use ka::keys;
use ka::seal::StreamId;
use ka::session::status::{RunStatus, Transfer};
use ka::session::{
    Admission, Arrival, Arriving, ConnectionId, Effect, Ending, Event, Input, Question, StreamNotice,
};
use ka::tpm::FromNode;
use ka::tpm::proof::{Proof, ProofError};
use ka::wire::control::{Hello, ToAgent, ToController};
use ka::wire::session_names;
use mio::Waker;

use crate::config::{Config, keys::Keys};
use crate::machines::pins::Pins;
use crate::machines::recorder::{Recorder, Seen};
use crate::machines::store::Store;
use crate::rendezvous::go::GoSockets;
use crate::rendezvous::registry::{self, Registration, RegistryError};
use crate::stream::StreamNotifier;
use entry::Entry;
use held::Held;
pub use held::SessionSetup;
use ka_net::listen::{DataEndpoint, Listen, Side};
use net::{Net, NetEvent};

/// How often timers are checked when no event arrives.
const TICK: Duration = Duration::from_millis(50);
/// The snapshots take at most this part of the hub's time.
const PUBLISH_SHARE: u32 = 200;
/// The interval between the controller's heartbeats to the agents.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the hub tries to bind the well-known port while another process owns it.
const RETRY: Duration = Duration::from_secs(1);
/// The maximum number of rejected hosts that are named in the log.
const MAX_NAMED: usize = 256;
/// How long the hub continues after its work, so that the last goodbyes arrive.
const FAREWELL: Duration = Duration::from_secs(2);

/// The hub's listening addresses and limits.
pub struct HubSetup {
    /// The address and the interface.
    pub side: Side,
    /// The control port; if it is in use, a free one is taken.
    pub control: u16,
    /// The data port of the first stream; concurrent streams take other free ports.
    pub data: u16,
    /// The maximum number of control connections per address.
    pub per_address: usize,
    /// The directory of this host's sessions.
    pub sessions: PathBuf,
    /// The admission requirements.
    pub entry: Entry,
    /// The store that records joining machines, and the name of the run.
    pub machines: Option<(Store, String)>,
    /// The machines that must prove their TPM to the run's session.
    pub pins: Pins,
}

impl HubSetup {
    /// Takes the configured address, or `listen` instead; the interface is set only if one is known.
    #[must_use]
    pub fn new(config: &Config, listen: Option<Listen>, interface: Option<String>) -> Self {
        let address = listen.map(|listen| listen.address).filter(|address| !address.is_unspecified());
        Self {
            side: Side { address, interface },
            control: listen.and_then(|listen| listen.port).unwrap_or(config.ports.control),
            data: config.ports.data,
            per_address: config.net.per_address.into(),
            sessions: config.directories.run.join("sessions"),
            entry: Entry::default(),
            machines: None,
            pins: Pins::default(),
        }
    }
}

/// The hub could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No port, thread or event queue is available.
    #[error("cannot listen for nodes: {0}")]
    System(io::Error),
    /// A session's name is taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<io::Error> for HubError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// A session's state at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The status for display.
    pub status: RunStatus,
    /// The transfer's figures.
    pub transfer: Transfer,
    /// The nodes that wait for admission.
    pub arrivals: Vec<Arrival>,
    /// Whether the operator asked to start with the nodes present.
    pub go: bool,
    /// Whether another round may still serve nodes that join now.
    pub more_rounds: bool,
    /// The nodes that need a new confirmation.
    pub questions: Vec<Question>,
    /// The result, once the session has ended.
    pub ending: Option<Ending>,
}

enum Command {
    Admit { session: String, admission: Admission },
    Answer { session: String, node: NodeId, confirmed: Option<Vec<DiskIdentity>> },
    Quit,
}

/// The state shared by the hub's thread and its users.
#[derive(Default)]
struct Shared {
    snapshots: Mutex<BTreeMap<String, Snapshot>>,
    changed: Condvar,
}

/// A running hub.
pub struct Hub {
    /// The hub's control port.
    pub port: u16,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Starts a hub with its sessions.
    ///
    /// # Errors
    /// [`HubError`].
    pub fn start(hub_setup: &HubSetup, keys: Keys, sessions: Vec<SessionSetup>) -> Result<Self, HubError> {
        let (control, wants) = match hub_setup.side.listener(hub_setup.control) {
            Ok(listener) => (listener, None),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                (hub_setup.side.listener(0)?, Some(hub_setup.control))
            }
            Err(e) => return Err(e.into()),
        };
        let port = control.local_addr()?.port();
        let registrations = sessions
            .iter()
            .map(|setup| Registration::take(&hub_setup.sessions, &setup.spec.name, port))
            .collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> = sessions.iter().map(|setup| setup.spec.name.clone()).collect();
        let net = Net::new(keys, control, hub_setup.per_address)?;
        let waker = net.waker();
        let machines =
            hub_setup.machines.clone().map(|(store, run)| Recorder::start(store, &run)).transpose()?;
        let (notices, from_streams) = channel();
        let (commands, from_users) = channel();
        let shared = Arc::new(Shared::default());
        let next_node = sessions.iter().filter_map(last_node).max().unwrap_or(0) + 1;
        let mut event_loop = EventLoop {
            net,
            wants,
            wanted_at: Instant::now(),
            directory: hub_setup.sessions.clone(),
            entry: hub_setup.entry.clone(),
            machines,
            pins: hub_setup.pins.clone(),
            pinning: hub_setup.machines.as_ref().map(|(_, run)| run.clone()),
            proofs: BTreeMap::new(),
            arriving: BTreeMap::new(),
            complained: BTreeSet::new(),
            data: DataEndpoint { side: hub_setup.side.clone(), port: hub_setup.data },
            sessions: sessions
                .into_iter()
                .map(|mut setup| {
                    setup.spec.per_address = hub_setup.per_address;
                    (setup.spec.name.clone(), Held::new(setup, Arc::clone(&waker), Duration::ZERO))
                })
                .collect(),
            owners: BTreeMap::new(),
            next_node,
            notifier: StreamNotifier { notices, waker: Arc::clone(&waker) },
            from_streams,
            from_users,
            shared: Arc::clone(&shared),
            start: Instant::now(),
            beat_at: Instant::now(),
            has_news: false,
            ticked_at: None,
            published_at: None,
            publish_took: Duration::ZERO,
            quit_at: None,
            sockets: GoSockets::bind(&hub_setup.sessions, &names)?,
            _registrations: registrations,
        };
        event_loop.publish();
        let thread = thread::Builder::new().name("hub".into()).spawn(move || {
            if let Err(error) = event_loop.run() {
                log::error!("the hub has ended: {error}");
            }
        })?;
        Ok(Self { port, commands, waker, shared, thread: Some(thread) })
    }

    /// Starts a session with the nodes that the admission names, or ends it if there are none.
    pub fn admit(&self, session: &str, admission: Admission) {
        self.command(Command::Admit { session: session.to_owned(), admission });
    }

    /// Passes on which disks of a node were confirmed in a new question; an empty list means none.
    pub fn answer(&self, session: &str, node: NodeId, confirmed: Option<Vec<DiskIdentity>>) {
        self.command(Command::Answer { session: session.to_owned(), node, confirmed });
    }

    /// The current state of a session.
    #[must_use]
    pub fn snapshot(&self, session: &str) -> Option<Snapshot> {
        self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner).get(session).cloned()
    }

    /// Waits for a change, at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let snapshots = self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.shared.changed.wait_timeout(snapshots, timeout));
    }

    /// Whether the hub's thread has ended. It ends only by a fault or after the hub was dropped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn command(&self, command: Command) {
        if self.commands.send(command).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the hub: {error}");
        }
    }
}

/// The highest number that a node of a session got, if another process held the session before.
fn last_node(setup: &SessionSetup) -> Option<u32> {
    let number = |event: &Event| match event {
        Event::Joined(joined) => Some(joined.ticket.node.0),
        _ => None,
    };
    setup.resume.iter().flatten().filter_map(number).max()
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.command(Command::Quit);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the hub's thread has panicked");
        }
    }
}

struct EventLoop {
    net: Net,
    /// The well-known port while another process owns it, and the time of the last attempt to bind it.
    wants: Option<u16>,
    wanted_at: Instant,
    directory: PathBuf,
    entry: Entry,
    machines: Option<Recorder>,
    /// The machines that must prove their TPM, and the session in which they must.
    pins: Pins,
    pinning: Option<String>,
    /// The TPMs that prove themselves, or have, before their node's hello.
    proofs: BTreeMap<ConnectionId, Proof>,
    /// The connections whose join is not yet in the journal, each with the machine to record once it is.
    arriving: BTreeMap<ConnectionId, Option<Seen>>,
    /// Rejected hosts that the log has already named.
    complained: BTreeSet<(IpAddr, String)>,
    data: DataEndpoint,
    sessions: BTreeMap<String, Held>,
    /// The node and session of each connection.
    owners: BTreeMap<ConnectionId, (String, NodeId)>,
    next_node: u32,
    notifier: StreamNotifier,
    from_streams: Receiver<(StreamId, StreamNotice)>,
    from_users: Receiver<Command>,
    shared: Arc<Shared>,
    start: Instant,
    beat_at: Instant,
    /// Whether anything but heartbeats has arrived since the last tick, and when that was.
    has_news: bool,
    ticked_at: Option<Duration>,
    published_at: Option<Instant>,
    publish_took: Duration,
    quit_at: Option<Instant>,
    /// Dropped before the registrations: the next process that registers a session's name recreates its
    /// socket.
    sockets: GoSockets,
    _registrations: Vec<Registration>,
}

impl EventLoop {
    fn run(&mut self) -> io::Result<()> {
        loop {
            for (connection, event) in self.net.wait(TICK)? {
                self.has_news |= !event.is_heartbeat();
                self.on_event(connection, event);
            }
            self.obey();
            let now = self.start.elapsed();
            while let Ok((stream, notice)) = self.from_streams.try_recv() {
                if let Some(held) = self.sessions.values_mut().find(|held| held.streams(stream)) {
                    held.on(Input::Stream(notice), now);
                    self.has_news = true;
                }
            }
            self.tick(now);
            // A welcome must be the first message to an agent: heartbeats come after everything that this
            // turn sends.
            self.deliver();
            self.beat();
            self.publish();
            self.take_well_known_port();
            if self.quit_at.is_some_and(|at| at.elapsed() > FAREWELL || self.owners.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Lets the sessions take all possible steps: at once after news, and otherwise at the next tick. A
    /// thousand nodes send a thousand heartbeats per second, and none of them is news.
    fn tick(&mut self, now: Duration) {
        let is_due = self.ticked_at.is_none_or(|at| now.saturating_sub(at) >= TICK);
        if !std::mem::take(&mut self.has_news) && !is_due {
            return;
        }
        self.ticked_at = Some(now);
        self.serve_go();
        for held in self.sessions.values_mut() {
            held.on(Input::Tick, now);
        }
    }

    fn on_event(&mut self, connection: ConnectionId, event: NetEvent) {
        let now = self.start.elapsed();
        match event {
            NetEvent::Message(message) => match (*message, self.owners.get(&connection)) {
                // It must wait for its welcome, which follows once the join is in the journal.
                (_, None) if self.arriving.contains_key(&connection) => {
                    self.refuse(connection, "it sent a message before its welcome");
                }
                (ToController::Hello(hello), None) => {
                    if let Err(answer) = self.join(connection, *hello, now) {
                        self.net.send(connection, &answer);
                        self.net.close(connection);
                    }
                }
                (ToController::Tpm(message), None) => {
                    if let Err(error) = self.on_tpm(connection, message) {
                        self.refuse(connection, &error.to_string());
                    }
                }
                (ToController::Hello(_), Some(_)) => {
                    let reason = "it sent two hellos on one connection";
                    self.refuse(connection, reason);
                    self.forget(connection, reason);
                }
                (message, Some((session, node))) => match self.sessions.get_mut(session) {
                    Some(held) if held.session.knows(*node) => {
                        held.on(Input::Message { node: *node, message }, now);
                    }
                    _ => {
                        let reason = format!("the session '{session}' is over for this node");
                        self.net.send(connection, &ToAgent::Refused { reason });
                        self.net.close(connection);
                        self.owners.remove(&connection);
                    }
                },
                (_, None) => {
                    self.proofs.remove(&connection);
                    self.net.close(connection);
                }
            },
            NetEvent::Closed(reason) => self.forget(connection, &reason),
        }
    }

    /// Closes a connection and tells its peer why.
    fn refuse(&mut self, connection: ConnectionId, reason: &str) {
        self.proofs.remove(&connection);
        self.net.send(connection, &ToAgent::Refused { reason: reason.to_owned() });
        self.net.close(connection);
    }

    /// Ignores all further input of a connection.
    fn forget(&mut self, connection: ConnectionId, reason: &str) {
        self.proofs.remove(&connection);
        self.arriving.remove(&connection);
        if let Some((session, node)) = self.owners.remove(&connection)
            && let Some(held) = self.sessions.get_mut(&session)
        {
            let reason = reason.to_owned();
            held.on(Input::Closed { node, connection, reason }, self.start.elapsed());
        }
    }

    /// Continues the proof of a node's TPM.
    fn on_tpm(&mut self, connection: ConnectionId, message: FromNode) -> Result<(), ProofError> {
        let answer = match self.proofs.get_mut(&connection) {
            Some(proof) => proof.on(message)?,
            None => {
                let Some(agent) = self.net.key(connection) else { return Ok(()) };
                let (proof, challenge) = Proof::begin(&agent, message)?;
                self.proofs.insert(connection, proof);
                Some(challenge)
            }
        };
        if let Some(answer) = answer {
            self.net.send(connection, &ToAgent::Tpm(answer));
        }
        Ok(())
    }

    #[allow(clippy::result_large_err, reason = "it is said at once, on one connection")]
    fn join(&mut self, connection: ConnectionId, hello: Hello, now: Duration) -> Result<(), ToAgent> {
        let tpm = self.proofs.remove(&connection).and_then(|proof| proof.proven());
        if let Err(error) = hello.check() {
            if let Some((peer, _)) = self.net.addresses(connection) {
                self.complain(peer, &hello.session, &error.to_string());
            }
            return Err(ToAgent::Refused { reason: error.to_string() });
        }
        if self.net.key(connection) != Some(hello.key) {
            let reason = "its key is not the one with which it opened the connection".to_owned();
            return Err(ToAgent::Refused { reason });
        }
        let name = hello.session.clone();
        if !session_names::is_valid(&name) {
            return Err(ToAgent::Refused { reason: "that is not a session name".into() });
        }
        let Some(held) = self.sessions.get_mut(&name) else {
            return Err(match registry::lookup(&self.directory, &name) {
                Some(port) => ToAgent::Redirect { port },
                None => ToAgent::Refused { reason: format!("no session '{name}' runs here") },
            });
        };
        let Some((peer, local)) = self.net.addresses(connection) else { return Ok(()) };
        let card = hello.inventory.cards.first().and_then(|card| card.mac.parse().ok());
        // A returning node presents a secret that only it was given.
        let known = hello.resume.is_some();
        let entry = self.entry.check(self.net.is_of_run(connection), peer, card);
        let pinning = self.pinning.as_ref() == Some(&name);
        let entry = entry.and_then(|()| if pinning { self.pins.check(card, tpm) } else { Ok(()) });
        if let Some(reason) = entry.err().filter(|_| !known) {
            self.complain(peer, &name, &reason);
            return Err(ToAgent::Refused { reason: format!("the session '{name}': {reason}") });
        }
        let id = NodeId(self.next_node);
        self.next_node += 1;
        let token = keys::random().map_err(|error| ToAgent::Refused { reason: error.to_string() })?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let time = u64::try_from(time).unwrap_or(u64::MAX);
        // A console is dialled with what is recorded here, so a pinned machine's is that of a proven join.
        let is_recorded = self.machines.is_some() && self.pins.check(card, tpm).is_ok();
        let seen = is_recorded.then(|| Seen::of(&hello, peer)).flatten();
        let arriving = Arriving { id, hello, connection, peer, local, token, time, tpm };
        held.on(Input::Hello(Box::new(arriving)), now);
        self.arriving.insert(connection, seen);
        self.deliver();
        Ok(())
    }

    /// Logs each address and reason of a rejection once: a host that keeps asking must not fill the log.
    fn complain(&mut self, peer: IpAddr, session: &str, reason: &str) {
        if self.complained.len() < MAX_NAMED && self.complained.insert((peer, reason.to_owned())) {
            log::warn!("{session}: {peer} is rejected: {reason}");
        }
    }

    fn obey(&mut self) {
        while let Ok(order) = self.from_users.try_recv() {
            self.has_news = true;
            let (session, input) = match order {
                Command::Admit { session, admission } => (session, Input::Admit(admission)),
                Command::Answer { session, node, confirmed } => (session, Input::Answer { node, confirmed }),
                Command::Quit => {
                    self.quit_at = Some(Instant::now());
                    self.stop_the_rest();
                    continue;
                }
            };
            if let Some(held) = self.sessions.get_mut(&session) {
                held.on(input, self.start.elapsed());
            }
        }
    }

    /// Refuses the nodes of lasting sessions once the run itself has ended: nobody resumes it, and they must
    /// not wait for that.
    fn stop_the_rest(&mut self) {
        let has_ended = |name: &String| self.sessions.get(name).is_none_or(|h| h.session.ending().is_some());
        if !self.sessions.keys().any(has_ended) {
            return;
        }
        let rest = self.owners.iter().filter(|(_, (session, _))| !has_ended(session));
        let rest: Vec<ConnectionId> = rest.map(|(connection, _)| *connection).collect();
        for connection in rest {
            self.refuse(connection, "the run has ended");
            self.owners.remove(&connection);
        }
    }

    /// Answers requests to start a session with the nodes present.
    fn serve_go(&mut self) {
        let (sessions, now) = (&mut self.sessions, self.start.elapsed());
        self.sockets.serve(|name| match sessions.get_mut(name) {
            Some(held) => held.go(now),
            None => Err(format!("there is no session '{name}'")),
        });
    }

    fn beat(&mut self) {
        if self.beat_at.elapsed() >= HEARTBEAT {
            self.beat_at = Instant::now();
            for connection in self.owners.keys() {
                self.net.send(*connection, &ToAgent::Heartbeat);
            }
            self.flush();
        }
    }

    /// Carries out the sessions' effects.
    fn deliver(&mut self) {
        let now = self.start.elapsed();
        let names: Vec<String> = self.sessions.keys().cloned().collect();
        for name in names {
            while let Some(effect) = self
                .sessions
                .get_mut(&name)
                .and_then(|held| held.next_effect(&self.data, &self.notifier, now))
            {
                self.carry_out(&name, effect);
            }
        }
        self.flush();
    }

    fn carry_out(&mut self, session: &str, effect: Effect) {
        match effect {
            Effect::Joined { connection, node } => {
                self.owners.insert(connection, (session.to_owned(), node));
                let seen = self.arriving.remove(&connection).flatten();
                if let Some((machines, seen)) = self.machines.as_mut().zip(seen) {
                    machines.joined(seen);
                }
                if self.net.addresses(connection).is_none() {
                    self.forget(connection, "it closed the connection");
                }
            }
            Effect::Refused { connection, reason } => {
                self.arriving.remove(&connection);
                if let Some((peer, _)) = self.net.addresses(connection) {
                    self.complain(peer, session, &reason);
                }
                let reason = format!("the session '{session}': {reason}");
                self.net.send(connection, &ToAgent::Refused { reason });
                self.net.close(connection);
            }
            Effect::Send { connection, message } => {
                self.net.send(connection, &message);
                if matches!(*message, ToAgent::Bye | ToAgent::Refused { .. }) {
                    self.net.close(connection);
                    self.owners.remove(&connection);
                }
            }
            other => log::debug!("{session}: unexpected effect {other:?}"),
        }
    }

    fn flush(&mut self) {
        for (connection, event) in self.net.flush_all() {
            self.on_event(connection, event);
        }
    }

    /// Renews the snapshots, at most as often as they are read. Those of many nodes are renewed less often.
    fn publish(&mut self) {
        let pause = (self.publish_took * PUBLISH_SHARE).clamp(TICK, HEARTBEAT);
        if self.published_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let began = Instant::now();
        let mut snapshots = self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, held) in &self.sessions {
            let session = &held.session;
            let (status, transfer) = session.status();
            if let Some(machines) = &mut self.machines {
                machines.look(name, &status);
            }
            let snapshot = Snapshot {
                status,
                transfer,
                arrivals: session.arrivals(),
                go: session.was_told_to_go(),
                more_rounds: session.has_rounds(),
                questions: session.questions(),
                ending: session.ending().cloned(),
            };
            snapshots.insert(name.clone(), snapshot);
        }
        drop(snapshots);
        self.published_at = Some(Instant::now());
        self.publish_took = began.elapsed();
        self.shared.changed.notify_all();
    }

    /// Agents that know only the well-known port must find a controller there, even after the process that
    /// owned the port has ended.
    fn take_well_known_port(&mut self) {
        let Some(port) = self.wants else { return };
        if self.wanted_at.elapsed() < RETRY {
            return;
        }
        self.wanted_at = Instant::now();
        if let Ok(listener) = self.data.side.listener(port) {
            match self.net.listen(listener) {
                Ok(()) => self.wants = None,
                Err(error) => log::warn!("cannot listen on port {port}: {error}"),
            }
        }
    }
}
