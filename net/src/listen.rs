//! Listeners for the connections of a run.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::str::FromStr;

/// Where the controller listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; unspecified for every address.
    pub address: IpAddr,
    /// The control port, if it was named.
    pub port: Option<u16>,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: Ipv4Addr::UNSPECIFIED.into(), port: None }
    }
}

/// `ADDRESS` or `ADDRESS:PORT`, IPv6 with a port in brackets.
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

/// Where streams are fetched from.
#[derive(Clone, Copy, Debug)]
pub struct DataPlace {
    /// The address, if not all.
    pub address: Option<IpAddr>,
    /// The preferred port.
    pub port: u16,
}

impl DataPlace {
    /// A listener for one stream: two that shared one would take each other's connections.
    pub fn listen(self) -> io::Result<TcpListener> {
        match listener(self.address, self.port) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => listener(self.address, 0),
            outcome => outcome,
        }
    }
}

/// Listens on `port` of `address`, or of all addresses of this machine.
///
/// # Errors
/// The system's.
pub fn listener(address: Option<IpAddr>, port: u16) -> io::Result<TcpListener> {
    match address {
        Some(address) => TcpListener::bind((address, port)),
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            // A kernel without IPv6.
            Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
            }
            outcome => outcome,
        },
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
}
