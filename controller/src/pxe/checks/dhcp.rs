//! Finds other DHCP servers on the wire by asking as a booting machine would.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use ka::keys;
use ka_host::sys::packet::{dhcp_listener, udp_data};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Findings;
use crate::pxe::service::{Dhcp, Service};

/// How long to wait for the first answer. A server that pings an address first takes up to 3 s (RFC 2131,
/// 4.4.1).
const PATIENCE: Duration = Duration::from_secs(4);
/// When to ask again: a packet may be lost.
const AGAIN: Duration = Duration::from_millis(1500);
/// How long other servers have after the first answer.
const OTHERS: Duration = Duration::from_secs(1);
/// Relays and servers may drop packets shorter than BOOTP's minimum (RFC 1542, 2.1).
const MIN_LENGTH: usize = 300;
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Asks, and reports what a person has to know.
pub(super) fn check(service: &Service, findings: &mut Findings) {
    let Service { interface, dhcp, .. } = service;
    let found = match servers(interface) {
        Ok(found) => found,
        Err(error) => {
            findings.warn(format!("{interface}: cannot ask for other DHCP servers: {error}"));
            return;
        }
    };
    match dhcp {
        Dhcp::Full(_) if !found.is_empty() => findings.warn(format!(
            "{interface}: {} answers DHCP here as well. Two servers give machines two addresses: stop one, or use \
             `kactl pxe --proxy`",
            join(&found)
        )),
        Dhcp::Proxy(_) | Dhcp::Site if found.is_empty() => findings.warn(format!(
            "{interface}: no DHCP server answers here, and this one assigns no addresses: machines will not boot"
        )),
        _ => log::debug!("{interface}: other DHCP servers: {}", join(&found)),
    }
}

fn join(addresses: &BTreeSet<Ipv4Addr>) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}

/// The addresses of the servers that make an offer on this interface. They are received on a packet socket,
/// so a local firewall does not hide them.
fn servers(interface: &str) -> io::Result<BTreeSet<Ipv4Addr>> {
    let listener = dhcp_listener(if_nametoindex(interface)?)?;
    let socket = open(interface)?;
    let id = u32::from_le_bytes(random()?);
    let question = discover(id)?;
    let start = Instant::now();
    let (mut end, mut next) = (start + PATIENCE, start);
    let mut found = BTreeSet::new();
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(found);
        }
        if now >= next {
            socket.send_to(&question, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT))?;
            next = if next == start { start + AGAIN } else { end };
        }
        wait(&listener, next.min(end).saturating_duration_since(now))?;
        while let Some(packet) = read(&listener)? {
            if let Some(server) = udp_data(&packet).and_then(|datagram| server(datagram, id))
                && found.insert(server)
            {
                end = end.min(Instant::now() + OTHERS);
            }
        }
    }
}

fn wait(listener: &OwnedFd, time: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn read(listener: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 1500];
    match rustix::io::read(listener, &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A DHCP client of this machine may have the port too.
fn open(interface: &str) -> io::Result<UdpSocket> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&socket, sockopt::Broadcast, &true)?;
    socket::setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
    Ok(UdpSocket::from(socket))
}

/// A DISCOVER from an unknown machine, to be answered by broadcast.
fn discover(id: u32) -> io::Result<Vec<u8>> {
    let [a, b, c, d, e] = random()?;
    // Locally administered and unicast.
    let mac = [0x02, a, b, c, d, e];
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootRequest)
        .set_xid(id)
        .set_flags(Flags::default().set_broadcast())
        .set_chaddr(&mac);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).map_err(io::Error::other)?;
    bytes.resize(bytes.len().max(MIN_LENGTH), 0);
    Ok(bytes)
}

/// The sender of this offer, if it answers this question.
fn server(bytes: &[u8], id: u32) -> Option<Ipv4Addr> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    if message.xid() != id || message.opts().msg_type() != Some(MessageType::Offer) {
        return None;
    }
    match message.opts().get(OptionCode::ServerIdentifier)? {
        DhcpOption::ServerIdentifier(address) => Some(*address),
        _ => None,
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    keys::random().map_err(io::Error::other)
}
