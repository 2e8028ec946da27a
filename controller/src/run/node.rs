//! What the controller knows of one node of a session.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ka::chain::NodeId;
use ka::wire::control::{Failure, Hello, Progress, Ticket};

use super::net::ConnectionId;
use super::nodes::Mac;
use super::status::{self, NodeStatus, Phase};

/// A node's log is cut here: a log that is longer tells nothing more.
const MAX_LOG: u64 = 64 * 1024 * 1024;

/// A node of a session.
pub(super) struct Node {
    pub(super) ticket: Ticket,
    pub(super) hello: Hello,
    pub(super) peer: IpAddr,
    /// This machine's address, as the node sees it.
    pub(super) local: IpAddr,
    pub(super) connection: Option<ConnectionId>,
    pub(super) lost_at: Option<Instant>,
    pub(super) phase: Phase,
    pub(super) step: String,
    pub(super) failure: Option<Failure>,
    pub(super) progress: Progress,
    /// Bytes of the plain stream, once it has all.
    pub(super) total: Option<u64>,
    /// The node has nothing more to do.
    pub(super) done: bool,
    /// The node was sent away.
    pub(super) dismissed: bool,
    /// It takes part, or took part, in a stream's chain.
    pub(super) streamed: bool,
    rate: Rate,
    log: Option<File>,
}

impl Node {
    pub(super) fn new(
        ticket: Ticket,
        hello: Hello,
        connection: ConnectionId,
        (peer, local): (IpAddr, IpAddr),
    ) -> Self {
        Self {
            ticket,
            hello,
            peer,
            local,
            connection: Some(connection),
            lost_at: None,
            phase: Phase::Joined,
            step: String::new(),
            failure: None,
            progress: Progress::default(),
            total: None,
            done: false,
            dismissed: false,
            streamed: false,
            rate: Rate::default(),
            log: None,
        }
    }

    pub(super) fn id(&self) -> NodeId {
        self.ticket.node
    }

    /// Where its successor reaches it.
    pub(super) fn data_address(&self) -> SocketAddr {
        SocketAddr::new(self.peer, self.hello.data_port)
    }

    pub(super) fn mac(&self) -> Option<Mac> {
        self.hello.inventory.cards.first().and_then(|card| card.mac.parse().ok())
    }

    /// What a person calls it.
    pub(super) fn label(&self) -> String {
        match (self.hello.inventory.hostname.as_str(), self.mac()) {
            ("", Some(mac)) => format!("{mac} ({})", self.peer),
            ("", None) => self.peer.to_string(),
            (name, _) => format!("{name} ({})", self.peer),
        }
    }

    pub(super) fn on_progress(&mut self, progress: Progress) {
        self.rate.add(progress.verified.0);
        self.progress = progress;
    }

    /// Records the first reason; what follows from it is not told again.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            log::error!("{}: {} failed: {}", self.label(), failure.step, failure.reason);
            self.failure = Some(failure);
        }
        self.phase = Phase::Failed;
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Stores a piece of its log in `directory`.
    pub(super) fn store_log(&mut self, directory: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset.saturating_add(bytes.len() as u64) > MAX_LOG {
            return Err(io::Error::other("the log is too long"));
        }
        let log = match &mut self.log {
            Some(log) => log,
            None => {
                let name = self.mac().map_or_else(|| self.peer.to_string(), |mac| mac.to_string());
                fs::create_dir_all(directory)?;
                self.log.insert(new_log(directory, &name.replace(':', "-"))?)
            }
        };
        log.write_all_at(bytes, offset)
    }

    /// What is shown of it; `plain` turns sealed bytes into bytes of the plain stream.
    pub(super) fn status(&self, plain: impl Fn(u64) -> u64) -> NodeStatus {
        NodeStatus {
            mac: self.mac(),
            address: self.peer,
            hostname: self.hello.inventory.hostname.clone(),
            phase: self.phase,
            received: self.total.unwrap_or_else(|| plain(self.progress.verified.0)),
            rate: plain(self.rate.per_second),
            note: self.step.clone(),
            failure: self
                .failure
                .as_ref()
                .map(|f| status::Failure { step: f.step.clone(), reason: f.reason.clone() }),
        }
    }
}

/// A new file for a log: a machine that comes again after a failure does not overwrite what it said before.
fn new_log(directory: &Path, name: &str) -> io::Result<File> {
    for number in 1_u32.. {
        let file = if number == 1 { format!("{name}.log") } else { format!("{name}-{number}.log") };
        match OpenOptions::new().create_new(true).write(true).open(directory.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Bytes a second between the last two reports that lie a second apart.
#[derive(Default)]
struct Rate {
    since: Option<(Instant, u64)>,
    per_second: u64,
}

impl Rate {
    fn add(&mut self, position: u64) {
        let now = Instant::now();
        let Some((then, before)) = self.since else {
            self.since = Some((now, position));
            return;
        };
        let millis = u64::try_from(now.duration_since(then).as_millis()).unwrap_or(u64::MAX);
        if millis >= 1000 {
            self.per_second = position.saturating_sub(before).saturating_mul(1000) / millis;
            self.since = Some((now, position));
        }
    }
}
