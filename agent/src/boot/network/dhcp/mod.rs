//! A DHCP client: an address for an interface that has none, kept for as long as the node works.
//!
//! A plain UDP socket will do, as one that is bound to a device sends and hears broadcasts without an
//! address. Nothing is released at the end: the clone that boots next is the same machine.

mod message;
mod timers;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};

use super::rtnetlink::{Link, Netlink};
use super::socket::{broadcast_socket, receive_until};
use ka::mac::Mac;
pub(super) use message::Lease;
use message::{Answer, Question};
use timers::Due;

/// How long to wait for an answer, from try to try: 60 s in all, as a switch port with spanning tree passes
/// nothing in its first 30 to 50 s.
const PATIENCE: [u64; 9] = [1, 2, 4, 8, 9, 9, 9, 9, 9];

/// How long to wait for the answer to a request, from try to try.
const REQUEST_PATIENCE: [u64; 3] = [1, 2, 4];

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DhcpError {
    /// No server offered anything.
    #[error("no DHCP server answered on {interface} within {seconds} s")]
    NoAnswer {
        /// The interface.
        interface: String,
        /// How long was waited.
        seconds: u64,
    },
    /// Servers offered, but granted nothing.
    #[error("DHCP on {interface}: {server} offered {address} and then refused: {reason}")]
    Refused {
        /// The interface.
        interface: String,
        /// The server.
        server: Ipv4Addr,
        /// What it had offered.
        address: Ipv4Addr,
        /// Its reason.
        reason: String,
    },
    /// The socket failed.
    #[error("DHCP on {interface}: {error}")]
    Socket {
        /// The interface.
        interface: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Reads a datagram, and reckons with the times that it gives.
pub(super) fn try_answer(datagram: &[u8], mac: Mac, xid: u32) {
    if let Some(Answer::Offer(lease) | Answer::Ack(lease)) = message::answer(datagram, mac, xid)
        && let Some(timers) = lease.timers
    {
        timers.due(Duration::from_secs(1), None);
    }
}

/// A client for one interface.
#[derive(Clone, Debug)]
pub(super) struct Client {
    interface: String,
    mac: Mac,
}

impl Client {
    pub(super) fn new(interface: String, mac: Mac) -> Self {
        Self { interface, mac }
    }

    /// DISCOVER, OFFER, REQUEST, ACK. Also says when the lease began, which is when it was asked for.
    pub(super) fn acquire(&self) -> Result<(Lease, Instant), DhcpError> {
        let mut refused = None;
        let socket = broadcast_socket(&self.interface, CLIENT_PORT).map_err(|e| self.failed(e))?;
        let exchange = self.exchange(&socket).map_err(|e| self.failed(e))?;
        for seconds in PATIENCE {
            let offer = exchange.ask(Question::Discover, seconds).map_err(|e| self.failed(e))?;
            let Some(Answer::Offer(offer)) = offer else { continue };
            log::debug!("{}: {} offers {}", self.interface, offer.server, offer.setting.address);
            for seconds in REQUEST_PATIENCE {
                let since = Instant::now();
                match exchange.ask(Question::Request(&offer), seconds).map_err(|e| self.failed(e))? {
                    Some(Answer::Ack(lease)) => return Ok((lease, since)),
                    Some(Answer::Nak(reason)) => {
                        refused = Some((offer.server, offer.setting.address, reason));
                        break;
                    }
                    _ => {}
                }
            }
        }
        let interface = self.interface.clone();
        Err(match refused {
            Some((server, address, reason)) => DhcpError::Refused { interface, server, address, reason },
            None => DhcpError::NoAnswer { interface, seconds: PATIENCE.iter().sum() },
        })
    }

    /// Asks once for more time.
    fn extend(&self, question: Question<'_>) -> io::Result<Option<Answer>> {
        let socket = broadcast_socket(&self.interface, CLIENT_PORT)?;
        self.exchange(&socket)?.ask(question, 4)
    }

    fn exchange<'a>(&'a self, socket: &'a UdpSocket) -> io::Result<Exchange<'a>> {
        let xid = ka::wire::keys::random().map(u32::from_ne_bytes).map_err(io::Error::other)?;
        Ok(Exchange { client: self, socket, xid, start: Instant::now() })
    }

    fn failed(&self, error: io::Error) -> DhcpError {
        DhcpError::Socket { interface: self.interface.clone(), error }
    }
}

struct Exchange<'a> {
    client: &'a Client,
    socket: &'a UdpSocket,
    xid: u32,
    start: Instant,
}

impl Exchange<'_> {
    /// Sends the question once and waits for a fitting answer, about `seconds`.
    fn ask(&self, question: Question<'_>, seconds: u64) -> io::Result<Option<Answer>> {
        let (mac, xid) = (self.client.mac, self.xid);
        let packet = question.packet(mac, xid, self.start.elapsed()).map_err(io::Error::other)?;
        let to = match question {
            Question::Renew(lease) => lease.server,
            _ => Ipv4Addr::BROADCAST,
        };
        // A server that is gone is like one that is silent: later tries ask all others.
        if let Err(e) = self.socket.send_to(&packet, SocketAddr::from((to, SERVER_PORT))) {
            log::warn!("{}: DHCP to {to}: {e}", self.client.interface);
        }
        // A rack that is switched on at once must not ask at once for ever.
        let jitter = u64::from(mac.0[5]) * 2;
        let deadline = Instant::now() + Duration::from_millis(seconds * 1000 + jitter);
        receive_until(self.socket, deadline, |datagram, _| {
            message::answer(datagram, mac, xid).filter(|answer| match question {
                Question::Discover => matches!(answer, Answer::Offer(_)),
                _ => !matches!(answer, Answer::Offer(_)),
            })
        })
    }
}

