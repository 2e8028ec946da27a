//! UDP sockets bound to one interface, which may have no address yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt as rustix_sockopt};

/// The maximum length of a datagram; DHCP's and discovery's are shorter than an Ethernet frame.
pub(super) const MAX_PACKET: usize = 1500;

/// A broadcast socket on `interface` and `port` (0 for any). What it sends to 255.255.255.255 leaves by that
/// interface without a route, from 0.0.0.0 while there is no address.
///
/// # Errors
/// The kernel's error.
pub fn broadcast_socket(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    rustix_sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix_sockopt::set_socket_broadcast(&socket, true)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    Ok(socket.into())
}

/// Reads datagrams until `accept` takes one, or until the deadline, which returns `None`.
///
/// # Errors
/// The socket's error.
pub fn receive_until<T>(
    socket: &UdpSocket,
    deadline: Instant,
    mut accept: impl FnMut(&[u8], std::net::SocketAddr) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = [0; MAX_PACKET];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // A timeout shorter than the kernel's clock tick would mean no timeout.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(10))))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                if let Some(taken) = accept(&buffer[..length], from) {
                    return Ok(Some(taken));
                }
            }
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                // An ICMP error for an earlier datagram; the next one may succeed.
                io::ErrorKind::ConnectionRefused => {}
                _ => return Err(e),
            },
        }
    }
}
