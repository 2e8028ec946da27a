//! Connects to a node's console, and exchanges messages with it.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ka::keys::{JoinKey, KeyPair};
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::console::{BEAT, MAX_ANSWER, Open, Request, SILENCE, State, ToNode, ToViewer};
use ka_host::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::system::uname;

use crate::machines::find::Found;

/// The settings for connecting to consoles.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The controller's key pair.
    pub pair: KeyPair,
    /// The join keys that machines may have booted with.
    pub joins: Vec<JoinKey>,
    /// The port.
    pub port: u16,
    /// How long a node may take to answer.
    pub patience: Duration,
}

/// Why a console cannot be opened, or was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The address is unknown.
    #[error("its address is not known: it has not joined a run yet")]
    NoAddress,
    /// The key is unknown.
    #[error(
        "it has not joined a run yet, so it cannot be proven to be this machine: only its log can be read"
    )]
    NoKey,
    /// The node does not answer.
    #[error("{0} does not answer on port {1}: {2}")]
    Unreachable(IpAddr, u16, io::Error),
    /// The peer is another machine, or the node has been restarted.
    #[error(
        "the machine at {0} does not have the key with which this one last joined: it may have booted again \
         and not joined yet, or another machine has its address"
    )]
    OtherKey(IpAddr),
    /// No join key fits.
    #[error("the machine at {0} did not boot with a join key of this golden node")]
    OtherImage(IpAddr),
    /// The node refuses.
    #[error("{0}")]
    Refused(String),
    /// The connection ended before the last message.
    #[error("the connection is lost: {0}")]
    Lost(String),
}

/// An open console.
pub struct Viewer {
    /// The node's description of itself.
    pub state: State,
    /// The node has proved to be the intended machine.
    pub proven: bool,
    connection: Connection,
}

struct Connection {
    stream: TcpStream,
    channel: Channel,
    said_at: Instant,
    heard_at: Instant,
}

impl Dialler {
    /// Opens a machine's console for `request`. The log is also read from a machine whose key is unknown or
    /// has changed; it is then not proved to come from the intended machine.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn open(&self, machine: &Found, request: &Request) -> Result<Viewer, ConsoleError> {
        let address = machine.address.ok_or(ConsoleError::NoAddress)?;
        let open = Open::new(who(), request.clone());
        let key = machine.record.as_ref().and_then(crate::machines::record::Record::key);
        if let Some(key) = key {
            let channel = Channel::dial_console(&self.pair, &key).map_err(lost)?;
            match self.dial(address, channel)? {
                Some(connection) => return connection.begin(open, true, self.patience),
                None if !open.only_looks() => return Err(ConsoleError::OtherKey(address)),
                None => {}
            }
        } else if !open.only_looks() {
            return Err(ConsoleError::NoKey);
        }
        for join in &self.joins {
            let channel = Channel::dial_console_log(&self.pair, join).map_err(lost)?;
            if let Some(connection) = self.dial(address, channel)? {
                return connection.begin(open, false, self.patience);
            }
        }
        Err(ConsoleError::OtherImage(address))
    }

    /// Performs the handshake; returns `None` if the peer does not have the right key.
    fn dial(&self, address: IpAddr, channel: Channel) -> Result<Option<Connection>, ConsoleError> {
        let unreachable = |error| ConsoleError::Unreachable(address, self.port, error);
        let to = SocketAddr::new(address, self.port);
        let stream = TcpStream::connect_timeout(&to, self.patience).map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        stream.set_nonblocking(true).map_err(unreachable)?;
        let now = Instant::now();
        let mut connection = Connection { stream, channel, said_at: now, heard_at: now };
        connection.channel.limit(MAX_ANSWER);
        let deadline = now + self.patience;
        loop {
            match connection.channel.receive::<ToViewer>() {
                Ok(Some(Received::Open)) => return Ok(Some(connection)),
                Ok(None) => {}
                Ok(Some(_)) | Err(ChannelError::Unproven(_)) => return Ok(None),
                Err(error) => return Err(lost(error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(unreachable(io::ErrorKind::TimedOut.into()));
            }
            match connection
                .flush()
                .and_then(|()| connection.wait(&[], left))
                .and_then(|()| connection.read())
            {
                Ok(true) => {}
                // A node sends nothing to a peer that it does not know.
                Ok(false) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(unreachable(e)),
            }
        }
    }
}

fn lost(error: impl std::fmt::Display) -> ConsoleError {
    ConsoleError::Lost(error.to_string())
}

/// The reader's identity, for the node's log.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let host = uname().nodename().to_string_lossy().into_owned();
    let mut who = format!("{}@{host}", user.unwrap_or_else(|| "root".into()));
    while who.len() > ka::wire::console::MAX_TEXT {
        who.pop();
    }
    who
}

