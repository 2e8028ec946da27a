//! One attempt at a stream: its chain, the golden node's relay, and the producer.

mod block_size;
mod compress;
mod content;
mod level;
pub mod produce;
pub(crate) mod slow;
pub mod source;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use ka::chain::{
    Decision, Limit, LinkKeys, LinkName, Member, Membership, NodeId, Offset, Report, Secrets, SlowLimits,
    View,
};
use ka::keys::KeyError;
use ka::notes::Tally;
use ka::proof::{Proof, Root};
use ka::seal::{Cipher, StreamId, StreamKey, max_block};
use ka::wire::control::{self, StreamStart};
use ka_net::relay::{Command, Feed, Handle, Notice, Progress, QUEUE, Relay};
use mio::Waker;

use crate::status::Transfer;
use ka_net::listen::DataPlace;
use produce::{Account, Chain, ProduceError};
use slow::{Limits, SlowNodes};
use source::Source;

/// What a stream's threads tell the hub.
#[derive(Debug)]
pub(crate) enum StreamNotice {
    /// The golden node complains of its successor.
    Complaint(Report),
    /// The last member of the chain has verified everything.
    TailComplete,
    /// The golden node's relay has failed.
    RelayFailed(String),
    /// The golden node's root at the end of a segment.
    Root(Root),
    /// The producer has come to its end, with the last proof.
    Produced(Result<Proof, ProduceError>),
}

/// Tells the hub, from any thread.
#[derive(Clone)]
pub(crate) struct Bell {
    pub(crate) notices: Sender<(StreamId, StreamNotice)>,
    pub(crate) waker: Arc<Waker>,
}

impl Bell {
    fn ring(&self, stream: StreamId, notice: StreamNotice) {
        if self.notices.send((stream, notice)).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the hub: {error}");
        }
    }
}

/// A stream that cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No thread, socket or event queue.
    #[error("this machine cannot run a stream: {0}")]
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// An attempt that runs.
pub(crate) struct Stream {
    pub(crate) start: StreamStart,
    pub(crate) membership: Membership,
    addresses: BTreeMap<NodeId, SocketAddr>,
    links: LinkKeys,
    relay: Option<Relay>,
    progress: Arc<Progress>,
    account: Arc<Account>,
    source: Arc<dyn Source>,
    slow: SlowNodes,
    started: Instant,
    sent: Option<Instant>,
    /// The latest of the golden node's proofs: it covers all before it.
    proof: Option<Proof>,
    /// The last member has verified everything.
    tail_complete: bool,
    drained: Option<Instant>,
}

/// The chain as the golden node's relay knows it.
struct RelayChain {
    id: StreamId,
    bell: Bell,
    relay: Handle,
    progress: Arc<Progress>,
    /// The largest block.
    largest: usize,
}

impl Chain for RelayChain {
    fn wake(&self) {
        self.relay.wake();
    }

    fn taken(&self) -> Option<u64> {
        Some(self.progress.tail.load(Ordering::Relaxed))
    }

    fn prove(&self, root: Root) {
        self.bell.ring(self.id, StreamNotice::Root(root));
    }

    fn segment(&self) -> usize {
        self.progress.segment.load(Ordering::Relaxed).try_into().unwrap_or_default()
    }

    fn largest(&self) -> usize {
        self.largest
    }
}

/// What a stream needs to start.
pub(crate) struct Setup<'a> {
    pub(crate) source: Arc<dyn Source>,
    /// The members in the order of the chain, with the addresses of their data ports.
    pub(crate) order: &'a [(NodeId, SocketAddr)],
    /// The golden node's address, as the first node reaches it.
    pub(crate) golden: IpAddr,
    pub(crate) data: &'a DataPlace,
    pub(crate) window: u64,
    pub(crate) dead_after: Duration,
    pub(crate) slow: SlowLimits,
    pub(crate) now: Duration,
}

impl Stream {
    /// Starts relay and producer, under a key that was never used before.
    pub(crate) fn start(setup: &Setup<'_>, bell: &Bell) -> Result<Self, StartError> {
        let key = StreamKey::generate(Cipher::preferred())?;
        let id = key.stream;
        let order: Vec<NodeId> = setup.order.iter().map(|(node, _)| *node).collect();
        let membership = Membership::new(&order, setup.dead_after, setup.now);
        let mut addresses: BTreeMap<NodeId, SocketAddr> = setup.order.iter().copied().collect();
        let listener = setup.data.listen()?;
        let golden = SocketAddr::new(setup.golden, listener.local_addr()?.port());
        addresses.insert(NodeId::GOLDEN, golden);

        let (blocks, from_producer) = sync_channel(QUEUE);
        let for_relay = bell.clone();
        let relay = Relay::start(
            Member::golden(&key, setup.window, setup.dead_after),
            listener,
            Feed::Golden(from_producer),
            move |notice| {
                for_relay.ring(
                    id,
                    match notice {
                        Notice::Complaint(report) => StreamNotice::Complaint(report),
                        Notice::TailComplete => StreamNotice::TailComplete,
                        Notice::Failed(reason) => StreamNotice::RelayFailed(reason),
                    },
                );
            },
        )?;
        let account = Arc::<Account>::default();
        let (source, sealing_key, read) = (Arc::clone(&setup.source), key.clone(), Arc::clone(&account));
        let for_producer = bell.clone();
        let chain = RelayChain {
            id,
            bell: bell.clone(),
            relay: relay.handle().clone(),
            progress: Arc::clone(relay.progress()),
            largest: max_block(setup.window),
        };
        let settings = setup.source.settings();
        thread::Builder::new().name("producer".into()).spawn(move || {
            let outcome = produce::produce(&*source, &sealing_key, &blocks, &chain, (&read, settings));
            for_producer.ring(id, StreamNotice::Produced(outcome));
        })?;
        let stream = Self {
            start: StreamStart { key, window: setup.window },
            membership,
            addresses,
            links: LinkKeys::generate()?,
            progress: Arc::clone(relay.progress()),
            relay: Some(relay),
            account,
            source: Arc::clone(&setup.source),
            slow: SlowNodes::new(setup.slow),
            started: Instant::now(),
            sent: None,
            proof: None,
            tail_complete: false,
            drained: None,
        };
        stream.place_golden();
        Ok(stream)
    }

