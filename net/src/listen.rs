//! Listeners for the connections of a run: on which address, and through which interface.
//!
//! A golden node may be on networks other than its nodes'. If the interface is known, the kernel accepts
//! nothing that arrives through another one, whatever its destination address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::str::FromStr;

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};

/// Where the controller listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; unspecified for all addresses.
    pub address: IpAddr,
    /// The control port, if one was given.
    pub port: Option<u16>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port: None }
    }
}

/// Parses `ADDRESS` or `ADDRESS:PORT`; IPv6 with a port has brackets.
impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address, port: None });
        }
        text.parse::<SocketAddr>()
            .map(|a| Self { address: a.ip(), port: Some(a.port()) })
            .map_err(|_| "expected ADDRESS or ADDRESS:PORT, such as 10.0.0.1 or [fe80::1]:30765")
    }
}

/// The backlog of connections in the kernel (listen(2)).
const MAX_QUEUED: i32 = 4096;

/// The side on which nodes connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The address; `None` for all.
    pub address: Option<IpAddr>,
    /// The only interface on which connections are accepted, if it is known.
    pub interface: Option<String>,
}

impl Side {
    /// Listens on `port`.
    ///
    /// # Errors
    /// The system's error; if it concerns the interface, it names the interface.
    pub fn listener(&self, port: u16) -> io::Result<TcpListener> {
        match self.address {
            Some(address) => self.bind_tcp((address, port).into()),
            None => match self.bind_tcp((Ipv6Addr::UNSPECIFIED, port).into()) {
                // A kernel without IPv6.
                Err(e) if is_without_ipv6(&e) => self.bind_tcp((Ipv4Addr::UNSPECIFIED, port).into()),
                outcome => outcome,
            },
        }
    }

    /// A UDP port that several processes of this host share: each receives every broadcast.
    ///
    /// # Errors
    /// As [`Side::listener`].
    pub fn shared_udp(&self, port: u16) -> io::Result<UdpSocket> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        self.bind_to_interface(&socket)?;
        bind(&socket, &SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        Ok(socket.into())
    }

    /// The standard library's listener cannot be bound to an interface, and binding it later would let
    /// connections from others in before that.
    fn bind_tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        self.bind_to_interface(&socket)?;
        bind(&socket, &address)?;
        listen(&socket, MAX_QUEUED)?;
        Ok(socket.into())
    }

    fn bind_to_interface(&self, socket: &impl AsFd) -> io::Result<()> {
        let Some(interface) = &self.interface else { return Ok(()) };
        setsockopt(socket, BindToDevice, &interface.into()).map_err(|errno| {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("only on the interface {interface}: {error}"))
        })
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

/// Where a stream is served.
#[derive(Clone, Debug, Default)]
pub struct DataEndpoint {
    /// The address and the interface.
    pub side: Side,
    /// The preferred port.
    pub port: u16,
}

impl DataEndpoint {
    /// A listener for one stream: two streams that shared one would receive each other's connections.
    pub fn listen(&self) -> io::Result<TcpListener> {
        match self.side.listener(self.port) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => self.side.listener(0),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        for (text, address, port) in [
            ("10.0.0.1", "10.0.0.1", None),
            ("10.0.0.1:4000", "10.0.0.1", Some(4000)),
            ("::", "::", None),
            ("[::1]:1", "::1", Some(1)),
        ] {
            assert_eq!(text.parse(), Ok(Listen { address: address.parse().unwrap(), port }), "{text}");
        }
        for bad in ["", "golden", "10.0.0.1:", "10.0.0.1:70000", "10.0.0"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let side = Side { interface: Some("nosuch0".into()), ..Side::default() };
        for error in [side.listener(0).unwrap_err(), side.shared_udp(0).unwrap_err()] {
            assert!(error.to_string().starts_with("only on the interface nosuch0: "), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_another_matter_than_a_kernel_without_ipv6() {
        let side = Side { address: Some(Ipv4Addr::LOCALHOST.into()), ..Side::default() };
        let first = side.listener(0).unwrap();
        let place = DataEndpoint { side: side.clone(), port: first.local_addr().unwrap().port() };
        assert_eq!(side.listener(place.port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_ne!(place.listen().unwrap().local_addr().unwrap().port(), place.port);
    }
}