impl Connection {
    /// Sends the purpose of the console, and waits for the node's state.
    fn begin(mut self, open: Open, proven: bool, patience: Duration) -> Result<Viewer, ConsoleError> {
        self.say(&ToNode::Open(open))?;
        let deadline = Instant::now() + patience;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now()), &[])? {
                Some(ToViewer::State(state)) => return Ok(Viewer { state, proven, connection: self }),
                Some(ToViewer::Refused { reason }) => return Err(ConsoleError::Refused(reason)),
                // Signs of life are no answer.
                _ if Instant::now() >= deadline => return Err(lost("no answer")),
                _ => {}
            }
        }
    }

    fn say(&mut self, message: &ToNode) -> Result<(), ConsoleError> {
        self.said_at = Instant::now();
        self.channel.send(message).map_err(lost)?;
        self.flush().map_err(lost)
    }

    /// The node's next message; `None` if none arrives within `time`, or one of `others` becomes readable.
    fn next(&mut self, time: Duration, others: &[BorrowedFd<'_>]) -> Result<Option<ToViewer>, ConsoleError> {
        if self.said_at.elapsed() >= BEAT {
            self.say(&ToNode::Alive)?;
        }
        let received = |connection: &mut Self| match connection.channel.receive::<ToViewer>().map_err(lost)? {
            Some(Received::Message(message)) => Ok(Some(message)),
            Some(_) => Err(lost("it sent an unexpected message")),
            None => Ok(None),
        };
        if let Some(message) = received(self)? {
            return Ok(Some(message));
        }
        self.flush().map_err(lost)?;
        self.wait(others, time.min(BEAT)).map_err(lost)?;
        if !self.read().map_err(lost)? {
            return Err(lost("the node has closed it"));
        }
        if self.heard_at.elapsed() > SILENCE {
            return Err(lost(format!("the node has been silent for {} s", SILENCE.as_secs())));
        }
        received(self)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.channel.write_to(&mut self.stream).map(drop)
    }

    /// Reads the available data; returns false at the end of the connection.
    fn read(&mut self) -> io::Result<bool> {
        match self.channel.read_from(&mut self.stream) {
            Ok(0) => Ok(false),
            Ok(_) => {
                self.heard_at = Instant::now();
                Ok(true)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn wait(&self, others: &[BorrowedFd<'_>], time: Duration) -> io::Result<()> {
        let mut events = PollFlags::IN;
        if self.channel.queued() > 0 {
            events |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.stream, events)];
        fds.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Timespec::try_from(time).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Viewer {
    /// The node's next message; `None` if none arrives within `time`, or one of `others` becomes readable.
    ///
    /// # Errors
    /// [`ConsoleError`]; the console is closed then.
    pub fn next(
        &mut self,
        time: Duration,
        others: &[BorrowedFd<'_>],
    ) -> Result<Option<ToViewer>, ConsoleError> {
        self.connection.next(time, others)
    }

    /// Sends a message to the node.
    ///
    /// # Errors
    /// [`ConsoleError`]; the console is closed then.
    pub fn say(&mut self, message: &ToNode) -> Result<(), ConsoleError> {
        self.connection.say(message)
    }

    /// The number of bytes that the node has not accepted yet.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.connection.channel.queued()
    }

    /// Warns about a node that is not proved to be the named machine.
    pub fn warn_if_unproven(&self, label: &str) {
        if !self.proven {
            terminal::complain(
                "kactl",
                format_args!(
                    "{label}: this is a machine that booted this golden node's image, but is not proven to \
                     be that one"
                ),
            );
        }
    }
}
