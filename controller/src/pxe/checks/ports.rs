//! Whether the ports to be served are free, and who holds them if not.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};

use super::Findings;
use crate::pxe::service::{Dhcp, Service};
use ka_host::ports::{self, Transport};

/// A port to be served.
struct Wanted {
    what: &'static str,
    transport: Transport,
    /// Where its packets arrive: DHCP's by broadcast.
    address: Ipv4Addr,
    port: u16,
    remedy: &'static str,
}

const STOP: &str = "stop that program";

pub(super) fn check(service: &Service, findings: &mut Findings) {
    let own = service.address();
    let udp = |what, address, port| Wanted { what, transport: Transport::Udp, address, port, remedy: STOP };
    let mut wanted = Vec::new();
    match service.dhcp {
        Dhcp::Full(_) => wanted.push(udp("DHCP", Ipv4Addr::UNSPECIFIED, 67)),
        Dhcp::Proxy(_) => {
            wanted.push(udp("DHCP", Ipv4Addr::UNSPECIFIED, 67));
            wanted.push(udp("PXE", Ipv4Addr::UNSPECIFIED, 4011));
        }
        Dhcp::Site => {}
    }
    wanted.push(udp("TFTP", own, 69));
    wanted.push(Wanted {
        what: "HTTP",
        transport: Transport::Tcp,
        address: own,
        port: service.http,
        remedy: "another port can be set in the configuration's [ports] as http",
    });
    for wanted in wanted {
        judge(&service.interface, &wanted, findings);
    }
}

/// The kernel is asked by trying to bind. A program's socket on another interface does not conflict.
fn judge(interface: &str, wanted: &Wanted, findings: &mut Findings) {
    let Wanted { what, transport, address, port, remedy } = wanted;
    let place =
        if address.is_unspecified() { format!("{interface}:{port}") } else { format!("{address}:{port}") };
    match bind(interface, wanted, false) {
        Ok(()) => {}
        Err(Errno::EADDRINUSE) => {
            let holder = match address.is_unspecified() {
                true => ports::holder(*transport, *port),
                false => ports::holder_at(*transport, *address, *port),
            };
            let holder = holder.unwrap_or_else(|| "a process that cannot be seen".into());
            // dnsmasq can share DHCP's ports with programs that do so as well.
            if address.is_unspecified() && bind(interface, wanted, true).is_ok() {
                findings.warn(format!(
                    "{what} at {place}: {holder} listens there too and may answer; {remedy} unless it serves other interfaces"
                ));
            } else {
                findings
                    .fail(format!("cannot serve {what} at {place}: the port is held by {holder}; {remedy}"));
            }
        }
        Err(error) => findings.fail(format!("cannot serve {what} at {place}: {}", io::Error::from(error))),
    }
}

fn bind(interface: &str, wanted: &Wanted, shared: bool) -> Result<(), Errno> {
    let kind = match wanted.transport {
        Transport::Tcp => SockType::Stream,
        Transport::Udp => SockType::Datagram,
    };
    let socket = socket::socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // TCP: connections of an earlier server that are about to end do not conflict.
    if shared || wanted.transport == Transport::Tcp {
        socket::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if shared {
        socket::setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    socket::setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    let address = SockaddrIn::from(SocketAddrV4::new(wanted.address, wanted.port));
    socket::bind(socket.as_raw_fd(), &address)
}
