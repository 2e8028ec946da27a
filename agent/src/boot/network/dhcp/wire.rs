//! Sends and receives for a DHCP client on one interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};
use rustix::io::read;

use super::super::socket::{MAX_PACKET, broadcast_socket, receive_until};
use super::machine::Machine;
use super::message::{self, Answer, Question};
use ka::mac::Mac;
use ka_host::rtnetlink::Link;
use ka_host::sys::packet::{dhcp_listener, udp_data};

/// How many datagrams are read before the clock is checked.
const AT_ONCE: usize = 64;

/// One interface of a DHCP client.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: Link,
    pub(super) mac: Mac,
    machine: Machine,
    socket: UdpSocket,
    /// Receives packets for an address that the interface does not have yet.
    listener: Option<OwnedFd>,
    xid: u32,
    start: Instant,
}

impl Wire {
    /// For an interface that may have no address.
    pub(super) fn without_address(link: &Link, mac: Mac) -> io::Result<Self> {
        let mut wire = Self::with_address(link, mac)?;
        wire.listener = match dhcp_listener(link.index) {
            Ok(listener) => Some(listener),
            Err(e) => {
                log::warn!(
                    "{}: no packet socket ({e}): only DHCP servers that answer by broadcast are heard",
                    link.name
                );
                None
            }
        };
        Ok(wire)
    }

    /// For an interface with an address.
    pub(super) fn with_address(link: &Link, mac: Mac) -> io::Result<Self> {
        let socket = broadcast_socket(&link.name, CLIENT_PORT)?;
        socket.set_nonblocking(true)?;
        let xid = ka::keys::random().map(u32::from_ne_bytes).map_err(io::Error::other)?;
        let machine = Machine::of_this();
        Ok(Self { link: link.clone(), mac, machine, socket, listener: None, xid, start: Instant::now() })
    }

    /// Sends a question. A send error counts as a lost packet: a later attempt may succeed.
    pub(super) fn ask(&self, question: Question<'_>, as_rom: bool) -> io::Result<()> {
        let packet = question
            .packet(self.mac, self.xid, self.start.elapsed(), &self.machine, as_rom)
            .map_err(io::Error::other)?;
        let to = match question {
            Question::Renew(lease) => lease.server,
            _ => Ipv4Addr::BROADCAST,
        };
        if let Err(e) = self.socket.send_to(&packet, SocketAddr::from((to, SERVER_PORT))) {
            log::warn!("{}: DHCP to {to}: {e}", self.link.name);
        }
        Ok(())
    }

    /// Becomes readable when something has arrived.
    pub(super) fn ear(&self) -> BorrowedFd<'_> {
        self.listener.as_ref().map_or_else(|| self.socket.as_fd(), AsFd::as_fd)
    }

    /// The next answer to us that has already arrived.
    pub(super) fn hear(&self) -> io::Result<Option<Answer>> {
        let mut buffer = [0; MAX_PACKET];
        for _ in 0..AT_ONCE {
            let length = match read(self.ear(), &mut buffer) {
                Ok(length) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                // The link is briefly down, or an ICMP error answers an earlier datagram.
                Err(e)
                    if [
                        rustix::io::Errno::INTR,
                        rustix::io::Errno::NETDOWN,
                        rustix::io::Errno::CONNREFUSED,
                    ]
                    .contains(&e) =>
                {
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let heard = buffer.get(..length).unwrap_or_default();
            let datagram = if self.listener.is_some() { udp_data(heard) } else { Some(heard) };
            if let Some(answer) = datagram.and_then(|datagram| message::answer(datagram, self.mac, self.xid))
            {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Requests a renewal, and waits at most `patience` for an answer that `accept` takes.
    pub(super) fn extend(
        &self,
        question: Question<'_>,
        patience: Duration,
        accept: impl Fn(&Answer) -> bool,
    ) -> io::Result<Option<Answer>> {
        self.ask(question, false)?;
        self.socket.set_nonblocking(false)?;
        receive_until(&self.socket, Instant::now() + patience, |datagram, _| {
            message::answer(datagram, self.mac, self.xid).filter(&accept)
        })
    }
}
