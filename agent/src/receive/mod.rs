//! Receives a session's data on a running host: `ka-agent receive`.

mod command;
mod copy;
mod device;
mod directory;
mod error;
mod partial;
mod pipe;
mod sink;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

use ka::inventory::{Card, Inventory};
use ka::keys::{JoinKey, Key, KeyError, KeyPair};
use ka::notes::{NoteKind, Tally};
use ka::seal::StreamId;
use ka::step::Step;
use ka::wire::control::{Hello, ToController};
use ka::wire::{CONTROL_PORT, DATA_PORT};

pub use error::SinkError;
pub use sink::{Received, Sink, unpack_into};

use crate::session::{JoinError, Session, SessionOver};
use ka_host::hardware;
use ka_host::secrets::{self, SecretError};
use ka_net::relay::StreamReader;

/// The pause between two attempts to join.
const RETRY: Duration = Duration::from_millis(300);

/// What to receive, and from where.
pub struct Request {
    /// The controller: a host, or host and port.
    pub controller: String,
    /// The session's name.
    pub session: String,
    /// The path of the join key's file.
    pub key: PathBuf,
    /// The destination of the stream.
    pub sink: Sink,
    /// The window in bytes.
    pub window: u64,
    /// Also compare the stream's SHA-256.
    pub check_sum: bool,
    /// How long to wait for the session to exist.
    pub patience: Duration,
}

/// Why nothing, or not everything, was received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The key file cannot be read, or other users can read it.
    #[error("cannot use the join key {}: {error}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The error.
        error: SecretError,
    },
    /// The key file has invalid contents.
    #[error("{}: {error}; it should be the join.key that 'kactl init' made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The error.
        error: KeyError,
    },
    /// The controller's name cannot be resolved.
    #[error("cannot find the host '{host}': {error}")]
    Host {
        /// The name as given.
        host: String,
        /// The resolver's error.
        error: io::Error,
    },
    /// No port or no randomness on this machine.
    #[error("this machine cannot receive: {0}")]
    System(String),
    /// The session cannot be joined.
    #[error("cannot join the session '{session}': {error}")]
    Join {
        /// Its name.
        session: String,
        /// The error of the last attempt.
        error: JoinError,
    },
    /// The session ended early.
    #[error("the session has ended: {0}")]
    Session(SessionOver),
    /// The data could not be written, or was incomplete.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Everything arrived, and some of it cannot be stored here.
    #[error("{count} {}, such as {example}: everything else has arrived", NoteKind::EntryLost.words())]
    Lacks {
        /// The number of entries.
        count: u64,
        /// The first entry, with the reason.
        example: String,
    },
}

impl From<SessionOver> for ReceiveError {
    fn from(error: SessionOver) -> Self {
        Self::Session(error)
    }
}

impl ReceiveError {
    /// Whether the request itself is at fault, and no controller was contacted.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::KeyFile { .. } | Self::Key { .. } | Self::Host { .. })
    }
}

/// Joins the session, receives its data, and leaves when the controller releases this node. An attempt that
/// was abandoned through no fault of this host is repeated in the controller's next round.
///
/// # Errors
/// [`ReceiveError`]. It was reported to the controller too, if that was reached.
pub fn receive(request: &Request) -> Result<(), ReceiveError> {
    let key = read_key(&request.key)?;
    let controller = resolve(&request.controller)?;
    let listener = data_listener().map_err(|e| ReceiveError::System(e.to_string()))?;
    let card = controller.iter().find_map(|address| hardware::card_towards(*address));
    let own = KeyPair::generate().map_err(|e| ReceiveError::System(e.to_string()))?;
    let hello = hello(request, own.public, &listener, card)?;
    log::info!("this host listens for successors on port {}", hello.data_port);
    let session = join(request, &controller, (&key, &own), &hello, &listener)?;
    let (mut stream, mut reader) = session.wait_for_stream()?;
    let outcome = loop {
        if request.check_sum {
            reader.check_sum();
        }
        let error = match receive_once(&session, &request.sink, stream, reader) {
            Ok(notes) => break Ok(notes),
            Err(error) => error,
        };
        if !error.is_transient() {
            log::info!("from now on this host only relays, as long as others need it");
            break Err(error);
        }
        log::info!("this host waits for another round");
        session.tell(ToController::Done);
        match session.wait_for_stream() {
            Ok(next) => (stream, reader) = next,
            Err(over) => {
                log::info!("there is no other round: {over}");
                return Err(error.into());
            }
        }
    };
    // The data is complete or its failure is reported, whatever happens to the controller.
    if let Err(error) = session.leave() {
        log::warn!("{error}");
    }
    lacks(&outcome?)
}

