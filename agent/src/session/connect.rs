//! Opens a control connection: connect, handshake, hello, welcome.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ka::keys::{JoinKey, KeyPair};
use ka::wire::PROTOCOL;
use ka::wire::channel::{Channel, ChannelError, Received};
use ka::wire::control::{Hello, ToAgent, ToController};
use ka_host::words;

use super::Welcome;
use super::endorse::{Endorse, Endorsing};

/// The time limit for each step of joining.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The time limit for the answer to the hello. The controller answers once the join is in its journal, and
/// gives up a disk that does not answer for 10 s.
const WELCOME: Duration = Duration::from_secs(20);
/// How often one host may redirect the node to another of its ports.
const MAX_REDIRECTS: usize = 3;

/// Why a session could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Nothing is listening there, or it does not answer.
    #[error("{address}: {}", words::of_io(error))]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The error.
        error: io::Error,
    },
    /// The answer is not that of our controller.
    #[error("{address}: {error}")]
    Channel {
        /// The address.
        address: SocketAddr,
        /// What is wrong.
        error: ChannelError,
    },
    /// The controller refused this node.
    #[error("{address} refuses: {reason}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The reason.
        reason: String,
    },
    /// This machine has run out of threads, sockets or event queues.
    #[error("this machine cannot hold a session: {0}")]
    System(io::Error),
}

impl JoinError {
    /// Whether the host itself has answered that nothing is listening on the port.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self, Self::Unreachable { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// A welcomed connection.
pub(super) struct Joined {
    pub(super) address: SocketAddr,
    pub(super) stream: TcpStream,
    pub(super) channel: Channel,
    pub(super) welcome: Welcome,
}

/// Joins, following redirections to other processes on the same host. Each step has this time limit.
pub(super) fn connect(
    address: SocketAddr,
    keys: (&JoinKey, &KeyPair),
    hello: &Hello,
    mut tpm: Option<&mut dyn Endorse>,
    patience: Duration,
) -> Result<Joined, JoinError> {
    let mut address = address;
    for _ in 0..=MAX_REDIRECTS {
        let tpm = tpm.as_mut().map(|tpm| &mut **tpm as &mut dyn Endorse);
        let endorsing = Endorsing::new(tpm, keys.1.public);
        match try_connect(address, keys, hello, endorsing, patience)? {
            Answer::Joined(joined) => return Ok(*joined),
            Answer::Redirect(port) => address.set_port(port),
        }
    }
    Err(JoinError::Refused { address, reason: "it redirected this host too many times".into() })
}

enum Answer {
    Joined(Box<Joined>),
    Redirect(u16),
}

fn try_connect(
    address: SocketAddr,
    (join, own): (&JoinKey, &KeyPair),
    hello: &Hello,
    mut endorsing: Endorsing<'_>,
    patience: Duration,
) -> Result<Answer, JoinError> {
    let unreachable = |error| JoinError::Unreachable { address, error };
    let broken = |error| JoinError::Channel { address, error };
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    stream.set_read_timeout(Some(patience)).map_err(unreachable)?;
    stream.set_write_timeout(Some(patience)).map_err(unreachable)?;
    let mut channel = Channel::dial_control(join, own).map_err(broken)?;
    let speak = || ToController::Hello(Box::new(hello.clone()));
    loop {
        while channel.queued() > 0 {
            channel.write_to(&mut stream).map_err(unreachable)?;
        }
        let received = loop {
            match channel.receive().map_err(broken)? {
                // This does not yet say whether the node is accepted.
                Some(Received::Message(ToAgent::Heartbeat)) => continue,
                Some(received) => break received,
                None => {}
            }
            if channel.read_from(&mut stream).map_err(unreachable)? == 0 {
                return Err(unreachable(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    format!(
                        "it closed the connection; does it run ka with the same join key, and version \
                         {PROTOCOL} of its protocol? Its log says more; kactl image rebuilds the nodes' images"
                    ),
                )));
            }
        };
        match received {
            Received::Open => {
                let first = endorsing.begin().map(ToController::Tpm).unwrap_or_else(speak);
                channel.send(&first).map_err(broken)?;
                stream.set_read_timeout(Some(patience.max(WELCOME))).map_err(unreachable)?;
            }
            Received::Message(ToAgent::Tpm(request)) => {
                let (answer, more) = endorsing.answer(request);
                for message in answer.map(ToController::Tpm).into_iter().chain((!more).then(speak)) {
                    channel.send(&message).map_err(broken)?;
                }
            }
            Received::Message(ToAgent::Welcome { ticket, time, dead_after, patience }) => {
                let welcome = Welcome { ticket, time, dead_after, patience };
                return Ok(Answer::Joined(Box::new(Joined { address, stream, channel, welcome })));
            }
            Received::Message(ToAgent::Redirect { port }) => return Ok(Answer::Redirect(port)),
            Received::Message(ToAgent::Refused { reason }) => {
                return Err(JoinError::Refused { address, reason });
            }
            _ => return Err(broken(ChannelError::OutOfTurn)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ka::inventory::Inventory;
    use std::net::TcpListener;

    #[test]
    fn a_host_that_accepts_and_stays_silent_is_explained() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = KeyPair::generate().unwrap();
        let join = JoinKey::generate(&own).unwrap();
        let (address, patience) = (silent.local_addr().unwrap(), Duration::from_millis(50));
        let hello = Hello {
            session: "a".into(),
            version: String::new(),
            key: own.public,
            data_port: 1,
            window: 1,
            inventory: Inventory::default(),
            erasable: false,
            place: 0,
            resume: None,
        };
        let error = connect(address, (&join, &own), &hello, None, patience).err().unwrap().to_string();
        assert!(error.contains("no answer came in time") && !error.contains("temporarily"), "{error}");
    }
}
