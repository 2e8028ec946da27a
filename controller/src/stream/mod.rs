//! One attempt at a stream: its chain, the golden node's relay, and the producer.

mod block_size;
mod compress;
mod content;
mod level;
pub mod produce;
pub mod settings;
pub mod source;
pub mod spooled;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;
use std::{io, thread};

use ka::chain::{LinkKeys, Member, Offset, View};
use ka::keys::KeyError;
use ka::proof::Root;
use ka::seal::{Cipher, StreamId, StreamKey, max_block};
use ka::session::{Golden, Started, StreamNotice};
use ka::wire::control::StreamStart;
use ka_net::relay::{Command, Feed, Handle, Notice, QUEUE, Relay, RelayProgress};
use mio::Waker;

use ka_net::listen::DataEndpoint;
use produce::{Account, Chain};
use source::Source;

/// Notifies the hub, from any thread.
#[derive(Clone)]
pub(crate) struct StreamNotifier {
    pub(crate) notices: Sender<(StreamId, StreamNotice)>,
    pub(crate) waker: Arc<Waker>,
}

impl StreamNotifier {
    fn notify(&self, stream: StreamId, notice: StreamNotice) {
        if self.notices.send((stream, notice)).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the hub: {error}");
        }
    }
}

/// Why a stream could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StartError {
    /// No key could be generated.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No thread, socket or event queue is available.
    #[error("this machine cannot run a stream: {0}")]
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The threads of a running attempt.
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    relay: Relay,
    progress: Arc<RelayProgress>,
    account: Arc<Account>,
    source: Arc<dyn Source>,
}

/// The chain as the golden node's relay sees it.
struct RelayChain {
    id: StreamId,
    notifier: StreamNotifier,
    relay: Handle,
    progress: Arc<RelayProgress>,
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
        self.notifier.notify(self.id, StreamNotice::Root(root));
    }

    fn segment(&self) -> usize {
        self.progress.segment.load(Ordering::Relaxed).try_into().unwrap_or_default()
    }

    fn largest(&self) -> usize {
        self.largest
    }
}

/// The parameters of a stream.
pub(crate) struct Setup<'a> {
    pub(crate) source: Arc<dyn Source>,
    /// The golden node's address, as the first node reaches it.
    pub(crate) golden: IpAddr,
    pub(crate) data: &'a DataEndpoint,
    pub(crate) window: u64,
    pub(crate) dead_after: Duration,
}

impl Stream {
    /// Starts the relay and the producer, under a new key.
    pub(crate) fn start(setup: &Setup<'_>, notifier: &StreamNotifier) -> Result<(Self, Started), StartError> {
        let key = StreamKey::generate(Cipher::preferred())?;
        let links = LinkKeys::generate()?;
        let id = key.stream;
        let listener = setup.data.listen()?;
        let golden = SocketAddr::new(setup.golden, listener.local_addr()?.port());

        let (blocks, from_producer) = sync_channel(QUEUE);
        let for_relay = notifier.clone();
        let relay = Relay::start(
            Member::golden(&key, setup.window, setup.dead_after),
            listener,
            Feed::Golden(from_producer),
            move |notice| {
                for_relay.notify(
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
        let for_producer = notifier.clone();
        let chain = RelayChain {
            id,
            notifier: notifier.clone(),
            relay: relay.handle().clone(),
            progress: Arc::clone(relay.progress()),
            largest: max_block(setup.window),
        };
        let settings = setup.source.settings();
        thread::Builder::new().name("producer".into()).spawn(move || {
            let produced = produce::produce(&*source, &sealing_key, &blocks, &chain, (&read, settings));
            let notice = match produced {
                Ok(proof) => StreamNotice::Produced(proof),
                Err(error) => StreamNotice::SourceFailed(error.to_string()),
            };
            for_producer.notify(id, notice);
        })?;
        let progress = Arc::clone(relay.progress());
        let source = Arc::clone(&setup.source);
        let start = StreamStart { key, window: setup.window };
        Ok((Self { id, relay, progress, account, source }, Started { start, golden, links }))
    }

    /// Sends the golden node's own member its place.
    pub(crate) fn place_golden(&self, view: View<SocketAddr>) {
        self.relay.handle().tell(Command::View(view));
    }

    /// The golden node's progress.
    pub(crate) fn golden(&self) -> Golden {
        Golden {
            sample: self.progress.sample(),
            tail: Offset(self.progress.tail.load(Ordering::Relaxed)),
            uncompressed: self.account.uncompressed.load(Ordering::Relaxed),
            notes: self.account.notes(),
        }
    }

    /// All nodes have verified everything: the golden node may drop the stream.
    pub(crate) fn release(self) {
        self.relay.handle().tell(Command::Release);
        Self::end(self.relay);
    }

    /// The stream is no longer needed.
    pub(crate) fn give_up(self) {
        self.source.give_up();
        Self::end(self.relay);
    }

    /// A relay ends once its neighbours have received what was queued for them; this does not wait for that.
    fn end(relay: Relay) {
        thread::spawn(move || drop(relay));
    }
}
