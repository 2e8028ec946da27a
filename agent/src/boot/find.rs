//! Finds a controller that serves our session.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use ka::keys::JoinKey;
use ka::wire::discovery::{DiscoveryKey, Request};
use ka::wire::{CONTROL_PORT, DISCOVERY_PORT};

use super::network::socket::{broadcast_socket, receive_until};
use ka::cmdline::Server;

/// The number of attempts before a node gives up.
const TRIES: u32 = 5;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(3);

/// How long to listen after each broadcast of an attempt; a broadcast may get lost.
const LISTEN: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(700), Duration::from_millis(1000)];

/// What a node knows before it asks.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// The session to find.
    pub session: &'a str,
    /// The join key from the boot image.
    pub join: &'a JoinKey,
    /// The interface to ask on.
    pub interface: &'a str,
    /// The controller named on the command line.
    pub server: Option<&'a Server>,
    /// The server named by DHCP.
    pub next_server: Option<Ipv4Addr>,
    /// The pause between two attempts.
    pub pause: Duration,
    /// How long to listen after each broadcast of an attempt.
    pub listen: [Duration; 3],
}

/// No controller after all attempts.
#[derive(Debug, thiserror::Error)]
#[error("Cannot reach a valid KA server for session {session}: {}", reasons.join("; "))]
pub struct FindError {
    /// The session.
    pub session: String,
    /// What the last attempt tried, and why it failed.
    pub reasons: Vec<String>,
}

impl<'a> Search<'a> {
    /// A search that relies on the broadcast alone.
    #[must_use]
    pub fn new(session: &'a str, join: &'a JoinKey, interface: &'a str) -> Self {
        Self { session, join, interface, server: None, next_server: None, pause: PAUSE, listen: LISTEN }
    }

    /// Calls `connect` for every controller that may serve the session, in order: the one on the command
    /// line; those that answer the broadcast, which proves that they know the secret; DHCP's next server.
    /// Makes five attempts with a pause between them.
    ///
    /// # Errors
    /// [`FindError`] with the reasons of the last attempt.
    pub fn find<T, E: Display>(
        &self,
        mut connect: impl FnMut(SocketAddr) -> Result<T, E>,
    ) -> Result<T, FindError> {
        let mut reasons = Vec::new();
        for attempt in 1..=TRIES {
            if attempt > 1 {
                std::thread::sleep(self.pause);
            }
            reasons.clear();
            for source in [Source::CommandLine, Source::Broadcast, Source::NextServer] {
                let candidates = match self.candidates(source) {
                    Ok(candidates) => candidates,
                    Err(reason) => {
                        reasons.push(reason);
                        continue;
                    }
                };
                for address in candidates {
                    match connect(address) {
                        Ok(connected) => {
                            log::info!("controller {address} ({})", source.name());
                            return Ok(connected);
                        }
                        Err(e) => reasons.push(format!("{address} ({}): {e}", source.name())),
                    }
                }
            }
            log::warn!(
                "no controller for session {} (try {attempt} of {TRIES}): {}",
                self.session,
                reasons.join("; ")
            );
        }
        Err(FindError { session: self.session.to_owned(), reasons })
    }

    fn candidates(&self, source: Source) -> Result<Vec<SocketAddr>, String> {
        match source {
            Source::CommandLine => match self.server {
                None => Ok(Vec::new()),
                Some(Server { host, port }) => (host.as_str(), *port)
                    .to_socket_addrs()
                    .map(Iterator::collect)
                    .map_err(|e| format!("{host} ({}): {e}", source.name())),
            },
            Source::Broadcast => match self.ask_all() {
                Ok(Some(address)) => Ok(vec![address]),
                Ok(None) => {
                    Err(format!("no answer to a broadcast on {} (UDP port {DISCOVERY_PORT})", self.interface))
                }
                Err(e) => Err(format!("broadcast on {}: {e}", self.interface)),
            },
            Source::NextServer => Ok(self
                .next_server
                .map(|address| SocketAddr::from((address, CONTROL_PORT)))
                .into_iter()
                .collect()),
        }
    }

    /// Broadcasts the question; the first authenticated answer is used.
    fn ask_all(&self) -> io::Result<Option<SocketAddr>> {
        let key = DiscoveryKey::new(self.join);
        let socket = broadcast_socket(self.interface, 0)?;
        let mut requests: Vec<Request> = Vec::new();
        for listen in self.listen {
            // A nonce is answered only once, so each broadcast has its own. A late answer to an earlier one
            // is as good.
            let request = Request::new(&key, self.session, ka::keys::random().map_err(io::Error::other)?);
            socket.send_to(request.packet(), SocketAddr::from((Ipv4Addr::BROADCAST, DISCOVERY_PORT)))?;
            requests.push(request);
            let answer = receive_until(&socket, Instant::now() + listen, |datagram, from| {
                let port = requests.iter().find_map(|request| request.answered_by(&key, datagram))?;
                Some(SocketAddr::new(from.ip(), port))
            })?;
            if answer.is_some() {
                return Ok(answer);
            }
        }
        Ok(None)
    }
}

/// The source of a candidate.
#[derive(Clone, Copy)]
enum Source {
    CommandLine,
    Broadcast,
    NextServer,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "ka.server",
            Self::Broadcast => "answered the broadcast",
            Self::NextServer => "DHCP's next server",
        }
    }
}