    pub(crate) fn id(&self) -> StreamId {
        self.start.key.stream
    }

    /// The place of `node` in the present epoch.
    pub(crate) fn view(&self, node: NodeId) -> Option<View<SocketAddr>> {
        let mut view = self.membership.view(node, |id| self.addresses.get(&id).copied())?;
        let secret =
            |from, to| self.links.secret(&LinkName { stream: self.id(), epoch: view.epoch, from, to });
        let up = view.predecessor_id().map(|predecessor| secret(predecessor, node));
        let down = view.successor.map(|successor| secret(node, successor));
        view.secrets = Secrets { up: up.unwrap_or_default(), down: down.unwrap_or_default() };
        Some(view)
    }

    /// Tells the golden node's own member its place.
    pub(crate) fn place_golden(&self) {
        if let (Some(relay), Some(view)) = (&self.relay, self.view(NodeId::GOLDEN)) {
            relay.handle().tell(Command::View(view));
        }
    }

    /// What the membership wants done now; another round may follow if there is one `again`.
    pub(crate) fn judge(&mut self, again: bool, now: Duration) -> Vec<Decision> {
        let golden = |position: &AtomicU64| Offset(position.load(Ordering::Relaxed));
        let (sent, tail) = (golden(&self.progress.verified), golden(&self.progress.tail));
        self.membership.on_golden(sent, tail, now);
        let mut decisions = self.membership.judge(now);
        decisions.extend(self.slow.judge(
            &mut self.membership,
            &self.progress,
            self.sent.is_some(),
            again,
            now,
        ));
        decisions
    }

    /// What the chain waits for, once it is known.
    pub(crate) fn limit(&self) -> Option<Limit> {
        self.slow.limit()
    }

    /// All that it has waited for.
    pub(crate) fn limits(&self) -> &Limits {
        self.slow.limits()
    }

    /// A member's heartbeat tells how far it is, and what it waits for.
    pub(crate) fn on_heartbeat(&mut self, node: NodeId, progress: control::Progress, now: Duration) {
        self.membership.on_heartbeat(node, now);
        self.membership.on_position(node, progress.verified);
        self.slow.on_heartbeat(node, progress, now);
    }

    /// Whether any node is left.
    pub(crate) fn has_nodes(&self) -> bool {
        self.membership.chain().len() > 1
    }

    /// The golden node's next proof; the last says that all of the stream has been produced.
    pub(crate) fn on_proof(&mut self, proof: Proof) {
        self.proof = Some(proof);
        if proof.last.is_some() {
            self.sent.get_or_insert_with(Instant::now);
        }
    }

    /// What a node that comes back must know of the golden node's stream.
    pub(crate) fn proof(&self) -> Option<Proof> {
        self.proof
    }

    /// The last member of the chain has verified everything.
    pub(crate) fn on_tail_complete(&mut self) {
        self.tail_complete = true;
    }

    /// All of it was produced, and has come to the end of the chain. These are heard of in any order.
    pub(crate) fn is_through(&self) -> bool {
        self.tail_complete && self.proof.is_some_and(|proof| proof.last.is_some())
    }

    /// Everybody has verified everything: the golden node may forget the stream.
    pub(crate) fn release(&mut self) {
        self.drained.get_or_insert_with(Instant::now);
        if let Some(relay) = self.relay.take() {
            relay.handle().tell(Command::Release);
            Self::end(relay);
        }
    }

    /// Nobody wants the stream any more.
    pub(crate) fn give_up(&mut self) {
        self.source.give_up();
        if let Some(relay) = self.relay.take() {
            Self::end(relay);
        }
    }

    /// What the golden node noted while it read.
    pub(crate) fn notes(&self) -> Tally {
        self.account.notes()
    }

    /// How it goes, or went.
    pub(crate) fn figures(&self) -> Transfer {
        let now = Instant::now();
        let sent = self.sent.unwrap_or(now);
        Transfer {
            plain: self.account.plain.load(Ordering::Relaxed),
            wire: self.progress.verified.load(Ordering::Relaxed),
            sending: sent.duration_since(self.started),
            draining: self.drained.unwrap_or(now).saturating_duration_since(sent),
            rounds: 1,
        }
    }

    /// A relay ends when its neighbours have what was queued for them; nobody waits for that.
    fn end(relay: Relay) {
        thread::spawn(move || drop(relay));
    }
}
