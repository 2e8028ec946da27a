//! Which other DHCP servers answer on the wire: asked once, as a machine that boots would.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::service::{Dhcp, Service};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use ka::keys;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};

/// How long answers are waited for. A server that pings an address first takes up to 3 s (RFC 2131, 4.4.1).
const PATIENCE: Duration = Duration::from_secs(4);
/// Relays and servers may drop what is shorter than a BOOTP packet (RFC 1542, 2.1).
const MIN_LENGTH: usize = 300;
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;

/// Asks in a thread of its own, for the serving must not wait for it, and logs what a person has to know.
///
/// # Errors
/// The thread cannot be started.
pub fn report(service: &Service) -> io::Result<()> {
    let (interface, dhcp, own) = (service.interface.clone(), service.dhcp, service.address());
    let ask = move || match (dhcp_servers(&interface, own), dhcp) {
        (Err(error), _) => log::warn!("{interface}: cannot ask for other DHCP servers: {error}"),
        (Ok(found), Dhcp::Full(_)) if !found.is_empty() => log::warn!(
            "{interface}: {} answers DHCP here as well. Two servers give machines two addresses: stop one, or use \
             `kactl pxe --proxy`",
            join(&found)
        ),
        (Ok(found), Dhcp::Proxy | Dhcp::Site) if found.is_empty() => log::warn!(
            "{interface}: no DHCP server answers here, and this one gives no addresses: machines will not boot"
        ),
        (Ok(found), _) => log::debug!("{interface}: other DHCP servers: {}", join(&found)),
    };
    thread::Builder::new().name("dhcp-servers".into()).spawn(ask).map(drop)
}

fn join(addresses: &BTreeSet<Ipv4Addr>) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}

/// Asks on the interface, and returns the addresses of the servers that offered something, without `own`.
fn dhcp_servers(interface: &str, own: Ipv4Addr) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = open(interface)?;
    let id = u32::from_le_bytes(random()?);
    let question = discover(id)?;
    socket.send_to(&question, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT))?;
    let (start, mut found, mut buffer) = (Instant::now(), BTreeSet::new(), [0; 1500]);
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(found);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, _)) => {
                found.extend(buffer.get(..length).and_then(|bytes| server(bytes, id)).filter(|s| *s != own));
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// A client of this machine may have the port as well.
fn open(interface: &str) -> io::Result<UdpSocket> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&socket, sockopt::Broadcast, &true)?;
    socket::setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(0, 0, 0, 0, CLIENT_PORT))?;
    Ok(UdpSocket::from(socket))
}

/// A DISCOVER of a machine that nobody knows, answered by broadcast.
fn discover(id: u32) -> io::Result<Vec<u8>> {
    let [a, b, c, d, e] = random()?;
    // Locally administered, and no group's.
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

/// Who sent this offer, if it is an answer to this question.
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