/// An entry that this file system cannot hold fails the whole transfer, both in the report to the controller
/// and here.
fn lacks(notes: &Tally) -> Result<(), ReceiveError> {
    match notes.iter().find(|(kind, _)| *kind == NoteKind::EntryLost) {
        Some((_, lost)) => Err(ReceiveError::Lacks { count: lost.count, example: lost.example.clone() }),
        None => Ok(()),
    }
}

/// One attempt. Reports its outcome to the controller, and returns the notes.
fn receive_once(
    session: &Session,
    sink: &Sink,
    stream: StreamId,
    mut reader: StreamReader,
) -> Result<Tally, SinkError> {
    let received = sink.receive(&mut reader).and_then(|received| {
        let total = reader.finish()?;
        Ok((received.settle()?, total))
    });
    match received {
        Ok((notes, total)) => {
            session.note(stream, &notes);
            session.complete(stream, total);
            Ok(notes)
        }
        Err(error) => {
            log::error!("{error}");
            session.accuse(stream, error.forged());
            session.fail(error.failure(Step::Receive, stream));
            Err(error)
        }
    }
}

/// Listens for successors on the well-known port, or on any other if that is taken.
///
/// # Errors
/// The system's error.
pub fn data_listener() -> io::Result<TcpListener> {
    let bind = |port| {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            // A kernel without IPv6.
            _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        })
    };
    match bind(DATA_PORT) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => bind(0),
        outcome => outcome,
    }
}

fn read_key(path: &Path) -> Result<JoinKey, ReceiveError> {
    let text = secrets::read(path).map_err(|error| ReceiveError::KeyFile { path: path.to_owned(), error })?;
    JoinKey::from_text(&text).map_err(|error| ReceiveError::Key { path: path.to_owned(), error })
}

fn resolve(controller: &str) -> Result<Vec<SocketAddr>, ReceiveError> {
    let host = |error| ReceiveError::Host { host: controller.to_owned(), error };
    // An IPv6 address may be in brackets, also without a port.
    let bare = controller.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(controller);
    let addresses: Vec<SocketAddr> = match controller.parse() {
        Ok(address) => vec![address],
        Err(_) => (bare, CONTROL_PORT)
            .to_socket_addrs()
            .or_else(|_| controller.to_socket_addrs())
            .map_err(host)?
            .collect(),
    };
    if addresses.is_empty() { Err(host(io::ErrorKind::NotFound.into())) } else { Ok(addresses) }
}

fn hello(
    request: &Request,
    key: Key,
    listener: &TcpListener,
    card: Option<Card>,
) -> Result<Hello, ReceiveError> {
    let system = |e: String| ReceiveError::System(e);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Hello {
        session: request.session.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        key,
        data_port: listener.local_addr().map_err(|e| system(e.to_string()))?.port(),
        window: request.window,
        inventory: Inventory { hostname, cards: card.into_iter().collect(), ..Inventory::default() },
        erasable: false,
        place: request.sink.place(),
        resume: None,
    })
}

/// Joins as soon as the session exists.
fn join(
    request: &Request,
    controller: &[SocketAddr],
    keys: (&JoinKey, &KeyPair),
    hello: &Hello,
    listener: &TcpListener,
) -> Result<Session, ReceiveError> {
    let start = Instant::now();
    loop {
        let mut last = None;
        for address in controller {
            let listener = listener.try_clone().map_err(|e| ReceiveError::System(e.to_string()))?;
            match Session::join(*address, keys, hello.clone(), listener) {
                Ok(session) => return Ok(session),
                Err(error) => last = Some(error),
            }
        }
        if let Some(error) = last
            && start.elapsed() >= request.patience
        {
            return Err(ReceiveError::Join { session: request.session.clone(), error });
        }
        thread::sleep(RETRY);
    }
}