/// The thread that keeps a lease alive. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Renewal {
    _stop: Sender<()>,
}

impl Renewal {
    /// Starts the thread; none for a lease that never ends.
    pub(super) fn start(
        client: Client,
        link: Link,
        lease: Lease,
        since: Instant,
    ) -> io::Result<Option<Self>> {
        if lease.timers.is_none() {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        std::thread::Builder::new()
            .name("dhcp".to_owned())
            .spawn(move || Keeper { client, link, lease, since, last: None }.keep(&stopped))?;
        Ok(Some(Self { _stop: stop }))
    }
}

struct Keeper {
    client: Client,
    link: Link,
    lease: Lease,
    since: Instant,
    /// Age of the lease at the last try to renew it.
    last: Option<Duration>,
}

impl Keeper {
    fn keep(mut self, stopped: &Receiver<()>) {
        while let Some(timers) = self.lease.timers {
            let age = self.since.elapsed();
            let due = timers.due(age, self.last);
            let asked = Instant::now();
            let answer = match due {
                Due::Wait(wait) => match stopped.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => continue,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                },
                Due::Renew => self.client.extend(Question::Renew(&self.lease)),
                Due::Rebind => self.client.extend(Question::Rebind(&self.lease)),
                Due::Expired => Ok(Some(Answer::Nak("the lease is over".to_owned()))),
            };
            self.last = Some(age);
            let name = &self.link.name;
            match answer {
                Ok(Some(Answer::Ack(lease))) => {
                    log::debug!("{name}: lease of {} renewed by {}", lease.setting.address, lease.server);
                    self.take(lease, asked);
                }
                Ok(Some(Answer::Nak(reason))) => self.start_over(&reason),
                Ok(_) => {
                    log::warn!("{name}: no DHCP server renews the lease of {}", self.lease.setting.address)
                }
                Err(e) => log::warn!("{name}: lease of {}: {e}", self.lease.setting.address),
            }
        }
    }

    /// The address is kept while nobody gives another one: a node that leaves the chain for the want of a DHCP server
    /// would be the greater harm.
    fn start_over(&mut self, reason: &str) {
        let (name, address) = (&self.link.name, self.lease.setting.address);
        log::warn!("{name}: DHCP no longer grants {address}: {reason}; asking anew");
        match self.client.acquire() {
            Ok((lease, since)) => self.take(lease, since),
            Err(e) => log::error!("{e}; {address} is kept without a lease"),
        }
    }

    fn take(&mut self, lease: Lease, since: Instant) {
        let old = self.lease.setting;
        if lease.setting != old {
            let name = &self.link.name;
            let outcome = Netlink::open().and_then(|mut netlink| {
                if (old.address, old.prefix) != (lease.setting.address, lease.setting.prefix) {
                    netlink.remove_address(self.link.index, old.address, old.prefix)?;
                }
                lease.setting.apply(&mut netlink, &self.link)
            });
            if let Err(e) = outcome {
                log::error!("{name}: address {}: {e}", lease.setting.address);
            }
        }
        (self.lease, self.since, self.last) = (lease, since, None);
    }
}
